//! What admission and issuance know of the cluster: namespaces with their consent and grants, and broker clusters.
//!
//! Both are read from a snapshot that somebody else keeps (`watch` from the API server, a file when offline), never by
//! a call from within a review: the decision stays a pure function and costs no round trip.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::annotations::{self, AnnotationError, Place};
use crate::names::ClusterName;

/// One namespace: the labels and annotations under the product's prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: String,
    /// Labels under the prefix.
    pub labels: BTreeMap<String, String>,
    /// Annotations under the prefix.
    pub annotations: BTreeMap<String, String>,
}

/// What a namespace says about injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Pods are injected by the namespace's defaults.
    Enabled,
    /// No pod is injected, whatever it asks.
    Disabled,
    /// Pods that ask are injected.
    Unsaid,
}

impl NamespaceFacts {
    /// A namespace that says nothing.
    pub fn bare(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Keeps what is ours of a namespace's metadata.
    pub fn new<'a>(
        name: &str,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
        annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            labels: ours(labels),
            annotations: ours(annotations),
        }
    }

    /// The switch: the label, since selectors see nothing else.
    pub fn consent(&self) -> Consent {
        match self.labels.get(annotations::INJECT).map(String::as_str) {
            Some("enabled") => Consent::Enabled,
            Some("disabled") => Consent::Disabled,
            _ => Consent::Unsaid,
        }
    }

    /// An annotation of the namespace, as a default for its pods.
    pub fn default_of(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Refuses keys and values that mean nothing on a namespace.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), AnnotationError> {
        let switch = self.annotations.get(annotations::INJECT);
        if switch.is_some() && switch != self.labels.get(annotations::INJECT) {
            return Err(AnnotationError::NotAnAnnotation {
                key: annotations::INJECT.to_owned(),
            });
        }
        annotations::check_labels(Place::Namespace, &self.labels)?;
        annotations::check_annotations(Place::Namespace, &self.annotations)
    }
}

fn ours<'a>(
    entries: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .filter(|(key, _)| annotations::is_ours(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What is known of a broker cluster from its StatefulSet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// The streaming cluster ID, where the pod template says it.
    pub streaming_id: Option<String>,
}

/// Where facts come from.
pub trait Facts: Send + Sync {
    /// A namespace, if it exists.
    fn namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>>;
    /// The namespace that a pod is made in. The API server has checked that it exists, so an absent one means that
    /// these facts are behind, and nothing may be concluded from it.
    fn own_namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>> {
        self.namespace(name)
    }
    /// A broker cluster, if it exists.
    fn cluster(&self, name: &ClusterName) -> Option<ClusterFacts>;
}

/// Facts that do not change: from documents, for offline use and tests.
#[derive(Debug, Clone, Default)]
pub struct FixedFacts {
    namespaces: BTreeMap<String, Arc<NamespaceFacts>>,
    clusters: BTreeMap<ClusterName, ClusterFacts>,
}

impl FixedFacts {
    /// Takes the Namespaces and the brokers' StatefulSets among `documents` and skips everything else.
    pub fn from_documents<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut facts = Self::default();
        for document in documents {
            facts.learn(document);
        }
        facts
    }

    fn learn(&mut self, document: &Value) {
        match document["kind"].as_str() {
            Some("Namespace") => {
                let metadata = &document["metadata"];
                let Some(name) = metadata["name"].as_str() else {
                    return;
                };
                let labels = string_map(&metadata["labels"]);
                let annotations = string_map(&metadata["annotations"]);
                let facts = NamespaceFacts::new(name, &labels, &annotations);
                self.namespaces.insert(name.to_owned(), Arc::new(facts));
            }
            Some("StatefulSet") => {
                if let Some((name, facts)) = broker_cluster(document) {
                    self.clusters.insert(name, facts);
                }
            }
            _ => {}
        }
    }
}

impl Facts for FixedFacts {
    fn namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>> {
        self.namespaces.get(name).cloned()
    }

    /// A namespace without a document says nothing.
    fn own_namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>> {
        self.namespace(name)
            .or_else(|| Some(Arc::new(NamespaceFacts::bare(name))))
    }

    fn cluster(&self, name: &ClusterName) -> Option<ClusterFacts> {
        self.clusters.get(name).cloned()
    }
}

/// The cluster that a StatefulSet forms, if its pods have the role of a broker.
pub(crate) fn broker_cluster(stateful_set: &Value) -> Option<(ClusterName, ClusterFacts)> {
    let metadata = &stateful_set["metadata"];
    let annotations = string_map(&stateful_set["spec"]["template"]["metadata"]["annotations"]);
    if annotations.get(annotations::ROLE).map(String::as_str) != Some("broker") {
        return None;
    }
    let own_name = || {
        Some(ClusterName {
            namespace: metadata["namespace"].as_str()?.to_owned(),
            name: metadata["name"].as_str()?.to_owned(),
        })
    };
    let name = annotations
        .get(annotations::CLUSTER)
        .and_then(|cluster| ClusterName::parse(cluster))
        .or_else(own_name)?;
    let streaming_id = annotations.get(annotations::STREAMING_ID).cloned();
    Some((name, ClusterFacts { streaming_id }))
}

/// The string members of an object; other members are left out.
pub(crate) fn string_map(object: &Value) -> BTreeMap<String, String> {
    let members = object.as_object().into_iter().flatten();
    members
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_switch_that_selectors_do_not_see_is_refused() {
        let key = annotations::INJECT.to_owned();
        let enabled = "enabled".to_owned();
        let annotated = NamespaceFacts::new("a", [], [(&key, &enabled)]);
        assert_eq!(annotated.consent(), Consent::Unsaid);
        assert!(matches!(
            annotated.check(),
            Err(AnnotationError::NotAnAnnotation { .. })
        ));
        let both = NamespaceFacts::new("a", [(&key, &enabled)], [(&key, &enabled)]);
        assert_eq!((both.consent(), both.check()), (Consent::Enabled, Ok(())));
    }

    #[test]
    fn a_cluster_is_named_by_its_annotation_or_else_by_its_stateful_set() {
        let set = |annotations: Value| {
            json!({"kind": "StatefulSet", "metadata": {"name": "labs", "namespace": "nats-io"},
                   "spec": {"template": {"metadata": {"annotations": annotations}}}})
        };
        let named = broker_cluster(&set(json!({"stanchion.dev/role": "broker"}))).unwrap();
        assert_eq!(named.0.to_string(), "nats-io/labs");
        let other = json!({"stanchion.dev/role": "broker", "stanchion.dev/cluster": "nats-io/main",
                           "stanchion.dev/streaming-id": "stan"});
        let (name, facts) = broker_cluster(&set(other)).unwrap();
        assert_eq!(name.to_string(), "nats-io/main");
        assert_eq!(facts.streaming_id.as_deref(), Some("stan"));
        assert_eq!(broker_cluster(&set(json!({}))), None);
    }
}
