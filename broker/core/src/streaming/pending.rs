//! Messages delivered to one subscription and not yet acknowledged.

use std::collections::VecDeque;

use crate::durable::Sequence;

/// Nanoseconds since the engine started; see `Engine::ticks`.
pub(super) type Ticks = u64;

/// One unacknowledged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: Sequence,
    /// When to redeliver; `None` after a restart, until the message's timestamp has been read.
    pub(super) expires: Option<Ticks>,
    /// Times it was redelivered.
    pub(super) redeliveries: u32,
}

/// Sorted by sequence, without gaps in memory worth mentioning. Entries that were acknowledged in
/// the middle stay behind as tombstones: the first and the last slot are never one, and at least
/// about half of a long ring is alive.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ring: VecDeque<Slot>,
    live: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    sequence: u64,
    expires: u64,
    redeliveries: u32,
    live: bool,
}

/// `Slot::expires` while nothing is known.
const UNKNOWN: u64 = u64::MAX;

impl Slot {
    fn new(entry: Entry) -> Self {
        Self {
            sequence: entry.sequence.0,
            expires: entry.expires.unwrap_or(UNKNOWN),
            redeliveries: entry.redeliveries,
            live: true,
        }
    }

    fn entry(&self) -> Entry {
        Entry {
            sequence: Sequence(self.sequence),
            expires: (self.expires != UNKNOWN).then_some(self.expires),
            redeliveries: self.redeliveries,
        }
    }
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Adds a message, or replaces what is known of it.
    pub(super) fn insert(&mut self, entry: Entry) {
        let slot = Slot::new(entry);
        if self
            .ring
            .back()
            .is_none_or(|last| last.sequence < slot.sequence)
        {
            self.ring.push_back(slot);
            self.live += 1;
            return;
        }
        match self
            .ring
            .binary_search_by_key(&slot.sequence, |slot| slot.sequence)
        {
            Ok(at) => {
                self.live += usize::from(!self.ring[at].live);
                self.ring[at] = slot;
            }
            Err(at) => {
                self.ring.insert(at, slot);
                self.live += 1;
            }
        }
    }

    pub(super) fn get(&self, sequence: Sequence) -> Option<Entry> {
        self.position(sequence).map(|at| self.ring[at].entry())
    }

    /// Takes a message out; `None` if it is not pending here.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Entry> {
        let at = self.position(sequence)?;
        let entry = self.ring[at].entry();
        self.ring[at].live = false;
        self.live -= 1;
        while self.ring.front().is_some_and(|slot| !slot.live) {
            self.ring.pop_front();
        }
        while self.ring.back().is_some_and(|slot| !slot.live) {
            self.ring.pop_back();
        }
        if self.ring.len() > 2 * self.live + 64 {
            self.ring.retain(|slot| slot.live);
        }
        Some(entry)
    }

    /// All of them, ascending by sequence.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> {
        self.ring.iter().filter(|slot| slot.live).map(Slot::entry)
    }

    pub(super) fn sequences(&self) -> Vec<Sequence> {
        self.iter().map(|entry| entry.sequence).collect()
    }

    fn position(&self, sequence: Sequence) -> Option<usize> {
        let first = self.ring.front()?.sequence;
        // Without holes the place follows from the distance to the first.
        let guess = usize::try_from(sequence.0.checked_sub(first)?).ok()?;
        let at = match self.ring.get(guess) {
            Some(slot) if slot.sequence == sequence.0 => guess,
            _ => self
                .ring
                .binary_search_by_key(&sequence.0, |slot| slot.sequence)
                .ok()?,
        };
        self.ring[at].live.then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(sequence: u64) -> Entry {
        Entry {
            sequence: Sequence(sequence),
            expires: Some(sequence * 10),
            redeliveries: 0,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(steps in proptest::collection::vec((any::<bool>(), 1_u64..60), 0..400)) {
            let (mut pending, mut model) = (Pending::default(), BTreeMap::new());
            for (add, sequence) in steps {
                if add {
                    pending.insert(entry(sequence));
                    model.insert(sequence, entry(sequence));
                } else {
                    prop_assert_eq!(pending.remove(Sequence(sequence)), model.remove(&sequence));
                }
                prop_assert_eq!(pending.len(), model.len());
                prop_assert_eq!(pending.get(Sequence(sequence)), model.get(&sequence).copied());
            }
            prop_assert_eq!(pending.iter().collect::<Vec<_>>(), model.into_values().collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_forgotten_message_does_not_hold_the_acknowledged_ones_in_memory() {
        let mut pending = Pending::default();
        pending.insert(entry(1));
        for sequence in 2..10_000 {
            pending.insert(entry(sequence));
            pending.insert(entry(sequence + 1));
            pending.remove(Sequence(sequence));
        }
        assert_eq!(pending.len(), 2);
        assert!(pending.ring.len() < 100);
    }
}
