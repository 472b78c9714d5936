//! The sublist finds what a look at every subscription finds, after any row of comings and goings.

use std::{collections::BTreeSet, sync::Arc};

use broker_core::{
    effect::HandlerId,
    sublist::Sublist,
    subscription::{Subscription, Target},
};
use broker_proto::subject;

use crate::universe::{self, Words};

pub(crate) fn run(input: &[u8]) {
    let mut words = Words(input);
    let mut list = Sublist::default();
    let mut present: Vec<Arc<Subscription>> = Vec::new();
    // What is read last is free, so the end of the input is the end of the row.
    while !words.0.is_empty() && present.len() < 24 {
        let choice = words.byte();
        if choice & 3 == 0 && !present.is_empty() {
            let gone = present.swap_remove(usize::from(choice >> 2) % present.len());
            assert!(list.remove(&gone));
            assert!(!list.remove(&gone), "it was removed before");
            continue;
        }
        let (filter, queue_group) = (words.filter(), words.queue_group());
        assert!(subject::is_filter(filter.as_bytes()));
        let sid = present.len().to_string();
        let target = Target::Internal(HandlerId(0));
        let new = Subscription::new(
            filter.as_bytes(),
            queue_group.as_bytes(),
            sid.as_bytes(),
            target,
        );
        let new = Arc::new(new);
        list.insert(Arc::clone(&new));
        present.push(new);
    }
    assert_eq!(list.len(), present.len());
    for subject in universe::subjects() {
        check(&list, &present, &subject);
    }
}

fn check(list: &Sublist, present: &[Arc<Subscription>], subject: &str) {
    let matching = |subscription: &&Arc<Subscription>| {
        let filter = std::str::from_utf8(&subscription.subject).expect("made of letters");
        let matches = universe::matches(filter, subject);
        assert_eq!(
            matches,
            subject::matches(filter.as_bytes(), subject.as_bytes())
        );
        matches
    };
    let expected: BTreeSet<_> = present.iter().filter(matching).map(Arc::as_ptr).collect();
    let found = list.matches(subject.as_bytes());
    assert!(found.plain.iter().all(|plain| plain.queue_group.is_empty()));
    let names: BTreeSet<_> = found
        .groups
        .iter()
        .map(|group| &group[0].queue_group)
        .collect();
    assert_eq!(names.len(), found.groups.len(), "a group is a name");
    for group in &found.groups {
        assert!(
            group
                .iter()
                .all(|member| member.queue_group == group[0].queue_group)
        );
    }
    let all: Vec<_> = found
        .plain
        .iter()
        .chain(found.groups.iter().flatten())
        .map(Arc::as_ptr)
        .collect();
    assert_eq!(
        all.len(),
        expected.len(),
        "{subject}: nothing twice, nothing left out"
    );
    assert_eq!(BTreeSet::from_iter(all), expected, "{subject}");
}
