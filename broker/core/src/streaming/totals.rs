//! How much a channel holds: written down now and then, so that the next activation need not count, and counted
//! where that is not known for sure.
//!
//! The record is of a moment; the store adds what came behind it. Where that cannot give the exact figures (messages
//! were removed since, or there is no record), the channel is served all the same, but nothing is removed for being
//! over a limit until the store has counted. Then the others are counted too, one by one and with pauses, because a
//! server that knows nothing of the record may have been at work.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    Engine, channel::Channel, keys::ChannelKey, loads::Purpose, sizes::Sizes, timers::TimerKey,
};
use crate::{
    Now,
    durable::{Change, Sequence, Totals},
    effect::{Effect, LoadId},
};

/// How long changed totals may wait to be written. What was stored since is counted at the next start.
const SAVE_TOTALS_AFTER: Duration = Duration::from_secs(5);

/// Counting what is only verified may take a tenth of the time, and there is at least this between two channels.
const PAUSES: u32 = 9;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// After a count that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A channel that is trimmed all the time cannot be verified; what is in doubt goes with what is trimmed.
const MAX_TRIES: u32 = 3;

/// Which channels to count, and what to write down.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// In doubt: nothing is removed from them before.
    doubtful: VecDeque<ChannelKey>,
    /// To be verified, and how often that was tried.
    unverified: VecDeque<(ChannelKey, u32)>,
    under_way: Option<Count>,
    /// Channels whose totals have changed since they were written down.
    changed: Vec<ChannelKey>,
}

#[derive(Debug)]
struct Count {
    load: LoadId,
    channel: ChannelKey,
    tries: u32,
    /// What was believed when it was asked for.
    believed: Totals,
    began: Instant,
}

impl Counting {
    pub(super) fn forget_channel(&mut self, key: ChannelKey) {
        self.doubtful.retain(|channel| *channel != key);
        self.unverified.retain(|(channel, _)| *channel != key);
        self.changed.retain(|channel| *channel != key);
        self.under_way.take_if(|count| count.channel == key);
    }
}

impl Engine {
    /// All channels that were recovered, those in doubt first.
    pub(super) fn begin_counting(&mut self) {
        for key in self.channels.keys() {
            if self.channels[key].is_estimated {
                self.counting.doubtful.push_back(key);
            } else {
                self.counting.unverified.push_back((key, 0));
            }
        }
        self.count_next();
    }

    /// What is believed of a channel is not true, as has just shown.
    pub(super) fn doubt_totals(&mut self, key: ChannelKey) {
        self.channels[key].is_estimated = true;
        // A count that is under way may have been asked for before.
        if !self.counting.doubtful.contains(&key) {
            self.counting.doubtful.push_back(key);
            self.count_next();
        }
    }

    /// Counts one channel, if none is being counted. A pause before one that is only verified is the caller's.
    pub(super) fn count_next(&mut self) {
        if self.counting.under_way.is_some() {
            return;
        }
        let doubtful = self.counting.doubtful.pop_front();
        let next = doubtful.map(|key| (key, 0));
        let Some((key, tries)) = next.or_else(|| self.counting.unverified.pop_front()) else {
            return;
        };
        let load = self.next_load(Purpose::Count(key));
        let channel = &self.channels[key];
        let believed = channel.totals();
        self.counting.under_way = Some(Count {
            load,
            channel: key,
            tries,
            believed,
            began: self.now.monotonic,
        });
        self.effects.push_back(Effect::Count {
            load,
            channel: channel.id,
            up_to: believed.last,
        });
    }

    pub(super) fn finish_count(&mut self, load: LoadId, result: Result<Totals, String>, now: Now) {
        self.loads.remove(&load);
        let Some(count) = self.counting.under_way.take_if(|count| count.load == load) else {
            return;
        };
        let pause = match result {
            Ok(counted) => {
                self.compare(&count, counted);
                if !self.counting.doubtful.is_empty() {
                    return self.count_next();
                }
                let took = now.monotonic.saturating_duration_since(count.began);
                SHORTEST_PAUSE.max(took * PAUSES)
            }
            Err(reason) => {
                let name = &self.channels[count.channel].name;
                let notice = format!("channel {name}: its messages could not be counted: {reason}");
                self.note(notice);
                self.count_again(&count);
                RETRY_AFTER
            }
        };
        self.timers.arm(TimerKey::Count, now.monotonic + pause);
    }

    fn count_again(&mut self, count: &Count) {
        if self.channels[count.channel].is_estimated {
            self.counting.doubtful.push_back(count.channel);
        } else if count.tries + 1 < MAX_TRIES {
            let again = (count.channel, count.tries + 1);
            self.counting.unverified.push_back(again);
        }
    }

    fn compare(&mut self, count: &Count, counted: Totals) {
        let key = count.channel;
        let channel = &mut self.channels[key];
        if channel.first != count.believed.first {
            // Something was removed while the store counted.
            self.count_again(count);
            return;
        }
        let was_doubtful = std::mem::replace(&mut channel.is_estimated, false);
        let believed = count.believed;
        let is_wrong = (believed.first, believed.messages) != (counted.first, counted.messages);
        if is_wrong || believed.bytes != counted.bytes {
            channel.correct_totals(&believed, &counted);
        }
        if is_wrong && !was_doubtful {
            let notice = format!(
                "channel {}: it holds {} messages from {} on, not {} from {} on as was written down",
                channel.name, counted.messages, counted.first, believed.messages, believed.first
            );
            self.pages.forget(key);
            self.note(notice);
        }
        self.totals_changed(key);
        let lane = self.lane_of(key);
        self.watch_limits(lane, key);
    }

    /// Has the totals of a channel written down within some seconds.
    pub(super) fn totals_changed(&mut self, key: ChannelKey) {
        if std::mem::replace(&mut self.channels[key].has_new_totals, true) {
            return;
        }
        self.counting.changed.push(key);
        if !self.timers.is_armed(TimerKey::SaveTotals) {
            let at = self.now.monotonic + SAVE_TOTALS_AFTER;
            self.timers.arm(TimerKey::SaveTotals, at);
        }
    }

    /// Hands all changed totals over. They are of what is durable now, so that they hold whatever becomes of the
    /// batch that they go with.
    pub(super) fn save_totals(&mut self) {
        for key in std::mem::take(&mut self.counting.changed) {
            let channel = &mut self.channels[key];
            channel.has_new_totals = false;
            // What is in doubt comes here again when it has been counted.
            if !channel.is_estimated && !channel.is_being_deleted {
                let change = Change::PutTotals {
                    channel: channel.id,
                    totals: channel.totals(),
                };
                self.channel_draft(key).changes.push(change);
            }
        }
    }
}

impl Channel {
    pub(super) fn totals(&self) -> Totals {
        Totals {
            first: self.first,
            last: self.last,
            messages: self.messages,
            bytes: self.bytes,
        }
    }

    /// What is there up to `counted.last`, instead of what was believed of it. Nothing was removed since, but
    /// messages may have come.
    fn correct_totals(&mut self, believed: &Totals, counted: &Totals) {
        let (messages, bytes) = (
            self.messages.saturating_sub(believed.messages),
            self.bytes.saturating_sub(believed.bytes),
        );
        self.first = match counted.messages {
            0 => Sequence(counted.last.0 + 1),
            _ => counted.first,
        };
        self.messages = counted.messages + messages;
        self.bytes = counted.bytes + bytes;
        self.sizes = Sizes::recovered(self.messages, self.bytes);
    }
}
