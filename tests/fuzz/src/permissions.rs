//! Nobody publishes or gets what the rules do not allow, whatever was subscribed to (CVE-2022-29946 and its kind).

use broker_core::auth::{
    permissions::Permissions,
    settings::{PermissionSettings, SubjectRules},
};

use crate::universe::{self, Words};

pub(crate) fn run(input: &[u8]) {
    let mut words = Words(input);
    let settings = PermissionSettings {
        publish: rules(&mut words, false),
        subscribe: rules(&mut words, true),
        responses: None,
    };
    let permissions = Permissions::new(settings.clone()).expect("entries are legal");
    for subject in universe::subjects() {
        let allow = &settings.publish.allow;
        let allowed =
            allow.is_empty() || allow.iter().any(|entry| universe::matches(entry, &subject));
        let denied = settings
            .publish
            .deny
            .iter()
            .any(|entry| universe::matches(entry, &subject));
        let expected = allowed && !denied;
        assert_eq!(
            permissions.may_publish(subject.as_bytes()),
            expected,
            "{subject} {:?}",
            settings.publish
        );
    }
    for _ in 0..4 {
        let (filter, queue_group) = (words.filter(), words.queue_group());
        if permissions.may_subscribe(filter.as_bytes(), queue_group.as_bytes()) {
            check(&permissions, &settings.subscribe, &filter, queue_group);
        }
    }
}

/// Every delivery of an accepted subscription.
fn check(permissions: &Permissions, rules: &SubjectRules, filter: &str, queue_group: &str) {
    for subject in universe::subjects().filter(|subject| universe::matches(filter, subject)) {
        let received = permissions.may_receive(queue_group.as_bytes(), subject.as_bytes());
        let context = || format!("{filter} {queue_group:?} {subject} {rules:?}");
        assert!(
            received
                || permissions.restricts_deliveries_to(filter.as_bytes(), queue_group.as_bytes()),
            "withheld without warning: {}",
            context()
        );
        let denied = rules
            .deny
            .iter()
            .any(|entry| applies(entry, &subject, queue_group));
        assert_eq!(received, !denied, "{}", context());
        let allowed = |entry: &String| applies(entry, &subject, queue_group);
        assert!(
            rules.allow.is_empty() || rules.allow.iter().any(allowed),
            "not allowed: {}",
            context()
        );
    }
}

/// Whether an entry, `filter` or `filter queue`, speaks about a subject in a subscription of that group. One without a
/// queue group speaks about all.
fn applies(entry: &str, subject: &str, queue_group: &str) -> bool {
    match entry.split_once(' ') {
        None => universe::matches(entry, subject),
        Some((filter, group)) => {
            universe::matches(filter, subject)
                && !queue_group.is_empty()
                && universe::matches(group, queue_group)
        }
    }
}

fn rules(words: &mut Words<'_>, with_groups: bool) -> SubjectRules {
    let counts = words.byte();
    let mut entries = |count: u8| {
        (0..count)
            .map(|_| {
                let filter = words.filter();
                let group = if with_groups {
                    ["", "", " q", " r.*", " >", " *", "", ""][usize::from(words.byte() & 7)]
                } else {
                    ""
                };
                format!("{filter}{group}")
            })
            .collect()
    };
    SubjectRules {
        allow: entries(counts & 3),
        deny: entries((counts >> 2) & 3),
    }
}
