//! HTTP monitoring on the port of `-m`: the documents of the NATS server and of streaming, and
//! `/lockz` for the sidecar. Shows state, never changes it; nothing here needs credentials, and
//! nothing shown is a secret.
//!
//! What the server does not have, it has no page for, other than those that tools poll anyway and
//! that then say that there is nothing.

mod answer;
pub(crate) mod details;
mod documents;
pub(crate) mod facts;
mod parameters;
mod process;
mod server_pages;
mod source;
mod streaming_pages;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{FromRequestParts, Query, Request, State},
    http::{StatusCode, request::Parts},
    middleware::{self, Next},
    response::Response,
};
use certs::{
    reload::{ReloadError, ServerTls},
    settings::TlsSettings,
};
use deploy_runtime::{Limits, tls_serve};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{answer::refusal, details::ServerDetails, parameters::Parameters, process::Running};
pub(crate) use self::{
    documents::{ConnzQuery, SubszQuery},
    facts::{Facts, Identity},
    source::{
        ChannelView, ClientView, CoreFigures, FlushFigures, Health, KindCounts, Listing,
        LockFigures, LockState, MonitorSource, Page, StreamingFigures, SubscriptionView,
    },
};

/// Bounds of the monitoring and metrics listeners: those who ask are few, the rest are strangers.
pub(crate) const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(5),
    head: Duration::from_secs(10),
    max_connections: 256,
    drain: Duration::from_millis(500),
};

/// For one answer, which waits for the threads that own the data.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Paths that are counted, without the base path; sorted.
const PATHS: [&str; 19] = [
    "/",
    "/accountz",
    "/accstatz",
    "/connz",
    "/gatewayz",
    "/healthz",
    "/jsz",
    "/leafz",
    "/lockz",
    "/routez",
    "/streaming",
    "/streaming/channelsz",
    "/streaming/clientsz",
    "/streaming/isFTActive",
    "/streaming/serverz",
    "/streaming/storez",
    "/subscriptionsz",
    "/subsz",
    "/varz",
];

/// TLS of the monitoring listener, from that of the client port. Probes and scrapers have no
/// certificates, so they are not asked for any, whatever clients of the NATS protocol have to show.
///
/// # Errors
/// The files cannot be used.
pub(crate) fn https(client_port: &TlsSettings) -> Result<Arc<ServerTls>, ReloadError> {
    let settings = TlsSettings {
        verify: false,
        pinned_certs: Vec::new(),
        ..client_port.clone()
    };
    ServerTls::load(settings).map(Arc::new)
}

/// Monitoring of one server, shared by the HTTP listener and the metrics.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// Held to copy the pointer or to replace it, never longer.
    facts: RwLock<Arc<Facts>>,
    pub(crate) source: Box<dyn MonitorSource>,
    /// Requests so far, in the order of `PATHS`.
    requests: [AtomicU64; PATHS.len()],
    running: Running,
}

impl Monitor {
    /// Takes the present moment as that of the server's start.
    pub(crate) fn new(facts: Facts, source: Box<dyn MonitorSource>) -> Arc<Self> {
        Arc::new(Self {
            facts: RwLock::new(Arc::new(facts)),
            source,
            requests: Default::default(),
            running: Running::begin(),
        })
    }

    /// What is known without asking.
    pub(crate) fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows another configuration from now on. Which pages there are, and below which path, stays.
    pub(crate) fn reloaded(&self, facts: Facts) {
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
    }

    /// Serves HTTP until `token` is cancelled.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, token: CancellationToken) {
        deploy_runtime::serve(listener, self.router(), LIMITS, token, |stream| {
            ready(Ok(stream))
        })
        .await;
    }

    /// Serves HTTPS until `token` is cancelled, with what [`https`] has loaded.
    pub(crate) async fn serve_tls(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<ServerTls>,
        token: CancellationToken,
    ) {
        let current = move || tls.current();
        tls_serve::serve(listener, self.router(), current, LIMITS, token).await;
    }

    fn router(self: Arc<Self>) -> Router {
        let facts = self.facts();
        // A base path is literal, whatever the router would read into it.
        let base = &facts.http.base_path.replace('{', "{{").replace('}', "}}");
        let mut router = server_pages::routes(base);
        if self.source.details().is_some() {
            router = router.merge(server_pages::detailed(base));
        }
        if facts.streaming.is_some() {
            router = router.merge(streaming_pages::routes(base));
        }
        router
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(Arc::clone(&self), watch))
            .with_state(self)
    }

    /// For pages that are only there with it.
    fn details(&self) -> &dyn ServerDetails {
        self.source
            .details()
            .expect("a source that has details keeps them")
    }

    /// Paths that were asked for at all, as nats-server shows them.
    fn request_counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self
            .requests
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        PATHS
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

type Shared = State<Arc<Monitor>>;

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        // Nats-server skips what it cannot decode; what we cannot is no more than that.
        Ok(pairs.map(Into::into).unwrap_or_default())
    }
}

/// Counts a request and bounds its time.
async fn watch(State(monitor): Shared, request: Request, next: Next) -> Response {
    let facts = monitor.facts();
    let path = request.uri().path();
    if let Some(path) = path.strip_prefix(facts.http.base_path.as_str()) {
        let path = if path.is_empty() { "/" } else { path };
        if let Ok(index) = PATHS.binary_search(&path) {
            monitor.requests[index].fetch_add(1, Ordering::Relaxed);
        }
    }
    timeout(REQUEST_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| {
            let text = "the server does not answer\n".to_owned();
            refusal(StatusCode::SERVICE_UNAVAILABLE, text)
        })
}

async fn not_found() -> Response {
    refusal(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}
