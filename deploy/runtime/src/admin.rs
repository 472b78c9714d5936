//! The admin listener: probes for the kubelet, metrics for Prometheus.
//!
//! Readiness and start-up are handed out as named handles, one a component. A probe answers 200 and
//! `ok` when all its handles are set, else 503 with the names of those that are not, and why.

use std::{
    fmt::Write as _,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Limits};

/// Probes and scrapes are few and small; the bounds are there for strangers.
const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(5),
    head: Duration::from_secs(10),
    max_connections: 64,
    drain: Duration::from_millis(200),
};

/// Answers `/livez`, `/readyz`, `/startupz` and `/metrics`, and what the program adds.
#[derive(Debug)]
pub struct AdminServer {
    registry: Registry,
    startup: Conditions,
    readiness: Conditions,
    extra: Router,
}

impl AdminServer {
    /// `/metrics` shows what `registry` gathers.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            startup: Conditions::default(),
            readiness: Conditions::default(),
            extra: Router::new(),
        }
    }

    /// A condition of `/readyz`, not met until it is set.
    pub fn readiness(&self, name: &str) -> ReadyHandle {
        self.readiness.add(name)
    }

    /// A condition of `/startupz`, not met until it is set. Start-up is over for good, so a holder
    /// sets it once and never takes it back.
    pub fn startup(&self, name: &str) -> ReadyHandle {
        self.startup.add(name)
    }

    /// Adds routes of the program's own. Handlers find the peer as `ConnectInfo<SocketAddr>`.
    ///
    /// # Panics
    /// When a path is one of the four of this listener.
    pub fn merge(&mut self, routes: Router) {
        let extra = std::mem::take(&mut self.extra);
        self.extra = extra.merge(routes);
    }

    /// Serves until `token` is cancelled. The listener is bound by the caller, so that a port in use
    /// is an error at start.
    pub async fn serve(self, listener: TcpListener, token: CancellationToken) {
        http::serve(listener, self.router(), LIMITS, token, |stream| {
            ready(Ok(stream))
        })
        .await;
    }

    fn router(self) -> Router {
        let Self {
            registry,
            startup,
            readiness,
            extra,
        } = self;
        Router::new()
            .route("/livez", get(|| ready("ok")))
            .route("/startupz", get(move || ready(startup.answer())))
            .route("/readyz", get(move || ready(readiness.answer())))
            .route("/metrics", get(move || ready(metrics(&registry))))
            .merge(extra)
    }
}

fn metrics(registry: &Registry) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// One condition of a probe, held by the component that knows it. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct ReadyHandle {
    conditions: Conditions,
    index: usize,
}

impl ReadyHandle {
    /// Sets whether the condition is met.
    pub fn set(&self, ready: bool) {
        self.store(ready, String::new());
    }

    /// As [`set`](Self::set), with a reason that the probe shows while the condition is not met. No
    /// secrets: probes are readable by anyone who reaches the port.
    pub fn set_with_reason(&self, ready: bool, reason: impl Into<String>) {
        self.store(ready, reason.into());
    }

    fn store(&self, ready: bool, reason: String) {
        let mut all = self
            .conditions
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let condition = &mut all[self.index];
        condition.ready = ready;
        condition.reason = reason;
    }
}

/// The conditions of one probe; never removed, so an index stays good.
#[derive(Clone, Debug, Default)]
struct Conditions(Arc<Mutex<Vec<Condition>>>);

#[derive(Debug)]
struct Condition {
    name: String,
    ready: bool,
    reason: String,
}

impl Conditions {
    fn add(&self, name: &str) -> ReadyHandle {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Condition {
            name: name.to_owned(),
            ready: false,
            reason: String::new(),
        });
        ReadyHandle {
            conditions: self.clone(),
            index: all.len() - 1,
        }
    }

    fn answer(&self) -> (StatusCode, String) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = String::new();
        for condition in all.iter().filter(|condition| !condition.ready) {
            missing.push_str(&condition.name);
            if !condition.reason.is_empty() {
                let _ = write!(missing, ": {}", condition.reason);
            }
            missing.push('\n');
        }
        if missing.is_empty() {
            (StatusCode::OK, "ok".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, missing)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;
    use prometheus::IntCounter;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_name_what_is_missing_and_metrics_are_served() {
        let registry = Registry::new();
        let counter = IntCounter::new("things_total", "Things.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        let mut admin = AdminServer::new(registry);
        let certificate = admin.readiness("certificate");
        let store = admin.readiness("store");
        let started = admin.startup("first generation");
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| ready(peer.ip().to_string());
        admin.merge(Router::new().route("/peer", get(peer)));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = CancellationToken::new();
        let server = tokio::spawn(admin.serve(listener, token.clone()));

        assert!(fetch(address, "/livez").await.ends_with("\r\n\r\nok"));
        assert!(
            fetch(address, "/startupz")
                .await
                .starts_with("HTTP/1.1 503")
        );
        started.set(true);
        assert!(fetch(address, "/startupz").await.ends_with("\r\n\r\nok"));

        certificate.set(true);
        store.set_with_reason(false, "lock lost");
        assert!(
            fetch(address, "/readyz")
                .await
                .ends_with("\r\n\r\nstore: lock lost\n")
        );
        store.set(true);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        assert!(
            fetch(address, "/metrics")
                .await
                .contains("\nthings_total 1\n")
        );
        assert!(fetch(address, "/peer").await.ends_with("127.0.0.1"));

        // An idle keep-alive connection must not hold up the stop.
        let _idle = TcpStream::connect(address).await.unwrap();
        token.cancel();
        tokio::time::timeout(Duration::from_secs(30), server)
            .await
            .unwrap()
            .unwrap();
    }
}
