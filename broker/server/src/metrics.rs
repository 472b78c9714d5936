//! Prometheus metrics on a port of their own, gathered from the same source as HTTP monitoring when
//! they are scraped.
//!
//! Names are those of prometheus-nats-exporter, so that dashboards made for it keep working without
//! it: `gnatsd_varz_*` (`collector/collector.go`: every number of the document, flattened) and
//! `nss_*` (`collector/streaming.go`, exporter 0.16 and older). What is our own starts with
//! `stanchion_`. Per channel there is only what those names need, and for the first 1024 channels, as
//! the exporter does.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::monitor::{ChannelView, LockState, Monitor, Page, SubscriptionView};

/// Version 0.0.4 of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Strings of `/varz` that the exporter shows.
const SHOWN_STRINGS: [&str; 3] = ["server_id", "server_name", "version"];

/// Times of `/varz` that the exporter shows, as milliseconds since the Unix epoch.
const SHOWN_TIMES: [&str; 2] = ["start", "config_load_time"];

/// Serves `/metrics` until `token` is cancelled.
///
/// # Errors
/// The listener broke.
pub(crate) async fn serve(
    monitor: Arc<Monitor>,
    listener: TcpListener,
    token: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(monitor);
    axum::serve(listener, router)
        .with_graceful_shutdown(token.cancelled_owned())
        .await
}

async fn metrics(State(monitor): State<Arc<Monitor>>) -> Response {
    let text = gather(&monitor).await;
    ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response()
}

async fn gather(monitor: &Monitor) -> String {
    let mut page = Exposition::default();
    varz(&mut page, monitor).await;
    let lock = monitor.source.lock().await.state;
    streaming(&mut page, monitor, lock).await;
    let channels = monitor.source.channels(Page::FIRST, true).await;
    let role = match lock {
        LockState::Active => "active",
        LockState::Standby | LockState::None => "standby",
    };
    let server = monitor.facts.server_name();
    channel_metrics(&mut page, server, role, &channels.items);
    own(&mut page, monitor, lock).await;
    page.text
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

async fn varz(page: &mut Exposition, monitor: &Monitor) {
    let labels = [("server_id", monitor.facts.server_name())];
    flatten(page, "gnatsd_varz", &monitor.varz().await, &labels);
}

fn flatten(page: &mut Exposition, prefix: &str, document: &Value, labels: &[(&str, &str)]) {
    let Some(fields) = document.as_object() else {
        return;
    };
    for (key, value) in fields {
        let name = format!("{prefix}_{}", key.strip_prefix('/').unwrap_or(key))
            .replace(['/', '-', '.'], "_");
        match value {
            Value::Number(number) => page.add("gauge", &name, "", labels, number),
            Value::Object(_) => flatten(page, &name, value, labels),
            Value::String(text) if SHOWN_STRINGS.contains(&key.as_str()) => {
                let labels: Vec<_> = labels
                    .iter()
                    .copied()
                    .chain([("value", text.as_str())])
                    .collect();
                page.add("gauge", &name, "", &labels, 1);
            }
            Value::String(text) if SHOWN_TIMES.contains(&key.as_str()) => {
                if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
                    page.add(
                        "gauge",
                        &name,
                        "",
                        labels,
                        time.unix_timestamp_nanos() / 1_000_000,
                    );
                }
            }
            Value::String(_) | Value::Bool(_) | Value::Null | Value::Array(_) => {}
        }
    }
}

/// Newer exporters label the server `server_id`, older ones `server`; dashboards exist for both.
fn server_labels(server: &str) -> [(&str, &str); 2] {
    [("server", server), ("server_id", server)]
}

async fn streaming(page: &mut Exposition, monitor: &Monitor, lock: LockState) {
    let figures = monitor.source.streaming().await;
    let labels = server_labels(monitor.facts.server_name());
    for (name, value) in [
        ("nss_server_bytes_total", figures.total_bytes),
        ("nss_server_msgs_total", figures.total_msgs),
        ("nss_server_bytes_in", figures.in_bytes),
        ("nss_server_bytes_out", figures.out_bytes),
        ("nss_server_msgs_in", figures.in_msgs),
        ("nss_server_msgs_out", figures.out_msgs),
        ("nss_server_channels", figures.channels),
        ("nss_server_subscriptions", figures.subscriptions),
        ("nss_server_clients", figures.clients),
        ("nss_server_active", u64::from(lock == LockState::Active)),
    ] {
        page.add("gauge", name, "", &labels, value);
    }
    let info = monitor.serverz().await;
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default();
    let labels = [
        ("server", monitor.facts.server_name()),
        ("server_id", text("server_id")),
        ("cluster_id", text("cluster_id")),
        ("version", text("version")),
        ("go_version", text("go")),
        ("state", text("state")),
        ("role", text("role")),
        ("start_time", text("start_time")),
    ];
    page.add("gauge", "nss_server_info", "", &labels, 1);
}

