//! What becomes of the storm's store and server: flushes and reads end well or badly, and everything dies.

use prost::Message as _;

use super::{
    super::{harness::World, invariants::Event},
    Storm,
};
use crate::durable::{Change, FlushOutcome};

impl Storm {
    pub(super) fn finish_flush(&mut self) {
        let Some(lane) = self.world.flights.iter().position(Option::is_some) else {
            return;
        };
        let batch = self.world.flights[lane].as_ref().expect("it is under way");
        let rows = batch.rows.len();
        let deletes = |change: &Change| matches!(change, Change::DeleteChannel { .. });
        let deletes = batch.changes.iter().any(deletes);
        let outcome = match self.dice.below(20) {
            0 if rows > 0 || deletes => FlushOutcome::Refused {
                reason: "refused".into(),
            },
            1 if rows > 0 => {
                let row = self.world.flights[lane].as_ref().unwrap().rows[0];
                let channel = self
                    .world
                    .engine
                    .channels()
                    .find(|channel| channel.id == row.channel);
                let channel = channel.unwrap().name.to_owned();
                if self.world.store.channel(&channel).is_none() {
                    return;
                }
                self.foreign += 1;
                FlushOutcome::Foreign {
                    last: vec![self.world.store.plant_row(&channel, "foreign")],
                }
            }
            _ => FlushOutcome::Stored,
        };
        self.world.finish_flush(lane, outcome);
        self.tell(&Event::Stored);
    }

    pub(super) fn finish_read(&mut self) {
        if !self.world.counts.is_empty() && self.dice.one_in(4) {
            return match self.dice.one_in(4) {
                true => self.world.fail_count(),
                false => self.world.finish_count(),
            };
        }
        if self.world.reads.is_empty() {
            return;
        }
        self.tell(&Event::StoreLags);
        if self.dice.one_in(10) {
            self.world.fail_read();
        } else {
            self.world.finish_read();
        }
    }

    /// A crash, with the flushes under way stored or lost, as it comes.
    pub(super) fn restart(&mut self) {
        for lane in 0..self.world.flights.len() {
            if let Some(batch) = self.world.flights[lane].take()
                && self.dice.one_in(2)
            {
                self.world.store.apply(&batch);
            }
        }
        self.world.published.clear();
        self.world.crash();
        self.tell(&Event::Restarted);
        // Clients whose registration was lost come again, as they would after failed pings.
        for id in ["p", "x", "y"] {
            let connect = World::connect_request(id).encode_to_vec();
            if !self.world.store.has_client(id) {
                self.world.send("_STAN.discover.test-cluster", "", &connect);
            }
        }
        for at in 0..self.readers.len() {
            let ack_inbox = self.readers[at].ack_inbox.clone().unwrap_or_default();
            let subs = self
                .world
                .engine
                .subscriptions(&self.readers[at].request.subject);
            let is_known = subs
                .into_iter()
                .any(|sub| !sub.is_offline && sub.ack_inbox == ack_inbox.as_bytes());
            if !is_known {
                self.readers[at].is_unsure = true;
                self.forget(at);
            }
        }
    }
}
