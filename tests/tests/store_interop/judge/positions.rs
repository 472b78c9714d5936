//! Rules about subscriptions: where each one stands, what is pending, and what is delivered after a change of servers.

use std::collections::{BTreeMap, BTreeSet};

use super::Judge;
use crate::{
    plan::{Program, Start},
    record::{Event, Ledger, Subscribed, acked, delivered},
    tables::{Kept, Position, Tables},
};

/// Deliveries of a message that was with another member and came back.
const ROUND: u32 = 3;

impl Judge {
    /// Everything about all subscriptions.
    pub(super) fn positions(&self, ledger: &Ledger, tables: &Tables) -> Vec<String> {
        let mut faults = Vec::new();
        for subscribed in &ledger.subscribed {
            let key = &subscribed.key;
            let mut found = match tables.positions.get(key) {
                Some(position) => self.position(subscribed, position, ledger, tables),
                None => vec!["is gone".to_owned()],
            };
            found.extend(self.deliveries(subscribed, ledger.turn));
            let found = found.into_iter();
            faults.extend(found.map(|text| format!("{} of {}: {text}", key.name, key.channel)));
        }
        let known: BTreeSet<_> = ledger.subscribed.iter().map(|one| &one.key).collect();
        for key in tables.positions.keys().filter(|key| !known.contains(key)) {
            faults.push(format!("{} of {}: nobody has it", key.name, key.channel));
        }
        faults
    }

    /// The tables against what was delivered and acknowledged.
    fn position(
        &self,
        subscribed: &Subscribed,
        position: &Position,
        ledger: &Ledger,
        tables: &Tables,
    ) -> Vec<String> {
        let nothing = Kept::default();
        let kept = tables.channels.get(&subscribed.key.channel);
        let kept = kept.unwrap_or(&nothing);
        let mut faults = self.pending(subscribed, position, kept, ledger.turn);
        let last_sent = position.last_sent;
        let settled = delivered(&subscribed.events[..subscribed.settled]);
        if let Some((&highest, _)) = settled.last_key_value()
            && highest > last_sent
            && !self.may_forget(subscribed, kept, last_sent)
        {
            faults.push(format!(
                "stands at {last_sent} after {highest} was delivered"
            ));
        }
        let seen = delivered(&subscribed.events);
        let from = start(subscribed, ledger, kept);
        let behind = kept
            .messages
            .keys()
            .filter(|one| (from..=last_sent).contains(*one));
        let never: Vec<&u64> = behind
            .filter(|one| !seen.contains_key(one) && !position.pending.contains(one))
            .collect();
        if !never.is_empty() {
            faults.push(format!("stands at {last_sent}, and never got {never:?}"));
        }
        for (sequence, payload) in &seen {
            let row = kept.messages.get(sequence).map(|stored| &stored.payload);
            if row.is_some_and(|row| row.as_deref() != Ok(payload)) {
                faults.push(format!("got {payload} as {sequence}, which is {row:?}"));
            }
        }
        faults
    }

