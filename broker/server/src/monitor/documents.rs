//! The JSON documents, with the keys and in the order of the reference servers (`server/monitor.go`
//! of nats-server 2.9 and of nats-streaming-server).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use serde::{Serialize, Serializer, ser::Error as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    process,
    source::{
        ChannelView, ClientView, CoreFigures, Listing, LockFigures, LockState, Page,
        StreamingFigures,
    },
};
use crate::config::{ClientPort, Config, Limits, StoreLimits};

/// The `go` field, which some clients insist on.
const LANGUAGE: &str = "rust";

/// What does not change while the server runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    identity: Identity,
    cluster_id: String,
    client: ClientPort,
    /// Empty without monitoring.
    monitor_host: String,
    limits: StoreLimits,
    /// Digests of the configuration files.
    config_digest: String,
    started: OffsetDateTime,
    started_at: Instant,
    cores: usize,
}

/// Who the server is and where it listens, known once it has started.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Of the NATS server: an nkey.
    pub(crate) server_id: String,
    /// The id if no name is configured.
    pub(crate) server_name: String,
    /// Version that clients of the NATS protocol are shown.
    pub(crate) nats_version: &'static str,
    /// Of the streaming server.
    pub(crate) streaming_id: String,
    /// `MEMORY`, `FILE` or `SQL`.
    pub(crate) store: &'static str,
    pub(crate) client: SocketAddr,
    pub(crate) monitor: Option<SocketAddr>,
    /// Threads that serve connections.
    pub(crate) workers: usize,
}

impl Facts {
    /// Takes the present moment as that of the start.
    pub(crate) fn new(config: &Config, identity: Identity) -> Self {
        let digests: Vec<_> = config
            .files
            .iter()
            .map(|file| format!("sha256:{}", file.sha256))
            .collect();
        Self {
            identity,
            cluster_id: config.streaming.cluster_id.clone(),
            client: config.client.clone(),
            monitor_host: config
                .monitor
                .as_ref()
                .map_or_else(String::new, |bind| bind.host.clone()),
            limits: config.streaming.limits.clone(),
            config_digest: digests.join(" "),
            started: OffsetDateTime::now_utc(),
            started_at: Instant::now(),
            cores: available_parallelism().map_or(1, usize::from),
        }
    }

    fn uptime(&self) -> String {
        uptime(self.started_at.elapsed())
    }

    /// Name by which metrics tell servers apart.
    pub(crate) fn server_name(&self) -> &str {
        &self.identity.server_name
    }

