//! The issuer: `POST /v1/certificates` and `GET /v1/bundle` over HTTPS.
//!
//! Who asks is known from the token alone, what they get from the live pod and the grants; a request contributes its
//! public key and the wish for a profile, nothing else.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use certs::csr::Csr;
use certs::leaf::LeafRequest;
use certs::profile::Profile;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Semaphore, watch};

use crate::authorities::Signing;
use crate::facts::Facts;
use crate::metrics::Metrics;

mod identity;
mod policy;

pub(crate) use identity::Pods;
use identity::{Identity, UnknownCaller};
use policy::Denied;
pub(crate) use policy::Domains;

/// Largest request that is read. Bytes; a request with an RSA 4096 key has about 2 KiB.
const MOST_REQUEST_BYTES: usize = 32 * 1024;
/// Requests worked on at once. Each costs two calls to the API server; more are turned away with 429, and sidecars try
/// again with jitter.
const MOST_AT_ONCE: usize = 64;
/// Time for a request to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);
/// Time for the calls to the API server.
const REVIEW: Duration = Duration::from_secs(10);

/// What the handlers need.
pub(crate) struct Issuer {
    pub(crate) pods: Pods,
    pub(crate) facts: Arc<dyn Facts>,
    pub(crate) signing: watch::Receiver<Signing>,
    pub(crate) domains: Domains,
    pub(crate) lifetime: Duration,
    pub(crate) metrics: Metrics,
}

struct Shared {
    issuer: Issuer,
    at_once: Semaphore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    profile: String,
    csr: String,
}

#[derive(Serialize)]
struct Granted {
    chain: String,
    bundle: String,
    serial: String,
    not_before: String,
    not_after: String,
}

/// Why there is no certificate, as the wire says it.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error(transparent)]
    Caller(#[from] UnknownCaller),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("too many requests at once; try again")]
    Busy,
    #[error("{0}; try again")]
    Unavailable(&'static str),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Caller(UnknownCaller::Api(_))
            | Self::Denied(Denied::UnknownNamespace(_))
            | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Caller(_) => StatusCode::UNAUTHORIZED,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// For the metric.
    fn outcome(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Caller(UnknownCaller::Api(_))
            | Self::Denied(Denied::UnknownNamespace(_))
            | Self::Unavailable(_) => "unavailable",
            Self::Caller(_) => "unauthenticated",
            Self::Denied(_) => "denied",
            Self::Busy => "busy",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), Json(json!({"error": self.to_string()}))).into_response()
    }
}

/// The routes of the issuer's listener.
pub(crate) fn router(issuer: Issuer) -> Router {
    let shared = Shared {
        issuer,
        at_once: Semaphore::new(MOST_AT_ONCE),
    };
    Router::new()
        .route("/v1/certificates", post(certificates))
        .route("/v1/bundle", get(bundle))
        .with_state(Arc::new(shared))
}

async fn bundle(State(shared): State<Arc<Shared>>) -> Response {
    let bundle = shared.issuer.signing.borrow().bundle_pem.clone();
    Json(json!({"bundle": bundle})).into_response()
}

async fn certificates(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut profile = None;
    let result = shared.answer(&head.headers, body, &mut profile).await;
    let profile = profile.map_or("unknown", Profile::as_str);
    let outcome = result.as_ref().err().map_or("issued", Refusal::outcome);
    shared.issuer.metrics.certificate(profile, outcome);
    match result {
        Ok(granted) => Json(granted).into_response(),
        Err(refusal) => {
            let error: &dyn std::error::Error = &refusal;
            tracing::info!(profile, outcome, error, "certificate refused");
            refusal.into_response()
        }
    }
}

