//! Every key under `stanchion.dev/` that Stanchion reads or writes, in one table, and the strict check against it.
//!
//! A misspelt key must never switch a protection off in silence, so whatever stands under the prefix and is not in
//! the table is refused, with the nearest known key. Keys whose feature does not exist yet are in the table too: they
//! are refused as "not supported yet" instead of being ignored. What the values *mean* together is decided by
//! `inject::select`; this file only knows each of them alone.

use std::collections::BTreeMap;
use std::fmt;

mod values;

pub(crate) use values::{Values, list};

/// All keys of the product start with this.
pub const PREFIX: &str = "stanchion.dev/";
/// Keys that start with this are free for everybody; they are never read.
const FREE: &str = "x-";

/// Opt in or out; on pods `true` or `false`, on namespaces `enabled` or `disabled`. Label or annotation.
pub const INJECT: &str = "stanchion.dev/inject";
/// What a pod is to the broker.
pub const ROLE: &str = "stanchion.dev/role";
/// The broker cluster that is meant, as `<namespace>/<name>`.
pub const CLUSTER: &str = "stanchion.dev/cluster";
/// The NATS Streaming cluster ID.
pub const STREAMING_ID: &str = "stanchion.dev/streaming-id";
/// Which containers get files and variables.
pub const CONTAINERS: &str = "stanchion.dev/containers";
/// Where a client's containers find their certificate.
pub const TLS_DIR: &str = "stanchion.dev/tls-dir";
/// Which variables a client's containers get.
pub const ENV: &str = "stanchion.dev/env";
/// Template of the streaming client ID.
pub const CLIENT_ID: &str = "stanchion.dev/client-id";
/// Requests and limits of the sidecar.
pub const SIDECAR_RESOURCES: &str = "stanchion.dev/sidecar-resources";
/// Secret that holds the store's configuration file.
pub const STORE_SECRET: &str = "stanchion.dev/store-secret";
/// Key of the configuration file in that Secret.
pub const STORE_SECRET_KEY: &str = "stanchion.dev/store-secret-key";
/// Kind of store.
pub const STORE: &str = "stanchion.dev/store";
/// Whether the broker exports metrics.
pub const METRICS: &str = "stanchion.dev/metrics";
/// On the namespace of a broker: who else may use it.
pub const ALLOW_NAMESPACES: &str = "stanchion.dev/allow-namespaces";
/// Written on pods: what was injected. Never read to decide anything.
pub const STATUS: &str = "stanchion.dev/status";

/// What a key was found on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A Namespace.
    Namespace,
    /// A Pod, or the pod template of a workload.
    Pod,
    /// A Service, Secret, StatefulSet or other object.
    Object,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::Object => "services, secrets and workloads",
        })
    }
}

/// Which pods a key makes sense on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Brokers and clients.
    All,
    /// Brokers only.
    Broker,
    /// Clients only.
    Client,
}

/// Whether a key does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    Works,
    /// Reserved: refused until its feature exists.
    NotYet,
    /// Written by the product; accepted and never read.
    Output,
}

/// One row of the vocabulary.
#[derive(Debug)]
pub(crate) struct Key {
    /// Without the prefix.
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) roles: Roles,
    pub(crate) values: Values,
    pub(crate) support: Support,
    /// One line for people.
    pub(crate) meaning: &'static str,
}

const fn row(
    name: &'static str,
    place: Place,
    roles: Roles,
    values: Values,
    support: Support,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        place,
        roles,
        values,
        support,
        meaning,
    }
}

const fn one_of(now: &'static [&'static str], later: &'static [&'static str]) -> Values {
    Values::OneOf { now, later }
}

const BOOL: Values = one_of(&["true", "false"], &[]);

