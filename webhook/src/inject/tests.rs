use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::facts::FixedFacts;

fn config() -> Injection {
    Injection {
        sidecar_image: "stanchion-sidecar:test".to_owned(),
        issuer_url: "https://issuer:8444".to_owned(),
        trust_config_map: "stanchion-trust".to_owned(),
        native_sidecars: true,
    }
}

fn facts() -> FixedFacts {
    FixedFacts::from_documents(&[json!({"kind": "Namespace", "metadata": {
        "name": "nats-io", "annotations": {"stanchion.dev/allow-namespaces": "app"}}})])
}

/// The pod after injection into a namespace that says nothing.
fn injected(pod: &Value, namespace: &str) -> Result<Value, Refusal> {
    let namespace = NamespaceFacts::bare(namespace);
    let request = Request {
        pod,
        namespace: &namespace,
        workload: None,
    };
    match desired(&request, &facts(), &config())? {
        Outcome::Left { .. } => Ok(pod.clone()),
        Outcome::Injected { patch, .. } => {
            let mut after = pod.clone();
            json_patch::patch(&mut after, &patch).unwrap();
            Ok(after)
        }
    }
}

fn client_pod() -> Value {
    json!({
        "metadata": {"name": "app-0", "annotations": {
            "stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    })
}

fn mounts(container: &Value) -> Vec<&str> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    mounts
        .filter_map(|mount| mount["mountPath"].as_str())
        .collect()
}

#[test]
fn a_container_added_by_another_webhook_is_equipped_on_the_second_call() {
    let mut pod = injected(&client_pod(), "app").unwrap();
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.insert(0, json!({"name": "added", "image": "x"}));
    let again = injected(&pod, "app").unwrap();
    assert_eq!(
        mounts(&again["spec"]["containers"][0]),
        ["/var/run/stanchion/tls"]
    );
    assert_eq!(again["spec"]["containers"][1], pod["spec"]["containers"][1]);
    let env = again["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(
        env.contains(&json!({"name": "STAN_CLIENT_ID", "value": "$(STANCHION_POD_NAME)-added"}))
    );
}

#[test]
fn a_status_written_by_the_author_hides_nothing() {
    let mut pod = client_pod();
    pod["metadata"]["annotations"]["stanchion.dev/status"] =
        json!("{\"sidecar\":\"stanchion-sidecar\"}");
    let after = injected(&pod, "app").unwrap();
    assert_eq!(after["spec"]["initContainers"][0]["name"], SIDECAR);
}

#[test]
fn defaults_that_the_api_server_adds_are_no_difference() {
    let mut pod = injected(&client_pod(), "app").unwrap();
    pod["spec"]["volumes"][1]["projected"]["defaultMode"] = json!(420);
    pod["spec"]["initContainers"][0]["terminationMessagePath"] = json!("/dev/termination-log");
    assert_eq!(injected(&pod, "app").unwrap(), pod);
}

#[test]
fn fields_that_no_binding_knows_are_kept() {
    let mut pod = client_pod();
    pod["spec"]["fieldOfTheFuture"] = json!({"a": [1, 2]});
    let after = injected(&pod, "app").unwrap();
    assert_eq!(
        after["spec"]["fieldOfTheFuture"],
        pod["spec"]["fieldOfTheFuture"]
    );
}

#[test]
fn without_native_sidecars_the_pod_is_refused() {
    let pod = client_pod();
    let namespace = NamespaceFacts::bare("app");
    let request = Request {
        pod: &pod,
        namespace: &namespace,
        workload: None,
    };
    let old = Injection {
        native_sidecars: false,
        ..config()
    };
    assert_eq!(
        desired(&request, &facts(), &old),
        Err(Refusal::NoNativeSidecars)
    );
}

#[test]
fn containers_of_one_user_need_no_common_group() {
    let mut pod = client_pod();
    pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    let after = injected(&pod, "app").unwrap();
    assert_eq!(
        after["spec"]["initContainers"][0]["securityContext"]["runAsUser"],
        1000
    );
    assert_eq!(after["spec"]["securityContext"], Value::Null);
}

#[test]
fn a_broker_keeps_flags_given_in_its_command() {
    let pod = json!({
        "metadata": {"name": "labs-0", "annotations": {
            "stanchion.dev/inject": "true", "stanchion.dev/role": "broker",
            "stanchion.dev/cluster": "nats-io/labs"}},
        "spec": {"containers": [{"name": "nats", "command": ["stanchion-broker", "--cluster_id", "x", "-tls"]}]},
    });
    let after = injected(&pod, "nats-io").unwrap();
    let args = after["spec"]["containers"][0]["args"].as_array().unwrap();
    assert!(!args.contains(&json!("-cluster_id")) && !args.contains(&json!("--tls")));
    assert!(args.contains(&json!("--tlsverify")));
}

#[test]
fn a_broker_of_another_namespace_is_refused() {
    let pod = json!({
        "metadata": {"annotations": {"stanchion.dev/inject": "true", "stanchion.dev/role": "broker",
            "stanchion.dev/cluster": "nats-io/labs", "stanchion.dev/streaming-id": "stan"}},
        "spec": {"containers": [{"name": "nats"}]},
    });
    assert!(matches!(
        injected(&pod, "app"),
        Err(Refusal::BrokerElsewhere { .. })
    ));
}

/// A container as people and other webhooks write them.
fn any_container() -> impl Strategy<Value = Value> {
    let env = proptest::collection::vec("NATS_URL|STAN_CLIENT_ID|OTHER", 0..3);
    let args = proptest::collection::vec("-p|--port=4000|-m|8000|--tls|-sc|x", 0..4);
    let mount = proptest::option::of("/data|/etc/x");
    let user = proptest::option::of(0_u32..3);
    ("[a-c]|istio-proxy", env, args, mount, user).prop_map(|(name, env, args, mount, user)| {
        let mut container = json!({"name": name, "image": "i"});
        if !env.is_empty() {
            let env: Vec<Value> = env
                .into_iter()
                .map(|name| json!({"name": name, "value": "v"}))
                .collect();
            container["env"] = json!(env);
        }
        if !args.is_empty() {
            container["args"] = json!(args);
        }
        if let Some(path) = mount {
            container["volumeMounts"] = json!([{"name": "data", "mountPath": path}]);
        }
        if let Some(user) = user {
            container["securityContext"] = json!({"runAsUser": user});
        }
        container
    })
}

fn any_annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let choice = |key: &'static str, values: &'static str| {
        proptest::option::of(values)
            .prop_map(move |value| value.map(|value| (key.to_owned(), value)))
    };
    (
        choice("stanchion.dev/role", "broker|client"),
        choice("stanchion.dev/streaming-id", "stan|labs"),
        choice("stanchion.dev/containers", "\\*|a|a,b"),
        choice("stanchion.dev/env", "nats|stan|none"),
        choice("stanchion.dev/store-secret", "s"),
        choice("stanchion.dev/client-id", "\\{pod\\}|x\\{uid\\}"),
    )
        .prop_map(|(a, b, c, d, e, f)| {
            let mut annotations: BTreeMap<_, _> =
                [a, b, c, d, e, f].into_iter().flatten().collect();
            annotations.insert("stanchion.dev/inject".to_owned(), "true".to_owned());
            annotations.insert(
                "stanchion.dev/cluster".to_owned(),
                "nats-io/labs".to_owned(),
            );
            annotations
        })
}

fn any_pod() -> impl Strategy<Value = Value> {
    let containers = || proptest::collection::vec(any_container(), 1..4);
    let name = proptest::option::of("app-0|a.b-1");
    let user = proptest::option::of(0_u32..3);
    (
        any_annotations(),
        containers(),
        proptest::option::of(containers()),
        name,
        user,
    )
        .prop_map(|(annotations, containers, inits, name, user)| {
            let mut pod = json!({
                "metadata": {"annotations": annotations},
                "spec": {"containers": containers, "initContainers": inits},
            });
            match name {
                Some(name) => pod["metadata"]["name"] = json!(name),
                None => pod["metadata"]["generateName"] = json!("a.b-"),
            }
            if let Some(user) = user {
                pod["spec"]["securityContext"] = json!({"runAsUser": user});
            }
            pod
        })
}

proptest! {
    /// The law of reinvocation: what was injected once is not changed by a second call.
    #[test]
    fn applied_twice_equals_once(pod in any_pod(), namespace in "nats-io|app") {
        if let Ok(once) = injected(&pod, &namespace) {
            prop_assert_eq!(&injected(&once, &namespace).unwrap(), &once);
        }
    }

    /// Everything that the pod said is still there, in its order.
    #[test]
    fn nothing_of_the_pod_is_lost(pod in any_pod(), namespace in "nats-io|app") {
        let Ok(after) = injected(&pod, &namespace) else { return Ok(()) };
        for list in ["containers", "initContainers"] {
            let before = pod["spec"][list].as_array().into_iter().flatten();
            let mut kept = after["spec"][list].as_array().into_iter().flatten();
            for container in before {
                let found = kept.find(|kept| kept["name"] == container["name"]);
                prop_assert!(found.is_some());
                let found = found.unwrap();
                for member in ["image", "securityContext"] {
                    prop_assert!(container[member].is_null() || container[member] == found[member]);
                }
                for member in ["env", "args", "volumeMounts"] {
                    let entries = container[member].as_array().cloned().unwrap_or_default();
                    let kept = found[member].as_array().cloned().unwrap_or_default();
                    prop_assert_eq!(&kept[..entries.len()], &entries[..]);
                }
            }
        }
    }
}
