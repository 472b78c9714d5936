//! Cases tried on nats-server 2.15.2, and all combinations of small rules against an oracle.

use super::{
    super::filters::tests::{all_filters, all_subjects, matched, naive_matches},
    *,
};

fn rules(allow: &[&str], deny: &[&str]) -> SubjectRules {
    let owned = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect();
    SubjectRules {
        allow: owned(allow),
        deny: owned(deny),
    }
}

fn subscriber(allow: &[&str], deny: &[&str]) -> Permissions {
    Permissions::new(PermissionSettings {
        subscribe: rules(allow, deny),
        ..PermissionSettings::default()
    })
    .unwrap()
}

fn publisher(allow: &[&str], deny: &[&str], responses: bool) -> Permissions {
    Permissions::new(PermissionSettings {
        publish: rules(allow, deny),
        responses: responses.then(ResponseSettings::default),
        ..PermissionSettings::default()
    })
    .unwrap()
}

/// `subject` or `subject queue`.
fn may_subscribe(permissions: &Permissions, words: &str) -> bool {
    let (filter, queue_group) = words.split_once(' ').unwrap_or((words, ""));
    permissions.may_subscribe(filter.as_bytes(), queue_group.as_bytes())
}

/// For all pairs of allow and deny entries, all filters and all subjects: what is delivered is what
/// the entries say, and nothing else is refused.
#[test]
fn every_delivery_is_allowed_and_not_denied() {
    let (subjects, filters) = (all_subjects(), all_filters());
    let of: Vec<u128> = filters
        .iter()
        .map(|filter| matched(filter, &subjects))
        .collect();
    for (allow, of_allow) in filters.iter().zip(&of) {
        for (deny, of_deny) in filters.iter().zip(&of) {
            let permissions = subscriber(&[allow], &[deny]);
            let publisher = publisher(&[allow], &[deny], false);
            let mut withheld = 0;
            for (place, subject) in subjects.iter().enumerate() {
                let subject = subject.as_bytes();
                let may_publish = (of_allow & !of_deny) >> place & 1 == 1;
                assert_eq!(publisher.may_publish(subject), may_publish);
                for queue_group in [b"".as_slice(), b"q"] {
                    let denied = of_deny >> place & 1 == 1;
                    assert_eq!(permissions.may_receive(queue_group, subject), !denied);
                }
                withheld |= u128::from(!permissions.may_receive(b"", subject)) << place;
            }
            for (filter, of_filter) in filters.iter().zip(&of) {
                let accepted = may_subscribe(&permissions, filter);
                // The second half says more than "covered": `foo.*` denies `foo.>`.
                let expected = of_filter & !of_allow == 0 && !naive_matches(deny, filter);
                assert_eq!(accepted, expected, "{allow} {deny} {filter}");
                assert!(
                    !accepted || of_filter & !of_deny != 0,
                    "{allow} {deny} {filter}"
                );
                let delivered = of_filter & !withheld;
                assert!(!accepted || delivered & (of_deny | !of_allow) == 0);
                assert_eq!(
                    permissions.restricts_deliveries_to(filter.as_bytes(), b""),
                    of_filter & withheld != 0
                );
            }
        }
    }
}

#[test]
fn no_entries_permit_everything() {
    let all = Permissions::new(PermissionSettings::default()).unwrap();
    assert!(all.may_publish(b"a") && all.may_publish(b"a..b") && all.may_subscribe(b">", b"q"));
    assert!(all.may_receive(b"q", b"a") && !all.restricts_deliveries());
}

#[test]
fn a_wildcard_in_a_published_subject_is_a_plain_token() {
    let permissions = publisher(&["foo.*"], &["foo.b"], false);
    for (subject, expected) in [
        ("foo.a", true),
        ("foo.*", true),
        ("foo.>", true),
        ("foo.b", false),
        ("foo..a", false),
        ("foo.", false),
    ] {
        assert_eq!(
            permissions.may_publish(subject.as_bytes()),
            expected,
            "{subject}"
        );
    }
    assert!(publisher(&[], &["foo.b"], false).may_publish(b"foo.*"));
    assert!(!publisher(&[], &["foo.*"], false).may_publish(b"foo.>"));
}

#[test]
fn who_may_respond_may_publish_nothing_else() {
    assert!(!publisher(&[], &[], true).may_publish(b"a"));
    assert!(!publisher(&[], &["y"], true).may_publish(b"a"));
    let permissions = publisher(&["req"], &[], true);
    assert!(permissions.may_publish(b"req") && !permissions.may_publish(b"a"));
    assert_eq!(permissions.responses(), Some(ResponseSettings::default()));
}