    /// What is pending in the tables against what was delivered and not acknowledged.
    fn pending(
        &self,
        subscribed: &Subscribed,
        position: &Position,
        kept: &Kept,
        turn: usize,
    ) -> Vec<String> {
        let Position {
            last_sent, pending, ..
        } = position;
        let done = acked(&subscribed.events);
        let forgiven = self.forgiven(subscribed, turn);
        let settled = &subscribed.events[..subscribed.settled];
        // What limits have removed is pending until it is looked for.
        let exists = |sequence: &u64| kept.messages.contains_key(sequence);
        let missing = |of: BTreeMap<u64, &str>| -> Vec<u64> {
            let open = of
                .into_keys()
                .filter(|one| !done.contains(one) && !forgiven.contains(one));
            open.filter(|one| exists(one) && !pending.contains(one))
                .collect()
        };
        let mut faults = Vec::new();
        let unknown = missing(delivered(settled));
        if !unknown.is_empty() {
            faults.push(format!("not pending, and not acknowledged: {unknown:?}"));
        }
        let mut skipped = missing(delivered(&subscribed.events));
        skipped.retain(|sequence| sequence <= last_sent);
        if !skipped.is_empty() {
            faults.push(format!(
                "behind it, not pending, not acknowledged: {skipped:?}"
            ));
        }
        let clinging = match self.program {
            Some(Program::Reference) => &position.clinging,
            _ => &BTreeSet::new(),
        };
        let mut returning = acked(settled);
        returning.retain(|one| {
            pending.contains(one)
                && exists(one)
                && !forgiven.contains(one)
                && !clinging.contains(one)
                && !self.may_return(subscribed, *one)
        });
        if !returning.is_empty() {
            faults.push(format!("pending, and acknowledged: {returning:?}"));
        }
        faults
    }

    /// Whether an acknowledgement of this message may have been in vain.
    fn may_return(&self, subscribed: &Subscribed, sequence: u64) -> bool {
        let stale = self.stale.get(&subscribed.key);
        subscribed.doubtful.contains(&sequence)
            || stale.is_some_and(|stale| stale.contains(&sequence))
    }

    /// What nats-streaming-server gets wrong by itself in this turn: what it misreads, messages that have gone round a
    /// group, whose rows it confuses, and those of a member that has left, which others get with the next flush only.
    fn forgiven(&self, subscribed: &Subscribed, turn: usize) -> BTreeSet<u64> {
        let mut forgiven = BTreeSet::new();
        if self.program != Some(Program::Reference) {
            return forgiven;
        }
        if let Some(found) = self.found.get(&subscribed.key) {
            forgiven.extend(&found.misread);
        }
        if !subscribed.role.kind.is_group() {
            return forgiven;
        }
        if subscribed.has_left {
            forgiven.extend(delivered(&subscribed.events).keys());
        }
        let mut times: BTreeMap<u64, u32> = BTreeMap::new();
        for (when, event) in &subscribed.events {
            if let Event::Delivered { sequence, .. } = event
                && *when == turn
            {
                *times.entry(*sequence).or_default() += 1;
            }
        }
        times.retain(|_, times| *times >= ROUND);
        forgiven.extend(times.into_keys());
        forgiven
    }

    /// Whether the server may have forgotten that it has delivered what lies beyond this, which is all acknowledged.
    /// nats-streaming-server removes rows of pending messages at once, and notes how far the subscription is later; when
    /// it has found the rows, never.
    fn may_forget(&self, subscribed: &Subscribed, kept: &Kept, last_sent: u64) -> bool {
        let done = acked(&subscribed.events);
        let settled = delivered(&subscribed.events[..subscribed.settled]);
        let mut beyond = settled.into_keys().filter(|one| *one > last_sent);
        let found = self.found.get(&subscribed.key);
        let found = found.filter(|_| self.forgetful.contains(&subscribed.key));
        let is_late = subscribed.settled < subscribed.events.len();
        self.program == Some(Program::Reference)
            && beyond.all(|one| {
                let is_gone = done.contains(&one) || !kept.messages.contains_key(&one);
                is_gone && (is_late || found.is_some_and(|found| one <= found.last_sent))
            })
    }