/// The vocabulary. A key that differs between places has a row for each.
#[rustfmt::skip]
pub(crate) const VOCABULARY: &[Key] = {
    use Place::{Namespace, Object, Pod};
    use Roles::{All, Broker, Client};
    use Support::{NotYet, Output, Works};
    &[
        row("inject", Namespace, All, one_of(&["enabled", "disabled"], &[]), Works, "switch of a namespace; disabled wins over pods"),
        row("cluster", Namespace, All, Values::Cluster, Works, "default broker for pods here"),
        row("streaming-id", Namespace, All, Values::StreamingId, Works, "default streaming cluster ID"),
        row("role", Namespace, All, one_of(&["client", "none"], &[]), Works, "default role of pods here"),
        row("wiring", Namespace, All, one_of(&["url"], &["alias", "mirror"]), Works, "how clients find the broker"),
        row("service-alias", Namespace, All, Values::Text, NotYet, "alias Service name"),
        row("tls", Namespace, All, one_of(&["required"], &["preferred", "off"]), Works, "whether connections are encrypted"),
        row("allow-namespaces", Namespace, All, Values::Namespaces, Works, "who may use the brokers here"),
        row("profile", Namespace, All, Values::Text, NotYet, "bundle of defaults"),

        row("inject", Pod, All, BOOL, Works, "opt in or out"),
        row("role", Pod, All, one_of(&["broker", "client"], &[]), Works, "what the pod is to the broker"),
        row("cluster", Pod, All, Values::Cluster, Works, "the broker that is used, or formed"),
        row("streaming-id", Pod, All, Values::StreamingId, Works, "streaming cluster ID"),
        row("containers", Pod, All, Values::Containers, Works, "which containers get files and variables"),
        row("cert-source", Pod, All, one_of(&["issuer"], &["secret", "cert-manager"]), Works, "where certificates come from"),
        row("tls-secret", Pod, All, Values::Text, NotYet, "existing Secret with certificates"),
        row("routes-tls-secret", Pod, All, Values::Text, NotYet, "existing Secret with route certificates"),
        row("tls-files", Pod, All, Values::Text, NotYet, "key names in an existing Secret"),
        row("tls-dir", Pod, Client, Values::Path, Works, "directory of the certificate files"),
        row("tls-format", Pod, Client, one_of(&["pem"], &["pkcs12", "der"]), Works, "encodings of the certificate files"),
        row("env", Pod, Client, Values::Variables, Works, "which variables are set"),
        row("client-id", Pod, Client, Values::ClientId, Works, "template of STAN_CLIENT_ID"),
        row("identity", Pod, Client, one_of(&["serviceaccount"], &["none"]), Works, "subject of the certificate"),
        row("on-rotate", Pod, All, Values::Text, NotYet, "how to tell the process of a new certificate"),
        row("wait-for-broker", Pod, Client, BOOL, NotYet, "hold the containers until the broker answers"),
        row("sidecar", Pod, All, one_of(&["native"], &["classic", "init-only"]), Works, "shape of the sidecar"),
        row("sidecar-resources", Pod, All, Values::Resources, Works, "requests and limits of the sidecar"),
        row("store-secret", Pod, Broker, Values::ObjectName, Works, "Secret with the store configuration"),
        row("store-secret-key", Pod, Broker, Values::SecretKey, Works, "key in that Secret"),
        row("store-fields", Pod, Broker, Values::Text, NotYet, "fields of a database operator's Secret"),
        row("store", Pod, Broker, Values::OneOfAnyCase(&["sql", "memory"]), Works, "kind of store"),
        row("store-lock", Pod, Broker, one_of(&["strict"], &["shared-with-legacy"]), Works, "how the store lock is taken"),
        row("nats", Pod, Broker, Values::Nats, Works, "NATS inside the broker, or elsewhere"),
        row("no-advertise", Pod, Broker, BOOL, NotYet, "whether addresses of the cluster are told to clients"),
        row("advertise", Pod, Broker, Values::Text, NotYet, "address that is told to clients"),
        row("auth-secret", Pod, Broker, Values::Text, NotYet, "Secret with users"),
        row("auth-map", Pod, Broker, Values::Text, NotYet, "how certificates become users"),
        row("drain", Pod, Broker, Values::Text, NotYet, "length of lame duck mode"),
        row("metrics", Pod, Broker, BOOL, Works, "whether the broker exports metrics"),
        row("status", Pod, All, Values::Text, Output, "what was injected"),

        row("expose", Object, All, Values::Text, NotYet, "load balancer"),
        row("allow-cidrs", Object, All, Values::Text, NotYet, "sources that a load balancer accepts"),
        row("adopt", Object, All, Values::Text, NotYet, "hand over to the product"),
        row("managed-by", Object, All, Values::Text, Output, "owner of a made object"),
        row("for", Object, All, Values::Text, Output, "what a made object is for"),
    ]
};

