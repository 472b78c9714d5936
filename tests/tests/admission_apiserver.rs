//! The webhook behind a real API server: what real controllers make is admitted with everything it needs, mistakes are
//! refused with a way out, and pods that do not ask are not even looked at, so that they start while the webhook is down.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod};
use kube::Api;
use kube::api::ListParams;
use tests::control_plane::ControlPlane;
use tests::webhook::{self, Webhook};
use tests::{patience, programs};

/// For controllers to make a pod, on a busy machine.
const CONTROLLERS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_real_api_server_is_served() {
    let plane = ControlPlane::start().await.unwrap();
    let mut webhook = Webhook::start(&plane, "24h").await.unwrap();

    let source = "host=db.invalid user=stan dbname=stan";
    plane.apply("seed.yaml", &[("SOURCE", source)]).unwrap();
    broker_pod_gets_certificates_store_and_sidecar(&plane).await;
    client_pod_gets_files_and_variables(&plane).await;
    namespaces_that_take_part_get_the_trust_bundle(&plane).await;

    a_misspelt_annotation_is_refused_with_the_right_spelling(&plane);
    a_dry_run_leaves_nothing(&plane).await;
    pods_that_do_not_ask_cause_no_call(&plane).await;
    webhook.check_alive().unwrap();

    drop(webhook);
    without_webhook_only_pods_that_ask_have_to_wait(&plane).await;
}

async fn broker_pod_gets_certificates_store_and_sidecar(plane: &ControlPlane) {
    let pod = made_pod(plane, "nats-io", "app=nats").await.unwrap();
    let spec = pod.spec.unwrap();
    let volumes: Vec<_> = spec
        .volumes
        .iter()
        .flatten()
        .map(|volume| volume.name.as_str())
        .collect();
    for name in [
        "stanchion-tls",
        "stanchion-routes-tls",
        "stanchion-store",
        "stanchion-identity",
        "stanchion-trust",
    ] {
        assert!(volumes.contains(&name), "{name} is not among {volumes:?}");
    }
    let sidecar = &spec.init_containers.unwrap()[0];
    assert_eq!(sidecar.name, "stanchion-sidecar");
    assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
    let broker = &spec.containers[0];
    for (flag, value) in [
        ("-cluster_id", "labs-nats-stan"),
        ("-sc", "/etc/stan/config/secret.conf"),
        ("--tlscert", "/etc/nats-server-tls-certs/server.pem"),
    ] {
        assert_eq!(flag_value(broker, flag), Some(value), "{flag}");
    }
    assert_eq!(mounted(broker, "/etc/stan/config"), Some("stanchion-store"));
    // Admitted to a namespace of level restricted although its author said nothing.
    let context = broker.security_context.as_ref().unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.allow_privilege_escalation, Some(false));
}

async fn client_pod_gets_files_and_variables(plane: &ControlPlane) {
    let pod = made_pod(plane, "appnamespace", "app=orders").await.unwrap();
    let spec = pod.spec.unwrap();
    let application = &spec.containers[0];
    let variable = |name: &str| {
        let mut all = application.env.iter().flatten();
        all.find(|variable| variable.name == name)
            .and_then(|variable| variable.value.as_deref())
    };
    assert_eq!(
        variable("NATS_URL"),
        Some("tls://labs-nats-cluster.nats-io.svc:4222")
    );
    assert_eq!(variable("STAN_CLUSTER_ID"), Some("labs-nats-stan"));
    assert_eq!(
        variable("NATS_CERT"),
        Some("/var/run/stanchion/tls/client.pem")
    );
    assert_eq!(
        mounted(application, "/var/run/stanchion/tls"),
        Some("stanchion-tls")
    );
    assert_eq!(spec.init_containers.unwrap()[0].name, "stanchion-sidecar");
}

