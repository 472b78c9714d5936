//! The deadlines of a worker's connections: one heap, one timer of the runtime. An entry that has been
//! overtaken stays until its time and then wakes its connection for nothing.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// What a connection may wait for. Each kind has at most a few entries a connection at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// Ping tick or TLS handshake.
    Session = 0,
    /// A flush must have come to an end.
    Write = 1,
    /// A producer's pause ends.
    Pause = 2,
}

/// Which deadlines a connection has entries for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armed([Option<Instant>; 3]);

/// All entries of a worker.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
}

/// Ordered by time. There are many, hence the narrow place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Instant,
    slot: u32,
    connection: u64,
    kind: Deadline,
}

impl Timers {
    /// Makes sure that the connection is woken at `at`; returns whether the first deadline of all
    /// has become earlier.
    pub(crate) fn arm(
        &mut self,
        armed: &mut Armed,
        kind: Deadline,
        at: Instant,
        slot: usize,
        connection: u64,
    ) -> bool {
        let current = &mut armed.0[kind as usize];
        if current.is_some_and(|current| current <= at) {
            return false;
        }
        *current = Some(at);
        let first = self.next().is_none_or(|next| at < next);
        self.heap.push(Reverse(Entry {
            at,
            slot: u32::try_from(slot).expect("descriptors, of which each place has one, are fewer"),
            connection,
            kind,
        }));
        first
    }

    /// The first deadline of all.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes one entry that is due: place, connection, kind and time.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(usize, u64, Deadline, Instant)> {
        if self.next()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        Some((entry.slot as usize, entry.connection, entry.kind, entry.at))
    }
}

impl Armed {
    /// An entry was taken out of the heap.
    pub(crate) fn fired(&mut self, kind: Deadline, at: Instant) {
        let current = &mut self.0[kind as usize];
        if *current == Some(at) {
            *current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_later_deadline_of_the_same_kind_adds_no_entry() {
        let (mut timers, mut armed, now) = (Timers::default(), Armed::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(timers.arm(&mut armed, Deadline::Session, now + second, 1, 1));
        assert!(!timers.arm(&mut armed, Deadline::Session, now + 2 * second, 1, 1));
        assert!(timers.arm(&mut armed, Deadline::Pause, now, 1, 1));
        assert_eq!(timers.due(now), Some((1, 1, Deadline::Pause, now)));
        assert_eq!(timers.due(now), None);
        let (.., kind, at) = timers.due(now + second).unwrap();
        armed.fired(kind, at);
        assert_eq!(timers.next(), None);
        assert!(timers.arm(&mut armed, Deadline::Session, now + 2 * second, 1, 1));
    }
}
