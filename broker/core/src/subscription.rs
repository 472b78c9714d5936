//! One subscription: what it listens to, whom it belongs to, and how much it may still get.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use crate::{effect::HandlerId, peer::Peer};

/// Who gets the messages.
#[derive(Clone, Debug)]
pub enum Target {
    Connection(Arc<Peer>),
    /// A service inside the broker.
    Internal(HandlerId),
    /// Another server, for its clients. In a queue group it stands for `weight` members.
    Route {
        peer: Arc<Peer>,
        weight: u32,
    },
}

/// Shared by the session that owns it, the sublist, and every cached match result.
#[derive(Debug)]
pub struct Subscription {
    /// Filter; legal.
    pub subject: Box<[u8]>,
    /// Empty: every message, not one of the group's.
    pub queue_group: Box<[u8]>,
    /// Any token, unique in its connection.
    pub sid: Box<[u8]>,
    pub target: Target,
    pub allowance: Allowance,
}

impl Subscription {
    /// Without a limit on deliveries.
    #[must_use]
    pub fn new(subject: &[u8], queue_group: &[u8], sid: &[u8], target: Target) -> Self {
        Self {
            subject: subject.into(),
            queue_group: queue_group.into(),
            sid: sid.into(),
            target,
            allowance: Allowance::default(),
        }
    }

    /// Number of the client's connection it belongs to; `None` for a service inside the broker and for
    /// another server.
    #[must_use]
    pub fn connection(&self) -> Option<u64> {
        match &self.target {
            Target::Connection(peer) => Some(peer.id),
            Target::Internal(_) | Target::Route { .. } => None,
        }
    }

    /// Whether it is of a client or service of this server.
    #[must_use]
    pub fn is_local(&self) -> bool {
        !matches!(self.target, Target::Route { .. })
    }

    /// Its connection is closing.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match &self.target {
            Target::Connection(peer) | Target::Route { peer, .. } => peer.is_gone(),
            Target::Internal(_) => false,
        }
    }

    /// Whether its owner has the right to see a message on a published subject. A filter that was
    /// allowed may be wider than what may be seen.
    #[must_use]
    pub fn may_receive(&self, subject: &[u8]) -> bool {
        match &self.target {
            Target::Connection(peer) => peer.may_receive(&self.queue_group, subject),
            Target::Internal(_) | Target::Route { .. } => true,
        }
    }
}

/// How many more messages a subscription may get: exact over all workers, with one atomic operation
/// a run of messages.
///
/// `remaining == limit - delivered` always; below zero only because claims that came too late have
/// been subtracted as well. A subscription without `UNSUB max` has a limit nobody reaches.
pub struct Allowance {
    remaining: AtomicI64,
    /// Written by the owning session only.
    limit: AtomicI64,
}

const UNLIMITED: i64 = i64::MAX / 2;

/// The part of a claim that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    pub messages: usize,
    /// The last allowed message is among them: whoever got this removes the subscription.
    pub exhausted: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            remaining: AtomicI64::new(UNLIMITED),
            limit: AtomicI64::new(UNLIMITED),
        }
    }
}

impl Allowance {
    /// Asks to deliver a number of messages.
    pub fn claim(&self, messages: usize) -> Granted {
        let wanted = messages as i64;
        let before = self.remaining.fetch_sub(wanted, Relaxed);
        let granted = before.clamp(0, wanted);
        Granted {
            messages: granted as usize,
            exhausted: granted > 0 && before <= wanted,
        }
    }

    /// Allows `max` deliveries since the subscription was made. Returns whether that many have been
    /// made already, so that it must be removed now. For the owning session only.
    pub fn limit_to(&self, max: u32) -> bool {
        let new = i64::from(max);
        let change = new - self.limit.swap(new, Relaxed);
        self.remaining.fetch_add(change, Relaxed) + change <= 0
    }

    /// Deliveries after which it ends; `None`: never.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        let limit = self.limit.load(Relaxed);
        (limit != UNLIMITED).then_some(limit.max(0) as u64)
    }

    /// Messages delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        let limit = self.limit.load(Relaxed);
        (limit - self.remaining.load(Relaxed).max(0)).max(0) as u64
    }
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowance")
            .field("delivered", &self.delivered())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(messages: usize, exhausted: bool) -> Granted {
        Granted {
            messages,
            exhausted,
        }
    }

    #[test]
    fn deliveries_before_the_limit_count() {
        let allowance = Allowance::default();
        assert_eq!(allowance.claim(3), granted(3, false));
        assert!(!allowance.limit_to(5));
        assert_eq!(allowance.claim(4), granted(2, true));
        assert_eq!(allowance.claim(1), granted(0, false));
        assert_eq!(allowance.delivered(), 5);
    }

    #[test]
    fn a_limit_already_reached_removes_at_once() {
        let allowance = Allowance::default();
        allowance.claim(5);
        assert!(allowance.limit_to(5));
        assert!(allowance.limit_to(2));
    }

    #[test]
    fn a_later_limit_replaces_an_earlier_one() {
        let allowance = Allowance::default();
        assert!(!allowance.limit_to(2));
        assert!(!allowance.limit_to(4));
        assert_eq!(allowance.claim(9), granted(4, true));
    }

    #[test]
    fn threads_never_get_more_than_allowed_and_one_sees_the_end() {
        let allowance = Allowance::default();
        assert!(!allowance.limit_to(1000));
        let totals: Vec<(usize, usize)> = std::thread::scope(|scope| {
            let claims = (0..4).map(|_| {
                scope.spawn(|| {
                    (0..200).fold((0, 0), |(messages, ends), _| {
                        let granted = allowance.claim(3);
                        (
                            messages + granted.messages,
                            ends + usize::from(granted.exhausted),
                        )
                    })
                })
            });
            let threads: Vec<_> = claims.collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(totals.iter().map(|total| total.0).sum::<usize>(), 1000);
        assert_eq!(totals.iter().map(|total| total.1).sum::<usize>(), 1);
    }
}
