//! What monitoring knows of the server without asking: who it is and how it is configured. A reload
//! replaces the whole ([`Monitor::reloaded`](super::Monitor::reloaded)).

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, time::Duration};

use broker_core::auth::settings::{SYSTEM_ACCOUNT, SubjectRules};
use time::OffsetDateTime;

use crate::config::{ClientPort, ClusterPort, Config, StoreLimits, TlsListener, WriteTimeout};

/// Identity and configuration, as far as they are shown. Holds no secret.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    /// `None`: there is no streaming, so no document of it either.
    pub(crate) streaming: Option<StreamingFacts>,
    pub(crate) client: ClientFacts,
    pub(crate) http: HttpFacts,
    /// `None`: the server has no routes.
    pub(crate) cluster: Option<ClusterFacts>,
    pub(crate) tags: Vec<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) system_account: String,
    /// When the configuration was read.
    pub(crate) config_load_time: OffsetDateTime,
    /// Digests of the configuration files.
    pub(crate) config_digest: String,
    /// First part of the metrics' names that stand for documents of the NATS server.
    pub(crate) metrics_prefix: String,
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
    /// For other servers.
    pub(crate) routes: Option<SocketAddr>,
    pub(crate) monitor: Option<SocketAddr>,
    /// Threads that serve connections.
    pub(crate) workers: usize,
}

/// Streaming.
#[derive(Clone, Debug)]
pub(crate) struct StreamingFacts {
    /// Of the streaming server.
    pub(crate) server_id: String,
    /// `MEMORY`, `FILE` or `SQL`.
    pub(crate) store: &'static str,
    pub(crate) cluster_id: String,
    pub(crate) limits: StoreLimits,
}

/// The port of clients.
#[derive(Clone, Debug)]
pub(crate) struct ClientFacts {
    /// As configured.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Clients must show credentials.
    pub(crate) auth_required: bool,
    /// For credentials to arrive.
    pub(crate) auth_timeout: Duration,
    /// `None`: clients are served without TLS.
    pub(crate) tls: Option<TlsFacts>,
    /// `None`: unlimited.
    pub(crate) max_connections: Option<usize>,
    /// Of one connection; `None`: unlimited.
    pub(crate) max_subscriptions: Option<NonZeroUsize>,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_max: u32,
    /// The three in bytes.
    pub(crate) max_control_line: usize,
    pub(crate) max_payload: usize,
    pub(crate) max_pending: usize,
    pub(crate) write_deadline: Duration,
    /// `None`: the default.
    pub(crate) write_timeout: Option<&'static str>,
}

/// TLS of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsFacts {
    /// Connections without TLS are refused; not so with `allow_non_tls`.
    pub(crate) required: bool,
    /// Peers must show a certificate.
    pub(crate) verify: bool,
    /// For the handshake.
    pub(crate) timeout: Duration,
}

/// The monitoring listener. One of the ports is 0, and both without monitoring.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpFacts {
    /// Empty without monitoring.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) https_port: u16,
    /// What all paths begin with: empty, or a slash and more without one at the end.
    pub(crate) base_path: String,
}

/// The port of routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterFacts {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) auth_timeout: Duration,
    /// `None`: that of clients.
    pub(crate) write_deadline: Option<Duration>,
    /// `None`: the default.
    pub(crate) write_timeout: Option<&'static str>,
    /// `host:port` of the configured routes, without user and password.
    pub(crate) urls: Vec<String>,
    pub(crate) tls: Option<TlsFacts>,
    /// What is taken from routes and given to them, where that is restricted.
    pub(crate) import: Option<SubjectRules>,
    pub(crate) export: Option<SubjectRules>,
}

