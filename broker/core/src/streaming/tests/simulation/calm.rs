//! The end of a storm: everything works again, and everything must have arrived.

use std::time::Duration;

use super::{CHANNELS, LASTING, Storm};

impl Storm {
    /// Everything works from now on, and readers ack all they get.
    pub(super) fn calm(&mut self) {
        self.world.reads_at_once = true;
        while !self.world.reads.is_empty() {
            self.world.finish_read();
            self.world.run();
        }
        self.world.counts_at_once = true;
        while !self.world.counts.is_empty() {
            self.world.finish_count();
            self.world.run();
        }
        self.world.end_pass();
        self.world.flush_all();
        self.world.flushes_at_once = true;
        self.observe();
        for _ in 0..400 {
            for at in 0..self.readers.len() {
                self.ask(at);
            }
            self.observe();
            for at in 0..self.readers.len() {
                while !self.readers[at].outstanding.is_empty()
                    && self.readers[at].ack_inbox.is_some()
                {
                    self.ack_all(at);
                }
            }
            self.pass(Duration::from_millis(100));
        }
        self.look();
    }

    fn ack_all(&mut self, at: usize) {
        for sequence in std::mem::take(&mut self.readers[at].outstanding) {
            self.send_ack(at, sequence);
        }
        self.world.end_pass();
        self.observe();
    }

    pub(super) fn judge(&self) {
        let store = &self.world.store;
        for sent in self.sent.values() {
            assert!(
                sent.acked != Some(store.era(&sent.channel))
                    || store.has_payload(&sent.channel, &sent.data),
                "an acked message is missing"
            );
        }
        for channel in CHANNELS {
            let ever = self.world.store.history(channel);
            let kept = if self.max_msgs > 0 {
                self.max_msgs as usize
            } else {
                ever.len()
            };
            let stored = self.world.store.messages(channel);
            let newest: Vec<_> = ever.into_iter().rev().take(kept).collect();
            assert!(
                stored.into_iter().rev().eq(newest),
                "only the limit removes, and it does"
            );
            self.world.check_totals(channel);
        }
        for reader in &self.readers[..LASTING] {
            let channel = &reader.request.subject;
            let stored = self.world.store.messages(channel);
            let position = reader.position(self.world.store.era(channel));
            let received = self.received.get(&position);
            for (sequence, _) in &stored {
                assert!(
                    received.is_some_and(|received| received.contains(sequence)),
                    "{position:?} misses {sequence} of {}",
                    stored.len()
                );
            }
        }
        for channel in CHANNELS {
            for sub in self.world.engine.subscriptions(channel) {
                assert_eq!(sub.pending, 0, "all is acked: {sub:?}");
            }
        }
    }
}
