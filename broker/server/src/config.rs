//! Everything settable, fully checked before a socket opens: defaults, then files, then the
//! environment (`STANCHION_SQL_SOURCE`), then flags; the key of an encrypted store in the environment wins over all.
//!
//! Stricter than the reference: an unknown flag or key is refused with the nearest known one, a known
//! one that this server cannot honour is refused or warned about by name. Nothing is ignored silently.

mod check;
mod command;
mod draft;
mod duration;
mod external;
mod file;
mod flags;
mod limits;
mod nearest;
pub(crate) mod reload;
mod setting;
#[cfg(test)]
mod tests;
mod url;

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};

use broker_core::{
    auth::settings::{AuthSettings, Secret},
    cluster::settings::ClusterSettings,
};
use broker_store::Cipher;
use certs::settings::TlsSettings;

pub(crate) use self::{
    command::{Command, ConfigError, SignalAction, SignalRequest, StoreTask, read},
    external::{ExternalLogin, ExternalNats, NatsServer},
    file::FileRead,
    limits::{ChannelEntry, Limits, StoreLimits},
};

/// The configuration of one broker. Plain data, all of it valid.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) client: ClientPort,
    /// Users of the client port.
    pub(crate) auth: AuthSettings,
    /// From the accept, or the end of the TLS handshake, to a `CONNECT` that is accepted.
    pub(crate) auth_timeout: Duration,
    /// Routes to other servers.
    pub(crate) cluster: Option<ClusterPort>,
    /// Streaming stands on other NATS servers: none runs in this process, and nothing listens for clients.
    pub(crate) external: Option<ExternalNats>,
    /// False: no part of streaming runs, and no key of it is known.
    pub(crate) streaming_enabled: bool,
    /// HTTP monitoring.
    pub(crate) monitor: Option<Bind>,
    /// Monitoring is HTTPS, with the certificates of the client port but without asking for any.
    pub(crate) monitor_tls: bool,
    /// What all paths of monitoring begin with: empty, or a slash and more without one at the end.
    pub(crate) monitor_base_path: String,
    /// Prometheus metrics.
    pub(crate) metrics: Option<Bind>,
    /// First part of the names of metrics that stand for documents of the NATS server.
    pub(crate) metrics_prefix: String,
    pub(crate) streaming: StreamingSettings,
    pub(crate) store: StoreKind,
    /// Payloads are not stored in the clear.
    pub(crate) encryption: Option<Encryption>,
    pub(crate) log: LogSettings,
    pub(crate) process_files: ProcessFiles,
    /// Files that were read, for the start-up log.
    pub(crate) files: Vec<FileRead>,
    /// One line each, to be logged at start.
    pub(crate) warnings: Vec<String>,
}

/// A listening address. Port 0 is any free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    /// Name or address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where clients are told to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertise {
    pub(crate) host: String,
    /// None: the one that is listened on.
    pub(crate) port: Option<u16>,
}

/// The port of NATS clients and what a connection may do.
#[derive(Clone, Debug)]
pub(crate) struct ClientPort {
    pub(crate) bind: Bind,
    /// Told in INFO instead of the listening address.
    pub(crate) advertise: Option<Advertise>,
    /// None: the server's id.
    pub(crate) server_name: Option<String>,
    pub(crate) tls: Option<TlsListener>,
    /// Beside TLS, clients may go on in clear.
    pub(crate) allow_non_tls: bool,
    /// None: unlimited; 0: nobody may connect.
    pub(crate) max_connections: Option<usize>,
    /// Of one connection; none: unlimited.
    pub(crate) max_subscriptions: Option<NonZeroUsize>,
    /// Tokens of a subject that is subscribed to; none: unlimited.
    pub(crate) max_sub_tokens: Option<NonZeroUsize>,
    /// Closed connections that monitoring remembers.
    pub(crate) max_closed_clients: usize,
    /// Bytes of a protocol line.
    pub(crate) max_control_line: usize,
    /// Bytes; never more than `max_pending`.
    pub(crate) max_payload: usize,
    /// Bytes waiting for a connection before it is a slow consumer.
    pub(crate) max_pending: usize,
    pub(crate) ping_interval: Duration,
    /// Unanswered pings a connection survives.
    pub(crate) ping_max: u32,
    pub(crate) write_deadline: Duration,
    /// What happens when `write_deadline` passes.
    pub(crate) write_timeout: WriteTimeout,
    /// Messages have no headers.
    pub(crate) no_header_support: bool,
    /// Producers are not held back for the sake of slow consumers.
    pub(crate) no_fast_producer_stall: bool,
    /// Within which lame duck mode closes all clients; more than the grace period.
    pub(crate) lame_duck_duration: Duration,
    /// Before the first client is closed in lame duck mode.
    pub(crate) lame_duck_grace_period: Duration,
    /// Shown by monitoring.
    pub(crate) server_tags: Vec<String>,
    /// Shown by monitoring.
    pub(crate) server_metadata: BTreeMap<String, String>,
    /// Of failed first attempts to connect somewhere, every how manieth is logged.
    pub(crate) connect_error_reports: u32,
    /// The same of attempts to connect again.
    pub(crate) reconnect_error_reports: u32,
}

