//! HTTP monitoring on the port of `-m`: the documents of the NATS server and of streaming, and
//! `/lockz` for the sidecar. Shows state, never changes it; nothing here needs credentials.

mod documents;
mod process;
mod source;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::{Query, Request, State},
    http::{
        StatusCode,
        header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE},
    },
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::any,
};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::process::CpuMeter;
pub(crate) use self::{
    documents::{Facts, Identity},
    source::{
        ChannelView, ClientView, CoreFigures, FlushFigures, Listing, LockFigures, LockState,
        MonitorSource, Page, StreamingFigures, SubscriptionView,
    },
};

/// Paths that are answered and counted.
const PATHS: [&str; 10] = [
    "/",
    "/healthz",
    "/lockz",
    "/streaming",
    "/streaming/channelsz",
    "/streaming/clientsz",
    "/streaming/isFTActive",
    "/streaming/serverz",
    "/streaming/storez",
    "/varz",
];

/// Monitoring of one server, shared by the HTTP listener and the metrics.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) facts: Facts,
    pub(crate) source: Box<dyn MonitorSource>,
    /// Requests so far, in the order of `PATHS`.
    requests: [AtomicU64; PATHS.len()],
    cpu: CpuMeter,
}

impl Monitor {
    pub(crate) fn new(facts: Facts, source: Box<dyn MonitorSource>) -> Arc<Self> {
        Arc::new(Self {
            facts,
            source,
            requests: Default::default(),
            cpu: CpuMeter::new(),
        })
    }

    /// Serves until `token` is cancelled.
    ///
    /// # Errors
    /// The listener broke.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        token: CancellationToken,
    ) -> std::io::Result<()> {
        axum::serve(listener, self.router())
            .with_graceful_shutdown(token.cancelled_owned())
            .await
    }

    fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/", any(index))
            .route("/varz", any(varz))
            .route("/healthz", any(healthz))
            .route("/lockz", any(lockz))
            .route("/streaming", any(streaming_index))
            .route("/streaming/serverz", any(serverz))
            .route("/streaming/storez", any(storez))
            .route("/streaming/clientsz", any(clientsz))
            .route("/streaming/channelsz", any(channelsz))
            .route("/streaming/isFTActive", any(is_ft_active))
            .layer(middleware::from_fn_with_state(Arc::clone(&self), count))
            .with_state(self)
    }

    /// `/varz` as a value, for the metrics made from it.
    pub(crate) async fn varz(&self) -> Value {
        let core = self.source.core().await;
        let varz = self
            .facts
            .varz(core, self.cpu.percent(), self.request_counts());
        serde_json::to_value(varz).unwrap_or_default()
    }

    /// `/streaming/serverz` as a value, for the metrics made from it.
    pub(crate) async fn serverz(&self) -> Value {
        let lock = self.source.lock().await;
        let figures = self.source.streaming().await;
        serde_json::to_value(self.facts.serverz(figures, &lock)).unwrap_or_default()
    }

    fn request_counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self
            .requests
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        PATHS.into_iter().zip(counts).collect()
    }
}

type Shared = State<Arc<Monitor>>;
type Parameters = Query<HashMap<String, String>>;

async fn count(State(monitor): Shared, request: Request, next: Next) -> Response {
    if let Ok(index) = PATHS.binary_search(&request.uri().path()) {
        monitor.requests[index].fetch_add(1, Ordering::Relaxed);
    }
    next.run(request).await
}

async fn index() -> Html<&'static str> {
    Html(
        "<html lang=\"en\"><head><title>NATS server</title></head><body>\
         <a href=\"/varz\">varz</a><br/><a href=\"/healthz\">healthz</a><br/>\
         <a href=\"/lockz\">lockz</a><br/><a href=\"/streaming\">streaming</a>\
         </body></html>\n",
    )
}

async fn streaming_index() -> Html<&'static str> {
    Html(
        "<html lang=\"en\"><head><title>NATS Streaming</title></head><body>\
         <a href=\"/streaming/serverz\">server</a><br/><a href=\"/streaming/storez\">store</a><br/>\
         <a href=\"/streaming/clientsz\">clients</a><br/><a href=\"/streaming/channelsz\">channels</a>\
         </body></html>\n",
    )
}

