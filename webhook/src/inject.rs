//! Injection: from a pod and what is known of the cluster to a JSON Patch.
//!
//! [`desired`] is pure and convergent: applied to its own result it changes nothing, and a container that another
//! webhook adds afterwards gets its mounts when the API server calls again. Nothing that it wrote is read back to decide
//! anything; each part is added where it is missing.

use serde_json::{Value, json};

use crate::annotations::{self, AnnotationError};
use crate::facts::{Facts, NamespaceFacts};
use crate::names::ClusterName;
use crate::policy::GrantError;

mod arguments;
mod client_id;
mod container;
mod patch;
mod select;
mod sidecar;
mod volume;

use client_id::PodName;
use patch::Draft;
pub use select::{Containers, Role, Selection, Settings, Store, select};
pub use sidecar::SIDECAR;
pub(crate) use volume::TOKEN_AUDIENCE;

/// What is the same for every pod; set by the operator, never by a pod's author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// Image of the sidecar.
    pub sidecar_image: String,
    /// Where sidecars obtain certificates, `https://host:port`.
    pub issuer_url: String,
    /// Name of the ConfigMap with the trust bundle, the same in every namespace.
    pub trust_config_map: String,
    /// Whether the API server keeps `restartPolicy` on init containers (1.29 and later). Older ones drop it in
    /// silence, and the pod would wait for the sidecar's end for ever.
    pub native_sidecars: bool,
}

/// A pod that is to be made.
#[derive(Debug)]
pub struct Request<'a> {
    /// As written, before or after other webhooks.
    pub pod: &'a Value,
    /// The namespace it will be in; the pod itself often does not say.
    pub namespace: &'a NamespaceFacts,
    /// The workload whose template this is, for offline use.
    pub workload: Option<Workload<'a>>,
}

/// A workload with a pod template.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// `Deployment`, `StatefulSet`, ...
    pub kind: &'a str,
    /// Its name; the names of its pods begin with it.
    pub name: &'a str,
}

impl Request<'_> {
    /// The StatefulSet that the template belongs to.
    fn stateful_set(&self) -> Option<&str> {
        let workload = self
            .workload
            .filter(|workload| workload.kind == "StatefulSet");
        workload.map(|workload| workload.name)
    }

    fn pod_name(&self) -> PodName<'_> {
        let metadata = &self.pod["metadata"];
        if let Some(workload) = self.workload {
            return PodName::Prefix(workload.name);
        }
        match metadata["name"].as_str().filter(|name| !name.is_empty()) {
            Some(name) => PodName::Full(name),
            None => PodName::Prefix(metadata["generateName"].as_str().unwrap_or_default()),
        }
    }
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It stays as it is.
    Left {
        /// Why, in a few words.
        because: &'static str,
        /// What its author should know.
        warnings: Vec<String>,
    },
    /// It is to be changed.
    Injected {
        /// The changes; empty when an earlier call made them all.
        patch: json_patch::Patch,
        /// What the pod is to the broker.
        role: &'static str,
        /// What its author should know.
        warnings: Vec<String>,
    },
}

/// Why a pod was refused. The text is for the pod's author and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An annotation or label of the pod.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// An annotation or label of a namespace; its owner is at fault.
    #[error("namespace {namespace}: {source}")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// What is wrong with it.
        source: AnnotationError,
    },
    /// The broker's namespace does not let this one in.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The namespace of the broker does not exist.
    #[error("there is no namespace {}, so nobody can allow the use of {cluster}", cluster.namespace)]
    NoSuchNamespace {
        /// The broker that was named.
        cluster: ClusterName,
    },
    /// Neither the pod nor its namespace names a broker.
    #[error("role {role} needs {}: <namespace>/<name>", annotations::CLUSTER)]
    ClusterMissing {
        /// Role of the pod.
        role: &'static str,
    },
    /// A broker pod names a cluster of another namespace.
    #[error(
        "a broker in namespace {namespace} cannot be part of {cluster}; {} must name its own namespace",
        annotations::CLUSTER
    )]
    BrokerElsewhere {
        /// The cluster that was named.
        cluster: ClusterName,
        /// The pod's namespace.
        namespace: String,
    },
    /// A broker without streaming cluster ID.
    #[error(
        "role broker needs {}: the streaming cluster ID",
        annotations::STREAMING_ID
    )]
    StreamingIdMissing,
    /// Store `sql`, or a key, without Secret.
    #[error(
        "{} is missing: the SQL store needs a Secret with its configuration",
        annotations::STORE_SECRET
    )]
    SqlWithoutSecret,
    /// Store `memory` and a Secret.
    #[error(
        "{} is memory, which needs no {}; remove one of them",
        annotations::STORE,
        annotations::STORE_SECRET
    )]
    MemoryWithSecret,
    /// Label and annotation disagree.
    #[error(
        "{} is there as label and as annotation with different values",
        annotations::INJECT
    )]
    SwitchTwice,
    /// A name in `stanchion.dev/containers` that the pod does not have.
    #[error("{} names {name:?}, which is no container of this pod{}", annotations::CONTAINERS,
        nearest.as_ref().map_or_else(String::new, |nearest| format!("; did you mean {nearest}?")))]
    NoSuchContainer {
        /// As written.
        name: String,
        /// The container that resembles it most.
        nearest: Option<String>,
    },
    /// A volume of a reserved name with other content.
    #[error("the pod has a volume {name} of its own; that name is reserved")]
    VolumeTaken {
        /// Name of the volume.
        name: String,
    },
    /// Another volume is mounted where ours belongs.
    #[error("container {container} already mounts another volume at {path}; remove that mount")]
    MountTaken {
        /// Name of the container.
        container: String,
        /// The path.
        path: String,
    },
    /// The API server would drop `restartPolicy` of the sidecar.
    #[error("the sidecar needs Kubernetes 1.29 or later")]
    NoNativeSidecars,
    /// The pod is not of the shape that Kubernetes gives it.
    #[error("{path} is not {expected}")]
    Malformed {
        /// Members and indexes, joined by dots.
        path: String,
        /// What belongs there.
        expected: &'static str,
    },
}