impl Facts {
    /// Takes the present moment as that at which the configuration was read.
    pub(crate) fn new(config: &Config, identity: Identity) -> Self {
        let digests: Vec<_> = config
            .files
            .iter()
            .map(|file| format!("sha256:{}", file.sha256))
            .collect();
        let system_account = config.auth.system_account.clone();
        Self {
            streaming: config.streaming_enabled.then(|| StreamingFacts {
                server_id: identity.streaming_id.clone(),
                store: identity.store,
                cluster_id: config.streaming.cluster_id.clone(),
                limits: config.streaming.limits.clone(),
            }),
            client: ClientFacts::new(config, identity.client),
            http: HttpFacts::new(config, identity.monitor),
            cluster: config.cluster.as_ref().map(|cluster| {
                let taken = identity.routes.map(|address| address.port());
                let port = taken.unwrap_or(cluster.bind.port);
                ClusterFacts::new(cluster, &config.client, port)
            }),
            tags: config.client.server_tags.clone(),
            metadata: config.client.server_metadata.clone(),
            system_account: system_account.unwrap_or_else(|| SYSTEM_ACCOUNT.to_owned()),
            config_load_time: OffsetDateTime::now_utc(),
            config_digest: digests.join(" "),
            metrics_prefix: config.metrics_prefix.clone(),
            identity,
        }
    }
}

impl Facts {
    /// Name by which metrics tell servers apart.
    pub(crate) fn server_name(&self) -> &str {
        &self.identity.server_name
    }
}

impl ClientFacts {
    fn new(config: &Config, address: SocketAddr) -> Self {
        let client = &config.client;
        let auth = &config.auth;
        Self {
            host: client.bind.host.clone(),
            port: address.port(),
            auth_required: auth.token.is_some() || auth.single.is_some() || !auth.users.is_empty(),
            auth_timeout: config.auth_timeout,
            tls: client
                .tls
                .as_ref()
                .map(|tls| TlsFacts::new(tls, client.allow_non_tls)),
            max_connections: client.max_connections,
            max_subscriptions: client.max_subscriptions,
            ping_interval: client.ping_interval,
            ping_max: client.ping_max,
            max_control_line: client.max_control_line,
            max_payload: client.max_payload,
            max_pending: client.max_pending,
            write_deadline: client.write_deadline,
            write_timeout: shown(client.write_timeout),
        }
    }
}

fn shown(timeout: WriteTimeout) -> Option<&'static str> {
    match timeout {
        WriteTimeout::Default => None,
        WriteTimeout::Close => Some("close"),
        WriteTimeout::Retry => Some("retry"),
    }
}

impl TlsFacts {
    fn new(tls: &TlsListener, optional: bool) -> Self {
        Self {
            required: !optional,
            verify: tls.settings.verify,
            timeout: tls.timeout,
        }
    }
}

impl HttpFacts {
    fn new(config: &Config, address: Option<SocketAddr>) -> Self {
        let port = address.map_or(0, |address| address.port());
        let (port, https_port) = if config.monitor_tls {
            (0, port)
        } else {
            (port, 0)
        };
        let bind = config.monitor.as_ref();
        Self {
            host: bind.map_or_else(String::new, |bind| bind.host.clone()),
            port,
            https_port,
            base_path: config.monitor_base_path.clone(),
        }
    }
}

impl ClusterFacts {
    fn new(cluster: &ClusterPort, client: &ClientPort, port: u16) -> Self {
        let settings = &cluster.settings;
        let restricted = |rules: &SubjectRules| {
            let open = rules.allow.is_empty() && rules.deny.is_empty();
            (!open).then(|| rules.clone())
        };
        let urls = settings.routes.iter();
        Self {
            host: cluster.bind.host.clone(),
            port,
            auth_timeout: cluster.auth_timeout,
            write_deadline: Some(cluster.write_deadline)
                .filter(|own| *own != client.write_deadline),
            write_timeout: shown(cluster.write_timeout),
            urls: urls
                .map(|url| format!("{}:{}", url.host, url.port))
                .collect(),
            tls: cluster.tls.as_ref().map(|tls| TlsFacts::new(tls, false)),
            import: restricted(&settings.import),
            export: restricted(&settings.export),
        }
    }
}
