//! The volumes of an injected pod. None of them holds a key: keys are made in the pod, in memory.

use serde_json::{Value, json};

use super::patch::{Draft, contains};
use super::select::{Role, Settings, Store};
use super::{Injection, Refusal};

/// Certificates of a server, or of a client.
pub(super) const TLS: &str = "stanchion-tls";
/// Certificates for routes between brokers.
pub(super) const ROUTES_TLS: &str = "stanchion-routes-tls";
/// Configuration of the store.
pub(super) const STORE: &str = "stanchion-store";
/// The token that the sidecar shows to the issuer.
pub(super) const IDENTITY: &str = "stanchion-identity";
/// The trust bundle that the sidecar checks the issuer with.
pub(super) const TRUST: &str = "stanchion-trust";
/// Admin socket and process id of the broker.
pub(super) const RUN: &str = "stanchion-run";

/// Audience of the token: it opens the issuer and nothing else.
pub(crate) const TOKEN_AUDIENCE: &str = "stanchion.dev";
/// Life of a token; the kubelet renews it at four fifths. Seconds.
const TOKEN_SECONDS: u32 = 3600;

/// Adds the volumes that are not there yet.
pub(super) fn add_volumes(
    draft: &mut Draft,
    settings: &Settings,
    config: &Injection,
) -> Result<(), Refusal> {
    for volume in wanted(settings, config) {
        let name = volume["name"].as_str().unwrap_or_default();
        let present = draft
            .entries(&["spec", "volumes"])
            .iter()
            .find(|present| present["name"] == volume["name"]);
        match present {
            None => draft.append(&["spec", "volumes"], volume)?,
            Some(present) if contains(present, &volume) => {}
            Some(_) => {
                return Err(Refusal::VolumeTaken {
                    name: name.to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Names of the volumes that a pod with these settings has.
pub(super) fn names(settings: &Settings) -> Vec<&'static str> {
    match &settings.role {
        Role::Client { .. } => vec![TLS, IDENTITY, TRUST],
        Role::Broker {
            store: Some(Store::Sql { .. }),
            ..
        } => {
            vec![TLS, ROUTES_TLS, RUN, STORE, IDENTITY, TRUST]
        }
        Role::Broker { .. } => vec![TLS, ROUTES_TLS, RUN, IDENTITY, TRUST],
    }
}

fn wanted(settings: &Settings, config: &Injection) -> Vec<Value> {
    let volume = |name: &'static str| match name {
        STORE => store_volume(settings),
        IDENTITY => json!({"name": IDENTITY, "projected": {"sources": [{"serviceAccountToken": {
            "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token",
        }}]}}),
        TRUST => json!({"name": TRUST, "configMap": {
            "name": config.trust_config_map, "items": [{"key": "ca.pem", "path": "ca.pem"}],
        }}),
        memory => json!({"name": memory, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
    };
    names(settings).into_iter().map(volume).collect()
}

/// The whole Secret, never one key by `subPath`: such a mount would not follow changes.
fn store_volume(settings: &Settings) -> Value {
    let secret = match &settings.role {
        Role::Broker {
            store: Some(Store::Sql { secret, .. }),
            ..
        } => secret.as_str(),
        _ => "",
    };
    json!({"name": STORE, "secret": {"secretName": secret}})
}
