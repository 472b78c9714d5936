//! A channel is deleted only when nobody has used it for as long as was agreed upon: no subscription was open, and
//! nothing was acknowledged to a publisher.

use std::{collections::BTreeMap, time::Duration};

use super::{Event, Law, Terms, World};

pub(super) struct Book {
    terms: Vec<Terms>,
    /// Accepted by the server, and its end not yet asked for; by reader.
    is_open: Vec<bool>,
    /// Where what is not answered was published to, by guid.
    sent: BTreeMap<String, String>,
    /// When a channel was used last, as far as clients know.
    used: BTreeMap<String, Duration>,
    /// After a start every channel has its whole time again.
    started: Duration,
}

impl Book {
    pub(super) fn new(terms: &[Terms]) -> Self {
        Self {
            terms: terms.to_vec(),
            is_open: vec![false; terms.len()],
            sent: BTreeMap::new(),
            used: BTreeMap::new(),
            started: Duration::ZERO,
        }
    }

    /// The store has deleted a channel: it must not have been in use.
    fn judge(&self, channel: &str, world: &World) {
        let max = world.config.limits.max_inactivity_nanos;
        assert!(max > 0, "{channel} was deleted, though none may be");
        for (reader, terms) in self.terms.iter().enumerate() {
            let is_reading = self.is_open[reader] && terms.channel == channel;
            assert!(!is_reading, "{channel} was deleted under reader {reader}");
        }
        let used = self.used.get(channel).max(Some(&self.started));
        let rested = used.map(|used| world.clock.elapsed - *used);
        assert!(
            rested >= Some(Duration::from_nanos(max)),
            "{channel} was deleted {rested:?} after its last use"
        );
    }
}

impl Law for Book {
    fn see(&mut self, event: &Event, world: &World) {
        let now = world.clock.elapsed;
        match event {
            Event::Published { guid, channel, .. } => {
                self.sent.insert(guid.clone(), channel.clone());
            }
            Event::Answered { guid, error } => {
                if let Some(channel) = self.sent.remove(guid)
                    && error.is_empty()
                {
                    self.used.insert(channel, now);
                }
            }
            Event::Opened { reader } => {
                self.is_open[*reader] = true;
                self.used.insert(self.terms[*reader].channel.clone(), now);
            }
            Event::Ending { reader } if self.is_open[*reader] => {
                self.is_open[*reader] = false;
                self.used.insert(self.terms[*reader].channel.clone(), now);
            }
            Event::Restarted => self.started = now,
            Event::Deleted { channel } => self.judge(channel, world),
            _ => {}
        }
    }
}