async fn varz(State(monitor): Shared, Query(parameters): Parameters) -> Response {
    let core = monitor.source.core().await;
    let varz = monitor
        .facts
        .varz(core, monitor.cpu.percent(), monitor.request_counts());
    document(&varz, &parameters)
}

/// Compact, as the reference writes this one.
async fn healthz(State(monitor): Shared) -> Response {
    let (status, body) = match monitor.source.health().await {
        Ok(()) => (StatusCode::OK, "{\"status\":\"ok\"}".to_owned()),
        Err(reason) => {
            let reason = escape(&Value::from(reason).to_string());
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{{\"status\":\"unavailable\",\"error\":{reason}}}"),
            )
        }
    };
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn lockz(State(monitor): Shared) -> Response {
    let lock = monitor.source.lock().await;
    document(&lock, &HashMap::new())
}

async fn serverz(State(monitor): Shared, Query(parameters): Parameters) -> Response {
    let lock = monitor.source.lock().await;
    let figures = monitor.source.streaming().await;
    document(&monitor.facts.serverz(figures, &lock), &parameters)
}

async fn storez(State(monitor): Shared, Query(parameters): Parameters) -> Response {
    let figures = monitor.source.streaming().await;
    document(&monitor.facts.storez(figures), &parameters)
}

async fn clientsz(State(monitor): Shared, Query(parameters): Parameters) -> Response {
    let subscriptions = wants_subscriptions(&parameters);
    if let Some(id) = parameters.get("client").filter(|id| !id.is_empty()) {
        return match monitor.source.client(id.clone(), subscriptions).await {
            Some(client) => document(&client, &parameters),
            None => (StatusCode::NOT_FOUND, format!("Client {id} not found\n")).into_response(),
        };
    }
    let page = page(&parameters);
    let clients = monitor.source.clients(page, subscriptions).await;
    document(&monitor.facts.clientsz(page, clients), &parameters)
}

async fn channelsz(State(monitor): Shared, Query(parameters): Parameters) -> Response {
    let subscriptions = wants_subscriptions(&parameters);
    if let Some(name) = parameters.get("channel").filter(|name| !name.is_empty()) {
        return match monitor.source.channel(name.clone(), subscriptions).await {
            Some(channel) => document(&channel, &parameters),
            None => (StatusCode::NOT_FOUND, format!("Channel {name} not found\n")).into_response(),
        };
    }
    let page = page(&parameters);
    let facts = &monitor.facts;
    if subscriptions {
        let channels = monitor.source.channels(page, true).await;
        document(&facts.channelsz(page, channels), &parameters)
    } else {
        let names = monitor.source.channel_names(page).await;
        document(&facts.channel_names(page, names), &parameters)
    }
}

/// 204 counts as success with most probes; `/lockz` says more.
async fn is_ft_active(State(monitor): Shared) -> StatusCode {
    match monitor.source.lock().await.state {
        LockState::Active => StatusCode::OK,
        LockState::Standby | LockState::None => StatusCode::NO_CONTENT,
    }
}

fn wants_subscriptions(parameters: &HashMap<String, String>) -> bool {
    parameters.get("subs").is_some_and(|subs| subs == "1")
}

/// What is no number counts as not given, what is out of range as the default.
fn page(parameters: &HashMap<String, String>) -> Page {
    let number = |name| parameters.get(name)?.parse::<usize>().ok();
    Page {
        offset: number("offset").unwrap_or(0),
        limit: number("limit")
            .filter(|limit| *limit > 0)
            .unwrap_or(Page::DEFAULT_LIMIT),
    }
}

/// JSON with an indent of two, or a call of the function that `callback` names.
fn document(content: &impl Serialize, parameters: &HashMap<String, String>) -> Response {
    let text = match serde_json::to_string_pretty(content) {
        Ok(text) => escape(&text),
        Err(error) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
    };
    let Some(callback) = parameters
        .get("callback")
        .filter(|callback| !callback.is_empty())
    else {
        return (
            [
                (CONTENT_TYPE, "application/json"),
                (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            ],
            text,
        )
            .into_response();
    };
    // Anything else would run as script on the page that asked.
    if !callback
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte))
    {
        return (StatusCode::BAD_REQUEST, "invalid callback\n").into_response();
    }
    (
        [(CONTENT_TYPE, "application/javascript")],
        format!("{callback}({text})"),
    )
        .into_response()
}

/// As Go's encoder does. In JSON these characters stand only inside of strings.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for next in text.chars() {
        match next {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}
