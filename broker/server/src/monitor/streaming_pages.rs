//! Pages of streaming, and `/lockz` for the sidecar.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{Html, Response},
    routing::any,
};

use super::{
    Monitor, Shared,
    answer::{document, document_or_call, refusal},
    documents::Serverz,
    facts::StreamingFacts,
    parameters::Parameters,
    source::{LockState, Page},
};

/// Pages below `base`, for a server that has streaming.
pub(super) fn routes(base: &str) -> Router<Arc<Monitor>> {
    let path = |page: &str| format!("{base}{page}");
    Router::new()
        .without_v07_checks()
        .route(&path("/lockz"), any(lockz))
        .route(&path("/streaming"), any(index))
        .route(&path("/streaming/serverz"), any(serverz))
        .route(&path("/streaming/storez"), any(storez))
        .route(&path("/streaming/clientsz"), any(clientsz))
        .route(&path("/streaming/channelsz"), any(channelsz))
        .route(&path("/streaming/isFTActive"), any(is_ft_active))
}

impl Monitor {
    /// `/streaming/serverz`; `None` without streaming.
    pub(crate) async fn serverz<R>(&self, use_it: impl FnOnce(&Serverz<'_>) -> R) -> Option<R> {
        let lock = self.source.lock().await;
        let figures = self.source.streaming().await;
        let facts = self.facts();
        let streaming = facts.streaming.as_ref()?;
        Some(use_it(&streaming.serverz(figures, &lock, &self.running)))
    }
}

async fn index(State(monitor): Shared) -> Html<String> {
    let base = &monitor.facts().http.base_path;
    let link = |page: &str, name: &str| format!("<a href=\"{base}/streaming/{page}\">{name}</a>");
    let links = [
        link("serverz", "server"),
        link("storez", "store"),
        link("clientsz", "clients"),
        link("channelsz", "channels"),
    ];
    Html(format!(
        "<html lang=\"en\"><head><title>NATS Streaming</title></head><body>{}</body></html>\n",
        links.join("<br/>")
    ))
}

async fn lockz(State(monitor): Shared) -> Response {
    document(&monitor.source.lock().await)
}

/// A reload does not take streaming away, so a request that came here finds its facts.
fn not_streaming() -> Response {
    refusal(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

async fn serverz(State(monitor): Shared, parameters: Parameters) -> Response {
    let callback = parameters.text("callback");
    let answer = monitor.serverz(|serverz| document_or_call(serverz, callback));
    answer.await.unwrap_or_else(not_streaming)
}

async fn storez(State(monitor): Shared, parameters: Parameters) -> Response {
    let figures = monitor.source.streaming().await;
    with_facts(&monitor, |facts| {
        document_or_call(&facts.storez(figures), parameters.text("callback"))
    })
}

async fn clientsz(State(monitor): Shared, parameters: Parameters) -> Response {
    let callback = parameters.text("callback");
    let subscriptions = parameters.text("subs") == Some("1");
    if let Some(id) = parameters.text("client") {
        return match monitor.source.client(id.to_owned(), subscriptions).await {
            Some(client) => document_or_call(&client, callback),
            None => refusal(StatusCode::NOT_FOUND, format!("Client {id} not found\n")),
        };
    }
    let page = page(&parameters);
    let clients = monitor.source.clients(page, subscriptions).await;
    with_facts(&monitor, |facts| {
        document_or_call(&facts.clientsz(page, clients), callback)
    })
}

async fn channelsz(State(monitor): Shared, parameters: Parameters) -> Response {
    let callback = parameters.text("callback");
    let subscriptions = parameters.text("subs") == Some("1");
    if let Some(name) = parameters.text("channel") {
        return match monitor.source.channel(name.to_owned(), subscriptions).await {
            Some(channel) => document_or_call(&channel, callback),
            None => refusal(StatusCode::NOT_FOUND, format!("Channel {name} not found\n")),
        };
    }
    let page = page(&parameters);
    if subscriptions {
        let channels = monitor.source.channels(page, true).await;
        with_facts(&monitor, |facts| {
            document_or_call(&facts.channelsz(page, channels), callback)
        })
    } else {
        let names = monitor.source.channel_names(page).await;
        with_facts(&monitor, |facts| {
            document_or_call(&facts.channel_names(page, names), callback)
        })
    }
}

/// 204 counts as success with most probes; `/lockz` says more.
async fn is_ft_active(State(monitor): Shared) -> StatusCode {
    match monitor.source.lock().await.state {
        LockState::Active => StatusCode::OK,
        LockState::Standby | LockState::None => StatusCode::NO_CONTENT,
    }
}

fn with_facts(monitor: &Monitor, answer: impl FnOnce(&StreamingFacts) -> Response) -> Response {
    match &monitor.facts().streaming {
        Some(facts) => answer(facts),
        None => not_streaming(),
    }
}

/// What is no number counts as not given, what is out of range as the default.
fn page(parameters: &Parameters) -> Page {
    let number = |name| parameters.text(name)?.parse::<usize>().ok();
    Page {
        offset: number("offset").unwrap_or(0),
        limit: number("limit")
            .filter(|limit| *limit > 0)
            .unwrap_or(Page::DEFAULT_LIMIT),
    }
}
