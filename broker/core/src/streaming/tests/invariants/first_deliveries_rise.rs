//! What a subscription gets for the first time comes in the order of its channel, as long as the server lives and the channel is there.

use super::{Event, Law, Terms, World};

pub(super) struct Book {
    terms: Vec<Terms>,
    /// Highest first delivery, by reader.
    highest: Vec<u64>,
}

impl Book {
    pub(super) fn new(terms: &[Terms]) -> Self {
        Self {
            terms: terms.to_vec(),
            highest: vec![0; terms.len()],
        }
    }
}

impl Law for Book {
    fn see(&mut self, event: &Event, _world: &World) {
        match event {
            Event::Delivered { reader, message } if !message.redelivered => {
                assert_eq!(message.redelivery_count, 0);
                let highest = &mut self.highest[*reader];
                let sequence = message.sequence;
                assert!(
                    sequence > *highest,
                    "{sequence} came to {reader} after {highest}"
                );
                *highest = sequence;
            }
            // Positions are written a little later; without durable name there is none to come back to.
            Event::Restarted => self.highest.fill(0),
            Event::Deleted { channel } => {
                for (terms, highest) in self.terms.iter().zip(&mut self.highest) {
                    if terms.channel == *channel {
                        *highest = 0;
                    }
                }
            }
            Event::Opened { reader } if !self.terms[*reader].is_durable() => {
                self.highest[*reader] = 0;
            }
            _ => {}
        }
    }
}
