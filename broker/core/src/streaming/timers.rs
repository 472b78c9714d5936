//! All deadlines of the engine in one ordered set; at most one for each key.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use ahash::RandomState;

use super::keys::{ChannelKey, ClientKey, SubKey};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// Send a heartbeat to a client.
    Heartbeat(ClientKey),
    /// A heartbeat or a probe was not answered.
    Unanswered(u64),
    /// Look for messages of a subscription to redeliver.
    AckWait(SubKey),
    /// Remove messages of a channel by age.
    Expiry(ChannelKey),
    /// See whether a channel has been out of use for long enough.
    Inactivity(ChannelKey),
    /// Try again to deliver on a channel whose reads failed.
    RetryReads(ChannelKey),
    /// Tell other servers the channels, or take them as ours.
    Claim,
    /// Refuse requests of clients that have not registered.
    Registration,
    /// Write changed positions and pending sets.
    SavePositions,
    /// Write down what channels hold.
    SaveTotals,
    /// Count what the next channel holds.
    Count,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Instant, TimerKey)>,
    armed: HashMap<TimerKey, Instant, RandomState>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub(super) fn arm(&mut self, key: TimerKey, at: Instant) {
        if let Some(before) = self.armed.insert(key, at) {
            self.order.remove(&(before, key));
        }
        self.order.insert((at, key));
    }

    /// Sets a deadline unless one is set already that is not later.
    pub(super) fn arm_earlier(&mut self, key: TimerKey, at: Instant) {
        if self.armed.get(&key).is_none_or(|before| at < *before) {
            self.arm(key, at);
        }
    }

    pub(super) fn disarm(&mut self, key: TimerKey) {
        if let Some(at) = self.armed.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    pub(super) fn is_armed(&self, key: TimerKey) -> bool {
        self.armed.contains_key(&key)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out one key whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<TimerKey> {
        let (at, key) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&key);
        Some(key)
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.armed.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_comes_first_and_a_key_is_armed_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (a, b) = (TimerKey::AckWait(SubKey(1)), TimerKey::AckWait(SubKey(2)));
        let mut timers = Timers::default();
        timers.arm(a, at(5));
        timers.arm(b, at(3));
        timers.arm(a, at(2));
        timers.arm_earlier(b, at(4));
        assert_eq!(timers.next_deadline(), Some(at(2)));
        assert_eq!(timers.pop_due(at(1)), None);
        assert_eq!(timers.pop_due(at(9)), Some(a));
        assert_eq!(timers.next_deadline(), Some(at(3)));
        timers.disarm(b);
        assert!(!timers.is_armed(b));
        assert_eq!(timers.pop_due(at(9)), None);
    }
}
