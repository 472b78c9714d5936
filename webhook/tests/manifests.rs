//! The manifests in `deploy/`: what they register, and that the examples are admitted and stay within Pod Security.

use std::path::Path;

use serde_json::{Value, json};
use webhook::documents;
use webhook::facts::FixedFacts;
use webhook::inject::Injection;

fn documents_of(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(file);
    documents::read(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn injected_examples() -> Vec<Value> {
    let mut all = [
        documents_of("examples/broker.yaml"),
        documents_of("examples/consumer.yaml"),
    ]
    .concat();
    let facts = FixedFacts::from_documents(&all);
    let config = Injection {
        sidecar_image: "stanchion-sidecar".to_owned(),
        issuer_url: "https://issuer:8444".to_owned(),
        trust_config_map: "stanchion-trust".to_owned(),
        native_sidecars: true,
    };
    let reports = documents::inject(&mut all, &facts, &config, "default");
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert!(report.result.is_ok(), "{report}");
    }
    all
}

#[test]
fn a_pod_without_our_keys_causes_no_call() {
    let install = documents_of("install.yaml");
    let registration = install
        .iter()
        .find(|document| document["kind"] == "MutatingWebhookConfiguration")
        .unwrap();
    for entry in registration["webhooks"].as_array().unwrap() {
        let enabled_only =
            entry["namespaceSelector"]["matchLabels"]["stanchion.dev/inject"] == "enabled";
        assert!(
            enabled_only || entry["matchConditions"].is_array(),
            "{}",
            entry["name"]
        );
        assert_eq!(entry["failurePolicy"], "Fail");
        assert_eq!(entry["sideEffects"], "None");
        assert_eq!(entry["reinvocationPolicy"], "IfNeeded");
        assert!(
            entry["clientConfig"]["caBundle"].is_null(),
            "an apply would undo what the webhook wrote"
        );
        let excluded = entry["namespaceSelector"]["matchExpressions"].to_string();
        assert!(excluded.contains("stanchion-system") && excluded.contains("kube-system"));
    }
}

#[test]
fn no_right_is_a_wildcard_and_no_secret_is_read_elsewhere() {
    for document in documents_of("install.yaml") {
        for rule in document["rules"].as_array().into_iter().flatten() {
            assert!(!rule.to_string().contains('*'), "{rule}");
            let secrets = rule["resources"]
                .as_array()
                .unwrap()
                .contains(&json!("secrets"));
            assert!(!secrets || document["kind"] == "Role", "{rule}");
        }
    }
}

/// Pod Security level `restricted`, by its published rules for containers.
#[test]
fn injected_examples_are_restricted() {
    for document in injected_examples() {
        let spec = &document["spec"]["template"]["spec"];
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array().into_iter().flatten() {
                let own = &container["securityContext"];
                let either = |member: &str| {
                    if own[member].is_null() {
                        &spec["securityContext"][member]
                    } else {
                        &own[member]
                    }
                };
                assert_eq!(
                    own["allowPrivilegeEscalation"], false,
                    "{}",
                    container["name"]
                );
                assert_eq!(
                    own["capabilities"]["drop"],
                    json!(["ALL"]),
                    "{}",
                    container["name"]
                );
                assert_eq!(either("runAsNonRoot"), true, "{}", container["name"]);
                assert_eq!(
                    either("seccompProfile")["type"],
                    "RuntimeDefault",
                    "{}",
                    container["name"]
                );
            }
        }
    }
}
