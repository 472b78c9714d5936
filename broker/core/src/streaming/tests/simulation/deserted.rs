//! Channels that everybody leaves for a while, so that they are deleted and begin anew.

use std::time::Duration;

use super::{super::model_store::ModelStore, CHANNELS, Storm};
use crate::durable::ChannelLimits;

/// How long a channel rests before it is deleted.
const MAX_INACTIVITY: Duration = Duration::from_millis(400);

/// Who avoids which channels, and what became of these.
pub(super) struct Deserted {
    /// There is a `max_inactivity`, and channels are left alone for longer than that.
    pub(super) happens: bool,
    /// Until when each of the channels is avoided, if it is.
    until: [Option<Duration>; CHANNELS.len()],
    /// How many of each name are known to be gone.
    eras: [u64; CHANNELS.len()],
}

impl Deserted {
    pub(super) fn new(happens: bool, limits: &mut ChannelLimits) -> Self {
        if happens {
            limits.max_inactivity_nanos = MAX_INACTIVITY.as_nanos() as u64;
        }
        Self {
            happens,
            until: [None; CHANNELS.len()],
            eras: [0; CHANNELS.len()],
        }
    }

    /// Channels that the store has deleted since this was asked last.
    pub(super) fn deleted(&mut self, store: &ModelStore) -> Vec<String> {
        let mut deleted = Vec::new();
        for (channel, era) in CHANNELS.iter().zip(&mut self.eras) {
            let now = store.era(channel);
            let before = std::mem::replace(era, now);
            deleted.extend((before..now).map(|_| (*channel).to_owned()));
        }
        deleted
    }
}

impl Storm {
    /// Everybody leaves some channel, or comes back to it when the time is over. Those whose request was answered in
    /// between leave later.
    pub(super) fn come_or_go(&mut self) {
        let at = self.dice.below(CHANNELS.len());
        let now = self.world.clock.elapsed;
        let readers = (0..self.readers.len())
            .filter(|reader| self.readers[*reader].request.subject == CHANNELS[at]);
        let readers: Vec<usize> = readers.collect();
        match self.deserted.until[at] {
            Some(until) if until <= now => {
                self.deserted.until[at] = None;
                for reader in readers {
                    if self.dice.one_in(2) {
                        self.ask(reader);
                    }
                }
            }
            None if self.dice.one_in(2) => {}
            until => {
                let times = 1 + self.dice.below(4) as u32;
                self.deserted.until[at] = until.or(Some(now + MAX_INACTIVITY * times));
                self.end_each(readers);
            }
        }
    }

    /// Ends subscriptions; the end of one may be a delivery to the next.
    fn end_each(&mut self, readers: impl IntoIterator<Item = usize>) {
        for reader in readers {
            self.end(reader);
            self.look();
        }
    }

    /// Whether nobody does anything with a channel now, but for one in so many.
    pub(super) fn is_avoided(&mut self, channel: &str, but_for_one_in: usize) -> bool {
        let at = CHANNELS.iter().position(|other| *other == channel);
        let until = at.and_then(|at| self.deserted.until[at]);
        until.is_some_and(|until| until > self.world.clock.elapsed)
            && !self.dice.one_in(but_for_one_in)
    }

    /// Nobody uses any channel any more: all of them go, and the engine knows of none.
    pub(super) fn leave_for_good(&mut self) {
        self.end_each(0..self.readers.len());
        self.pass(MAX_INACTIVITY);
        for channel in CHANNELS {
            assert!(
                self.world.store.channel(channel).is_none(),
                "nobody uses {channel}, and it is still there"
            );
            assert!(
                self.world.engine.channel(channel).is_none(),
                "{channel} is deleted, and the engine does not know"
            );
        }
        assert_eq!(self.world.engine.subscription_count(), 0);
    }
}
