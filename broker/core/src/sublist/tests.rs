use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{effect::HandlerId, subscription::Target};

fn subscription(subject: &str, queue_group: &str, id: u64) -> Arc<Subscription> {
    let target = Target::Internal(HandlerId(id));
    Arc::new(Subscription::new(
        subject.as_bytes(),
        queue_group.as_bytes(),
        b"",
        target,
    ))
}

fn id(subscription: &Arc<Subscription>) -> u64 {
    match subscription.target {
        Target::Internal(handler) => handler.0,
        Target::Connection(_) | Target::Route { .. } => unreachable!("tests use handlers only"),
    }
}

/// Plain matches, then each queue group as a set.
type Found = (BTreeSet<u64>, BTreeSet<BTreeSet<u64>>);

fn found(matches: &Matches) -> Found {
    (
        matches.plain.iter().map(id).collect(),
        matches
            .groups
            .iter()
            .map(|group| group.iter().map(id).collect())
            .collect(),
    )
}

/// The same by looking at every subscription.
fn naive(all: &[Arc<Subscription>], published: &str) -> Found {
    let mut plain = BTreeSet::new();
    let mut groups: HashMap<&[u8], BTreeSet<u64>> = HashMap::new();
    for one in all
        .iter()
        .filter(|one| subject::matches(&one.subject, published.as_bytes()))
    {
        match &one.queue_group[..] {
            b"" => plain.insert(id(one)),
            group => groups.entry(group).or_default().insert(id(one)),
        };
    }
    (plain, groups.into_values().collect())
}

#[test]
fn members_of_a_group_are_merged_over_filters() {
    let mut list = Sublist::default();
    for (subject, group, id) in [
        ("foo.bar", "q", 1),
        ("foo.*", "q", 2),
        (">", "r", 3),
        ("foo.>", "", 4),
    ] {
        list.insert(subscription(subject, group, id));
    }
    let expected = (
        BTreeSet::from([4]),
        BTreeSet::from([BTreeSet::from([1, 2]), BTreeSet::from([3])]),
    );
    assert_eq!(found(&list.matches(b"foo.bar")), expected);
}

#[test]
fn several_subscriptions_to_one_subject_all_match() {
    let mut list = Sublist::default();
    let first = subscription("a", "", 1);
    list.insert(Arc::clone(&first));
    list.insert(subscription("a", "", 2));
    assert_eq!(list.matches(b"a").plain.len(), 2);
    assert!(list.remove(&first));
    assert!(!list.remove(&first));
    assert_eq!(found(&list.matches(b"a")).0, BTreeSet::from([2]));
}

#[test]
fn an_emptied_list_keeps_nothing() {
    let mut list = Sublist::default();
    let all: Vec<_> = ["a", "a.b", "a.*.c", "a.>", "*", ">", "x.y.z"]
        .map(|subject| subscription(subject, "", 1))
        .into();
    for one in &all {
        list.insert(Arc::clone(one));
    }
    assert_eq!(list.len(), all.len());
    for one in &all {
        assert!(list.remove(one));
    }
    assert!(list.is_empty() && list.root.is_empty());
}

/// On the stack of a test's thread, which is as small as that of a worker.
#[test]
fn the_deepest_filter_can_be_kept() {
    let subject = "*.".repeat(subject::MAX_FILTER_TOKENS - 1) + "a";
    let mut list = Sublist::default();
    let deepest = subscription(&subject, "", 1);
    list.insert(Arc::clone(&deepest));
    assert_eq!(list.matches(subject.as_bytes()).plain.len(), 1);
    let mut seen = 0;
    list.for_each(|_| seen += 1);
    assert_eq!(seen, 1);
    assert!(list.remove(&deepest) && list.is_empty());
    list.insert(deepest);
    drop(list);
}

#[test]
fn the_change_log_tells_what_was_missed_or_that_it_cannot() {
    let shared = SharedSublist::default();
    let before = shared.generation();
    shared.change(|list| list.insert(subscription("a", "", 1)));
    shared.change(|list| list.insert(subscription("b", "", 2)));
    let missed = |since| {
        shared.read(|list| {
            list.changes_since(since)
                .map(|changes| changes.map(id).collect::<Vec<_>>())
        })
    };
    assert_eq!(missed(before), Some(vec![1, 2]));
    assert_eq!(missed(before + 1), Some(vec![2]));
    assert_eq!(missed(shared.generation()), Some(vec![]));
    for number in 0..CHANGE_LOG as u64 {
        shared.change(|list| list.insert(subscription("c", "", number)));
    }
    assert_eq!(missed(before + 1), None);
    assert_eq!(
        missed(before + 2).map(|missed| missed.len()),
        Some(CHANGE_LOG)
    );
}

proptest! {
    #[test]
    fn agrees_with_looking_at_every_subscription(
        filters in proptest::collection::vec(
            (proptest::collection::vec("[ab*]", 1..4), any::<bool>(), "[qr]?"), 1..40),
        removed in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        published in proptest::collection::vec("[abc*>]?", 1..5),
    ) {
        let mut list = Sublist::default();
        let mut all = Vec::new();
        for (number, (tokens, open, group)) in filters.iter().enumerate() {
            let subject = tokens.join(".") + if *open { ".>" } else { "" };
            let one = subscription(&subject, group, number as u64);
            list.insert(Arc::clone(&one));
            all.push(one);
        }
        for index in removed {
            if !all.is_empty() {
                prop_assert!(list.remove(&all.swap_remove(index.index(all.len()))));
            }
        }
        let published = published.join(".");
        prop_assert_eq!(found(&list.matches(published.as_bytes())), naive(&all, &published));
        prop_assert_eq!(list.len(), all.len());
    }
}

#[test]
fn every_subscription_is_visited_and_turnover_counts() {
    let mut list = Sublist::default();
    let all: Vec<_> = ["a", "a.*", "*.>", ">", "a.b.c"]
        .iter()
        .zip(1..)
        .map(|(subject, number)| subscription(subject, "", number))
        .collect();
    for one in &all {
        list.insert(Arc::clone(one));
    }
    list.remove(&all[1]);
    let mut seen = BTreeSet::new();
    list.for_each(|one| {
        seen.insert(id(one));
    });
    assert_eq!(seen, BTreeSet::from([1, 3, 4, 5]));
    assert_eq!(list.turnover(), (5, 1));
}

#[test]
fn invalidation_leaves_no_way_to_catch_up() {
    let mut list = Sublist::default();
    list.insert(subscription("a", "", 1));
    let before = list.generation();
    list.invalidate();
    assert!(list.changes_since(before).is_none());
    let after = list.generation();
    list.insert(subscription("b", "", 2));
    assert_eq!(list.changes_since(after).unwrap().count(), 1);
}
