//! Publishes the trust bundle of all workloads: ConfigMap `stanchion-trust`, key `ca.pem`, in every namespace that
//! takes part, and in no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::annotations;
use crate::authorities::Signing;
use crate::cache::{Askers, Cache};
use crate::facts::{Consent, NamespaceFacts};

/// Name under which our changes are recorded.
const FIELD_MANAGER: &str = "stanchion-issuer";
/// How often everything is written again, which repairs what others changed or deleted.
const REPEAT: Duration = Duration::from_secs(60);

/// The publisher.
pub(crate) struct Publisher {
    pub(crate) client: Client,
    pub(crate) config_map: String,
    pub(crate) cache: Arc<Cache>,
    pub(crate) askers: Arc<Askers>,
    pub(crate) signing: watch::Receiver<Signing>,
}

impl Publisher {
    /// Publishes until cancelled.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        let mut namespaces = self.cache.namespace_changes();
        let mut askers = self.askers.changes();
        let mut repeat = tokio::time::interval(REPEAT);
        // Which bundle each namespace was given.
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        loop {
            // All arms are cancel-safe. The senders live in the cache and in the authority's task; when one is gone
            // the program is about to end.
            let changed = tokio::select! {
                () = token.cancelled() => return,
                _ = repeat.tick() => { given.clear(); Ok(()) }
                changed = namespaces.changed() => changed,
                changed = askers.changed() => changed,
                changed = self.signing.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            let bundle = self.signing.borrow_and_update().bundle_pem.clone();
            self.publish(&bundle, &mut given).await;
        }
    }

    async fn publish(&self, bundle: &str, given: &mut BTreeMap<String, String>) {
        for namespace in taking_part(&self.cache.namespaces(), &self.askers.namespaces()) {
            if given.get(&namespace).is_some_and(|known| known == bundle) {
                continue;
            }
            match self.write(&namespace, bundle).await {
                Ok(()) => {
                    given.insert(namespace, bundle.to_owned());
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(namespace, error, "trust bundle not published");
                }
            }
        }
    }

    async fn write(&self, namespace: &str, bundle: &str) -> Result<(), kube::Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let wanted = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": self.config_map, "labels": {"stanchion.dev/managed-by": "stanchion"}},
            "data": {"ca.pem": bundle},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&self.config_map, &params, &Patch::Apply(wanted))
            .await?;
        Ok(())
    }
}

/// Namespaces that are enabled, name a broker, hold one that others may use, or have pods that ask.
fn taking_part(all: &[Arc<NamespaceFacts>], asking: &BTreeSet<String>) -> BTreeSet<String> {
    let takes_part = |namespace: &&Arc<NamespaceFacts>| {
        let says = |key| namespace.default_of(key).is_some();
        namespace.consent() != Consent::Disabled
            && (namespace.consent() == Consent::Enabled
                || says(annotations::CLUSTER)
                || says(annotations::ALLOW_NAMESPACES)
                || asking.contains(&namespace.name))
    };
    all.iter()
        .filter(takes_part)
        .map(|namespace| namespace.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, label: Option<&str>, annotation: Option<&str>) -> Arc<NamespaceFacts> {
        let mut facts = NamespaceFacts::bare(name);
        if let Some(label) = label {
            facts
                .labels
                .insert(annotations::INJECT.to_owned(), label.to_owned());
        }
        if let Some(key) = annotation {
            facts.annotations.insert(key.to_owned(), "x/y".to_owned());
        }
        Arc::new(facts)
    }

    #[test]
    fn only_namespaces_that_take_part_are_written_to() {
        let all = [
            namespace("enabled", Some("enabled"), None),
            namespace("names-a-broker", None, Some(annotations::CLUSTER)),
            namespace("has-a-broker", None, Some(annotations::ALLOW_NAMESPACES)),
            namespace("asks", None, None),
            namespace("disabled", Some("disabled"), Some(annotations::CLUSTER)),
            namespace("uninvolved", None, None),
        ];
        let asking = BTreeSet::from([
            "asks".to_owned(),
            "disabled".to_owned(),
            "deleted".to_owned(),
        ]);
        let found: Vec<_> = taking_part(&all, &asking).into_iter().collect();
        assert_eq!(found, ["asks", "enabled", "has-a-broker", "names-a-broker"]);
    }
}
