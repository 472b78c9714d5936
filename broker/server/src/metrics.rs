//! Prometheus metrics on a port of their own, gathered from the same source as HTTP monitoring when
//! they are scraped.
//!
//! Names are those of prometheus-nats-exporter, so that dashboards made for it keep working without
//! it; what is our own starts with `stanchion_`.

mod server;
mod streaming;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, future::ready, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::monitor::{self, LockState, Monitor};

/// Version 0.0.4 of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// For one page, which waits for the threads that own the data. Prometheus waits as long.
const GATHER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `/metrics` until `token` is cancelled.
pub(crate) async fn serve(monitor: Arc<Monitor>, listener: TcpListener, token: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(monitor);
    deploy_runtime::serve(listener, router, monitor::LIMITS, token, |stream| {
        ready(Ok(stream))
    })
    .await;
}

async fn metrics(State(monitor): State<Arc<Monitor>>) -> Response {
    match timeout(GATHER_TIMEOUT, gather(&monitor)).await {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the server does not answer\n",
        )
            .into_response(),
    }
}

async fn gather(monitor: &Monitor) -> String {
    let mut page = Exposition::default();
    server::gather(&mut page, monitor).await;
    if monitor.facts().streaming.is_some() {
        let lock = monitor.source.lock().await.state;
        let figures = monitor.source.streaming().await;
        streaming::gather(&mut page, monitor, &figures, lock).await;
        store(&mut page, monitor, lock).await;
        page.add(
            "counter",
            "stanchion_store_corrupt_rows_total",
            "",
            &[],
            figures.corrupt_rows,
        );
    }
    page.add(
        "gauge",
        "stanchion_build_info",
        "",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    page.text
}

/// What the store does, and whose it is.
async fn store(page: &mut Exposition, monitor: &Monitor, lock: LockState) {
    for state in LockState::ALL {
        let labels = [("state", state.name())];
        page.add(
            "gauge",
            "stanchion_store_lock",
            "",
            &labels,
            u8::from(state == lock),
        );
    }
    let flushes = monitor.source.flushes().await;
    page.add(
        "counter",
        "stanchion_store_flushes_total",
        "",
        &[],
        flushes.flushes,
    );
    page.add(
        "summary",
        "stanchion_store_flush_seconds",
        "_sum",
        &[],
        flushes.seconds,
    );
    page.add(
        "summary",
        "stanchion_store_flush_seconds",
        "_count",
        &[],
        flushes.flushes,
    );
    page.add(
        "counter",
        "stanchion_store_rows_flushed_total",
        "",
        &[],
        flushes.rows,
    );
}

/// Text in the exposition format. Samples of one name must be added together.
#[derive(Default)]
struct Exposition {
    text: String,
    last: String,
}

impl Exposition {
    /// `kind` is `gauge`, `counter` or `summary`; `suffix` is what a summary's parts add to its name.
    fn add(
        &mut self,
        kind: &str,
        name: &str,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        if self.last != name {
            name.clone_into(&mut self.last);
            self.write(format_args!("# TYPE {name} {kind}\n"));
        }
        self.write(format_args!("{name}{suffix}"));
        for (index, (label, content)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            self.write(format_args!(
                "{opening}{label}=\"{}\"",
                label_value(content)
            ));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{closing} {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(text)
            .expect("writing to a string does not fail");
    }
}

fn label_value(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
