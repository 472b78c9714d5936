//! Whether a pod is injected, and with what settings: its own annotations first, then its namespace's, then defaults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Refusal;
use super::patch::malformed;
use crate::annotations::{self, Place, Roles};
use crate::facts::{Consent, Facts, NamespaceFacts};
use crate::names::ClusterName;
use crate::policy;

/// Default of `stanchion.dev/tls-dir`.
const TLS_DIR: &str = "/var/run/stanchion/tls";
/// Default of `stanchion.dev/store-secret-key`: what the reference's manifests call it.
const STORE_SECRET_KEY: &str = "secret.conf";

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// It is admitted as it is.
    Leave {
        /// Why, in a few words.
        because: &'static str,
        /// What its author should know.
        warnings: Vec<String>,
    },
    /// It is injected.
    Inject(Box<Settings>),
}

/// Everything that was decided for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the pod is to the broker, with the settings of that role.
    pub role: Role,
    /// The broker cluster that is used, or formed.
    pub cluster: ClusterName,
    /// The streaming cluster ID, where anybody says it.
    pub streaming_id: Option<String>,
    /// Names of the containers that get files and variables; nothing stands for the default of the role.
    pub containers: Containers,
    /// `stanchion.dev/sidecar-resources`: resource and quantity.
    pub sidecar_resources: BTreeMap<String, String>,
    /// What the pod's author should know.
    pub warnings: Vec<String>,
}

/// Which containers get files and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Containers {
    /// Those that the role implies.
    Default,
    /// All of them.
    All,
    /// These.
    Named(Vec<String>),
}

/// A role and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The pod runs `stanchion-broker`.
    Broker {
        /// Where messages are kept; nothing leaves that to the container's own arguments.
        store: Option<Store>,
        /// Whether native metrics are served.
        metrics: bool,
    },
    /// The pod's application connects to a broker.
    Client {
        /// Where its containers find the certificate files.
        tls_dir: String,
        /// Whether `NATS_*` variables are set.
        nats_variables: bool,
        /// Whether `STAN_*` variables are set.
        stan_variables: bool,
        /// Template of the client ID, where one is given.
        client_id: Option<String>,
    },
}

/// Kind of store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Nothing is kept.
    Memory,
    /// PostgreSQL.
    Sql {
        /// Secret with the configuration file.
        secret: String,
        /// Its key.
        key: String,
    },
}

impl Role {
    /// The word of the annotation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Broker { .. } => "broker",
            Self::Client { .. } => "client",
        }
    }
}

/// The pod's side of the question: its metadata, decoded as far as it matters.
#[derive(Debug)]
struct PodSays<'a> {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    metadata: &'a Value,
}

impl PodSays<'_> {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// The switch, which may be an annotation or a label but not both with different values.
    fn asks(&self) -> Result<Option<bool>, Refusal> {
        let switches = (
            self.annotation(annotations::INJECT),
            self.labels.get(annotations::INJECT),
        );
        match switches {
            (Some(annotation), Some(label)) if annotation != label => Err(Refusal::SwitchTwice),
            (Some(value), _) => Ok(Some(value == "true")),
            (None, Some(value)) => Ok(Some(value == "true")),
            (None, None) => Ok(None),
        }
    }
}

/// Decides about a pod that is to be made in `namespace`.
///
/// `workload` is the StatefulSet that the pod is the template of, for offline use; a pod that was made by one names it
/// as its owner.
///
/// # Errors
/// When what the pod or its namespace says cannot be carried out as written; never because of missing consent.
pub fn select(
    pod: &Value,
    namespace: &NamespaceFacts,
    workload: Option<&str>,
    facts: &dyn Facts,
) -> Result<Selection, Refusal> {
    let says = PodSays {
        labels: strings(&pod["metadata"]["labels"], "metadata.labels")?,
        annotations: strings(&pod["metadata"]["annotations"], "metadata.annotations")?,
        metadata: &pod["metadata"],
    };
    if namespace.consent() == Consent::Disabled {
        return Ok(leave("its namespace disables injection"));
    }
    annotations::check_labels(Place::Pod, &says.labels)?;
    annotations::check_annotations(Place::Pod, &says.annotations)?;
    match says.asks()? {
        Some(true) => {}
        Some(false) => return Ok(leave("it opts out")),
        None if asks_by_default(&says, namespace) => {}
        None => return Ok(not_asked(&says)),
    }
    namespace.check().map_err(|source| Refusal::Namespace {
        namespace: namespace.name.clone(),
        source,
    })?;
    settings(&says, namespace, workload, facts)
        .map(|settings| Selection::Inject(Box::new(settings)))
}

