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
