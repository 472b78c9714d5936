//! What the API server knows, kept up to date by watches: namespaces, broker clusters, and which namespaces have pods
//! that ask.
//!
//! Of each object only what is needed is kept, so that large clusters cost little memory. An incomplete first list is
//! never shown: until it is whole nothing is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::annotations;
use crate::facts::{ClusterFacts, Facts, NamespaceFacts, broker_cluster};
use crate::names::ClusterName;

/// Namespace and name.
type Key = (String, String);

/// One kind of object, reduced to `V`.
#[derive(Debug)]
struct Kept<V> {
    entries: RwLock<BTreeMap<Key, V>>,
    /// Grows with every change; stays zero until the first list is whole.
    generation: watch::Sender<u64>,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            generation: watch::Sender::new(0),
        }
    }
}

impl<V: Clone> Kept<V> {
    fn find<T>(&self, search: impl FnOnce(&BTreeMap<Key, V>) -> Option<T>) -> Option<T> {
        search(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Key, V>)) {
        change(&mut self.entries.write().unwrap_or_else(PoisonError::into_inner));
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Follows a watch until cancelled. `reduce` keeps what is needed of an object, or nothing.
    async fn follow<K>(
        &self,
        events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
        reduce: impl Fn(&K) -> Option<V>,
        token: &CancellationToken,
    ) where
        K: ResourceExt + Debug,
    {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        let mut listed = BTreeMap::new();
        let mut events = std::pin::pin!(events);
        while let Some(Some(event)) = token.run_until_cancelled(events.next()).await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.extend(reduce(&object).map(|value| (key(&object), value)));
                }
                Ok(Event::InitDone) => {
                    self.change(|entries| *entries = std::mem::take(&mut listed))
                }
                Ok(Event::Apply(object)) => self.change(|entries| {
                    match reduce(&object) {
                        Some(value) => entries.insert(key(&object), value),
                        None => entries.remove(&key(&object)),
                    };
                }),
                Ok(Event::Delete(object)) => self.change(|entries| {
                    entries.remove(&key(&object));
                }),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "watch interrupted");
                }
            }
        }
    }

    /// Waits until the first list is whole. Cancel-safe.
    async fn ready(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self
            .generation
            .subscribe()
            .wait_for(|generation| *generation > 0)
            .await;
    }
}

/// Facts from the API server.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    namespaces: Kept<Arc<NamespaceFacts>>,
    brokers: Kept<(ClusterName, ClusterFacts)>,
}

impl Cache {
    /// Keeps the facts up to date until cancelled.
    pub(crate) async fn follow(self: Arc<Self>, client: Client, token: CancellationToken) {
        let namespaces = watcher::watcher(
            Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
            watcher::Config::default(),
        );
        let stateful_sets =
            watcher::watcher(Api::<StatefulSet>::all(client), watcher::Config::default());
        tokio::join!(
            self.namespaces.follow(
                namespaces.default_backoff(),
                |namespace| Some(Arc::new(reduce(namespace))),
                &token
            ),
            self.brokers.follow(
                stateful_sets.default_backoff(),
                |set| {
                    // The same reading as of a document; a StatefulSet always has a JSON form.
                    let mut document = serde_json::to_value(set).unwrap_or_default();
                    document["metadata"]["namespace"] = set.namespace().into();
                    broker_cluster(&document)
                },
                &token,
            ),
        );
    }

    /// Waits until all facts are there. Cancel-safe.
    pub(crate) async fn ready(&self) {
        self.namespaces.ready().await;
        self.brokers.ready().await;
    }

    /// Every namespace.
    pub(crate) fn namespaces(&self) -> Vec<Arc<NamespaceFacts>> {
        self.namespaces
            .find(|entries| Some(entries.values().cloned().collect()))
            .unwrap_or_default()
    }

    /// Grows with every change of a namespace.
    pub(crate) fn namespace_changes(&self) -> watch::Receiver<u64> {
        self.namespaces.generation.subscribe()
    }
}

impl Facts for Cache {
    fn namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>> {
        self.namespaces
            .find(|entries| entries.get(&(String::new(), name.to_owned())).cloned())
    }

    fn cluster(&self, name: &ClusterName) -> Option<ClusterFacts> {
        self.brokers.find(|entries| {
            let known = entries.values().find(|(known, _)| known == name)?;
            Some(known.1.clone())
        })
    }
}

fn reduce(namespace: &PartialObjectMeta<Namespace>) -> NamespaceFacts {
    NamespaceFacts::new(
        &namespace.name_any(),
        namespace.labels(),
        namespace.annotations(),
    )
}

/// Which namespaces have pods that ask.
#[derive(Debug, Default)]
pub(crate) struct Askers(Kept<()>);

impl Askers {
    /// Keeps up to date until cancelled. Metadata only: pods are many and their specs are large.
    pub(crate) async fn follow(self: Arc<Self>, client: Client, token: CancellationToken) {
        let pods = watcher::watcher(
            Api::<PartialObjectMeta<Pod>>::all(client),
            watcher::Config::default(),
        );
        self.0.follow(pods.default_backoff(), asks, &token).await;
    }

    /// The namespaces.
    pub(crate) fn namespaces(&self) -> BTreeSet<String> {
        self.0
            .find(|entries| {
                Some(
                    entries
                        .keys()
                        .map(|(namespace, _)| namespace.clone())
                        .collect(),
                )
            })
            .unwrap_or_default()
    }

    /// Grows with every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }
}

fn asks(pod: &PartialObjectMeta<Pod>) -> Option<()> {
    let says = |map: &BTreeMap<String, String>| {
        map.get(annotations::INJECT)
            .is_some_and(|value| value == "true")
    };
    (says(pod.annotations()) || says(pod.labels())).then_some(())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use kube::api::ObjectMeta;

    use super::*;

    fn namespace(name: &str) -> Namespace {
        Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        }
    }

    async fn followed(events: Vec<Event<Namespace>>) -> (Vec<String>, u64) {
        let kept = Kept::default();
        let events = stream::iter(events.into_iter().map(Ok));
        kept.follow(events, |_| Some(()), &CancellationToken::new())
            .await;
        let names = kept.find(|entries| Some(entries.keys().map(|key| key.1.clone()).collect()));
        (names.unwrap(), *kept.generation.borrow())
    }

    #[tokio::test]
    async fn nothing_is_shown_before_the_first_list_is_whole() {
        let (names, generation) =
            followed(vec![Event::Init, Event::InitApply(namespace("a"))]).await;
        assert_eq!((names.len(), generation), (0, 0));
    }

    #[tokio::test]
    async fn a_new_list_forgets_what_is_gone() {
        let (names, _) = followed(vec![
            Event::Init,
            Event::InitApply(namespace("a")),
            Event::InitDone,
            Event::Apply(namespace("b")),
            Event::Init,
            Event::InitApply(namespace("b")),
            Event::InitApply(namespace("c")),
            Event::InitDone,
            Event::Delete(namespace("c")),
        ])
        .await;
        assert_eq!(names, ["b"]);
    }
}