fn leave(because: &'static str) -> Selection {
    Selection::Leave {
        because,
        warnings: Vec::new(),
    }
}

/// In an enabled namespace a pod takes part without asking, as soon as a broker is named by it or by the namespace.
fn asks_by_default(says: &PodSays<'_>, namespace: &NamespaceFacts) -> bool {
    let named = says.annotation(annotations::ROLE).is_some()
        || says.annotation(annotations::CLUSTER).is_some()
        || namespace.default_of(annotations::CLUSTER).is_some()
            && namespace.default_of(annotations::ROLE) != Some("none");
    namespace.consent() == Consent::Enabled && named
}

fn not_asked(says: &PodSays<'_>) -> Selection {
    let without_effect = says
        .annotations
        .keys()
        .find(|key| annotations::is_ours(key) && *key != annotations::STATUS);
    Selection::Leave {
        because: "it does not ask",
        warnings: without_effect
            .map(|key| {
                format!(
                    "{key} has no effect without {}: \"true\"",
                    annotations::INJECT
                )
            })
            .into_iter()
            .collect(),
    }
}

fn settings(
    says: &PodSays<'_>,
    namespace: &NamespaceFacts,
    workload: Option<&str>,
    facts: &dyn Facts,
) -> Result<Settings, Refusal> {
    let role = role(says)?;
    let cluster = match role {
        Role::Broker { .. } => formed_cluster(says, namespace, workload)?,
        Role::Client { .. } => used_cluster(says, namespace, facts)?,
    };
    let mut warnings = Vec::new();
    let streaming_id = streaming_id(says, namespace, &cluster, &role, facts);
    if let Role::Client {
        stan_variables: true,
        ..
    } = role
        && streaming_id.is_none()
    {
        warnings.push(format!(
            "no streaming cluster ID is known for {cluster}, so STAN_CLUSTER_ID is not set; \
             annotate the pod with {}",
            annotations::STREAMING_ID
        ));
    }
    Ok(Settings {
        role,
        cluster,
        streaming_id,
        containers: containers(says.annotation(annotations::CONTAINERS)),
        sidecar_resources: resources(says.annotation(annotations::SIDECAR_RESOURCES)),
        warnings,
    })
}

fn role(says: &PodSays<'_>) -> Result<Role, Refusal> {
    if says.annotation(annotations::ROLE) == Some("broker") {
        annotations::check_role("broker", Roles::Client, &says.annotations)?;
        return Ok(Role::Broker {
            store: store(says)?,
            metrics: says.annotation(annotations::METRICS) != Some("false"),
        });
    }
    annotations::check_role("client", Roles::Broker, &says.annotations)?;
    let variables = says.annotation(annotations::ENV).unwrap_or("nats,stan");
    let wants = |name| annotations::list(variables).any(|item| item == name);
    Ok(Role::Client {
        tls_dir: says
            .annotation(annotations::TLS_DIR)
            .unwrap_or(TLS_DIR)
            .trim_end_matches('/')
            .to_owned(),
        nats_variables: wants("nats"),
        stan_variables: wants("stan"),
        client_id: says.annotation(annotations::CLIENT_ID).map(str::to_owned),
    })
}

fn store(says: &PodSays<'_>) -> Result<Option<Store>, Refusal> {
    let secret = says.annotation(annotations::STORE_SECRET);
    let key = says.annotation(annotations::STORE_SECRET_KEY);
    let kind = says
        .annotation(annotations::STORE)
        .map(str::to_ascii_lowercase);
    match (kind.as_deref(), secret) {
        (Some("memory"), Some(_)) => Err(Refusal::MemoryWithSecret),
        (Some("memory"), None) => Ok(Some(Store::Memory)),
        (Some(_), None) => Err(Refusal::SqlWithoutSecret),
        (None, None) if key.is_some() => Err(Refusal::SqlWithoutSecret),
        (None, None) => Ok(None),
        (_, Some(secret)) => Ok(Some(Store::Sql {
            secret: secret.to_owned(),
            key: key.unwrap_or(STORE_SECRET_KEY).to_owned(),
        })),
    }
}

