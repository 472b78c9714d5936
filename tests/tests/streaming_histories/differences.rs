//! The differences from nats-streaming-server that are meant, each with its reason. One that is never met in a long
//! run is an error of this table.

use std::{collections::BTreeSet, sync::Mutex};

use crate::history::{History, Op, Step};

/// Histories that must meet a difference.
const USUAL: u64 = 5_000;

/// A difference that is no fault.
#[derive(Debug)]
pub(crate) struct Excused {
    pub(crate) name: &'static str,
    /// Why it is right, for whoever reads a failure.
    pub(crate) reason: &'static str,
    /// So many histories must meet it.
    pub(crate) met_within: u64,
    /// Told the history, the step that differs, the reference's lines of it and the other's.
    pub(crate) has: fn(&History, usize, &[String], &[String]) -> bool,
}

/// All of them.
pub(crate) const EXCUSED: &[Excused] = &[
    Excused {
        name: "no delivery to who is leaving",
        reason: "an acknowledgement makes room and the end of the subscription comes right behind it: the reference still \
             sends what fits, which nobody hears any more; the broker reads it from the store, and by then the \
             subscription has ended",
        met_within: USUAL,
        has: |history, place, reference, other| {
            let Step::Together(ops) = &history.steps[place] else {
                return false;
            };
            let acknowledges = ops.iter().position(|op| matches!(op, Op::Acknowledge(_)));
            let ends = |op: &Op| matches!(op, Op::End(_) | Op::Close { .. });
            acknowledges.is_some_and(|at| ops[at..].iter().any(ends))
                && other.iter().all(|line| reference.contains(line))
        },
    },
    Excused {
        name: "size of a message in a file",
        reason: "the reference's file store counts its own record headers into max_bytes, as its other stores do not; the \
             broker counts the messages, whatever the store",
        met_within: USUAL,
        has: |history, _, reference, other| {
            let restarted = history
                .steps
                .iter()
                .any(|step| matches!(step, Step::Restart));
            let differing = reference.iter().filter(|line| !other.contains(line));
            let mut differing =
                differing.chain(other.iter().filter(|line| !reference.contains(line)));
            restarted && differing.all(|line| line.contains("@.bytes "))
        },
    },
];

/// Which ones were met.
#[derive(Debug, Default)]
pub(crate) struct Met(Mutex<BTreeSet<&'static str>>);

impl Met {
    pub(crate) fn note(&self, name: &'static str) {
        self.0.lock().unwrap().insert(name);
    }

    /// Adds what was met here to what was met elsewhere.
    pub(crate) fn add_to(&self, other: &Self) {
        let met = self.0.lock().unwrap();
        met.iter().for_each(|name| other.note(name));
    }

    /// Those that were not met in so many histories.
    pub(crate) fn idle(&self, histories: u64) -> Vec<String> {
        let met = self.0.lock().unwrap();
        let idle = EXCUSED
            .iter()
            .filter(|one| one.met_within <= histories && !met.contains(one.name));
        idle.map(|one| format!("excused, but not met: {} ({})", one.name, one.reason))
            .collect()
    }
}
