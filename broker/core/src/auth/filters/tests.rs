//! Against an oracle that knows every subject there is: up to four tokens over three letters, which
//! is enough to tell apart any two of the filters of up to three tokens.

use proptest::{prelude::*, sample::select};

use super::*;

/// All sequences of `1..=max` tokens, the last of which may be one of `last` as well.
fn sequences(tokens: &[&str], last: &[&str], max: usize) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let mut prefixes = vec![String::new()];
    for _ in 0..max {
        for end in tokens.iter().chain(last) {
            whole.extend(prefixes.iter().map(|start| format!("{start}{end}")));
        }
        let longer = |start: &String| {
            let start = start.clone();
            tokens.iter().map(move |token| format!("{start}{token}."))
        };
        prefixes = prefixes.iter().flat_map(longer).collect();
    }
    whole
}

pub(in crate::auth) fn all_subjects() -> Vec<String> {
    sequences(&["a", "b", "c"], &[], 4)
}

pub(in crate::auth) fn all_filters() -> Vec<String> {
    sequences(&["a", "b", "c", "*"], &[">"], 3)
}

/// The definition, written down once more.
pub(in crate::auth) fn naive_matches(filter: &str, subject: &str) -> bool {
    fn walk(filter: &[&str], subject: &[&str]) -> bool {
        match (filter, subject) {
            ([">"], [_, ..]) | ([], []) => true,
            ([want, filter @ ..], [have, subject @ ..]) => {
                (*want == "*" || want == have) && walk(filter, subject)
            }
            _ => false,
        }
    }
    let filter: Vec<&str> = filter.split('.').collect();
    let subject: Vec<&str> = subject.split('.').collect();
    walk(&filter, &subject)
}

/// The subjects a filter matches, one bit each.
pub(in crate::auth) fn matched(filter: &str, subjects: &[String]) -> u128 {
    assert!(subjects.len() <= 128);
    let bit =
        |(place, subject): (usize, &String)| u128::from(naive_matches(filter, subject)) << place;
    subjects.iter().enumerate().map(bit).sum()
}

fn set(filters: &[String]) -> FilterSet {
    let mut set = FilterSet::default();
    for filter in filters {
        set.insert(filter.as_bytes(), None);
    }
    set
}

#[test]
fn every_pair_of_filters_is_related_as_the_subjects_they_match() {
    let (subjects, filters) = (all_subjects(), all_filters());
    assert_eq!((subjects.len(), filters.len()), (120, 105));
    for entry in &filters {
        let set = set(std::slice::from_ref(entry));
        let of_entry = matched(entry, &subjects);
        for (place, subject) in subjects.iter().enumerate() {
            let expected = of_entry >> place & 1 == 1;
            assert_eq!(
                set.matches(subject.as_bytes()),
                expected,
                "{entry} {subject}"
            );
        }
        for filter in &filters {
            let of_filter = matched(filter, &subjects);
            let filter = filter.as_bytes();
            let covers = of_filter & !of_entry == 0;
            assert_eq!(
                set.covering(filter, b"").plain,
                covers,
                "{entry} {filter:?}"
            );
            assert_eq!(
                is_subset(filter, entry.as_bytes()),
                covers,
                "{entry} {filter:?}"
            );
            let overlaps = of_filter & of_entry != 0;
            assert_eq!(
                set.overlapping(filter, b"").plain,
                overlaps,
                "{entry} {filter:?}"
            );
        }
    }
}

/// Entries with the groups they are for, and one to ask about.
fn entries() -> impl Strategy<Value = Vec<(String, Option<&'static str>)>> {
    let patterns = vec![
        None,
        Some("q"),
        Some("r.s"),
        Some("r.*"),
        Some("*"),
        Some(">"),
    ];
    prop::collection::vec((select(all_filters()), select(patterns)), 0..12)
}

proptest! {
    /// A set finds what its entries find one by one.
    #[test]
    fn sets_are_their_entries_together(
        entries in entries(),
        asked in select(all_filters()),
        group in select(vec!["", "q", "r", "r.s", "*", "r.*"]),
    ) {
        let subjects = all_subjects();
        let mut set = FilterSet::default();
        for (filter, pattern) in &entries {
            set.insert(filter.as_bytes(), pattern.map(str::as_bytes));
        }
        let of_asked = matched(&asked, &subjects);
        let expected = |relation: &dyn Fn(&str) -> bool| {
            let mut found = Found::default();
            for (filter, pattern) in entries.iter().filter(|(filter, _)| relation(filter)) {
                let Some(pattern) = pattern else {
                    found.plain = true;
                    continue;
                };
                if !group.is_empty() {
                    found.grouped = true;
                    let within = is_subset(group.as_bytes(), pattern.as_bytes());
                    found.fitting |= *pattern == group || within;
                }
                assert!(all_filters().contains(filter));
            }
            found
        };
        let (asked, group) = (asked.as_bytes(), group.as_bytes());
        let covers = |filter: &str| of_asked & !matched(filter, &subjects) == 0;
        prop_assert_eq!(set.covering(asked, group), expected(&covers));
        let overlaps = |filter: &str| of_asked & matched(filter, &subjects) != 0;
        prop_assert_eq!(set.overlapping(asked, group), expected(&overlaps));
        let as_literal = std::str::from_utf8(asked).unwrap();
        let matches = |filter: &str| naive_matches(filter, as_literal);
        prop_assert_eq!(set.matching(asked, group), expected(&matches));
    }

    #[test]
    fn no_subject_is_too_strange_to_be_looked_up(subject: Vec<u8>, entry in select(all_filters())) {
        let set = set(&[entry]);
        if subject::has_empty_token(&subject) {
            prop_assert!(!set.matches(&subject));
        }
        set.covering(&subject, &subject);
        set.overlapping(&subject, &subject);
    }
}

#[test]
fn empty_tokens_match_nothing() {
    let set = set(&[">".to_owned(), "*.*".to_owned()]);
    for subject in ["", ".", "a.", ".a", "a..b"] {
        assert!(!set.matches(subject.as_bytes()), "{subject}");
        assert!(!set.covering(subject.as_bytes(), b"").plain, "{subject}");
    }
}

#[test]
fn group_names_may_look_like_filters() {
    for (pattern, group, expected) in [
        ("q", "q", true),
        ("q", "Q", false),
        ("v.*", "v.1", true),
        ("v.*", "v.*", true),
        ("v.*", "v", false),
        ("v.*", "v.>", false),
        ("v.>", "v.*", true),
        ("*", "q.1", false),
        (">", "q.1", true),
        (">", "q..1", false),
    ] {
        assert_eq!(
            fits(pattern.as_bytes(), group.as_bytes()),
            expected,
            "{pattern} {group}"
        );
    }
}
