//! Channels that nobody uses go: `max_inactivity`.
//!
//! A channel is in use while it has an online subscription or a request for one is being dealt with;
//! offline durables do not keep it. The timer runs while it is not in use. A new message does not move
//! the timer; whether the channel has rested for long enough is decided when it fires.

use super::{
    Engine,
    keys::{ChannelKey, SubKey},
    tickets::Promise,
    timers::TimerKey,
};
use crate::{
    Now,
    durable::{Change, ChannelId},
};

impl Engine {
    /// Somebody asks for a subscription.
    pub(super) fn comes_into_use(&mut self, key: ChannelKey) {
        self.timers.disarm(TimerKey::Inactivity(key));
    }

    /// A use may have ended, or the channel is new: it has its whole time from now on.
    pub(super) fn may_rest(&mut self, key: ChannelKey) {
        let max = self.channels[key].limits.max_inactivity_nanos;
        if max > 0 && !self.is_in_use(key) {
            self.arm_inactivity(key, max);
        }
    }

    fn arm_inactivity(&mut self, key: ChannelKey, nanos: u64) {
        let due = self.ticks(self.now).saturating_add(nanos);
        // A time that no clock reaches.
        let due = self.instant(due.min(u64::MAX / 4));
        self.timers.arm(TimerKey::Inactivity(key), due);
    }

    fn is_in_use(&self, key: ChannelKey) -> bool {
        let channel = &self.channels[key];
        channel.start_search.is_some()
            || !channel.queued_requests.is_empty()
            || self.online_subs(key).next().is_some()
    }

    /// The timer of a channel has fired.
    pub(super) fn rested(&mut self, key: ChannelKey, now: Now) {
        let ticks = self.ticks(now);
        let Some(channel) = self.channels.get(key) else {
            return;
        };
        let max = channel.limits.max_inactivity_nanos;
        if max == 0 || channel.is_being_deleted || self.is_in_use(key) {
            return;
        }
        if channel.assigned > channel.last {
            // Messages are on their way to the store.
            return self.arm_inactivity(key, max);
        }
        let idle = ticks.saturating_sub(channel.last_activity);
        if channel.last_activity > 0 && idle < max {
            return self.arm_inactivity(key, max - idle);
        }
        self.delete_channel(key);
    }

    /// Has the store delete a channel with everything in it. In memory it stays until that is done.
    fn delete_channel(&mut self, key: ChannelKey) {
        let subs = self.all_subs(key);
        // A position saved behind the deletion would have no record to belong to.
        self.dirty.retain(|dirty| !subs.contains(dirty));
        let deleted = subs.iter().map(|sub| self.subs[*sub].id);
        let deleted: Vec<_> = deleted.collect();
        let channel = &mut self.channels[key];
        channel.is_being_deleted = true;
        let id = channel.id;
        for sub in subs {
            self.subs[sub].is_dirty = false;
        }
        let ticket = self.tickets.issue(1, Promise::DeleteChannel(id));
        // All in one draft, however many they are.
        let draft = self.channel_draft(key);
        let deleted = deleted.into_iter().map(|sub| Change::DeleteSubscription {
            channel: id,
            id: sub,
        });
        draft.changes.extend(deleted);
        draft.changes.push(Change::DeleteChannel { id });
        draft.tickets.push(ticket);
    }

    /// The store has deleted a channel, or could not.
    pub(super) fn channel_deleted(&mut self, id: ChannelId, outcome: Result<(), String>) {
        let Some(key) = self.channel_ids.get(&id).copied() else {
            // Its creation was refused meanwhile.
            return;
        };
        match outcome {
            Ok(()) => {
                for sub in self.all_subs(key) {
                    self.drop_subscription(sub);
                }
                for group in self.channels[key].groups.clone() {
                    self.delete_group(group);
                }
                let channel = self.forget_channel(key);
                self.note(format!(
                    "channel {} was inactive and is deleted",
                    channel.name
                ));
            }
            Err(reason) => {
                for sub in self.all_subs(key) {
                    self.mark_dirty(sub);
                }
                let channel = &mut self.channels[key];
                channel.is_being_deleted = false;
                let name = &channel.name;
                let notice = format!("channel {name} is inactive but cannot be deleted: {reason}");
                self.note(notice);
                // Nothing was removed from it meanwhile.
                self.watch_limits(self.lane_of(key), key);
                self.may_rest(key);
            }
        }
    }

    /// Subscriptions of a channel, members and shadows included.
    fn all_subs(&self, key: ChannelKey) -> Vec<SubKey> {
        let channel = &self.channels[key];
        let of_groups = channel.groups.iter().flat_map(|group| {
            let group = &self.groups[*group];
            group.members.iter().copied().chain(group.shadow)
        });
        channel.subs.iter().copied().chain(of_groups).collect()
    }
}
