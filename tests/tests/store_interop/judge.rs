//! Compares what clients have written down with what the tables hold. Pure: no clock but the times in the ledger.
//!
//! Two moments are judged. While a server serves, everything that clients know must get into the tables sooner or later
//! ([`Judge::settled`]). When it has ended, that must hold for what was seen to have got there; of what came after, a
//! server may lose which messages it has delivered and which acknowledgements it has taken in (its flush window), but
//! no message ([`Judge::handed_over`]). What the next server delivers is judged by the tables that it has found.

mod messages;
mod positions;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{
    plan::{Channel, Program, Turn},
    record::{Key, Ledger, delivered},
    tables::{Position, Tables},
};

/// Which sequences a channel has given, as far as is known.
#[derive(Clone, Debug, Default)]
struct Assigned {
    /// The row of the channel: another one is another channel of the same name.
    id: String,
    payloads: BTreeMap<u64, String>,
}

/// Remembers what earlier servers have left.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// Where subscriptions stood when the present server found the tables.
    found: BTreeMap<Key, Position>,
    assigned: BTreeMap<String, Assigned>,
    /// Rows of the cached kind that nats-streaming-server without cache has found: it never removes them.
    stale: BTreeMap<Key, BTreeSet<u64>>,
    /// Where nats-streaming-server with cache has found pending messages: it forgets how far the subscription is once
    /// they are acknowledged, unless others were delivered meanwhile.
    forgetful: BTreeSet<Key>,
    /// Who serves in the present turn.
    program: Option<Program>,
    /// `max_msgs` of the present turn.
    few: u64,
    /// Channels that were found with more than the present limits: a server was killed before it could remove what is too
    /// much, or had other limits. nats-streaming-server removes it with the next message at the latest.
    over: BTreeSet<Channel>,
    /// The lowest of all turns so far; 0: of none.
    fewest: u64,
}

impl Judge {
    /// A server is about to serve what is in the tables.
    pub(crate) fn begin(&mut self, turn: &Turn) {
        self.few = turn.few;
        self.fewest = match self.fewest {
            0 => turn.few,
            fewest => fewest.min(turn.few),
        };
        self.program = Some(turn.program);
        self.stale.clear();
        self.forgetful.clear();
        if turn.program == Program::Broker {
            return;
        }
        let found = self.found.iter().filter(|(_, one)| !one.pending.is_empty());
        if turn.uncached {
            let stale = found.map(|(key, one)| (key.clone(), one.pending.clone()));
            self.stale = stale.collect();
        } else {
            self.forgetful = found.map(|(key, _)| key.clone()).collect();
        }
    }

    /// What the tables do not say yet, and what is wrong.
    pub(crate) fn settled(&self, ledger: &Ledger, tables: &Tables, now: Instant) -> Vec<String> {
        let mut ledger = ledger.clone();
        for subscribed in &mut ledger.subscribed {
            subscribed.settled = subscribed.events.len();
            subscribed.has_left = false;
        }
        let mut faults = self.handed_over(&ledger, tables, now);
        let is_reference = self.program == Some(Program::Reference);
        for channel in self.too_many(tables) {
            if !is_reference || !self.over.contains(&channel) {
                faults.push(format!("{}: more than its limits", channel.name()));
            }
        }
        faults.extend(self.missing_deliveries(&ledger, tables));
        faults
    }

    /// What is wrong after the end of a server.
    pub(crate) fn handed_over(
        &self,
        ledger: &Ledger,
        tables: &Tables,
        now: Instant,
    ) -> Vec<String> {
        let mut faults = tables.oddities.clone();
        if tables.clients != ledger.clients {
            faults.push(format!(
                "clients {:?} instead of {:?}",
                tables.clients, ledger.clients
            ));
        }
        for channel in Channel::ALL {
            faults.extend(self.messages(channel, ledger, tables, now));
        }
        faults.extend(self.positions(ledger, tables));
        faults
    }

    /// The next server will find these tables.
    pub(crate) fn adopt(&mut self, ledger: &Ledger, tables: &Tables, next: Option<&Turn>) {
        self.found.clone_from(&tables.positions);
        self.few = next.map_or(self.few, |next| next.few);
        self.over = self.too_many(tables);
        for (name, kept) in &tables.channels {
            let assigned = self.assigned.entry(name.clone()).or_default();
            if assigned.id != kept.id {
                *assigned = Assigned {
                    id: kept.id.clone(),
                    payloads: BTreeMap::new(),
                };
            }
            for (sequence, stored) in &kept.messages {
                let payload = stored.payload.clone().unwrap_or_default();
                assigned.payloads.insert(*sequence, payload);
            }
            let its = ledger
                .subscribed
                .iter()
                .filter(|one| one.key.channel == *name);
            for (sequence, payload) in its.flat_map(|one| delivered(&one.events)) {
                let known = assigned.payloads.entry(sequence);
                known.or_insert_with(|| payload.to_owned());
            }
        }
        if next.is_some_and(|next| next.program == Program::Reference) {
            self.forget_young(tables);
        }
    }

    /// nats-streaming-server removes what has expired meanwhile when it starts, without a note of the last sequence:
    /// where no subscription has been there either, it counts from one again.
    fn forget_young(&mut self, tables: &Tables) {
        let name = Channel::Young.name();
        let noted = tables.channels.get(name).map_or(0, |kept| kept.max_seq);
        let its = tables
            .positions
            .iter()
            .filter(|(key, _)| key.channel == name);
        let seen = its.map(|(_, position)| position.last_sent).max();
        let assigned = self.assigned.get(name);
        let last = assigned.and_then(|one| one.payloads.keys().next_back().copied());
        if last.is_some_and(|last| last > noted.max(seen.unwrap_or(0))) {
            self.assigned.remove(name);
        }
    }
}
