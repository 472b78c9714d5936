//! No subscription gets a new message while as many as were agreed upon are out.

use std::collections::BTreeSet;

use super::{Event, Law, Terms, World};

pub(super) struct Book {
    terms: Vec<Terms>,
    /// Delivered and not acknowledged, by reader.
    out: Vec<BTreeSet<u64>>,
}

impl Book {
    pub(super) fn new(terms: &[Terms]) -> Self {
        Self {
            terms: terms.to_vec(),
            out: vec![BTreeSet::new(); terms.len()],
        }
    }

    /// Forgets a message at all who share the position of a reader.
    fn settle(&mut self, reader: usize, sequence: u64) {
        for other in 0..self.terms.len() {
            if self.terms[other].shares_position(&self.terms[reader]) {
                self.out[other].remove(&sequence);
            }
        }
    }
}

impl Law for Book {
    fn see(&mut self, event: &Event, world: &World) {
        match event {
            Event::Delivered { reader, message } => {
                // With a redelivery it moves from one member to another.
                self.settle(*reader, message.sequence);
                self.out[*reader].insert(message.sequence);
                let terms = &self.terms[*reader];
                // What a limit removed is out no more, as soon as the server notices.
                let (first, _) = world.store.range(&terms.channel);
                let out = self.out[*reader].range(first..).count();
                assert!(
                    message.redelivered || out <= terms.max_in_flight,
                    "{out} messages are out at {reader}: {:?}",
                    self.out[*reader]
                );
            }
            Event::Acked { reader, sequence } => self.settle(*reader, *sequence),
            Event::Ending { reader } => self.out[*reader].clear(),
            Event::Deleted { channel } => {
                for (terms, out) in self.terms.iter().zip(&mut self.out) {
                    if terms.channel == *channel {
                        out.clear();
                    }
                }
            }
            Event::Restarted => {
                for (terms, out) in self.terms.iter().zip(&mut self.out) {
                    let subs = world.store.subs(&terms.channel);
                    let own = subs.into_iter().find(|(sub, _)| sub.inbox == terms.inbox);
                    *out = own
                        .map(|(_, pending)| pending.into_iter().collect())
                        .unwrap_or_default();
                }
            }
            _ => {}
        }
    }
}
