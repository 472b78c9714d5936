//! Pages of the NATS server.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{Html, Response},
    routing::any,
};
use serde::Serialize;

use super::{
    Monitor, Shared,
    answer::{compact, document},
    details::{AccountFigures, ConnectionFigures, ServerDetails, SubscriptionQuery},
    documents::{
        Accountz, Accstatz, Connz, ConnzQuery, Gatewayz, Jsz, Leafz, Routez, Subscriptions, Subsz,
        SubszQuery, Varz, add_subscriptions,
    },
    facts::Facts,
    parameters::{ParameterError, Parameters},
    source::Health,
};

/// What `/healthz` says when new clients are refused, in the words of nats-server, which waits this
/// long for its listeners.
const NOT_ACCEPTING: &str = "failed to be ready for connections after 1ms: server";

/// Parameters of `/healthz` that ask about JetStream. There is none, so that only their form counts.
const HEALTH_PARAMETERS: [&str; 5] = [
    "js-enabled",
    "js-enabled-only",
    "js-server-only",
    "js-meta-only",
    "details",
];

/// An answer, or what is wrong with the request.
type Answer = Result<Response, ParameterError>;

/// Pages below `base` that need no more than counters.
pub(super) fn routes(base: &str) -> Router<Arc<Monitor>> {
    let path = |page: &str| format!("{base}{page}");
    let root = if base.is_empty() { "/" } else { base };
    Router::new()
        .without_v07_checks()
        .route(root, any(index))
        .route(&path("/varz"), any(varz))
        .route(&path("/healthz"), any(healthz))
        .route(&path("/gatewayz"), any(gatewayz))
        .route(&path("/leafz"), any(leafz))
        .route(&path("/jsz"), any(jsz))
}

/// Pages below `base` that show single connections, routes, subscriptions and accounts.
pub(super) fn detailed(base: &str) -> Router<Arc<Monitor>> {
    let path = |page: &str| format!("{base}{page}");
    Router::new()
        .without_v07_checks()
        .route(&path("/connz"), any(connz))
        .route(&path("/routez"), any(routez))
        .route(&path("/subsz"), any(subsz))
        .route(&path("/subscriptionsz"), any(subsz))
        .route(&path("/accountz"), any(accountz))
        .route(&path("/accstatz"), any(accstatz))
}

impl Monitor {
    /// `/varz`.
    pub(crate) async fn varz<R>(&self, use_it: impl FnOnce(&Varz<'_>) -> R) -> R {
        let core = self.source.core().await;
        let facts = self.facts();
        use_it(&Varz::new(
            &facts,
            core,
            &self.running,
            self.request_counts(),
        ))
    }

    /// The page of connections that a query asks for, and how many there are.
    pub(crate) async fn connections(
        &self,
        details: &dyn ServerDetails,
        query: &ConnzQuery,
    ) -> (u64, Vec<ConnectionFigures>) {
        let list = details.connections(query.connections()).await;
        let (total, mut page) = query.select(list, SystemTime::now());
        if let Some(again) = query.subscriptions_of(&page) {
            add_subscriptions(&mut page, details.connections(again).await);
        }
        (total, page)
    }

    /// `/subsz`.
    pub(crate) async fn subsz<R>(
        &self,
        details: &dyn ServerDetails,
        query: &SubszQuery,
        use_it: impl FnOnce(&Subsz<'_>) -> R,
    ) -> R {
        let asked = SubscriptionQuery {
            account: query.account.clone(),
            list: query.list,
            subject: query.test.clone(),
        };
        let figures = details.subscriptions(asked).await;
        use_it(&Subsz::new(&self.facts(), query, figures))
    }
}

async fn index(State(monitor): Shared) -> Html<String> {
    let facts = monitor.facts();
    // Relative links lead to the right place behind a proxy that has a path of its own.
    let base = facts.http.base_path.rsplit('/').next().unwrap_or_default();
    let link = |&page: &&str| {
        if base.is_empty() {
            format!("<a href=./{page}>{page}</a>")
        } else {
            format!("<a href=./{base}/{page}>{page}</a>")
        }
    };
    let mut pages = vec!["varz", "jsz"];
    if monitor.source.details().is_some() {
        pages.extend(["connz", "accountz", "accstatz", "subsz", "routez"]);
    }
    pages.extend(["leafz", "gatewayz", "healthz"]);
    if facts.streaming.is_some() {
        pages.extend(["lockz", "streaming"]);
    }
    let links: Vec<_> = pages.iter().map(link).collect();
    Html(format!(
        "<html lang=\"en\"><head><title>NATS server</title></head><body>{}</body></html>\n",
        links.join("<br/>")
    ))
}

async fn varz(State(monitor): Shared) -> Response {
    monitor.varz(|varz| document(varz)).await
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

async fn healthz(State(monitor): Shared, parameters: Parameters) -> Answer {
    for name in HEALTH_PARAMETERS {
        parameters.boolean(name)?;
    }
    let answer = |code, status, error| compact(code, &Status { status, error });
    Ok(match monitor.source.health().await {
        Health::Serving => answer(StatusCode::OK, "ok", ""),
        Health::NotAccepting => answer(StatusCode::INTERNAL_SERVER_ERROR, "error", NOT_ACCEPTING),
    })
}

async fn connz(State(monitor): Shared, parameters: Parameters) -> Answer {
    let query = parameters.connz()?;
    let details = monitor.details();
    let page = monitor.connections(details, &query).await;
    Ok(document(&Connz::new(&monitor.facts(), &query, page)))
}

async fn routez(State(monitor): Shared, parameters: Parameters) -> Answer {
    let shown = parameters.subscriptions()?;
    let mut routes = monitor
        .details()
        .routes(shown != Subscriptions::Count)
        .await;
    Ok(document(&Routez::new(&monitor.facts(), &mut routes, shown)))
}

async fn subsz(State(monitor): Shared, parameters: Parameters) -> Answer {
    let query = parameters.subsz()?;
    let details = monitor.details();
    Ok(monitor
        .subsz(details, &query, |subsz| document(subsz))
        .await)
}

async fn accountz(State(monitor): Shared, parameters: Parameters) -> Answer {
    let accounts: Vec<AccountFigures> = monitor.details().accounts().await;
    let facts: Arc<Facts> = monitor.facts();
    Ok(match parameters.text("acc") {
        None => document(&Accountz::names(&facts, &accounts)),
        Some(name) => {
            let detail = Accountz::detail(&facts, &accounts, name);
            document(&detail.ok_or_else(|| ParameterError::Account(name.to_owned()))?)
        }
    })
}

async fn accstatz(State(monitor): Shared, parameters: Parameters) -> Answer {
    let unused = parameters.boolean("unused")?;
    let mut accounts = monitor.details().accounts().await;
    Ok(document(&Accstatz::new(
        &monitor.facts(),
        &mut accounts,
        unused,
    )))
}

async fn gatewayz(State(monitor): Shared, parameters: Parameters) -> Answer {
    parameters.boolean("accs")?;
    Ok(document(&Gatewayz::new(&monitor.facts())))
}

async fn leafz(State(monitor): Shared, parameters: Parameters) -> Answer {
    parameters.boolean("subs")?;
    Ok(document(&Leafz::new(&monitor.facts())))
}

async fn jsz(State(monitor): Shared) -> Response {
    document(&Jsz::new(&monitor.facts()))
}
