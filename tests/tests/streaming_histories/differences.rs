//! The differences from nats-streaming-server that are meant, each with its reason. One that is never met in a long
//! run is an error of this table.

use std::{collections::BTreeMap, sync::Mutex};

use crate::history::{Fault, History, Op, Step, Way};

/// Histories that must meet a difference.
const USUAL: u64 = 5_000;
/// What happens when two are equally fast.
const BY_CHANCE: u64 = u64::MAX;

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
        name: "delivery behind an end that nobody waits for",
        reason: "a subscription ended by a request without reply is still sent what is published right behind that: the \
             reference waits for its acks first, the broker has read them already",
        met_within: BY_CHANCE,
        has: |history, place, reference, other| {
            let Some(Step::Together(before)) =
                place.checked_sub(1).map(|before| &history.steps[before])
            else {
                return false;
            };
            let unheard = Way::Faulty(Fault::NoReply);
            let ends = |op: &Op| matches!(op, Op::End(end) if end.way == unheard);
            before.iter().any(ends) && other.iter().all(|line| reference.contains(line))
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
            restarted && differing(reference, other).all(|line| line.contains("@.bytes "))
        },
    },
    Excused {
        name: "before clients are back",
        reason: "what is pending and was removed by a limit frees its place when a server has started, and the next \
                 message goes out at once: with the NATS server in the same process clients may not be back yet, and \
                 then get it after the ack wait; who is faster differs from run to run with both servers",
        met_within: BY_CHANCE,
        has: |history, place, reference, other| {
            let mut before = history.steps[..=place].iter();
            before.any(|step| matches!(step, Step::Restart))
                && differing(reference, other).all(|line| line.contains("@.few "))
        },
    },
    Excused {
        name: "redelivery to a client that is known not to answer",
        reason: "the reference marks the subscriptions that a client has when its first heartbeat is missed, and not \
                 those it makes later, until the mark changes again; the broker looks at the client, so that messages \
                 wait for its return in both",
        met_within: USUAL,
        has: |history, place, reference, other| {
            let mut before = history.steps[..place].iter();
            before.any(|step| matches!(step, Step::Missed { .. }))
                && other.iter().all(|line| reference.contains(line))
                && differing(reference, other).all(|line| line.contains(" again: {"))
        },
    },
    Excused {
        name: "group with a full member that is not marked so",
        reason: "what a member left is handed on without a look at windows; the reference then chooses a member that is \
                 full but not marked, sends nothing, and stops until something else happens to the group; the broker \
                 goes on with a member that has room",
        met_within: BY_CHANCE,
        has: |history, place, reference, other| {
            let windows = history.steps[..place].iter().any(|step| {
                matches!(step, Step::Subscribe(one) if one.group.is_some() && one.max_in_flight < 1000)
            });
            let mut differing = differing(reference, other);
            windows
                && differing.all(|line| line.starts_with("group ") && !line.contains(" again: "))
        },
    },
];

/// The lines that one side has alone.
fn differing<'a>(one: &'a [String], two: &'a [String]) -> impl Iterator<Item = &'a String> {
    let only_one = one.iter().filter(|line| !two.contains(line));
    only_one.chain(two.iter().filter(|line| !one.contains(line)))
}

/// Which ones were met, and how often.
#[derive(Debug, Default)]
pub(crate) struct Met(Mutex<BTreeMap<&'static str, u64>>);

impl Met {
    pub(crate) fn note(&self, name: &'static str) {
        *self.0.lock().unwrap().entry(name).or_default() += 1;
    }

    /// How often what is excused was met, a line each.
    pub(crate) fn report(&self) -> String {
        let met = self.0.lock().unwrap();
        let lines = EXCUSED.iter().filter_map(|one| {
            let count = met.get(one.name)?;
            Some(format!("excused {count} times: {}", one.name))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Whether this one was met.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains_key(name)
    }

    /// Adds what was met here to what was met elsewhere.
    pub(crate) fn add_to(&self, other: &Self) {
        let met = self.0.lock().unwrap();
        let mut others = other.0.lock().unwrap();
        for (name, count) in met.iter() {
            *others.entry(name).or_default() += count;
        }
    }

    /// Those that were not met in so many histories.
    pub(crate) fn idle(&self, histories: u64) -> Vec<String> {
        let met = self.0.lock().unwrap();
        let idle = EXCUSED
            .iter()
            .filter(|one| one.met_within <= histories && !met.contains_key(one.name));
        idle.map(|one| format!("excused, but not met: {} ({})", one.name, one.reason))
            .collect()
    }
}