    pub(super) fn varz(
        &self,
        core: CoreFigures,
        cpu: f64,
        requests: BTreeMap<&'static str, u64>,
    ) -> Varz<'_> {
        let Identity {
            server_id,
            server_name,
            nats_version,
            client,
            monitor,
            workers,
            ..
        } = &self.identity;
        let tls = self.client.tls.as_ref();
        Varz {
            server_id,
            server_name,
            version: nats_version,
            proto: 1,
            go: LANGUAGE,
            host: &self.client.bind.host,
            port: client.port(),
            tls_required: tls.is_some(),
            tls_verify: tls.is_some_and(|tls| tls.verify),
            max_connections: self
                .client
                .max_connections
                .map_or(-1, |limit| int(limit.get())),
            ping_interval: nanos(self.client.ping_interval),
            ping_max: self.client.ping_max,
            http_host: &self.monitor_host,
            http_port: monitor.map_or(0, |address| address.port()),
            http_base_path: "",
            https_port: 0,
            auth_timeout: 2,
            max_control_line: self.client.max_control_line,
            max_payload: self.client.max_payload,
            max_pending: self.client.max_pending,
            cluster: Empty {},
            gateway: Empty {},
            leaf: Empty {},
            mqtt: Empty {},
            websocket: Empty {},
            jetstream: Empty {},
            tls_timeout: Number(tls.map_or(2.0, |tls| tls.timeout.as_secs_f64())),
            write_deadline: nanos(self.client.write_deadline),
            start: Stamp(self.started),
            now: Stamp(OffsetDateTime::now_utc()),
            uptime: self.uptime(),
            mem: process::resident_bytes(),
            cores: self.cores,
            gomaxprocs: *workers,
            cpu: Number(cpu),
            connections: core.connections,
            total_connections: core.total_connections,
            routes: 0,
            remotes: 0,
            leafnodes: 0,
            in_msgs: core.in_msgs,
            in_bytes: core.in_bytes,
            in_client_msgs: core.in_msgs,
            in_client_bytes: core.in_bytes,
            out_msgs: core.out_msgs,
            out_bytes: core.out_bytes,
            out_client_msgs: core.out_msgs,
            out_client_bytes: core.out_bytes,
            slow_consumers: core.slow_consumers,
            stale_connections: core.stale_connections,
            subscriptions: core.subscriptions,
            http_req_stats: requests,
            config_load_time: Stamp(self.started),
            config_digest: &self.config_digest,
        }
    }

    pub(super) fn serverz(&self, figures: StreamingFigures, lock: &LockFigures) -> Serverz<'_> {
        let (open_fds, max_fds) = process::file_descriptors();
        Serverz {
            cluster_id: &self.cluster_id,
            server_id: &self.identity.streaming_id,
            version: env!("CARGO_PKG_VERSION"),
            go: LANGUAGE,
            state: state(lock),
            now: Stamp(OffsetDateTime::now_utc()),
            start_time: Stamp(self.started),
            uptime: self.uptime(),
            clients: figures.clients,
            subscriptions: figures.subscriptions,
            channels: figures.channels,
            total_msgs: figures.total_msgs,
            total_bytes: figures.total_bytes,
            in_msgs: figures.in_msgs,
            in_bytes: figures.in_bytes,
            out_msgs: figures.out_msgs,
            out_bytes: figures.out_bytes,
            open_fds,
            max_fds,
        }
    }

    pub(super) fn storez(&self, figures: StreamingFigures) -> Storez<'_> {
        let channels = self.limits.channels.iter();
        Storez {
            cluster_id: &self.cluster_id,
            server_id: &self.identity.streaming_id,
            now: Stamp(OffsetDateTime::now_utc()),
            store: self.identity.store,
            limits: LimitsView {
                max_channels: self.limits.max_channels,
                general: ChannelLimitsView::new(&self.limits.general),
                channels: channels
                    .map(|entry| {
                        (
                            entry.pattern.as_str(),
                            ChannelLimitsView::new(&entry.limits),
                        )
                    })
                    .collect(),
            },
            total_msgs: figures.total_msgs,
            total_bytes: figures.total_bytes,
        }
    }

    pub(super) fn clientsz(&self, page: Page, clients: Listing<ClientView>) -> Clientsz<'_> {
        Clientsz {
            head: self.head(page, &clients),
            clients: clients.items,
        }
    }

    pub(super) fn channel_names(&self, page: Page, names: Listing<String>) -> Channelsz<'_> {
        Channelsz {
            head: self.head(page, &names),
            names: names.items,
            channels: Vec::new(),
        }
    }

    pub(super) fn channelsz(&self, page: Page, channels: Listing<ChannelView>) -> Channelsz<'_> {
        Channelsz {
            head: self.head(page, &channels),
            names: Vec::new(),
            channels: channels.items,
        }
    }

    fn head<T>(&self, page: Page, listing: &Listing<T>) -> Head<'_> {
        Head {
            cluster_id: &self.cluster_id,
            server_id: &self.identity.streaming_id,
            now: Stamp(OffsetDateTime::now_utc()),
            offset: page.offset,
            limit: page.limit,
            count: listing.items.len(),
            total: listing.total,
        }
    }
}