/// The cluster that a broker pod is a part of: named by annotation, or after the StatefulSet that makes the pod.
fn formed_cluster(
    says: &PodSays<'_>,
    namespace: &NamespaceFacts,
    workload: Option<&str>,
) -> Result<ClusterName, Refusal> {
    if let Some(cluster) = says
        .annotation(annotations::CLUSTER)
        .and_then(ClusterName::parse)
    {
        if cluster.namespace != namespace.name {
            return Err(Refusal::BrokerElsewhere {
                cluster,
                namespace: namespace.name.clone(),
            });
        }
        return Ok(cluster);
    }
    let owner = workload.or_else(|| owning_stateful_set(says.metadata));
    owner.map_or(Err(Refusal::ClusterMissing { role: "broker" }), |name| {
        Ok(ClusterName {
            namespace: namespace.name.clone(),
            name: name.to_owned(),
        })
    })
}

fn owning_stateful_set(metadata: &Value) -> Option<&str> {
    let owners = metadata["ownerReferences"].as_array()?;
    let controller = owners
        .iter()
        .find(|owner| owner["controller"] == Value::Bool(true))?;
    (controller["kind"] == "StatefulSet").then(|| controller["name"].as_str())?
}

/// The cluster that a client uses; its namespace has to exist and to let the client in.
fn used_cluster(
    says: &PodSays<'_>,
    namespace: &NamespaceFacts,
    facts: &dyn Facts,
) -> Result<ClusterName, Refusal> {
    let cluster = says
        .annotation(annotations::CLUSTER)
        .or_else(|| namespace.default_of(annotations::CLUSTER))
        .and_then(ClusterName::parse)
        .ok_or(Refusal::ClusterMissing { role: "client" })?;
    if cluster.namespace == namespace.name {
        return Ok(cluster);
    }
    let Some(broker) = facts.namespace(&cluster.namespace) else {
        return Err(Refusal::NoSuchNamespace { cluster });
    };
    broker.check().map_err(|source| Refusal::Namespace {
        namespace: broker.name.clone(),
        source,
    })?;
    policy::check_grant(&namespace.name, &broker)?;
    Ok(cluster)
}

fn streaming_id(
    says: &PodSays<'_>,
    namespace: &NamespaceFacts,
    cluster: &ClusterName,
    role: &Role,
    facts: &dyn Facts,
) -> Option<String> {
    let said = says
        .annotation(annotations::STREAMING_ID)
        .or_else(|| namespace.default_of(annotations::STREAMING_ID))
        .map(str::to_owned);
    if said.is_some() || matches!(role, Role::Broker { .. }) {
        return said;
    }
    facts
        .cluster(cluster)
        .and_then(|known| known.streaming_id)
        .or_else(|| {
            let broker = facts.namespace(&cluster.namespace)?;
            broker
                .default_of(annotations::STREAMING_ID)
                .map(str::to_owned)
        })
}

fn containers(value: Option<&str>) -> Containers {
    match value {
        None => Containers::Default,
        Some("*") => Containers::All,
        Some(names) => Containers::Named(annotations::list(names).map(str::to_owned).collect()),
    }
}

fn resources(value: Option<&str>) -> BTreeMap<String, String> {
    let items = value.into_iter().flat_map(annotations::list);
    items
        .filter_map(|item| item.split_once('='))
        .map(|(resource, quantity)| (resource.to_owned(), quantity.to_owned()))
        .collect()
}

/// A map of strings, strictly: a YAML author who forgets the quotes around `true` is told so.
fn strings(object: &Value, path: &'static str) -> Result<BTreeMap<String, String>, Refusal> {
    if object.is_null() {
        return Ok(BTreeMap::new());
    }
    let members = object
        .as_object()
        .ok_or_else(|| malformed(&[path], "an object"))?;
    members
        .iter()
        .map(|(key, value)| {
            let value = value
                .as_str()
                .ok_or_else(|| malformed(&[path, key], "a string; put it in quotes"))?;
            Ok((key.clone(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
