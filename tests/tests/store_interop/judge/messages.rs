//! Rules about messages: what is acknowledged is there once, in one place, unless a limit has removed it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::Judge;
use crate::{
    plan::Channel,
    record::{Ledger, Publish, delivered},
    rig::{AGE, INACTIVITY, SMALL_BYTES},
    tables::{Kept, Tables},
};

/// By how much the rows of two messages with payloads of one length may differ.
const SLACK_BYTES: u64 = 16;

impl Judge {
    /// Everything about one channel.
    pub(super) fn messages(
        &self,
        channel: Channel,
        ledger: &Ledger,
        tables: &Tables,
        now: Instant,
    ) -> Vec<String> {
        let name = channel.name();
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(format!("{name}: {text}"));
        let nothing = Kept::default();
        let kept = tables.channels.get(name).unwrap_or(&nothing);
        let sent = ledger.publishes.iter().filter(|one| one.channel == channel);
        let sent: BTreeMap<&str, &Publish> = sent.map(|one| (one.payload.as_str(), one)).collect();

        let mut places: BTreeMap<&str, u64> = BTreeMap::new();
        let mut before = None;
        for (&sequence, stored) in &kept.messages {
            if before.is_some_and(|before| before + 1 != sequence) {
                fault(format!("nothing between {before:?} and {sequence}"));
            }
            before = Some(sequence);
            match &stored.payload {
                Err(why) => fault(format!("row {sequence} {why}")),
                Ok(payload) if !sent.contains_key(payload.as_str()) => {
                    fault(format!(
                        "row {sequence} holds {payload:?}, which nobody has sent"
                    ));
                }
                Ok(payload) => {
                    if let Some(other) = places.insert(payload, sequence) {
                        fault(format!(
                            "{payload} is there twice, as {other} and {sequence}"
                        ));
                    }
                }
            }
        }
        for text in self.moved(channel, ledger, kept) {
            fault(text);
        }
        let lost = sent
            .values()
            .filter(|one| one.is_acked && !places.contains_key(one.payload.as_str()));
        let lost: Vec<&Publish> = lost.copied().collect();
        if !lost.is_empty()
            && let Some(why) = self.unjustified(channel, ledger, kept, &lost, now)
        {
            let lost: Vec<&str> = lost.iter().map(|one| one.payload.as_str()).collect();
            fault(format!("acknowledged and lost ({why}): {lost:?}"));
        }
        faults
    }

    /// Sequences that belong to another message than before.
    fn moved(&self, channel: Channel, ledger: &Ledger, kept: &Kept) -> Vec<String> {
        let mut faults = Vec::new();
        let known = self.known(channel, ledger, kept);
        for (sequence, payloads) in &known {
            if payloads.len() > 1 {
                faults.push(format!(
                    "sequence {sequence} was given to each of {payloads:?}"
                ));
            }
        }
        let last = known.keys().next_back().copied().unwrap_or(0);
        if !kept.messages.is_empty() && kept.last() < last {
            faults.push(format!("ends with {} after {last} was given", kept.last()));
        }
        let former = self.assigned.get(channel.name());
        if channel != Channel::Idle && former.is_some_and(|former| former.id != kept.id) {
            faults.push("the channel was deleted".to_owned());
        }
        faults
    }

    /// What was ever seen at each sequence of the channel as it is now.
    fn known<'a>(
        &'a self,
        channel: Channel,
        ledger: &'a Ledger,
        kept: &'a Kept,
    ) -> BTreeMap<u64, BTreeSet<&'a str>> {
        let mut known: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
        let name = channel.name();
        // Subscriptions that exist now keep their channel from being deleted.
        let its = ledger
            .subscribed
            .iter()
            .filter(|one| one.key.channel == name);
        for (sequence, payload) in its.flat_map(|one| delivered(&one.events)) {
            known.entry(sequence).or_default().insert(payload);
        }
        let former = self
            .assigned
            .get(name)
            .filter(|former| former.id == kept.id);
        for (sequence, payload) in former.iter().flat_map(|former| &former.payloads) {
            known.entry(*sequence).or_default().insert(payload);
        }
        for (sequence, stored) in &kept.messages {
            if let Ok(payload) = &stored.payload {
                known.entry(*sequence).or_default().insert(payload);
            }
        }
        known
    }

    /// Why the channel's limits do not account for the loss of these messages; none: they do.
    fn unjustified(
        &self,
        channel: Channel,
        ledger: &Ledger,
        kept: &Kept,
        lost: &[&Publish],
        now: Instant,
    ) -> Option<String> {
        let count = kept.messages.len() as u64;
        let youngest = lost
            .iter()
            .map(|one| now - one.sent)
            .min()
            .unwrap_or_default();
        let sizes = || kept.messages.values().map(|stored| stored.size);
        let why = match channel {
            Channel::Orders | Channel::Invoices => Some("without a limit".to_owned()),
            Channel::Few => {
                (count < self.fewest).then(|| format!("{count} are left, limit {}", self.fewest))
            }
            Channel::Small => {
                let (sum, one) = (sizes().sum::<u64>(), sizes().max().unwrap_or(0));
                (sum + one + SLACK_BYTES <= SMALL_BYTES)
                    .then(|| format!("{sum} bytes are left, limit {SMALL_BYTES}"))
            }
            Channel::Young => (youngest < AGE).then(|| format!("one after {youngest:?}")),
            Channel::Idle => {
                let is_guarded =
                    |one: &&Publish| ledger.idle_guarded.is_some_and(|since| since < one.sent);
                (youngest < INACTIVITY || lost.iter().any(is_guarded)).then(|| "in use".to_owned())
            }
        };
        why.or_else(|| self.out_of_order(channel, ledger, kept, lost))
    }

    /// Limits remove from the front.
    fn out_of_order(
        &self,
        channel: Channel,
        ledger: &Ledger,
        kept: &Kept,
        lost: &[&Publish],
    ) -> Option<String> {
        let first = kept.first()?;
        let known = self.known(channel, ledger, kept);
        let mut places: BTreeMap<&str, u64> = BTreeMap::new();
        for (sequence, payloads) in &known {
            places.extend(payloads.iter().map(|payload| (*payload, *sequence)));
        }
        let (placed, elsewhere): (Vec<&Publish>, Vec<&Publish>) = lost
            .iter()
            .partition(|one| places.contains_key(one.payload.as_str()));
        if let Some(one) = placed
            .iter()
            .find(|one| places[one.payload.as_str()] >= first)
        {
            return Some(format!("{} was not the first", one.payload));
        }
        let room = first - 1 - known.range(..first).count() as u64;
        // An earlier channel of the same name may have had them.
        (channel != Channel::Idle && elsewhere.len() as u64 > room).then(|| {
            format!(
                "{} of them before {first}, where is room for {room}",
                elsewhere.len()
            )
        })
    }

    /// Channels that hold more than the limits of the present turn allow.
    pub(super) fn too_many(&self, tables: &Tables) -> BTreeSet<Channel> {
        let is_over = |channel: &Channel| {
            let Some(kept) = tables.channels.get(channel.name()) else {
                return false;
            };
            let sizes = kept.messages.values().map(|stored| stored.size);
            match channel {
                Channel::Few => kept.messages.len() as u64 > self.few,
                Channel::Small => sizes.sum::<u64>() > SMALL_BYTES,
                _ => false,
            }
        };
        Channel::ALL.into_iter().filter(is_over).collect()
    }
}
