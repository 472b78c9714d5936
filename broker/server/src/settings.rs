//! What the core is told: the settings of one start, and the part of them that a reload may replace
//! while connections live.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker_core::{
    auth::{AuthError, Authorization, settings::AuthSettings},
    cluster::settings::ClusterSettings,
    liveness::PingPolicy,
    session::SubscriptionLimits,
};
use broker_proto::info::ServerInfo;
use certs::reload::PeerRefusal;
use rustls::{ClientConfig, ServerConfig};

use crate::{config::HandshakeFirst, trace::TraceSettings};

/// What nats-streaming-server 0.25.6 shows in `INFO`; clients read features off it.
pub(crate) const NATS_VERSION: &str = "2.9.24";

/// Settings of the core. The defaults are those of nats-server.
#[derive(Clone, Debug)]
pub(crate) struct CoreConfig {
    /// False: there is no port for clients.
    pub(crate) listens: bool,
    /// Name or address to listen on.
    pub(crate) host: String,
    /// 0 or -1: any free port.
    pub(crate) port: i32,
    /// Empty: the server's id.
    pub(crate) server_name: String,
    /// `host:port` that clients are told instead of where we listen.
    pub(crate) client_advertise: Option<(String, u16)>,
    /// Bytes of a body, inclusive.
    pub(crate) max_payload: usize,
    /// Bytes of arguments in a line.
    pub(crate) max_control_line: usize,
    /// Bytes waiting for a consumer above which it is cut.
    pub(crate) max_pending: usize,
    /// `None`: no limit.
    pub(crate) max_connections: Option<usize>,
    /// Of one connection.
    pub(crate) subscriptions: SubscriptionLimits,
    /// Closed connections that monitoring remembers.
    pub(crate) max_closed: usize,
    pub(crate) ping_interval: Duration,
    /// The first ping after `CONNECT`, if the interval is not shorter.
    pub(crate) first_ping: Duration,
    /// Unanswered pings after which a client is given up.
    pub(crate) ping_max: u32,
    /// Within which a flush must come to an end.
    pub(crate) write_deadline: Duration,
    /// A client that has taken part of a flush by then gets as much time again.
    pub(crate) retry_writes: bool,
    /// Clients may use headers.
    pub(crate) headers: bool,
    /// Producers are held back for consumers that are behind, rather than these cut.
    pub(crate) stall_producers: bool,
    pub(crate) auth: AuthSettings,
    /// Within which a client must have shown who it is, where it must.
    pub(crate) auth_timeout: Duration,
    pub(crate) tls: Option<TlsPort>,
    pub(crate) cluster: Option<RoutePort>,
    /// `None`: nothing is traced.
    pub(crate) trace: Option<TraceSettings>,
    /// `None`: one for each core this process may use.
    pub(crate) workers: Option<usize>,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            listens: true,
            host: "0.0.0.0".into(),
            port: 4222,
            server_name: String::new(),
            client_advertise: None,
            max_payload: 1 << 20,
            max_control_line: 4096,
            max_pending: 64 << 20,
            max_connections: Some(65_536),
            subscriptions: SubscriptionLimits::default(),
            max_closed: 10_000,
            ping_interval: Duration::from_secs(120),
            first_ping: Duration::from_secs(2),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            retry_writes: false,
            headers: true,
            stall_producers: true,
            auth: AuthSettings::default(),
            auth_timeout: Duration::from_secs(2),
            tls: None,
            cluster: None,
            trace: None,
            workers: None,
        }
    }
}

/// Gives the TLS configuration for one handshake, so that a renewed certificate counts from the next
/// one on. Never waits.
pub(crate) type TlsHandle = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;
/// The same for connections that we open.
pub(crate) type TlsClientHandle = Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>;

/// Whether a peer with this leaf, in DER, may be here now: a resumed session is not verified again, and
/// pins change while connections live. Never waits.
pub(crate) type AdmitPeer = Arc<dyn Fn(&[u8]) -> Result<(), PeerRefusal> + Send + Sync>;

/// TLS on the port of clients.
#[derive(Clone)]
pub(crate) struct TlsPort {
    pub(crate) handle: TlsHandle,
    pub(crate) admits: AdmitPeer,
    /// For the handshake, counted from the accept.
    pub(crate) timeout: Duration,
    pub(crate) first: HandshakeFirst,
    /// Clients may also stay in clear.
    pub(crate) optional: bool,
    /// Clients must show a certificate; told in `INFO`. The TLS configuration enforces it.
    pub(crate) verify: bool,
    /// Handshakes a second; `None`: no limit.
    pub(crate) rate_limit: Option<u32>,
}

impl fmt::Debug for TlsPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPort")
            .field("timeout", &self.timeout)
            .field("first", &self.first)
            .field("optional", &self.optional)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

