//! The sidecar: a native one, before all other init containers, so that these already find certificates.

use serde_json::{Value, json};

use super::container::{self, ROUTES_TLS_DIR, SERVER_TLS_DIR, STORE_DIR, Target, USER};
use super::patch::Draft;
use super::select::{Role, Settings, Store};
use super::{Injection, Refusal, volume};

/// Reserved name of the injected container.
pub const SIDECAR: &str = "stanchion-sidecar";
/// Where the sidecar serves probes and metrics.
pub(super) const ADMIN_PORT: u16 = 7778;

/// Where the sidecar of a client writes, whatever directory the application sees.
const CLIENT_TLS_DIR: &str = "/var/run/stanchion/tls";
const TRUST_DIR: &str = "/var/run/stanchion/trust";
const IDENTITY_DIR: &str = "/var/run/secrets/stanchion.dev";

/// Adds the sidecar, or completes one of that name that the pod declares.
pub(super) fn add_sidecar(
    draft: &mut Draft,
    settings: &Settings,
    targets: &[Target],
    key_group: Option<u64>,
    config: &Injection,
) -> Result<(), Refusal> {
    let mut arguments = arguments(draft, settings, targets, config);
    if let Some(group) = key_group {
        arguments.push(format!("--key-group={group}"));
    }
    let wanted = sidecar(draft, settings, targets, &arguments, config);
    let list = ["spec", "initContainers"];
    let present = draft
        .entries(&list)
        .iter()
        .position(|container| container["name"] == SIDECAR);
    let Some(index) = present else {
        return draft.prepend(&list, wanted);
    };
    let index = index.to_string();
    complete(draft, &["spec", "initContainers", &index], &wanted)
}

/// Adds the members and mounts that a declared sidecar lacks; what it says itself stays.
fn complete(draft: &mut Draft, path: &[&str], wanted: &Value) -> Result<(), Refusal> {
    for (name, value) in wanted.as_object().into_iter().flatten() {
        draft.add_missing(path, name, value.clone())?;
    }
    let list = [path, &["volumeMounts"]].concat();
    for mount in wanted["volumeMounts"].as_array().into_iter().flatten() {
        let present = draft
            .entries(&list)
            .iter()
            .any(|present| present["mountPath"] == mount["mountPath"]);
        if !present {
            draft.append(&list, mount.clone())?;
        }
    }
    Ok(())
}

fn sidecar(
    draft: &Draft,
    settings: &Settings,
    targets: &[Target],
    arguments: &[String],
    config: &Injection,
) -> Value {
    let probe = |path: &str| json!({"path": path, "port": ADMIN_PORT, "scheme": "HTTP"});
    json!({
        "name": SIDECAR,
        "image": config.sidecar_image,
        "args": arguments,
        "restartPolicy": "Always",
        "ports": [{"name": "stanchion-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        // Holds the other containers until the first certificate is on disk: 1 s x 120.
        "startupProbe": {"httpGet": probe("/startupz"), "periodSeconds": 1, "failureThreshold": 120},
        "livenessProbe": {"httpGet": probe("/livez"), "periodSeconds": 10, "timeoutSeconds": 3, "failureThreshold": 3},
        "resources": resources(settings),
        "securityContext": container::restricted(None, user(draft, targets)),
        "volumeMounts": mounts(settings),
    })
}

/// The user of the first container that gets certificates, so that private keys need not be readable by others.
pub(super) fn user(draft: &Draft, targets: &[Target]) -> u32 {
    let users = targets
        .iter()
        .filter_map(|target| container::user(draft, target));
    users
        .filter_map(|user| u32::try_from(user).ok())
        .find(|user| *user != 0)
        .unwrap_or(USER)
}

fn arguments(
    draft: &Draft,
    settings: &Settings,
    targets: &[Target],
    config: &Injection,
) -> Vec<String> {
    let mut words = vec![
        "run".to_owned(),
        format!("--role={}", settings.role.name()),
        "--source=issuer".to_owned(),
        format!("--issuer-url={}", config.issuer_url),
        format!("--issuer-ca={TRUST_DIR}/ca.pem"),
        format!("--token-file={IDENTITY_DIR}/token"),
    ];
    match &settings.role {
        Role::Client { .. } => words.push(format!("--out=client={CLIENT_TLS_DIR}")),
        Role::Broker { store, .. } => {
            let given = targets
                .first()
                .map(|target| container::arguments(draft, target))
                .unwrap_or_default();
            let port = given.port(&["p", "port"]).unwrap_or(container::CLIENT_PORT);
            let monitor = given
                .port(&["m", "http_port"])
                .unwrap_or(container::MONITOR_PORT);
            words.push(format!("--out=server={SERVER_TLS_DIR}"));
            words.push(format!("--out=route={ROUTES_TLS_DIR}"));
            words.push(format!("--prove=127.0.0.1:{port}"));
            words.push(format!("--broker-monitor=http://127.0.0.1:{monitor}"));
            if let Some(Store::Sql { key, .. }) = store {
                words.push(format!("--store-config={STORE_DIR}/{key}"));
            }
        }
    }
    words.push(format!("--admin=0.0.0.0:{ADMIN_PORT}"));
    words
}

fn mounts(settings: &Settings) -> Vec<Value> {
    let mut mounts = Vec::new();
    match &settings.role {
        Role::Client { .. } => {
            mounts.push(json!({"name": volume::TLS, "mountPath": CLIENT_TLS_DIR}))
        }
        Role::Broker { store, .. } => {
            mounts.push(json!({"name": volume::TLS, "mountPath": SERVER_TLS_DIR}));
            mounts.push(json!({"name": volume::ROUTES_TLS, "mountPath": ROUTES_TLS_DIR}));
            if matches!(store, Some(Store::Sql { .. })) {
                mounts
                    .push(json!({"name": volume::STORE, "mountPath": STORE_DIR, "readOnly": true}));
            }
        }
    }
    mounts.push(json!({"name": volume::IDENTITY, "mountPath": IDENTITY_DIR, "readOnly": true}));
    mounts.push(json!({"name": volume::TRUST, "mountPath": TRUST_DIR, "readOnly": true}));
    mounts
}

/// Requests and limits, both always: namespaces with a ResourceQuota admit no container without them.
fn resources(settings: &Settings) -> Value {
    let mut resources = json!({
        "requests": {"cpu": "5m", "memory": "16Mi"},
        "limits": {"cpu": "250m", "memory": "64Mi"},
    });
    for (resource, quantity) in &settings.sidecar_resources {
        resources["requests"][resource] = json!(quantity);
        resources["limits"][resource] = json!(quantity);
    }
    resources
}
