//! The known name that was probably meant.

/// `, did you mean "x"?` if a known name is so near that it was meant; else empty.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let distance = |candidate| strsim::damerau_levenshtein(name, candidate);
    let best = known
        .map(|candidate| (distance(candidate), candidate))
        .min();
    match best {
        Some((distance, candidate)) if distance <= 1 + name.len() / 4 && distance < name.len() => {
            format!(", did you mean {candidate:?}?")
        }
        _ => String::new(),
    }
}
