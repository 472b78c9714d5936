//! What clients have written down: everything that they have sent and seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use crate::{
    plan::{Channel, Role},
    tables::Position,
};

/// How a subscription is found in the tables: its channel and its name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) channel: String,
    /// Of a durable or a group its name; of others their client's.
    pub(crate) name: String,
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) channel: Channel,
    /// There is no other with the same.
    pub(crate) payload: String,
    pub(crate) sent: Instant,
    /// Nothing is known about others: they may be stored or not, and even later.
    pub(crate) is_acked: bool,
}

/// What happened at a subscription.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Delivered {
        sequence: u64,
        payload: String,
        is_redelivered: bool,
    },
    Acked {
        sequence: u64,
    },
}

/// A subscription from its creation to its end, of all members together.
#[derive(Clone, Debug)]
pub(crate) struct Subscribed {
    pub(crate) role: Role,
    pub(crate) key: Key,
    /// Clients that are subscribed now.
    pub(crate) members: BTreeSet<usize>,
    /// Turn and event.
    pub(crate) events: Vec<(usize, Event)>,
    /// The tables are known to hold what so many of the first events led to.
    pub(crate) settled: usize,
    /// A member has left since then.
    pub(crate) has_left: bool,
    /// Sent in vain perhaps: the server ended, or the subscription was closed, before it was seen that these
    /// acknowledgements were taken in.
    pub(crate) doubtful: BTreeSet<u64>,
    /// Publishes that had begun before it was created.
    pub(crate) publishes_before: usize,
    /// Holds nothing back any more.
    pub(crate) is_released: bool,
    /// The turn it was created in.
    pub(crate) created: usize,
    /// The present one.
    pub(crate) turn: usize,
}

/// A [`Subscribed`] that its readers add to.
pub(crate) type Shared = Arc<Mutex<Subscribed>>;

/// The only way to get at it; nobody panics while holding it.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Subscribed> {
    shared.lock().expect("nobody panics while holding it")
}

impl Subscribed {
    pub(crate) fn note(&mut self, event: Event) {
        if let Event::Acked { sequence } = &event {
            self.doubtful.remove(sequence);
        }
        self.events.push((self.turn, event));
    }

    /// What was not seen to be taken in may be lost.
    pub(crate) fn doubt(&mut self) {
        let late = acked(&self.events[self.settled..]);
        self.doubtful.extend(late);
    }

    /// Goes on from the tables, which have been found in order: what lies beyond the position comes again and is as good
    /// as new then; of the rest, what is pending comes again, and nothing else does.
    pub(crate) fn agree_with(&mut self, position: &Position) {
        let is_known = |(_, event): &(usize, Event)| match event {
            Event::Delivered { sequence, .. } | Event::Acked { sequence } => {
                *sequence <= position.last_sent
            }
        };
        let settled = &self.events[..self.settled];
        self.settled = settled.iter().filter(|noted| is_known(noted)).count();
        self.events.retain(is_known);
        let done = acked(&self.events);
        let over: Vec<u64> = delivered(&self.events)
            .into_keys()
            .filter(|one| !done.contains(one) && !position.pending.contains(one))
            .collect();
        let over = over.into_iter().map(|sequence| Event::Acked { sequence });
        self.events.extend(over.map(|event| (self.turn, event)));
        self.has_left = false;
        self.doubtful = done.intersection(&position.pending).copied().collect();
    }

    /// Whether clients leave this message without acknowledgement.
    pub(crate) fn holds(&self, sequence: u64) -> bool {
        // Spread over the sequences without a pattern.
        let mixed = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        !self.is_released && mixed % 100 < self.role.held
    }
}

/// Sequences and payloads that were delivered.
pub(crate) fn delivered(events: &[(usize, Event)]) -> BTreeMap<u64, &str> {
    let delivered = events.iter().filter_map(|(_, event)| match event {
        Event::Delivered {
            sequence, payload, ..
        } => Some((*sequence, payload.as_str())),
        Event::Acked { .. } => None,
    });
    delivered.collect()
}

/// Sequences that were acknowledged.
pub(crate) fn acked(events: &[(usize, Event)]) -> BTreeSet<u64> {
    let acked = events.iter().filter_map(|(_, event)| match event {
        Event::Acked { sequence } => Some(*sequence),
        Event::Delivered { .. } => None,
    });
    acked.collect()
}

/// Everything that is known at one moment. It is taken before the tables are read.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) turn: usize,
    pub(crate) publishes: Vec<Publish>,
    /// Those that exist, online or not.
    pub(crate) subscribed: Vec<Subscribed>,
    /// Names of clients that are connected.
    pub(crate) clients: BTreeSet<String>,
    /// Since when the idle channel has had a subscription without a break.
    pub(crate) idle_guarded: Option<Instant>,
}