/// Why a key or its value was refused. The pod's author is at fault; the text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// No such key in the vocabulary.
    #[error("{key} is not known{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// As written.
        key: String,
        /// The known key that resembles it most.
        nearest: Option<String>,
    },
    /// The key is known and its feature does not exist yet.
    #[error("{key} ({meaning}) is not supported yet; remove it")]
    KeyNotYet {
        /// As written.
        key: String,
        /// What it will do.
        meaning: &'static str,
    },
    /// The value is known and its feature does not exist yet.
    #[error("{key} is {value:?}, which is not supported yet; it must be {expected}")]
    ValueNotYet {
        /// As written.
        key: String,
        /// As written.
        value: String,
        /// What is accepted.
        expected: String,
    },
    /// The value is none of those that the key takes.
    #[error("{key} is {value:?}; it must be {expected}{}", did_you_mean(nearest.as_deref()))]
    BadValue {
        /// As written.
        key: String,
        /// As written.
        value: String,
        /// What is accepted.
        expected: String,
        /// The accepted value that resembles it most.
        nearest: Option<String>,
    },
    /// The key is known for other objects.
    #[error("{key} has no meaning on {place}; it belongs on {belongs}")]
    WrongPlace {
        /// As written.
        key: String,
        /// Where it was found.
        place: Place,
        /// Where it is read.
        belongs: Place,
    },
    /// The key is for pods of the other role.
    #[error("{key} has no meaning for role {role}")]
    WrongRole {
        /// As written.
        key: String,
        /// The pod's role.
        role: &'static str,
    },
    /// The switch of a namespace as an annotation, which the selectors of the registration do not see: pods that say
    /// nothing would not be injected, in silence.
    #[error("{key} on a namespace is read from its labels; set the label to the same value")]
    NotAnAnnotation {
        /// As written.
        key: String,
    },
    /// Only the switch is read as a label; anything else there would be ignored in silence.
    #[error("{key} is an annotation, not a label")]
    NotALabel {
        /// As written.
        key: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

/// Checks every annotation under the prefix on its own.
///
/// # Errors
/// The first key, in their order, that is unknown, not supported yet, out of place or has a value that it does not take.
pub fn check_annotations(
    place: Place,
    annotations: &BTreeMap<String, String>,
) -> Result<(), AnnotationError> {
    annotations
        .iter()
        .filter(|(key, _)| is_ours(key))
        .try_for_each(|(key, value)| check(place, key, value))
}

/// Checks the labels under the prefix: of all keys only the switch may be a label.
///
/// # Errors
/// As [`check_annotations`], and [`AnnotationError::NotALabel`].
pub fn check_labels(
    place: Place,
    labels: &BTreeMap<String, String>,
) -> Result<(), AnnotationError> {
    labels
        .iter()
        .filter(|(key, _)| is_ours(key))
        .try_for_each(|(key, value)| {
            if key != INJECT && find(place, key).is_some() {
                return Err(AnnotationError::NotALabel { key: key.clone() });
            }
            check(place, key, value)
        })
}

/// Whether a key is under the prefix and not one of the free ones.
pub fn is_ours(key: &str) -> bool {
    key.strip_prefix(PREFIX)
        .is_some_and(|name| !name.starts_with(FREE))
}

/// Refuses keys that only pods of the other role may carry.
///
/// # Errors
/// [`AnnotationError::WrongRole`] for the first such key.
pub(crate) fn check_role(
    role: &'static str,
    other: Roles,
    annotations: &BTreeMap<String, String>,
) -> Result<(), AnnotationError> {
    let misplaced = annotations
        .keys()
        .find(|key| find(Place::Pod, key).is_some_and(|row| row.roles == other));
    misplaced.map_or(Ok(()), |key| {
        Err(AnnotationError::WrongRole {
            key: key.clone(),
            role,
        })
    })
}

fn find(place: Place, key: &str) -> Option<&'static Key> {
    let name = key.strip_prefix(PREFIX)?;
    VOCABULARY
        .iter()
        .find(|row| row.place == place && row.name == name)
}

fn check(place: Place, key: &str, value: &str) -> Result<(), AnnotationError> {
    let Some(row) = find(place, key) else {
        return Err(out_of_place(place, key));
    };
    match row.support {
        Support::Output => Ok(()),
        Support::NotYet => Err(AnnotationError::KeyNotYet {
            key: key.to_owned(),
            meaning: row.meaning,
        }),
        Support::Works => check_value(row, key, value),
    }
}

fn check_value(row: &Key, key: &str, value: &str) -> Result<(), AnnotationError> {
    if row.values.accepts(value) {
        return Ok(());
    }
    if row.values.will_accept(value) {
        return Err(AnnotationError::ValueNotYet {
            key: key.to_owned(),
            value: value.to_owned(),
            expected: row.values.expected(),
        });
    }
    Err(AnnotationError::BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        expected: row.values.expected(),
        nearest: nearest(value, row.values.words()),
    })
}

/// The key is not for this place: it is for another, or does not exist.
fn out_of_place(place: Place, key: &str) -> AnnotationError {
    let name = key.strip_prefix(PREFIX).unwrap_or(key);
    let Some(row) = VOCABULARY.iter().find(|row| row.name == name) else {
        let names = VOCABULARY
            .iter()
            .filter(|row| row.place == place)
            .map(|row| row.name);
        return AnnotationError::UnknownKey {
            key: key.to_owned(),
            nearest: nearest(name, names).map(|name| format!("{PREFIX}{name}")),
        };
    };
    match row.support {
        Support::NotYet => AnnotationError::KeyNotYet {
            key: key.to_owned(),
            meaning: row.meaning,
        },
        Support::Works | Support::Output => AnnotationError::WrongPlace {
            key: key.to_owned(),
            place,
            belongs: row.place,
        },
    }
}

/// The candidate that a person most likely meant, if any is near enough to be worth naming.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let written = written.to_ascii_lowercase();
    let most_edits = (written.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&written, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= most_edits && *edits < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests;