/// State names of the reference. A store with a lock makes what it calls fault tolerance.
fn state(lock: &LockFigures) -> &'static str {
    match lock.state {
        LockState::Active if lock.owner_id.is_empty() => "STANDALONE",
        LockState::Active => "FT_ACTIVE",
        LockState::Standby | LockState::None => "FT_STANDBY",
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Empty {}

#[derive(Debug, Serialize)]
pub(super) struct Varz<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    go: &'a str,
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    max_connections: i64,
    ping_interval: u64,
    ping_max: u32,
    http_host: &'a str,
    http_port: u16,
    http_base_path: &'a str,
    https_port: u16,
    auth_timeout: u8,
    max_control_line: usize,
    max_payload: usize,
    max_pending: usize,
    cluster: Empty,
    gateway: Empty,
    leaf: Empty,
    mqtt: Empty,
    websocket: Empty,
    jetstream: Empty,
    tls_timeout: Number,
    write_deadline: u64,
    start: Stamp,
    now: Stamp,
    uptime: String,
    mem: u64,
    cores: usize,
    gomaxprocs: usize,
    cpu: Number,
    connections: u64,
    total_connections: u64,
    routes: u64,
    remotes: u64,
    leafnodes: u64,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    subscriptions: u64,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: Stamp,
    config_digest: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Serverz<'a> {
    pub(super) cluster_id: &'a str,
    pub(super) server_id: &'a str,
    pub(super) version: &'a str,
    pub(super) go: &'a str,
    pub(super) state: &'a str,
    now: Stamp,
    pub(super) start_time: Stamp,
    uptime: String,
    pub(super) clients: u64,
    pub(super) subscriptions: u64,
    pub(super) channels: u64,
    pub(super) total_msgs: u64,
    pub(super) total_bytes: u64,
    pub(super) in_msgs: u64,
    pub(super) in_bytes: u64,
    pub(super) out_msgs: u64,
    pub(super) out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    open_fds: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_fds: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Storez<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    now: Stamp,
    #[serde(rename = "type")]
    store: &'a str,
    limits: LimitsView<'a>,
    total_msgs: u64,
    total_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LimitsView<'a> {
    max_channels: u64,
    #[serde(flatten)]
    general: ChannelLimitsView,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<&'a str, ChannelLimitsView>,
}

#[derive(Debug, Serialize)]
struct ChannelLimitsView {
    max_msgs: u64,
    max_bytes: u64,
    /// Nanoseconds.
    max_age: u64,
    max_subscriptions: u64,
    /// Nanoseconds.
    max_inactivity: u64,
}

impl ChannelLimitsView {
    fn new(limits: &Limits) -> Self {
        Self {
            max_msgs: limits.max_msgs,
            max_bytes: limits.max_bytes,
            max_age: limits.max_age_nanos,
            max_subscriptions: limits.max_subs,
            max_inactivity: limits.max_inactivity_nanos,
        }
    }
}

/// What lists have in common.
#[derive(Debug, Serialize)]
struct Head<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    now: Stamp,
    offset: usize,
    limit: usize,
    count: usize,
    total: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Clientsz<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    clients: Vec<ClientView>,
}

#[derive(Debug, Serialize)]
pub(super) struct Channelsz<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<ChannelView>,
}

/// RFC 3339 in UTC, to the nanosecond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(OffsetDateTime);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.format(&Rfc3339).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

/// A float that is written without fraction when it has none, as Go does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(f64);

impl Serialize for Number {
    #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// `1y2d3h4m5s` without leading zero parts.
fn uptime(since: Duration) -> String {
    let seconds = since.as_secs();
    let parts = [
        (seconds / 31_536_000, 'y'),
        (seconds / 86_400 % 365, 'd'),
        (seconds / 3_600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let first = parts
        .iter()
        .position(|(value, _)| *value > 0)
        .unwrap_or(parts.len() - 1);
    parts[first..]
        .iter()
        .map(|(value, unit)| format!("{value}{unit}"))
        .collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn int(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_drops_leading_zero_parts_only() {
        for (seconds, text) in [
            (0, "0s"),
            (61, "1m1s"),
            (3600, "1h0m0s"),
            (90_061, "1d1h1m1s"),
            (31_536_000, "1y0d0h0m0s"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }
}
