//! New settings while clients are served.

use super::{Engine, EngineConfig, timers::TimerKey};
use crate::{Now, durable::RecordedLimits};

impl Engine {
    /// Takes over heartbeats, `replace_durable` and limits. What is above a lower limit goes with the
    /// next flush; what a higher one would have kept is gone. Cluster ID and discovery prefix stay those
    /// of the store.
    pub fn reconfigure(&mut self, config: EngineConfig, now: Now) {
        self.now = now;
        self.config = config;
        for client in self.clients.keys() {
            if self.clients.get(client).heartbeat.is_none() {
                let at = now.monotonic + self.config.heartbeat_interval;
                self.timers.arm_earlier(TimerKey::Heartbeat(client), at);
            }
        }
        for key in self.channels.keys() {
            let channel = &mut self.channels[key];
            let limits = self.config.limits_of(&channel.name);
            if limits == channel.limits {
                continue;
            }
            let is_recorded = RecordedLimits::from(limits) == channel.limits.into();
            channel.limits = limits;
            // A search under way was begun for the old age.
            if let Some(search) = channel.age_search.take() {
                self.loads.remove(&search);
            }
            self.timers.disarm(TimerKey::Expiry(key));
            let lane = self.lane_of(key);
            if !self.channels[key].is_being_deleted {
                if !is_recorded {
                    self.put_channel(key);
                }
                self.watch_limits(lane, key);
                self.comes_into_use(key);
                self.may_rest(key);
            }
        }
        self.settle();
    }
}