    /// What came in this turn, against the tables that the server has found.
    fn deliveries(&self, subscribed: &Subscribed, turn: usize) -> Vec<String> {
        let mut faults = Vec::new();
        let found = self.found.get(&subscribed.key);
        let found = found.filter(|_| subscribed.created < turn);
        let mut before: BTreeSet<u64> = BTreeSet::new();
        let mut highest = 0;
        for (_, event) in subscribed.events.iter().filter(|(when, _)| *when == turn) {
            let Event::Delivered {
                sequence,
                is_redelivered,
                ..
            } = *event
            else {
                continue;
            };
            let is_first = before.insert(sequence);
            if !is_redelivered {
                if !is_first {
                    faults.push(format!("{sequence} came again as if it had not been there"));
                }
                if sequence < highest && !subscribed.role.kind.is_group() {
                    faults.push(format!(
                        "{sequence} came for the first time after {highest}"
                    ));
                }
                highest = highest.max(sequence);
            }
            let Some(Position {
                last_sent, pending, ..
            }) = found.filter(|_| is_first)
            else {
                continue;
            };
            let was_pending = pending.contains(&sequence);
            if was_pending && !is_redelivered {
                faults.push(format!("{sequence} was pending and came as if it were new"));
            }
            if !was_pending && sequence <= *last_sent {
                faults.push(format!("{sequence} came again and was not pending"));
            }
        }
        faults
    }

    /// What subscriptions that are online must still get.
    pub(super) fn missing_deliveries(&self, ledger: &Ledger, tables: &Tables) -> Vec<String> {
        let mut faults = Vec::new();
        let online = ledger
            .subscribed
            .iter()
            .filter(|one| !one.members.is_empty());
        for subscribed in online {
            let key = &subscribed.key;
            let kept = tables.channels.get(&key.channel);
            let (Some(kept), Some(position)) = (kept, tables.positions.get(key)) else {
                continue;
            };
            let mut fault =
                |text: String| faults.push(format!("{} of {}: {text}", key.name, key.channel));
            let waiting = self.waiting(subscribed, kept, ledger.turn);
            if !waiting.is_empty() {
                fault(format!("pending and never delivered again: {waiting:?}"));
            }
            // One member at least has room for more.
            let room = usize::from(subscribed.role.max_in_flight) * subscribed.members.len();
            if position.pending.len() >= room {
                continue;
            }
            let seen = delivered(&subscribed.events);
            let all = kept.messages.range(start(subscribed, ledger, kept)..);
            let missing = all.map(|(sequence, _)| sequence);
            let missing: Vec<&u64> = missing.filter(|one| !seen.contains_key(one)).collect();
            if !missing.is_empty() {
                fault(format!("never delivered: {missing:?}"));
            }
        }
        faults
    }

    /// What the server has found pending and has neither delivered nor seen acknowledged.
    fn waiting(&self, subscribed: &Subscribed, kept: &Kept, turn: usize) -> Vec<u64> {
        let of_turn = subscribed.events.partition_point(|(when, _)| *when < turn);
        let now = &subscribed.events[of_turn..];
        let (again, done) = (delivered(now), acked(now));
        let forgiven = self.forgiven(subscribed, turn);
        let found = self.found.get(&subscribed.key);
        let found = found.filter(|_| subscribed.created < turn);
        let mut waiting = found.map(|found| found.pending.clone()).unwrap_or_default();
        waiting.retain(|one| {
            kept.messages.contains_key(one)
                && !forgiven.contains(one)
                && !again.contains_key(one)
                && !done.contains(one)
        });
        waiting.into_iter().collect()
    }
}

/// The first sequence that a subscription has to get, as far as clients can tell.
fn start(subscribed: &Subscribed, ledger: &Ledger, kept: &Kept) -> u64 {
    match subscribed.role.start {
        Start::First => 1,
        Start::Sequence(sequence) => sequence,
        Start::New | Start::Last => {
            let later = &ledger.publishes[subscribed.publishes_before..];
            let later: BTreeSet<&str> = later.iter().map(|one| one.payload.as_str()).collect();
            let of_later = kept.messages.iter().filter(|(_, stored)| {
                stored
                    .payload
                    .as_ref()
                    .is_ok_and(|payload| later.contains(payload.as_str()))
            });
            let of_later = of_later.map(|(sequence, _)| *sequence);
            let seen = delivered(&subscribed.events).into_keys();
            of_later.chain(seen).min().unwrap_or(u64::MAX)
        }
    }
}
