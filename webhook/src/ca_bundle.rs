//! Keeps the `caBundle` of the registered webhook equal to what the admission listener is signed by.
//!
//! The order is bundle first, then certificate: a new authority signs only once the registration has been *seen* to
//! contain it. An apply of the manifests, which have no bundle, is repaired at once.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::authorities::Signing;
use crate::metrics::Metrics;

/// Name under which our changes are recorded.
const FIELD_MANAGER: &str = "stanchion-webhook";

/// How soon a change that the API server refused is tried again.
const REPEAT: Duration = Duration::from_secs(10);

/// Follows the registration `name` until cancelled. `seen` gets the bundle that all its entries have.
pub(crate) async fn keep(
    client: Client,
    name: String,
    mut signing: watch::Receiver<Signing>,
    seen: watch::Sender<String>,
    metrics: Metrics,
    token: CancellationToken,
) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut versions = std::pin::pin!(watcher::watch_object(api.clone(), &name).default_backoff());
    let mut registered: Option<MutatingWebhookConfiguration> = None;
    let mut repeat = tokio::time::interval(REPEAT);
    loop {
        // All arms are cancel-safe: streams, ticks and watches lose nothing when they are polled again.
        tokio::select! {
            () = token.cancelled() => return,
            version = versions.next() => match version {
                Some(Ok(version)) => registered = version,
                Some(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(name, error, "registration not watched");
                    continue;
                }
                None => return,
            },
            changed = signing.changed() => if changed.is_err() { return },
            _ = repeat.tick() => {}
        }
        let wanted = signing.borrow_and_update().bundle_pem.clone();
        let current = registered.as_ref().and_then(bundle_of_all);
        metrics.ca_bundle(current.as_deref() == Some(&wanted));
        if let Some(current) = current {
            seen.send_replace(current);
        }
        let Some(patch) = registered
            .as_ref()
            .and_then(|registered| patch(registered, &wanted))
        else {
            continue;
        };
        let params = PatchParams::apply(FIELD_MANAGER);
        // The watch shows the result, ours or somebody else's.
        match api.patch(&name, &params, &Patch::Strategic(patch)).await {
            Ok(_) => tracing::info!(name, "caBundle written"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(name, error, "caBundle not written");
            }
        }
    }
}

/// The bundle, if all entries have the same.
fn bundle_of_all(registered: &MutatingWebhookConfiguration) -> Option<String> {
    let mut bundles = registered
        .webhooks
        .iter()
        .flatten()
        .map(|webhook| webhook.client_config.ca_bundle.as_ref());
    let first = bundles.next()??;
    bundles
        .all(|bundle| bundle == Some(first))
        .then(|| String::from_utf8_lossy(&first.0).into_owned())
}

/// The change that gives every entry the bundle; nothing when they have it.
fn patch(registered: &MutatingWebhookConfiguration, wanted: &str) -> Option<Value> {
    let wanted = ByteString(wanted.as_bytes().to_vec());
    let behind: Vec<Value> = registered
        .webhooks
        .iter()
        .flatten()
        .filter(|webhook| webhook.client_config.ca_bundle.as_ref() != Some(&wanted))
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": wanted}}))
        .collect();
    (!behind.is_empty()).then(|| json!({"webhooks": behind}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let webhooks: Vec<Value> = bundles
            .iter()
            .enumerate()
            .map(|(index, bundle)| {
                let bundle = bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec()));
                json!({"name": format!("w{index}"), "clientConfig": {"caBundle": bundle},
                       "sideEffects": "None", "admissionReviewVersions": ["v1"]})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "stanchion"}, "webhooks": webhooks}))
            .unwrap()
    }

    #[test]
    fn only_entries_that_are_behind_are_changed() {
        let patch = patch(&registered(&[Some("new"), None, Some("old")]), "new").unwrap();
        let names: Vec<_> = patch["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["name"])
            .collect();
        assert_eq!(names, ["w1", "w2"]);
        assert_eq!(patch["webhooks"][0]["clientConfig"]["caBundle"], "bmV3");
    }

    #[test]
    fn nothing_is_changed_when_all_have_it() {
        assert_eq!(patch(&registered(&[Some("new"), Some("new")]), "new"), None);
    }

    #[test]
    fn a_bundle_counts_as_seen_when_all_entries_have_it() {
        assert_eq!(
            bundle_of_all(&registered(&[Some("a"), Some("a")])).as_deref(),
            Some("a")
        );
        assert_eq!(bundle_of_all(&registered(&[Some("a"), None])), None);
        assert_eq!(bundle_of_all(&registered(&[])), None);
    }
}