async fn namespaces_that_take_part_get_the_trust_bundle(plane: &ControlPlane) {
    for namespace in ["nats-io", "appnamespace"] {
        let maps: Api<ConfigMap> = Api::namespaced(plane.client().clone(), namespace);
        let what = format!("a trust bundle in {namespace}");
        let map = patience::until(&what, CONTROLLERS, async || {
            Ok(maps.get("stanchion-trust").await?)
        });
        let data = map.await.unwrap().data.unwrap();
        assert!(data["ca.pem"].contains("BEGIN CERTIFICATE"));
    }
}

fn a_misspelt_annotation_is_refused_with_the_right_spelling(plane: &ControlPlane) {
    let refusal = plane.apply("misspelt.yaml", &[]).unwrap_err().to_string();
    assert!(refusal.contains("stanchion.dev/store-secre"), "{refusal}");
    assert!(
        refusal.contains("stanchion.dev/store-secret"),
        "no way out: {refusal}"
    );
}

async fn a_dry_run_leaves_nothing(plane: &ControlPlane) {
    let calls = plane.webhook_calls(webhook::ENTRY).await.unwrap();
    let file = programs::root()
        .join("tests/manifests/asking.yaml")
        .display()
        .to_string();
    let shown = plane
        .kubectl(&[
            "create",
            "--dry-run=server",
            "--output=json",
            "--filename",
            &file,
        ])
        .unwrap();
    let shown: Pod = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        shown.spec.unwrap().init_containers.unwrap()[0].name,
        "stanchion-sidecar"
    );
    assert!(
        plane.webhook_calls(webhook::ENTRY).await.unwrap() > calls,
        "the webhook was not asked"
    );
    let pods: Api<Pod> = Api::namespaced(plane.client().clone(), "appnamespace");
    assert!(pods.get_opt("asking").await.unwrap().is_none());
}

async fn pods_that_do_not_ask_cause_no_call(plane: &ControlPlane) {
    let before = plane.webhook_calls(webhook::ENTRY).await.unwrap();
    assert!(before >= 2, "the seed's pods were {before} calls");
    plane.apply("bystander.yaml", &[]).unwrap();
    let pods: Api<Pod> = Api::namespaced(plane.client().clone(), "appnamespace");
    let bystander = pods.get("bystander").await.unwrap();
    assert!(bystander.spec.unwrap().init_containers.is_none());
    assert_eq!(plane.webhook_calls(webhook::ENTRY).await.unwrap(), before);
}

async fn without_webhook_only_pods_that_ask_have_to_wait(plane: &ControlPlane) {
    plane
        .kubectl(&["delete", "--namespace=appnamespace", "pod", "bystander"])
        .unwrap();
    plane.apply("bystander.yaml", &[]).unwrap();
    let refusal = plane.apply("asking.yaml", &[]).unwrap_err().to_string();
    assert!(refusal.contains("failed calling webhook"), "{refusal}");

    let _webhook = Webhook::start(plane, "24h").await.unwrap();
    plane.apply("asking.yaml", &[]).unwrap();
    let pods: Api<Pod> = Api::namespaced(plane.client().clone(), "appnamespace");
    let admitted = pods.get("asking").await.unwrap().spec.unwrap();
    assert_eq!(
        admitted.init_containers.unwrap()[0].name,
        "stanchion-sidecar"
    );
}

/// The first pod that a controller made.
async fn made_pod(plane: &ControlPlane, namespace: &str, selector: &str) -> anyhow::Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(plane.client().clone(), namespace);
    let selected = ListParams::default().labels(selector);
    let what = format!("a pod of {selector} in {namespace}");
    patience::until(&what, CONTROLLERS, async || {
        let made = pods.list(&selected).await?.items.into_iter().next();
        made.with_context(|| {
            plane
                .kubectl(&["get", "events", "--all-namespaces"])
                .unwrap_or_default()
        })
    })
    .await
}

fn flag_value<'a>(container: &'a Container, flag: &str) -> Option<&'a str> {
    let arguments = container.args.as_deref()?;
    let position = arguments.iter().position(|argument| argument == flag)?;
    arguments.get(position + 1).map(String::as_str)
}

fn mounted<'a>(container: &'a Container, path: &str) -> Option<&'a str> {
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts
        .find(|mount| mount.mount_path == path)
        .map(|mount| mount.name.as_str())
}