/// `write_timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WriteTimeout {
    /// Clients are closed, routes try again.
    #[default]
    Default,
    Close,
    Retry,
}

impl FromStr for WriteTimeout {
    /// Wording of `server/opts.go`.
    type Err = &'static str;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "default" => Ok(Self::Default),
            "close" => Ok(Self::Close),
            "retry" => Ok(Self::Retry),
            _ => Err("write_timeout must be 'default', 'close' or 'retry'"),
        }
    }
}

/// TLS of a listener: what `certs` makes of it, and what the connections do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsListener {
    pub(crate) settings: TlsSettings,
    /// For the handshake.
    pub(crate) timeout: Duration,
    /// Never for routes, which know no other way.
    pub(crate) handshake_first: HandshakeFirst,
    /// `verify_and_map`, which sets `settings.verify` too.
    pub(crate) map_certificates: bool,
    /// Handshakes a second; none: unlimited.
    pub(crate) connection_rate_limit: Option<u32>,
}

/// Whether the handshake comes before INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HandshakeFirst {
    /// INFO in clear, then the handshake.
    #[default]
    Never,
    Always,
    /// INFO in clear to who has not begun a handshake after this time.
    After(Duration),
}

/// The port of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterPort {
    pub(crate) bind: Bind,
    /// Of both directions: what is dialled is shown the same certificate.
    pub(crate) tls: Option<TlsListener>,
    /// For a peer to show who it is.
    pub(crate) auth_timeout: Duration,
    pub(crate) write_deadline: Duration,
    /// What happens when `write_deadline` passes.
    pub(crate) write_timeout: WriteTimeout,
    pub(crate) settings: ClusterSettings,
}

/// Settings of the streaming engine.
#[derive(Clone, Debug)]
pub(crate) struct StreamingSettings {
    pub(crate) cluster_id: String,
    pub(crate) discover_prefix: String,
    pub(crate) hb_interval: Duration,
    pub(crate) hb_timeout: Duration,
    pub(crate) hb_fail_count: u32,
    pub(crate) replace_durable: bool,
    /// Only channels with limits of their own are served.
    pub(crate) partitioning: bool,
    /// Inheritance is worked out: every entry in `channels` is complete.
    pub(crate) limits: StoreLimits,
}

/// Where streaming keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Memory,
    File {
        dir: PathBuf,
    },
    /// PostgreSQL.
    Sql {
        /// `key=value` pairs or a URL, with a password as a rule.
        source: Secret,
    },
}

/// Encryption at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encryption {
    pub(crate) cipher: Cipher,
    /// As configured, of any length but 0.
    pub(crate) key: Secret,
}

/// What is logged, and where to.
#[derive(Clone, Debug)]
pub(crate) struct LogSettings {
    /// None: standard error.
    pub(crate) file: Option<PathBuf>,
    /// Bytes after which a new file is begun; none: never.
    pub(crate) file_size_limit: Option<u64>,
    /// Files kept, the one being written to included; none: all.
    pub(crate) file_max_num: Option<usize>,
    /// Lines have a time stamp.
    pub(crate) time: bool,
    /// Time stamps are UTC and not local time.
    pub(crate) time_utc: bool,
    pub(crate) debug: bool,
    pub(crate) trace: bool,
    /// What the system account does is traced too.
    pub(crate) trace_verbose: bool,
    /// Of messages only the headers are traced, not the payload.
    pub(crate) trace_headers: bool,
    /// Bytes of a message that are traced; none: all.
    pub(crate) max_traced_msg_len: Option<usize>,
    pub(crate) stan_debug: bool,
    pub(crate) stan_trace: bool,
}

impl LogSettings {
    /// As directives of `tracing`. `-D` and `-V` are about the NATS server, `-SD` and `-SV` about
    /// streaming, as in the reference.
    pub(crate) fn filter(&self) -> String {
        let level = |debug, trace| match (debug, trace) {
            (_, true) => "trace",
            (true, false) => "debug",
            (false, false) => "info",
        };
        let core = level(self.debug, false);
        let protocol = level(self.debug, self.trace);
        let streaming = level(self.stan_debug, self.stan_trace);
        format!(
            "info,broker_server={core},broker_core={core},broker_server::trace={protocol},\
             broker_server::streaming={streaming},broker_core::streaming={streaming},\
             broker_store={streaming}"
        )
    }
}

/// Files that tell others about this process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessFiles {
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) ports_file_dir: Option<PathBuf>,
}
