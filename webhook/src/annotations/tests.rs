use super::*;

fn annotations(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn refusal(place: Place, key: &str, value: &str) -> String {
    check_annotations(place, &annotations(key, value))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_misspelt_key_is_refused_with_the_one_that_was_meant() {
    assert_eq!(
        refusal(Place::Pod, "stanchion.dev/stor-secret", "stan-secret"),
        "stanchion.dev/stor-secret is not known; did you mean stanchion.dev/store-secret?"
    );
}

#[test]
fn a_key_that_resembles_nothing_is_refused_without_a_guess() {
    assert_eq!(
        refusal(Place::Pod, "stanchion.dev/zzzzzzzzzzzz", "1"),
        "stanchion.dev/zzzzzzzzzzzz is not known"
    );
}

#[test]
fn a_misspelt_value_is_refused_with_what_would_be_right() {
    assert_eq!(
        refusal(Place::Pod, "stanchion.dev/role", "borker"),
        "stanchion.dev/role is \"borker\"; it must be broker or client; did you mean broker?"
    );
}

#[test]
fn reserved_keys_and_values_say_that_they_are_not_supported_yet() {
    for (place, key, value) in [
        (Place::Pod, "stanchion.dev/expose", "public"),
        (Place::Pod, "stanchion.dev/drain", "30"),
        (Place::Pod, "stanchion.dev/tls-format", "pkcs12"),
        (Place::Pod, "stanchion.dev/nats", "external:nats:4222"),
        (Place::Namespace, "stanchion.dev/wiring", "mirror"),
        (
            Place::Namespace,
            "stanchion.dev/allow-namespaces",
            "selector:team=a",
        ),
    ] {
        let message = refusal(place, key, value);
        assert!(message.contains("not supported yet"), "{message}");
    }
}

#[test]
fn a_key_on_the_wrong_object_is_refused_with_its_place() {
    assert_eq!(
        refusal(Place::Pod, "stanchion.dev/allow-namespaces", "*"),
        "stanchion.dev/allow-namespaces has no meaning on pods; it belongs on namespaces"
    );
}

#[test]
fn free_keys_and_foreign_keys_are_not_looked_at() {
    for key in [
        "stanchion.dev/x-team",
        "example.org/role",
        "stanchion.devil/role",
    ] {
        assert_eq!(
            check_annotations(Place::Pod, &annotations(key, "whatever")),
            Ok(())
        );
    }
}

#[test]
fn the_switch_may_be_a_label_and_nothing_else_may() {
    assert_eq!(
        check_labels(Place::Pod, &annotations(INJECT, "true")),
        Ok(())
    );
    assert_eq!(
        check_labels(Place::Namespace, &annotations(INJECT, "enabled")),
        Ok(())
    );
    assert!(matches!(
        check_labels(Place::Pod, &annotations(ROLE, "broker")),
        Err(AnnotationError::NotALabel { .. })
    ));
}

#[test]
fn values_with_a_grammar_are_checked() {
    for (key, good, bad) in [
        ("cluster", "nats-io/labs", "labs"),
        ("streaming-id", "labs_nats-1", "labs.nats"),
        ("containers", "app,worker", "app,,worker"),
        ("tls-dir", "/etc/tls", "/etc/../tls"),
        ("env", "nats,stan", "nats;stan"),
        ("client-id", "team-{pod}", "{host}"),
        ("client-id", "{pod}-{container}", "{pod"),
        ("sidecar-resources", "cpu=50m,memory=64Mi", "cpu=much"),
        ("store-secret", "stan-secret", "stan secret"),
        ("store-secret-key", "secret.conf", "../secret.conf"),
        ("store", "SQL", "file"),
    ] {
        let key = format!("{PREFIX}{key}");
        assert_eq!(
            check_annotations(Place::Pod, &annotations(&key, good)),
            Ok(()),
            "{key}={good}"
        );
        assert!(
            matches!(
                check_annotations(Place::Pod, &annotations(&key, bad)),
                Err(AnnotationError::BadValue { .. })
            ),
            "{key}={bad}"
        );
    }
}

#[test]
fn keys_of_the_other_role_are_found() {
    let found = check_role(
        "client",
        Roles::Broker,
        &annotations(STORE_SECRET, "stan-secret"),
    );
    assert_eq!(
        found.unwrap_err().to_string(),
        "stanchion.dev/store-secret has no meaning for role client"
    );
}

#[test]
fn every_key_stands_once_for_each_place() {
    for (index, row) in VOCABULARY.iter().enumerate() {
        assert!(
            VOCABULARY[..index]
                .iter()
                .all(|earlier| (earlier.name, earlier.place) != (row.name, row.place)),
            "{} is there twice",
            row.name
        );
        assert!(!row.meaning.is_empty() && !row.meaning.ends_with('.'));
    }
}
