//! What is not acknowledged comes again, not before the ack wait is over and not much later.

use std::{collections::BTreeMap, time::Duration};

use super::{Event, Law, Terms, World};

/// What expires this soon may come along with what has expired.
const EARLY: Duration = Duration::from_millis(15);
/// What expires while other messages are being redelivered comes with the next round.
const LATE: Duration = Duration::from_millis(115);

pub(super) struct Book {
    terms: Vec<Terms>,
    /// When it came, by reader and sequence. Not known of what was left by others or before a restart.
    out: BTreeMap<(usize, u64), Duration>,
    /// Until when the store did not do what it was asked for: a round that needs it is late.
    lagged: Duration,
}

impl Book {
    pub(super) fn new(terms: &[Terms]) -> Self {
        Self {
            terms: terms.to_vec(),
            out: BTreeMap::new(),
            lagged: Duration::ZERO,
        }
    }

    /// Takes a message away from who has it among those who share the position of a reader: who, and since when.
    fn take(&mut self, reader: usize, sequence: u64) -> Option<(usize, Duration)> {
        let terms = &self.terms;
        let mut sharing =
            (0..terms.len()).filter(|other| terms[*other].shares_position(&terms[reader]));
        sharing.find_map(|other| Some((other, self.out.remove(&(other, sequence))?)))
    }
}

impl Law for Book {
    fn see(&mut self, event: &Event, world: &World) {
        let now = world.clock.elapsed;
        match event {
            Event::Delivered { reader, message } => {
                let sequence = message.sequence;
                if let Some((holder, since)) = self.take(*reader, sequence) {
                    let due = since + self.terms[holder].ack_wait;
                    assert!(message.redelivered, "{sequence} came to {reader} unmarked");
                    assert!(
                        now + EARLY >= due,
                        "{sequence} came again to {reader} at {now:?}, due at {due:?}"
                    );
                }
                self.out.insert((*reader, sequence), now);
            }
            Event::Acked { reader, sequence } => drop(self.take(*reader, *sequence)),
            Event::Ending { reader } => self.out.retain(|(other, _), _| other != reader),
            Event::Restarted => self.out.clear(),
            Event::Deleted { channel } => {
                let terms = &self.terms;
                self.out
                    .retain(|(reader, _), _| terms[*reader].channel != *channel);
            }
            Event::StoreLags => self.lagged = now,
            Event::Passed => {
                for ((reader, sequence), since) in &self.out {
                    let terms = &self.terms[*reader];
                    let due = *since.max(&self.lagged) + terms.ack_wait + LATE;
                    assert!(
                        now <= due || *sequence < world.store.range(&terms.channel).0,
                        "{sequence} at {reader} since {since:?} did not come again by {now:?}"
                    );
                }
            }
            _ => {}
        }
    }
}
