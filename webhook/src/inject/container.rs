//! What the pod's own containers get: mounts, variables, and for a broker its arguments, probes and restrictions.

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::patch::{Draft, malformed};
use super::select::{Containers, Role, Settings, Store};
use super::sidecar::{ADMIN_PORT, SIDECAR};
use super::{Refusal, Request, client_id, volume};
use crate::annotations::{self, nearest};

/// Where a broker finds its server certificate, as the older operators mount it.
pub(super) const SERVER_TLS_DIR: &str = "/etc/nats-server-tls-certs";
/// Where a broker finds its route certificate.
pub(super) const ROUTES_TLS_DIR: &str = "/etc/nats-routes-tls-certs";
/// Where a broker finds its store configuration.
pub(super) const STORE_DIR: &str = "/etc/stan/config";
/// Where a broker puts its admin socket and process id.
const RUN_DIR: &str = "/var/run/nats";
/// Where clients connect.
pub(super) const CLIENT_PORT: u16 = 4222;
/// Where a broker serves its monitoring endpoints.
pub(super) const MONITOR_PORT: u16 = 8222;
/// Where a broker serves native metrics.
const METRICS_PORT: u16 = 7777;
/// User of containers that name none and must not be root.
pub(super) const USER: u32 = 65532;

/// Containers that other products add: they speak no NATS, so that files and variables would only be in their way.
const FOREIGN_SIDECARS: [&str; 9] = [
    "cloud-sql-proxy",
    "daprd",
    "istio-init",
    "istio-proxy",
    "istio-validation",
    "linkerd-init",
    "linkerd-proxy",
    "vault-agent",
    "vault-agent-init",
];

/// One of the pod's own containers that is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `containers` or `initContainers`.
    list: &'static str,
    index: String,
    pub(super) name: String,
}

impl Target {
    fn path(&self) -> [&str; 3] {
        ["spec", self.list, &self.index]
    }

    fn path_to<'a>(&'a self, member: &'a str) -> [&'a str; 4] {
        ["spec", self.list, &self.index, member]
    }

    /// Whether this is the first of the main containers, whose client ID needs no addition to be unique in the pod.
    fn is_first(&self) -> bool {
        self.list == "containers" && self.index == "0"
    }
}

/// The containers that the settings mean, in the order of the pod.
pub(super) fn targets(draft: &Draft, settings: &Settings) -> Result<Vec<Target>, Refusal> {
    let all = own_containers(draft)?;
    let is_main = |target: &Target| target.list == "containers";
    let chosen = match (&settings.containers, &settings.role) {
        (Containers::Named(names), _) => return named(all, names),
        (Containers::All, Role::Client { .. }) => all,
        (Containers::All, Role::Broker { .. }) => all.into_iter().filter(is_main).collect(),
        (Containers::Default, Role::Broker { .. }) => {
            all.into_iter().filter(is_main).take(1).collect()
        }
        (Containers::Default, Role::Client { .. }) => all
            .into_iter()
            .filter(|target| !FOREIGN_SIDECARS.contains(&target.name.as_str()))
            .collect(),
    };
    Ok(chosen)
}

fn own_containers(draft: &Draft) -> Result<Vec<Target>, Refusal> {
    let mut all = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in draft.entries(&["spec", list]).iter().enumerate() {
            let index = index.to_string();
            let Some(name) = container["name"].as_str() else {
                return Err(malformed(&["spec", list, &index, "name"], "a string"));
            };
            if name != SIDECAR {
                all.push(Target {
                    list,
                    index,
                    name: name.to_owned(),
                });
            }
        }
    }
    if !all.iter().any(|target| target.list == "containers") {
        return Err(malformed(&["spec", "containers"], "a list of containers"));
    }
    Ok(all)
}

fn named(all: Vec<Target>, names: &[String]) -> Result<Vec<Target>, Refusal> {
    let unknown = names
        .iter()
        .find(|name| all.iter().all(|target| target.name != **name));
    if let Some(name) = unknown {
        return Err(Refusal::NoSuchContainer {
            name: name.clone(),
            nearest: nearest(name, all.iter().map(|target| target.name.as_str())),
        });
    }
    Ok(all
        .into_iter()
        .filter(|target| names.contains(&target.name))
        .collect())
}

/// The user that a container runs as, where pod or container say it.
pub(super) fn user(draft: &Draft, target: &Target) -> Option<u64> {
    let container = &draft.at(&target.path())["securityContext"]["runAsUser"];
    container.as_u64().or_else(|| pod_user(draft))
}

/// The user that the pod gives to containers which name none.
pub(super) fn pod_user(draft: &Draft) -> Option<u64> {
    draft.at(&["spec", "securityContext", "runAsUser"]).as_u64()
}