#[test]
fn allow_entries_with_a_queue_group_are_for_its_members() {
    let permissions = subscriber(&["foo q1", "foo v.*", "bar  v.>", "both", "both q"], &[]);
    for (words, expected) in [
        ("foo", false),
        ("foo q1", true),
        ("foo q2", false),
        ("foo v.1", true),
        ("foo v.*", true),
        ("bar v.*", true),
        ("bar v", false),
        ("both", true),
        ("both q", true),
        ("both z", false),
    ] {
        assert_eq!(may_subscribe(&permissions, words), expected, "{words}");
    }
    assert!(may_subscribe(&subscriber(&["foo.*"], &[]), "foo.a any"));
}

#[test]
fn a_deny_entry_with_a_queue_group_does_not_weaken_one_without() {
    let permissions = subscriber(&[">"], &["foo", "foo q1"]);
    for words in ["foo", "foo q1", "foo q2"] {
        assert!(!may_subscribe(&permissions, words), "{words}");
    }
}

#[test]
fn deny_entries_with_a_queue_group_are_for_its_members() {
    let permissions = subscriber(&[], &["foo q1", "bar >"]);
    assert!(may_subscribe(&permissions, "foo") && may_subscribe(&permissions, "foo q2"));
    assert!(!may_subscribe(&permissions, "foo q1") && !may_subscribe(&permissions, "bar q.1"));
    assert!(may_subscribe(&permissions, "* q1"));
    assert!(!permissions.may_receive(b"q1", b"foo"));
    assert!(permissions.may_receive(b"q2", b"foo") && permissions.may_receive(b"", b"foo"));
    assert!(permissions.restricts_deliveries_to(b"*", b"q1"));
    assert!(!permissions.restricts_deliveries_to(b"foo", b""));
}

#[test]
fn members_of_queue_groups_are_denied_what_everyone_is() {
    let permissions = subscriber(&[], &["foo"]);
    assert!(!may_subscribe(&permissions, "foo q1") && may_subscribe(&permissions, "* q1"));
    assert!(!permissions.may_receive(b"q1", b"foo") && permissions.may_receive(b"q1", b"bar"));
}

/// CVE-2022-29946: neither of the two filters covers the other.
#[test]
fn overlapping_wildcards_withhold_what_both_match() {
    let permissions = subscriber(&[], &["*.bar"]);
    for words in ["foo.*", "foo.* q", "foo.>", ">"] {
        assert!(may_subscribe(&permissions, words), "{words}");
    }
    assert!(
        !permissions.may_receive(b"", b"foo.bar") && !permissions.may_receive(b"q", b"foo.bar")
    );
    assert!(permissions.may_receive(b"", b"foo.baz"));
}

/// Unlike nats-server 2.15.2, which accepts this and delivers `foo.a.b`.
#[test]
fn a_full_wildcard_is_not_allowed_by_a_partial_one() {
    assert!(!may_subscribe(&subscriber(&["foo.*"], &[]), "foo.>"));
    assert!(!may_subscribe(&subscriber(&["*"], &[]), ">"));
}

#[test]
fn entries_that_are_no_filters_are_named() {
    let error = |publish: &str, subscribe: &str| {
        let settings = PermissionSettings {
            publish: rules(&[], &[publish]),
            subscribe: rules(&[subscribe], &[]),
            responses: None,
        };
        Permissions::new(settings).unwrap_err().to_string()
    };
    for bad in ["foo..a", "foo q", "", "foo ", "a.>.b", "\u{a0}.\t"] {
        assert_eq!(
            error(bad, "a"),
            format!("subject \"{bad}\" is not a valid subject")
        );
    }
    for bad in ["foo q x", "", " ", ".a q"] {
        assert_eq!(
            error("a", bad),
            format!("subject \"{bad}\" is not a valid subject")
        );
    }
    for bad in ["q..x", ">.q"] {
        assert_eq!(
            error("a", &format!("foo {bad}")),
            format!("queue \"{bad}\" is not a valid queue")
        );
    }
}

#[test]
fn permissions_are_equal_if_their_settings_are() {
    assert_eq!(subscriber(&["a"], &["b"]), subscriber(&["a"], &["b"]));
    assert_ne!(subscriber(&["a"], &["b"]), subscriber(&["a"], &[]));
}