/// The port of other servers.
#[derive(Clone)]
pub(crate) struct RoutePort {
    pub(crate) host: String,
    /// 0 or -1: any free port.
    pub(crate) port: i32,
    pub(crate) auth_timeout: Duration,
    pub(crate) tls: Option<RouteTls>,
    /// Within which a flush must come to an end.
    pub(crate) write_deadline: Duration,
    /// The same as for clients.
    pub(crate) retry_writes: bool,
    pub(crate) settings: ClusterSettings,
    pub(crate) reports: FailureReports,
}

/// Of failed attempts to reach another server in a row, every how manieth is logged besides the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailureReports {
    /// As long as it has never been reached.
    pub(crate) connecting: u32,
    /// Once it has.
    pub(crate) reconnecting: u32,
}

impl Default for FailureReports {
    /// Those of nats-server.
    fn default() -> Self {
        Self {
            connecting: 3600,
            reconnecting: 1,
        }
    }
}

impl FailureReports {
    /// Whether an attempt, counted from 1, is logged.
    pub(crate) fn include(self, attempt: u32, again: bool) -> bool {
        let every = if again {
            self.reconnecting
        } else {
            self.connecting
        };
        attempt == 1 || attempt.is_multiple_of(every)
    }
}

impl fmt::Debug for RoutePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutePort")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// TLS between servers: who is dialled is shown the same certificate as who dials.
#[derive(Clone)]
pub(crate) struct RouteTls {
    pub(crate) accepting: TlsHandle,
    pub(crate) dialling: TlsClientHandle,
    /// Of either side.
    pub(crate) admits: AdmitPeer,
    pub(crate) timeout: Duration,
}

impl fmt::Debug for RouteTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTls")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Everything that connections look up while they live. Workers hold the current value and get a new
/// one when it changes.
pub(crate) struct Settings {
    pub(crate) config: CoreConfig,
    pub(crate) authorization: Arc<Authorization>,
    /// `INFO` without what is of one connection.
    pub(crate) info: ServerInfo,
    /// When they were given.
    pub(crate) loaded: SystemTime,
}

impl Settings {
    /// # Errors
    /// The users contradict each other.
    pub(crate) fn new(config: CoreConfig, identity: &ServerInfo) -> Result<Self, AuthError> {
        let authorization = Arc::new(Authorization::new(&config.auth)?);
        let (host, port) = match &config.client_advertise {
            Some((host, port)) => (host.clone(), *port),
            None => (config.host.clone(), identity.port),
        };
        let tls = config.tls.as_ref();
        let info = ServerInfo {
            version: NATS_VERSION.into(),
            proto: 1,
            go: "rust".into(),
            host,
            port,
            headers: config.headers,
            max_payload: config.max_payload as i64,
            auth_required: authorization.is_required(),
            tls_required: tls.is_some_and(|tls| !tls.optional),
            tls_available: tls.is_some_and(|tls| tls.optional),
            tls_verify: tls.is_some_and(|tls| tls.verify),
            ..identity.clone()
        };
        Ok(Self {
            config,
            authorization,
            info,
            loaded: SystemTime::now(),
        })
    }

    /// Takes over what was learned from other servers and not from a configuration.
    #[must_use]
    pub(crate) fn succeeding(mut self, old: &Self) -> Self {
        self.info.connect_urls.clone_from(&old.info.connect_urls);
        self.info.cluster.clone_from(&old.info.cluster);
        self.info.cluster_dynamic = old.info.cluster_dynamic;
        self
    }

    /// The same with other `INFO`.
    pub(crate) fn with_info(&self, change: impl FnOnce(&mut ServerInfo)) -> Self {
        let mut info = self.info.clone();
        change(&mut info);
        Self {
            config: self.config.clone(),
            authorization: Arc::clone(&self.authorization),
            info,
            loaded: self.loaded,
        }
    }

    pub(crate) fn pings(&self) -> PingPolicy {
        PingPolicy {
            interval: self.config.ping_interval,
            first: self.config.first_ping,
            max_outstanding: self.config.ping_max,
            always: false,
        }
    }

    /// `INFO` for one connection.
    pub(crate) fn info(&self, client_id: u64, address: SocketAddr, nonce: &str) -> ServerInfo {
        ServerInfo {
            client_id,
            // IPv4 in its own form even where it came in over an IPv6 socket.
            client_ip: address.ip().to_canonical().to_string(),
            nonce: nonce.to_owned(),
            ..self.info.clone()
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_reported_and_then_every_so_manieth() {
        let reports = FailureReports {
            connecting: 3,
            reconnecting: 1,
        };
        let reported = |again| (1..=7).filter(move |attempt| reports.include(*attempt, again));
        assert_eq!(reported(false).collect::<Vec<_>>(), [1, 3, 6]);
        assert_eq!(reported(true).count(), 7);
        let never = FailureReports {
            connecting: 0,
            ..reports
        };
        assert!(never.include(1, false) && !never.include(2, false));
    }
}