impl Refusal {
    /// A word for the metric, of a fixed small set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Annotation(_) | Self::SwitchTwice => "annotation",
            Self::Namespace { .. } => "namespace",
            Self::Grant(_) | Self::NoSuchNamespace { .. } => "grant",
            Self::ClusterMissing { .. }
            | Self::BrokerElsewhere { .. }
            | Self::StreamingIdMissing
            | Self::SqlWithoutSecret
            | Self::MemoryWithSecret => "settings",
            Self::NoSuchContainer { .. } | Self::VolumeTaken { .. } | Self::MountTaken { .. } => {
                "conflict"
            }
            Self::NoNativeSidecars => "version",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// The changes that make a pod what its annotations ask for.
///
/// # Errors
/// When what was asked cannot be carried out as written: the pod must then not start at all.
pub fn desired(
    request: &Request<'_>,
    facts: &dyn Facts,
    config: &Injection,
) -> Result<Outcome, Refusal> {
    let settings = match select(
        request.pod,
        request.namespace,
        request.stateful_set(),
        facts,
    )? {
        Selection::Leave { because, warnings } => return Ok(Outcome::Left { because, warnings }),
        Selection::Inject(settings) => *settings,
    };
    if !config.native_sidecars {
        return Err(Refusal::NoNativeSidecars);
    }
    let mut warnings = settings.warnings.clone();
    let mut draft = Draft::new(request.pod);
    let targets = inject(&mut draft, &settings, request, config, &mut warnings)?;
    if draft.at(&["spec", "hostNetwork"]) == &Value::Bool(true) {
        warnings.push(
            "the pod uses the host's network: the sidecar's port 7778 is open on the node"
                .to_owned(),
        );
    }
    write_status(&mut draft, &settings, &targets)?;
    Ok(Outcome::Injected {
        patch: draft.into_patch(),
        role: settings.role.name(),
        warnings,
    })
}

/// Makes all changes and returns the names of the containers that were equipped.
fn inject(
    draft: &mut Draft,
    settings: &Settings,
    request: &Request<'_>,
    config: &Injection,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, Refusal> {
    volume::add_volumes(draft, settings, config)?;
    let targets = container::targets(draft, settings)?;
    if matches!(settings.role, Role::Broker { .. }) {
        for target in &targets {
            container::equip_broker(draft, target, settings)?;
        }
    }
    let group = share_group(draft, &targets)?;
    sidecar::add_sidecar(draft, settings, &targets, group, config)?;
    // The sidecar moved the other init containers one place on.
    let targets = container::targets(draft, settings)?;
    for target in &targets {
        container::equip_client(draft, target, settings, request, warnings)?;
    }
    Ok(targets.into_iter().map(|target| target.name).collect())
}

/// Lets containers of other users read the keys: without a common user the pod needs a common group.
fn share_group(draft: &mut Draft, targets: &[container::Target]) -> Result<Option<u64>, Refusal> {
    let owner = sidecar::user(draft, targets);
    let read = |target| container::user(draft, target) == Some(u64::from(owner));
    if targets.iter().all(read) {
        return Ok(None);
    }
    let context = ["spec", "securityContext"];
    if let Some(group) = draft.at(&context)["fsGroup"].as_u64() {
        return Ok(Some(group));
    }
    let group = u64::from(container::USER);
    draft.set(&context, "fsGroup", json!(group))?;
    draft.add_missing(&context, "fsGroupChangePolicy", json!("OnRootMismatch"))?;
    Ok(Some(group))
}

/// Says on the pod what was injected, for people and tools. Output only.
///
/// Pods of the old streaming operator get none: it compares whole annotation maps and would recreate them for ever.
fn write_status(
    draft: &mut Draft,
    settings: &Settings,
    containers: &[String],
) -> Result<(), Refusal> {
    let owners = draft.entries(&["metadata", "ownerReferences"]);
    if owners
        .iter()
        .any(|owner| owner["kind"] == "NatsStreamingCluster")
    {
        return Ok(());
    }
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "role": settings.role.name(),
        "cluster": settings.cluster.to_string(),
        "sidecar": SIDECAR,
        "containers": containers,
        "volumes": volume::names(settings),
    })
    .to_string();
    let path = ["metadata", "annotations"];
    if draft
        .at(&["metadata", "annotations", annotations::STATUS])
        .as_str()
        != Some(&status)
    {
        draft.set(&path, annotations::STATUS, json!(status))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
