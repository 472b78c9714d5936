//! Names of streaming: those of prometheus-nats-exporter 0.16 and older (`collector/streaming.go`),
//! which newer ones no longer have. Per channel there is only what those names need, and for the
//! first 1024 channels, as the exporter does.

use serde_json::Value;

use super::Exposition;
use crate::monitor::{ChannelView, LockState, Monitor, Page, StreamingFigures, SubscriptionView};

/// Everything about streaming.
pub(super) async fn gather(
    page: &mut Exposition,
    monitor: &Monitor,
    figures: &StreamingFigures,
    lock: LockState,
) {
    let server = monitor.facts().server_name().to_owned();
    totals(page, monitor, figures, &server, lock).await;
    let channels = monitor.source.channels(Page::FIRST, true).await;
    let role = match lock {
        LockState::Active => "active",
        LockState::Standby | LockState::None => "standby",
    };
    channel_metrics(page, &server, role, &channels.items);
}

/// Newer exporters label the server `server_id`, older ones `server`; dashboards exist for both.
fn server_labels(server: &str) -> [(&str, &str); 2] {
    [("server", server), ("server_id", server)]
}

async fn totals(
    page: &mut Exposition,
    monitor: &Monitor,
    figures: &StreamingFigures,
    server: &str,
    lock: LockState,
) {
    let labels = server_labels(server);
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
    let info = monitor.serverz(|serverz| serde_json::to_value(serverz).unwrap_or_default());
    let info = info.await.unwrap_or_default();
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default();
    let labels = [
        ("server", server),
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