fn channel_metrics(page: &mut Exposition, server: &str, role: &str, channels: &[ChannelView]) {
    type OfChannel = fn(&ChannelView) -> u64;
    let of_channel: [(&str, OfChannel); 3] = [
        ("nss_chan_bytes_total", |channel| channel.bytes),
        ("nss_chan_msgs_total", |channel| channel.msgs),
        ("nss_chan_last_seq", |channel| channel.last_seq),
    ];
    let [old_label, new_label] = server_labels(server);
    for (name, value) in of_channel {
        for channel in channels {
            let labels = [
                old_label,
                new_label,
                ("server_role", role),
                ("channel", channel.name.as_str()),
            ];
            page.add("gauge", name, "", &labels, value(channel));
        }
    }
    type OfSubscription = fn(&SubscriptionView) -> i64;
    let of_subscription: [(&str, OfSubscription); 3] = [
        ("nss_chan_subs_last_sent", |sub| sub.last_sent.cast_signed()),
        ("nss_chan_subs_pending_count", |sub| {
            i64::try_from(sub.pending_count).unwrap_or(i64::MAX)
        }),
        ("nss_chan_subs_max_inflight", |sub| {
            i64::from(sub.max_inflight)
        }),
    ];
    for (name, value) in of_subscription {
        for channel in channels {
            for sub in &channel.subscriptions {
                let labels = [
                    old_label,
                    new_label,
                    ("server_role", role),
                    ("channel", channel.name.as_str()),
                    ("client_id", sub.client_id.as_str()),
                    ("inbox", sub.inbox.as_str()),
                    ("queue_name", sub.queue_name.as_str()),
                    ("is_durable", if sub.is_durable { "true" } else { "false" }),
                    ("is_offline", if sub.is_offline { "true" } else { "false" }),
                    ("durable_name", sub.durable_name.as_str()),
                ];
                page.add("gauge", name, "", &labels, value(sub));
            }
        }
    }
}

async fn own(page: &mut Exposition, monitor: &Monitor, lock: LockState) {
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
    page.add(
        "gauge",
        "stanchion_build_info",
        "",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::tests::{get as fetch, sample_monitor};

    #[tokio::test]
    async fn every_name_has_one_type_line_and_its_samples_follow_it() {
        let monitor = sample_monitor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = CancellationToken::new();
        let server = tokio::spawn(serve(monitor, listener, token.clone()));
        let answer = fetch(address, "/metrics").await;
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .head
                .contains("content-type: text/plain; version=0.0.4"),
            "{}",
            answer.head
        );

        let mut seen = std::collections::HashSet::new();
        let mut current = "";
        for line in answer.body.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                current = typed.split(' ').next().unwrap();
                assert!(seen.insert(current), "{current} twice");
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(
                    name == current
                        || name.trim_end_matches("_sum").trim_end_matches("_count") == current,
                    "{line}"
                );
            }
        }
        for expected in [
            "gnatsd_varz_connections{server_id=\"n1\"} 2\n",
            "gnatsd_varz_server_name{server_id=\"n1\",value=\"n1\"} 1\n",
            "gnatsd_varz_http_req_stats_streaming_serverz{server_id=\"n1\"} 0\n",
            "gnatsd_varz_in_msgs{server_id=\"n1\"} 10\n",
            "nss_server_msgs_total{server=\"n1\",server_id=\"n1\"} 30\n",
            "nss_server_active{server=\"n1\",server_id=\"n1\"} 1\n",
            "nss_chan_last_seq{server=\"n1\",server_id=\"n1\",server_role=\"active\",channel=\"a\\\"b\"} 9\n",
            "nss_chan_subs_pending_count{server=\"n1\",server_id=\"n1\",server_role=\"active\",channel=\"foo\",client_id=\"me\",inbox=\"_INBOX.1\",queue_name=\"dur:grp\",is_durable=\"true\",is_offline=\"false\",durable_name=\"\"} 3\n",
            "stanchion_store_lock{state=\"active\"} 1\n",
            "stanchion_store_lock{state=\"standby\"} 0\n",
            "stanchion_store_flush_seconds_sum 0.5\n",
            "stanchion_store_flush_seconds_count 4\n",
            "stanchion_store_rows_flushed_total 7\n",
        ] {
            assert!(
                answer.body.contains(expected),
                "{expected} in\n{}",
                answer.body
            );
        }
        assert!(
            answer
                .body
                .contains("gnatsd_varz_start{server_id=\"n1\"} 1"),
            "{}",
            answer.body
        );
        token.cancel();
        server.await.unwrap().unwrap();
    }
}
