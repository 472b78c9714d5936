//! `/varz`: the server as a whole.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    super::{
        details::Traffic,
        facts::{ClusterFacts, Facts, TlsFacts},
        process::{self, Running},
        source::{CoreFigures, KindCounts},
    },
    Empty, LANGUAGE, Number, Stamp, int, is_false, nanos,
};

/// Keys of nats-server 2.15 (`Varz` in `server/monitor.go`).
#[derive(Debug, Serialize)]
pub(crate) struct Varz<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    go: &'a str,
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "is_false")]
    auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_urls: Vec<String>,
    max_connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_subscriptions: Option<usize>,
    ping_interval: u64,
    ping_max: u32,
    http_host: &'a str,
    http_port: u16,
    http_base_path: &'a str,
    https_port: u16,
    auth_timeout: Number,
    max_control_line: usize,
    max_payload: usize,
    max_pending: usize,
    cluster: Cluster<'a>,
    gateway: Empty,
    leaf: Empty,
    mqtt: Empty,
    websocket: Empty,
    jetstream: Empty,
    tls_timeout: Number,
    write_deadline: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_timeout: Option<&'static str>,
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
    stalled_clients: u64,
    subscriptions: u64,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: Stamp,
    config_digest: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_account: &'a str,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
    disk_io_wait_stats: DiskWaits,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Stamp>,
}

/// Nothing of it without a cluster.
#[derive(Debug, Default, Serialize)]
struct Cluster<'a> {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "addr", skip_serializing_if = "str::is_empty")]
    host: &'a str,
    #[serde(rename = "cluster_port", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<Number>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    urls: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_timeout: Option<Number>,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_size: Option<i8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_timeout: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Stamp>,
}

/// Value of `pool_size` for one connection a server (`server/route.go`).
const NO_POOL: i8 = -1;

/// Time for a TLS handshake, which is shown where there is none too (`server/const.go`).
const TLS_TIMEOUT: Duration = Duration::from_secs(2);

impl<'a> Cluster<'a> {
    fn new(facts: &'a ClusterFacts, not_after: Option<Stamp>) -> Self {
        Self {
            name: String::new(),
            host: &facts.host,
            port: Some(facts.port),
            auth_timeout: Some(seconds(facts.auth_timeout)),
            urls: &facts.urls,
            tls_timeout: Some(tls_timeout(facts.tls)),
            tls_required: facts.tls.is_some_and(|tls| tls.required),
            tls_verify: facts.tls.is_some_and(|tls| tls.verify),
            pool_size: Some(NO_POOL),
            write_deadline: facts.write_deadline.map(nanos),
            write_timeout: facts.write_timeout,
            tls_cert_not_after: not_after,
        }
    }
}

/// Counts for all kinds of connections; gateways and leaf nodes this server does not have.
#[derive(Debug, Serialize)]
struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl From<KindCounts> for ByKind {
    fn from(counts: KindCounts) -> Self {
        Self {
            clients: counts.clients,
            routes: counts.routes,
            gateways: 0,
            leafs: 0,
        }
    }
}

/// Waits of JetStream for the disk, of which there are none.
#[derive(Debug, Default, Serialize)]
struct DiskWaits {
    waiters: u64,
    waits: u64,
    wait_time: u64,
    max_wait_time: u64,
}

fn seconds(duration: Duration) -> Number {
    Number(duration.as_secs_f64())
}

fn tls_timeout(tls: Option<TlsFacts>) -> Number {
    seconds(tls.map_or(TLS_TIMEOUT, |tls| tls.timeout))
}

impl<'a> Varz<'a> {
    pub(crate) fn new(
        facts: &'a Facts,
        core: CoreFigures,
        running: &Running,
        requests: BTreeMap<&'static str, u64>,
    ) -> Self {
        let (identity, client, http) = (&facts.identity, &facts.client, &facts.http);
        let Traffic {
            msgs: in_msgs,
            bytes: in_bytes,
        } = core.received;
        let Traffic {
            msgs: out_msgs,
            bytes: out_bytes,
        } = core.sent;
        let cluster = facts.cluster.as_ref().map(|cluster| Cluster {
            name: core.cluster_name,
            ..Cluster::new(cluster, core.route_certificate_not_after.map(Stamp))
        });
        Self {
            server_id: &identity.server_id,
            server_name: &identity.server_name,
            version: identity.nats_version,
            proto: 1,
            go: LANGUAGE,
            host: &client.host,
            port: client.port,
            auth_required: client.auth_required,
            tls_required: client.tls.is_some_and(|tls| tls.required),
            tls_verify: client.tls.is_some_and(|tls| tls.verify),
            connect_urls: core.connect_urls,
            max_connections: client.max_connections.map_or(-1, int),
            max_subscriptions: client.max_subscriptions.map(|limit| limit.get()),
            ping_interval: nanos(client.ping_interval),
            ping_max: client.ping_max,
            http_host: &http.host,
            http_port: http.port,
            http_base_path: &http.base_path,
            https_port: http.https_port,
            auth_timeout: seconds(client.auth_timeout),
            max_control_line: client.max_control_line,
            max_payload: client.max_payload,
            max_pending: client.max_pending,
            cluster: cluster.unwrap_or_default(),
            gateway: Empty {},
            leaf: Empty {},
            mqtt: Empty {},
            websocket: Empty {},
            jetstream: Empty {},
            tls_timeout: tls_timeout(client.tls),
            write_deadline: nanos(client.write_deadline),
            write_timeout: client.write_timeout,
            start: Stamp(running.since),
            now: Stamp::now(),
            uptime: running.uptime(),
            mem: process::resident_bytes(),
            cores: running.cores,
            gomaxprocs: identity.workers,
            cpu: Number(running.cpu_percent()),
            connections: core.connections,
            total_connections: core.total_connections,
            routes: core.routes,
            remotes: core.remotes,
            leafnodes: 0,
            in_msgs,
            in_bytes,
            in_client_msgs: core.received_from_clients.msgs,
            in_client_bytes: core.received_from_clients.bytes,
            out_msgs,
            out_bytes,
            out_client_msgs: core.sent_to_clients.msgs,
            out_client_bytes: core.sent_to_clients.bytes,
            slow_consumers: core.slow_consumers.total(),
            stale_connections: core.stale_connections.total(),
            stalled_clients: core.stalled_clients,
            subscriptions: core.subscriptions,
            http_req_stats: requests,
            config_load_time: Stamp(facts.config_load_time),
            config_digest: &facts.config_digest,
            tags: &facts.tags,
            metadata: &facts.metadata,
            system_account: &facts.system_account,
            slow_consumer_stats: core.slow_consumers.into(),
            stale_connection_stats: core.stale_connections.into(),
            disk_io_wait_stats: DiskWaits::default(),
            tls_cert_not_after: core.certificate_not_after.map(Stamp),
        }
    }
}