impl Shared {
    /// `wished` is set as soon as the profile is known, also when the request fails afterwards.
    async fn answer(
        &self,
        headers: &HeaderMap,
        body: Body,
        wished: &mut Option<Profile>,
    ) -> Result<Granted, Refusal> {
        let _slot = self.at_once.try_acquire().map_err(|_| Refusal::Busy)?;
        let token = bearer(headers)?;
        let (profile, csr) = read(body).await?;
        *wished = Some(profile);
        let checked = tokio::time::timeout(REVIEW, self.issuer.pods.identify(token)).await;
        let caller = checked
            .map_err(|_| Refusal::Unavailable("the API server did not answer in time"))??;
        self.issuer.grant(profile, &csr, &caller)
    }
}

impl Issuer {
    fn grant(&self, profile: Profile, csr: &Csr, caller: &Identity) -> Result<Granted, Refusal> {
        let names = policy::grant(profile, caller, self.facts.as_ref(), &self.domains)?;
        let request = LeafRequest {
            profile,
            common_name: names.common_name,
            dns_names: names.dns_names,
            ip_addresses: names.ip_addresses,
            uris: names.uris,
            lifetime: self.lifetime,
            public_key: csr.public_key().clone(),
        };
        let signing = self.signing.borrow().clone();
        let issued = signing
            .signer
            .issue(&request, OffsetDateTime::now_utc())
            .map_err(|error| {
                tracing::error!("not issued: {:#}", anyhow::Error::from(error));
                Refusal::Unavailable("the authority cannot sign this")
            })?;
        let rfc3339 = |time: OffsetDateTime| {
            let unavailable = |_| Refusal::Unavailable("the authority's clock is off");
            time.format(&Rfc3339).map_err(unavailable)
        };
        tracing::info!(
            profile = profile.as_str(),
            namespace = caller.namespace,
            pod = caller.pod_name,
            serial = issued.serial_hex,
            "certificate issued"
        );
        Ok(Granted {
            not_before: rfc3339(issued.not_before)?,
            not_after: rfc3339(issued.not_after)?,
            chain: issued.chain_pem,
            bundle: signing.bundle_pem,
            serial: issued.serial_hex,
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let value = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = value
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim);
    token
        .filter(|token| !token.is_empty())
        .ok_or(Refusal::Caller(UnknownCaller::NoToken))
}

async fn read(body: Body) -> Result<(Profile, Csr), Refusal> {
    let bad = |text: &str| Refusal::BadRequest(text.to_owned());
    let arrived = tokio::time::timeout(ARRIVAL, to_bytes(body, MOST_REQUEST_BYTES)).await;
    let body = arrived.map_err(|_| bad("the request did not arrive in time"))?;
    let body = body.map_err(|_| bad("the request is too large or was cut off"))?;
    let wish: Wish = serde_json::from_slice(&body)
        .map_err(|error| Refusal::BadRequest(format!("the request: {error}")))?;
    let profile = wish
        .profile
        .parse()
        .map_err(|error| Refusal::BadRequest(format!("{error}")))?;
    let csr = Csr::parse(&wish.csr).map_err(|error| Refusal::BadRequest(error.to_string()))?;
    Ok((profile, csr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_counts() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert_eq!(bearer(&headers("Bearer abc")).unwrap(), "abc");
        for wrong in ["Basic abc", "Bearer ", "bearer"] {
            assert_eq!(
                bearer(&headers(wrong)).unwrap_err().status(),
                StatusCode::UNAUTHORIZED
            );
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_with_a_reason() {
        for (body, reason) in [
            ("", "EOF"),
            (r#"{"profile":"server"}"#, "csr"),
            (r#"{"profile":"root","csr":""}"#, "root"),
            (r#"{"profile":"server","csr":"x"}"#, "CERTIFICATE REQUEST"),
            (r#"{"profile":"server","csr":"x","names":["a"]}"#, "names"),
        ] {
            let refusal = read(Body::from(body)).await.unwrap_err();
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
            assert!(refusal.to_string().contains(reason), "{body}: {refusal}");
        }
        let long = "x".repeat(MOST_REQUEST_BYTES + 1);
        assert_eq!(
            read(Body::from(long)).await.unwrap_err().status(),
            StatusCode::BAD_REQUEST
        );
    }
}
