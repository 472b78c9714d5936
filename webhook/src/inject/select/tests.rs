use serde_json::json;

use super::*;
use crate::facts::FixedFacts;

fn facts() -> FixedFacts {
    FixedFacts::from_documents(&[
        json!({"kind": "Namespace", "metadata": {"name": "nats-io", "annotations": {
            "stanchion.dev/allow-namespaces": "app", "stanchion.dev/streaming-id": "of-namespace"}}}),
        json!({"kind": "Namespace", "metadata": {"name": "broken", "annotations": {
            "stanchion.dev/allow-namespaces": "selector:team=a"}}}),
    ])
}

fn namespace(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> NamespaceFacts {
    let owned = |entries: &[(&str, &str)]| {
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    NamespaceFacts {
        name: "app".to_owned(),
        labels: owned(labels),
        annotations: owned(annotations),
    }
}

fn pod(annotations: &Value) -> Value {
    json!({"metadata": {"annotations": annotations}})
}

fn chosen(annotations: &Value, namespace: &NamespaceFacts) -> Settings {
    match select(&pod(annotations), namespace, None, &facts()).unwrap() {
        Selection::Inject(settings) => *settings,
        Selection::Leave { because, .. } => panic!("left: {because}"),
    }
}

#[test]
fn a_pod_wins_over_its_namespace() {
    let namespace = namespace(
        &[],
        &[
            (annotations::CLUSTER, "nats-io/one"),
            (annotations::STREAMING_ID, "one"),
        ],
    );
    let settings = chosen(&json!({"stanchion.dev/inject": "true"}), &namespace);
    assert_eq!(
        (
            settings.cluster.name.as_str(),
            settings.streaming_id.as_deref()
        ),
        ("one", Some("one"))
    );
    let own = json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/two",
                     "stanchion.dev/streaming-id": "two"});
    let settings = chosen(&own, &namespace);
    assert_eq!(
        (
            settings.cluster.name.as_str(),
            settings.streaming_id.as_deref()
        ),
        ("two", Some("two"))
    );
}

#[test]
fn the_streaming_id_comes_from_the_brokers_namespace_at_last() {
    let asks = json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs"});
    let settings = chosen(&asks, &namespace(&[], &[]));
    assert_eq!(settings.streaming_id.as_deref(), Some("of-namespace"));
}

#[test]
fn an_enabled_namespace_without_broker_leaves_its_pods_alone() {
    let enabled = namespace(&[(annotations::INJECT, "enabled")], &[]);
    let selection = select(&pod(&json!({})), &enabled, None, &facts()).unwrap();
    assert!(matches!(selection, Selection::Leave { .. }));
}

#[test]
fn a_default_role_of_none_leaves_pods_that_do_not_ask() {
    let quiet = namespace(
        &[(annotations::INJECT, "enabled")],
        &[
            (annotations::CLUSTER, "nats-io/labs"),
            (annotations::ROLE, "none"),
        ],
    );
    let selection = select(&pod(&json!({})), &quiet, None, &facts()).unwrap();
    assert!(matches!(selection, Selection::Leave { .. }));
    chosen(&json!({"stanchion.dev/inject": "true"}), &quiet);
}

#[test]
fn a_typo_on_the_namespace_is_told_to_the_pods_author() {
    let typo = namespace(&[], &[("stanchion.dev/clutser", "nats-io/labs")]);
    let refusal = select(
        &pod(&json!({"stanchion.dev/inject": "true"})),
        &typo,
        None,
        &facts(),
    )
    .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "namespace app: stanchion.dev/clutser is not known; did you mean stanchion.dev/cluster?"
    );
}

#[test]
fn a_grant_that_is_not_supported_yet_is_said_and_lets_nobody_in() {
    let asks = json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "broken/labs"});
    let refusal = select(&pod(&asks), &namespace(&[], &[]), None, &facts()).unwrap_err();
    assert!(
        refusal.to_string().contains("namespace broken")
            && refusal.to_string().contains("not supported yet")
    );
}

#[test]
fn keys_of_the_other_role_are_refused() {
    let asks = json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs",
                      "stanchion.dev/store-secret": "s"});
    let refusal = select(&pod(&asks), &namespace(&[], &[]), None, &facts()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "stanchion.dev/store-secret has no meaning for role client"
    );
}

#[test]
fn label_and_annotation_must_agree() {
    let pod = json!({"metadata": {"annotations": {"stanchion.dev/inject": "true"},
                                  "labels": {"stanchion.dev/inject": "false"}}});
    let refusal = select(&pod, &namespace(&[], &[]), None, &facts()).unwrap_err();
    assert_eq!(refusal, Refusal::SwitchTwice);
}
