//! What publishers were told against what a channel holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};

/// A message that names its publisher and its place in what that publisher sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Any word without a space.
    pub publisher: String,
    /// From 1, without gaps, in the order of publishing; none is sent twice.
    pub number: u64,
}

impl Entry {
    /// The payload that says so.
    pub fn payload(&self) -> String {
        format!("{} {}", self.publisher, self.number)
    }

    /// # Errors
    /// When the payload is none of ours.
    pub fn parse(payload: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(payload).context("a payload that is no text")?;
        let (publisher, number) = text
            .split_once(' ')
            .with_context(|| format!("a strange payload: {text:?}"))?;
        let number = number
            .parse()
            .with_context(|| format!("a strange number: {text:?}"))?;
        Ok(Self {
            publisher: publisher.to_owned(),
            number,
        })
    }
}

/// Everything that was acknowledged.
#[derive(Debug, Default)]
pub struct Ledger {
    acked: BTreeMap<String, BTreeSet<u64>>,
}

impl Ledger {
    /// Notes that the server has acknowledged an entry.
    pub fn ack(&mut self, entry: &Entry) {
        let acked = self.acked.entry(entry.publisher.clone()).or_default();
        acked.insert(entry.number);
    }

    /// How many entries were acknowledged.
    pub fn acked(&self) -> usize {
        self.acked.values().map(BTreeSet::len).sum()
    }

    /// Compares with everything that a channel holds, in the order of delivery, with sequences.
    ///
    /// Entries that were published and never acknowledged may be there or not.
    ///
    /// # Errors
    /// The first rule that is broken: sequences run from 1 without gap or repetition; every publisher's
    /// entries are there once at most and in the order of publishing; every acknowledged one is there.
    pub fn check(&self, held: &[(u64, Entry)]) -> anyhow::Result<()> {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        let mut seen: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for ((sequence, entry), expected) in held.iter().zip(1..) {
            ensure!(
                *sequence == expected,
                "sequence {sequence} where {expected} belongs"
            );
            let last = last.entry(&entry.publisher).or_default();
            ensure!(
                entry.number > *last,
                "sequence {sequence}: {} after {last} of the same publisher",
                entry.payload()
            );
            *last = entry.number;
            seen.entry(&entry.publisher)
                .or_default()
                .insert(entry.number);
        }
        let none = BTreeSet::new();
        for (publisher, acked) in &self.acked {
            let seen = seen.get(publisher.as_str()).unwrap_or(&none);
            let missing: Vec<_> = acked.difference(seen).collect();
            ensure!(
                missing.is_empty(),
                "{} acknowledged messages of {publisher} are missing: {missing:?}",
                missing.len()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            publisher: "p".to_owned(),
            number,
        }
    }

    fn check(acked: &[u64], held: &[(u64, u64)]) -> anyhow::Result<()> {
        let mut ledger = Ledger::default();
        for number in acked {
            ledger.ack(&entry(*number));
        }
        let held: Vec<_> = held
            .iter()
            .map(|(sequence, number)| (*sequence, entry(*number)))
            .collect();
        ledger.check(&held)
    }

    #[test]
    fn what_was_not_acknowledged_may_be_held_or_not() {
        check(&[1, 3], &[(1, 1), (2, 3)]).unwrap();
        check(&[1, 3], &[(1, 1), (2, 2), (3, 3), (4, 4)]).unwrap();
    }

    #[test]
    fn every_broken_rule_is_found() {
        check(&[1, 2], &[(1, 1)]).expect_err("an acknowledged message is missing");
        check(&[], &[(1, 1), (1, 2)]).expect_err("a sequence twice");
        check(&[], &[(1, 1), (3, 2)]).expect_err("a gap");
        check(&[], &[(1, 2), (2, 1)]).expect_err("the order is not kept");
        check(&[], &[(1, 1), (2, 1)]).expect_err("a message twice");
    }

    #[test]
    fn payloads_read_back() {
        let entry = entry(7);
        assert_eq!(Entry::parse(entry.payload().as_bytes()).unwrap(), entry);
        assert!(Entry::parse(b"p x").is_err() && Entry::parse(b"\xff").is_err());
    }
}
