use proptest::prelude::*;

use super::*;
use crate::facts::{FixedFacts, NamespaceFacts};
use crate::names::ClusterName;

fn config() -> Injection {
    Injection {
        sidecar_image: "stanchion-sidecar:test".to_owned(),
        issuer_url: "https://issuer:8444".to_owned(),
        trust_config_map: "stanchion-trust".to_owned(),
        native_sidecars: true,
    }
}

fn facts() -> FixedFacts {
    FixedFacts::from_documents(&[
        json!({"kind": "Namespace", "metadata": {"name": "nats-io",
            "annotations": {"stanchion.dev/allow-namespaces": "app"}}}),
        json!({"kind": "Namespace", "metadata": {"name": "app"}}),
    ])
}

fn review(annotations: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "app", "dryRun": false,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "consumer-", "annotations": annotations},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            },
        },
    })
}

fn answer_to(review: &Value) -> Answer {
    answer(review.to_string().as_bytes(), &facts(), &config())
}

#[test]
fn a_pod_that_asks_gets_a_patch_that_applies() {
    let asks = json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs"});
    let review = review(&asks);
    let answer = answer_to(&review);
    assert_eq!(answer.decision, Decision::Injected { role: "client" });
    let response = &answer.review["response"];
    assert_eq!(
        (&response["uid"], &response["allowed"]),
        (&json!("u-1"), &json!(true))
    );
    let patch = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = review["request"]["object"].clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_eq!(pod["spec"]["initContainers"][0]["name"], inject::SIDECAR);
}

#[test]
fn a_dry_run_is_answered_like_a_real_one() {
    let asks = json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs"});
    let mut dry = review(&asks);
    dry["request"]["dryRun"] = json!(true);
    assert_eq!(answer_to(&dry).review, answer_to(&review(&asks)).review);
}

#[test]
fn a_pod_that_does_not_ask_is_admitted_as_it_is() {
    let answer = answer_to(&review(&json!({"example.org/a": "b"})));
    assert_eq!(answer.decision, Decision::Left);
    assert_eq!(
        answer.review["response"],
        json!({"uid": "u-1", "allowed": true})
    );
}

#[test]
fn settings_without_the_switch_cause_a_warning() {
    let answer = answer_to(&review(&json!({"stanchion.dev/cluster": "nats-io/labs"})));
    assert_eq!(
        answer.review["response"]["warnings"],
        json!(["stanchion.dev/cluster has no effect without stanchion.dev/inject: \"true\""])
    );
}

#[test]
fn a_refusal_says_what_to_write_instead() {
    let answer = answer_to(&review(&json!({"stanchion.dev/injekt": "true"})));
    assert_eq!(
        answer.decision,
        Decision::Refused {
            reason: "annotation"
        }
    );
    assert_eq!(
        answer.review["response"]["status"]["message"],
        "stanchion.dev/injekt is not known; did you mean stanchion.dev/inject?"
    );
}

#[test]
fn other_kinds_and_operations_are_admitted() {
    let mut update = review(&json!({"stanchion.dev/injekt": "true"}));
    update["request"]["operation"] = json!("UPDATE");
    assert_eq!(answer_to(&update).decision, Decision::Left);
}

#[test]
fn what_is_no_review_is_refused_in_the_form_of_one() {
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"{\"request\":{}}",
        b"\xff\xfe",
    ] {
        let answer = answer(body, &facts(), &config());
        assert_eq!(
            answer.decision,
            Decision::Refused {
                reason: "malformed"
            },
            "{body:?}"
        );
        assert_eq!(answer.review["kind"], "AdmissionReview");
        assert_eq!(answer.review["response"]["allowed"], false);
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let body = "[".repeat(100_000);
    let answer = answer(body.as_bytes(), &facts(), &config());
    assert_eq!(
        answer.decision,
        Decision::Refused {
            reason: "malformed"
        }
    );
}

/// Facts that know no namespace at all, as a cache that has just started.
struct Nothing;

impl Facts for Nothing {
    fn namespace(&self, _name: &str) -> Option<std::sync::Arc<NamespaceFacts>> {
        None
    }
    fn cluster(&self, _name: &ClusterName) -> Option<crate::facts::ClusterFacts> {
        None
    }
}

#[test]
fn a_namespace_newer_than_the_cache_is_not_guessed_about() {
    let review = review(&json!({})).to_string();
    let answer = answer(review.as_bytes(), &Nothing, &config());
    assert_eq!(
        answer.decision,
        Decision::Refused {
            reason: "cache_behind"
        }
    );
    assert_eq!(answer.review["response"]["status"]["code"], 503);
}

/// Any JSON, three levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/{}$.]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("name|spec|env|[a-z]{1,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Aim: whatever shape a pod has, there is an answer with the request's uid, and its patch applies.
    #[test]
    fn every_request_is_answered(metadata in any_json(), spec in any_json(), containers in any_json()) {
        let mut review = review(&json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs"}));
        let object = &mut review["request"]["object"];
        object["spec"]["securityContext"] = spec;
        object["spec"]["volumes"] = metadata;
        if !containers.is_null() {
            object["spec"]["containers"][0]["env"] = containers.clone();
            object["spec"]["initContainers"] = containers;
        }
        let answer = answer_to(&review);
        prop_assert_eq!(&answer.review["response"]["uid"], "u-1");
        if let Some(patch) = answer.review["response"]["patch"].as_str() {
            let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
            let mut pod = review["request"]["object"].clone();
            prop_assert!(json_patch::patch(&mut pod, &patch).is_ok());
        }
    }
}
