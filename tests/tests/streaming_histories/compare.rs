//! Where what clients saw of two servers differs.

use std::fmt::Write as _;

use crate::{
    differences::{EXCUSED, Met},
    history::History,
    transcript::Seen,
};

/// The first step over which two servers differ beyond what is excused, in full.
///
/// What comes after an excused difference is not judged: it follows from it.
pub(crate) fn difference(
    history: &History,
    reference: &[Seen],
    other: &[Seen],
    met: &Met,
) -> Option<String> {
    for (place, (one, two)) in reference.iter().zip(other).enumerate() {
        let (one, two) = (one.lines(), two.lines());
        if one == two {
            continue;
        }
        if let Some(excused) = EXCUSED
            .iter()
            .find(|excused| (excused.has)(history, place, &one, &two))
        {
            met.note(excused.name);
            return None;
        }
        let mut report = format!("  over step {place}, {:?}\n", history.steps[place]);
        for (name, own, others) in [("reference", &one, &two), ("other", &two, &one)] {
            for line in own.iter().filter(|line| !others.contains(line)) {
                writeln!(report, "    {name:<9} {line}").expect("a string takes everything");
            }
        }
        return Some(report);
    }
    None
}

/// Whether what a server has said contradicts itself, or an answer did not come: then the comparison means nothing.
pub(crate) fn faults(seen: &[Seen]) -> Vec<&str> {
    let lines = seen.iter().flat_map(|seen| {
        let answers = seen.answers.values();
        let silent = answers.filter(|answer| answer.ends_with("no answer"));
        silent.chain(&seen.faults)
    });
    lines.map(String::as_str).collect()
}

/// What a run has to meet, or it says nothing about it.
const TELLING: [&str; 27] = [
    "invalid connection request",
    "invalid clientID",
    "clientID already registered",
    "invalid publish request",
    "too many channels",
    "different cases not allowed",
    "invalid subscription request",
    "clientID missing",
    "invalid ack wait time",
    "invalid MaxInflight",
    "invalid start position",
    "invalid subject",
    "unknown clientID",
    "can't contain the character ':'",
    "duplicate durable registration",
    "too many subscriptions per channel",
    "invalid unsubscribe request",
    "unknown channel",
    "stan: invalid subscription\"",
    "invalid close request",
    "client has been replaced",
    " again true 1",
    " again: {",
    "group ",
    " reply \"an.answer\"",
    "@.bytes ",
    "@.age ",
];

/// Notes what a history has met.
pub(crate) fn note_telling(reference: &[Seen], met: &Met) {
    for line in reference.iter().flat_map(Seen::lines) {
        let told = TELLING.into_iter().filter(|text| line.contains(text));
        told.for_each(|text| met.note(text));
    }
}

/// What a run has not met.
pub(crate) fn missed(met: &Met) -> Vec<String> {
    let missed = TELLING.into_iter().filter(|text| !met.has(text));
    missed
        .map(|text| format!("no history made the reference say {text:?}"))
        .collect()
}