/// Changes one container of a client.
pub(super) fn equip_client(
    draft: &mut Draft,
    target: &Target,
    settings: &Settings,
    request: &Request<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let Role::Client {
        tls_dir,
        nats_variables,
        stan_variables,
        client_id,
    } = &settings.role
    else {
        return Ok(());
    };
    add_mount(draft, target, volume::TLS, tls_dir)?;
    let mut variables = Vec::new();
    if *nats_variables {
        let cluster = &settings.cluster;
        let url = format!(
            "tls://{}.{}.svc:{CLIENT_PORT}",
            cluster.name, cluster.namespace
        );
        variables.push(json!({"name": "NATS_URL", "value": url}));
        for (name, file) in [
            ("NATS_CA", "ca.pem"),
            ("NATS_CERT", "client.pem"),
            ("NATS_KEY", "client-key.pem"),
        ] {
            variables.push(json!({"name": name, "value": format!("{tls_dir}/{file}")}));
        }
    }
    if *stan_variables {
        if let Some(id) = &settings.streaming_id {
            variables.push(json!({"name": "STAN_CLUSTER_ID", "value": id}));
        }
        if !has_variable(draft, target, client_id::VARIABLE) {
            variables.extend(client_id::variables(
                client_id.as_deref(),
                &client_id::Subject {
                    pod_name: request.pod_name(),
                    namespace: &request.namespace.name,
                    container: &target.name,
                    only_one: target.is_first() && !pod_name_is_used(draft),
                },
            ));
        }
    }
    if !variables.is_empty() && !draft.entries(&target.path_to("envFrom")).is_empty() {
        warnings.push(format!(
            "container {} takes variables from a ConfigMap or Secret; where both set one, the injected one wins; \
             {} chooses what is injected",
            target.name,
            annotations::ENV
        ));
    }
    add_variables(draft, target, variables)
}

/// Whether a container already has the pod's bare name as its client ID, as after an earlier call.
fn pod_name_is_used(draft: &Draft) -> bool {
    let mut variables = draft
        .entries(&["spec", "containers"])
        .iter()
        .flat_map(|container| container["env"].as_array().into_iter().flatten());
    variables.any(|variable| *variable == from_field(client_id::VARIABLE, "metadata.name"))
}

fn has_variable(draft: &Draft, target: &Target, name: &str) -> bool {
    let present = draft.entries(&target.path_to("env"));
    present.iter().any(|variable| variable["name"] == name)
}

/// Changes one container of a broker.
pub(super) fn equip_broker(
    draft: &mut Draft,
    target: &Target,
    settings: &Settings,
) -> Result<(), Refusal> {
    let Role::Broker { store, metrics } = &settings.role else {
        return Ok(());
    };
    add_mount(draft, target, volume::TLS, SERVER_TLS_DIR)?;
    add_mount(draft, target, volume::ROUTES_TLS, ROUTES_TLS_DIR)?;
    if matches!(store, Some(Store::Sql { .. })) {
        add_mount(draft, target, volume::STORE, STORE_DIR)?;
    }
    add_mount(draft, target, volume::RUN, RUN_DIR)?;
    add_variables(draft, target, broker_variables(settings))?;
    let given = arguments(draft, target);
    add_arguments(draft, target, &given, settings, *metrics)?;
    add_probes(
        draft,
        target,
        given.port(&["m", "http_port"]).unwrap_or(MONITOR_PORT),
    )?;
    restrict(draft, target)
}

/// The arguments that a container already has, in command and args.
pub(super) fn arguments(draft: &Draft, target: &Target) -> Arguments {
    let words = ["command", "args"]
        .into_iter()
        .flat_map(|member| draft.entries(&target.path_to(member)))
        .filter_map(Value::as_str);
    Arguments::parse(words)
}

fn broker_variables(settings: &Settings) -> Vec<Value> {
    let mut variables = vec![
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
        from_field("POD_IP", "status.podIP"),
        json!({"name": "STANCHION_CLUSTER", "value": settings.cluster.to_string()}),
    ];
    if let Some(id) = &settings.streaming_id {
        variables.push(json!({"name": "STANCHION_STREAMING_ID", "value": id}));
    }
    variables
}

/// A variable that the kubelet fills in from the pod.
pub(super) fn from_field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

