//! In the store, a durable or durable group is beyond a message only if the message was acknowledged or is pending.

use std::collections::BTreeSet;

use super::{Event, Law, Terms, World};

pub(super) struct Book {
    /// One for each position that lasts.
    positions: Vec<Position>,
    terms: Vec<Terms>,
}

struct Position {
    terms: Terms,
    /// Not acknowledged by anybody who shares it.
    open: BTreeSet<u64>,
    /// The highest message that was looked at.
    last: u64,
}

impl Book {
    pub(super) fn new(terms: &[Terms]) -> Self {
        let mut positions: Vec<Position> = Vec::new();
        for terms in terms.iter().filter(|terms| terms.is_durable()) {
            let is_known = |position: &Position| position.terms.shares_position(terms);
            if !positions.iter().any(is_known) {
                positions.push(Position {
                    terms: terms.clone(),
                    open: BTreeSet::new(),
                    last: 0,
                });
            }
        }
        Self {
            positions,
            terms: terms.to_vec(),
        }
    }
}

impl Position {
    /// Takes in what the channel has gained and lost.
    fn follow(&mut self, world: &World) {
        let (first, last) = world.store.range(&self.terms.channel);
        self.open.extend(self.last + 1..=last);
        self.last = self.last.max(last);
        self.open = self.open.split_off(&first);
    }

    fn check(&mut self, world: &World) {
        self.follow(world);
        let (mut beyond, mut pending) = (0, BTreeSet::new());
        for (sub, of_sub) in world.store.subs(&self.terms.channel) {
            let is_own = if self.terms.group.is_empty() {
                sub.durable_name == self.terms.durable_name && sub.client_id == self.terms.owner
            } else {
                sub.q_group == self.terms.group
            };
            if is_own {
                beyond = beyond.max(sub.last_sent);
                pending.extend(of_sub);
            }
        }
        for sequence in self.open.range(..=beyond) {
            assert!(
                pending.contains(sequence),
                "{:?} is at {beyond}, but nobody has acknowledged {sequence}",
                self.terms
            );
        }
    }
}

impl Law for Book {
    fn see(&mut self, event: &Event, world: &World) {
        match event {
            Event::Acked { reader, sequence } => {
                let terms = &self.terms[*reader];
                for position in &mut self.positions {
                    if position.terms.shares_position(terms) {
                        position.follow(world);
                        position.open.remove(sequence);
                    }
                }
            }
            // The next channel of this name begins at 1, and nobody has a position there.
            Event::Deleted { channel } => {
                for position in &mut self.positions {
                    if position.terms.channel == *channel {
                        position.open.clear();
                        position.last = 0;
                    }
                }
            }
            Event::Stored | Event::Restarted => {
                for position in &mut self.positions {
                    position.check(world);
                }
            }
            _ => {}
        }
    }
}