/// Appends what the user did not give, in whatever spelling.
fn add_arguments(
    draft: &mut Draft,
    target: &Target,
    given: &Arguments,
    settings: &Settings,
    metrics: bool,
) -> Result<(), Refusal> {
    let mut missing = |spellings: &[&str], words: &[&str]| {
        if given.has(spellings) {
            return Ok(());
        }
        let mut words = words.iter().copied();
        words.try_for_each(|word| draft.append(&target.path_to("args"), json!(word)))
    };
    match &settings.streaming_id {
        Some(id) => missing(&["cluster_id", "cid"], &["-cluster_id", id])?,
        None if given.has(&["cluster_id", "cid"]) => {}
        None => return Err(Refusal::StreamingIdMissing),
    }
    missing(&["p", "port"], &["-p", &CLIENT_PORT.to_string()])?;
    missing(&["m", "http_port"], &["-m", &MONITOR_PORT.to_string()])?;
    if metrics {
        missing(
            &["metrics_port"],
            &["--metrics_port", &METRICS_PORT.to_string()],
        )?;
    }
    missing(&["tls"], &["--tls"])?;
    missing(&["tlsverify"], &["--tlsverify"])?;
    for (flag, file) in [
        ("tlscert", "server.pem"),
        ("tlskey", "server-key.pem"),
        ("tlscacert", "ca.pem"),
    ] {
        missing(
            &[flag],
            &[&format!("--{flag}"), &format!("{SERVER_TLS_DIR}/{file}")],
        )?;
    }
    let Role::Broker {
        store: Some(store), ..
    } = &settings.role
    else {
        return Ok(());
    };
    match store {
        Store::Memory => missing(&["store", "st"], &["-store", "MEMORY"]),
        Store::Sql { key, .. } => {
            missing(&["store", "st"], &["-store", "SQL"])?;
            missing(
                &["stan_config", "sc"],
                &["-sc", &format!("{STORE_DIR}/{key}")],
            )
        }
    }
}

/// Liveness and start ask the broker itself; readiness asks the sidecar, which also knows certificate and store lock.
fn add_probes(draft: &mut Draft, target: &Target, monitor_port: u16) -> Result<(), Refusal> {
    let ask = |path: &str, port: u16| json!({"path": path, "port": port, "scheme": "HTTP"});
    let health = ask("/healthz", monitor_port);
    // Recovery of a large store takes minutes: 2 s x 450 = 15 minutes before the container is given up.
    let startup = json!({"httpGet": health, "periodSeconds": 2, "failureThreshold": 450});
    let liveness =
        json!({"httpGet": health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6});
    let readiness =
        json!({"httpGet": ask("/readyz", ADMIN_PORT), "periodSeconds": 5, "timeoutSeconds": 3});
    draft.add_missing(&target.path(), "startupProbe", startup)?;
    draft.add_missing(&target.path(), "livenessProbe", liveness)?;
    draft.add_missing(&target.path(), "readinessProbe", readiness)
}

/// Gives a container that says nothing about its rights those of Pod Security level `restricted`.
fn restrict(draft: &mut Draft, target: &Target) -> Result<(), Refusal> {
    let said = draft.at(&target.path_to("securityContext"));
    if !said.is_null() && said.as_object().is_none_or(|members| !members.is_empty()) {
        return Ok(());
    }
    let context = restricted(pod_user(draft), USER);
    draft.set(&target.path(), "securityContext", context)
}

/// What Pod Security level `restricted` asks of a container, and a read-only root.
///
/// A pod that runs as root on purpose keeps its user; Pod Security then judges it as it would have without us.
pub(super) fn restricted(pod_user: Option<u64>, user: u32) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if pod_user != Some(0) {
        context["runAsNonRoot"] = json!(true);
    }
    if pod_user.is_none() {
        context["runAsUser"] = json!(user);
    }
    context
}

/// Mounts a volume read-only, unless it is there; another volume at the same place is a conflict for the author to solve.
fn add_mount(draft: &mut Draft, target: &Target, volume: &str, path: &str) -> Result<(), Refusal> {
    let list = target.path_to("volumeMounts");
    let present = draft.entries(&list).iter().find(|mount| {
        mount["mountPath"]
            .as_str()
            .map(|path| path.trim_end_matches('/'))
            == Some(path)
    });
    match present {
        Some(mount) if mount["name"] == volume => Ok(()),
        Some(_) => Err(Refusal::MountTaken {
            container: target.name.clone(),
            path: path.to_owned(),
        }),
        None => {
            let read_only = volume != volume::RUN;
            let mut mount = json!({"name": volume, "mountPath": path});
            if read_only {
                mount["readOnly"] = json!(true);
            }
            draft.append(&list, mount)
        }
    }
}

/// Adds the variables that the container does not have.
fn add_variables(draft: &mut Draft, target: &Target, variables: Vec<Value>) -> Result<(), Refusal> {
    let list = target.path_to("env");
    for variable in variables {
        let name = variable["name"].as_str().unwrap_or_default();
        if !has_variable(draft, target, name) {
            draft.append(&list, variable)?;
        }
    }
    Ok(())
}
