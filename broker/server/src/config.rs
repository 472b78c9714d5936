//! Everything settable, fully checked before a socket opens: defaults, then files, then the
//! environment (`STANCHION_SQL_SOURCE` only), then flags.
//!
//! Stricter than the reference: an unknown flag or key is refused with the nearest known one, a known
//! one that this server cannot honour is refused or warned about by name. Nothing is ignored silently.

#![allow(dead_code, reason = "read by the launch, which is being rebuilt")]

mod check;
mod draft;
mod duration;
mod file;
mod flags;
mod limits;
mod setting;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, num::NonZeroUsize, path::PathBuf, time::Duration};

use broker_core::{
    auth::settings::{AuthSettings, Secret},
    cluster::settings::ClusterSettings,
};
use broker_proto::conf::ParseError;
use certs::settings::TlsSettings;

use self::{draft::Draft, file::Role, flags::Request};
pub(crate) use self::{
    file::{FileRead, Variables},
    limits::{ChannelEntry, Limits, StoreLimits},
};

/// Database source, where neither a flag nor a file shall carry it.
const SQL_SOURCE_VARIABLE: &str = "STANCHION_SQL_SOURCE";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print to standard output and end with success: help or version.
    Print(String),
    /// `-t`: the configuration is valid. Print to standard error and end with success.
    Valid {
        text: String,
        warnings: Vec<String>,
    },
    Run(Box<Config>),
    /// `-sl`: signal another process and end.
    Signal(SignalRequest),
}

/// What to signal to which process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignalRequest {
    pub(crate) action: SignalAction,
    /// A process ID or a pattern of PID files; `None`: the one running process of this program.
    pub(crate) target: Option<String>,
}

/// What a server can be told to do by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalAction {
    /// `stop`: at once, SIGKILL.
    Stop,
    /// `quit`: SIGINT.
    Quit,
    /// `term`: SIGTERM.
    Term,
    /// `reopen`: the log file, SIGUSR1.
    Reopen,
    /// `reload`: the configuration, SIGHUP.
    Reload,
    /// `ldm`: SIGUSR2.
    LameDuck,
}

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
    pub(crate) streaming: StreamingSettings,
    pub(crate) store: StoreKind,
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
    /// Inheritance is worked out: every entry in `channels` is complete.
    pub(crate) limits: StoreLimits,
}

/// Where streaming keeps its state.
#[derive(Clone, Debug)]
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
        let (core, streaming) = (
            level(self.debug, self.trace),
            level(self.stan_debug, self.stan_trace),
        );
        format!(
            "info,broker_server={core},broker_core={core},broker_server::streaming={streaming},\
             broker_core::streaming={streaming},broker_store={streaming}"
        )
    }
}

/// Files that tell others about this process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessFiles {
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) ports_file_dir: Option<PathBuf>,
}

/// A configuration that cannot be used. The operator is at fault, and a retry does not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("unknown flag -{name}{hint}")]
    UnknownFlag { name: String, hint: String },
    #[error("flag -{name} cannot be used: {reason}")]
    UnsupportedFlag { name: String, reason: &'static str },
    #[error("flag needs an argument: -{0}")]
    FlagArgument(String),
    #[error("invalid value for flag -{name}: {reason}")]
    FlagValue { name: String, reason: String },
    #[error("bad flag syntax: a flag without a name")]
    FlagSyntax,
    /// Wording of nats-server.
    #[error("unrecognized command: {0:?}")]
    UnknownCommand(String),
    #[error("cannot read configuration file {path}")]
    FileUnreadable {
        path: String,
        #[source]
        source: io::Error,
    },
    /// One line a mistake, each starting with `file:line:column`.
    #[error("{0}")]
    File(String),
    #[error(transparent)]
    Syntax(#[from] ParseError),
    /// A value, or two of them together, that cannot work.
    #[error("{0}")]
    Setting(String),
}

/// Reads flags (without the program's name), files and variables.
///
/// # Errors
/// See [`ConfigError`]; no message contains a secret.
pub(crate) fn read(args: &[String], variables: Variables<'_>) -> Result<Command, ConfigError> {
    let mut flags = match flags::read(args)? {
        Request::Help => return Ok(Command::Print(flags::usage())),
        Request::Version => {
            return Ok(Command::Print(format!(
                "stanchion-broker version {}\n",
                env!("CARGO_PKG_VERSION")
            )));
        }
        Request::Run(flags) => flags,
    };
    let mut given = Draft::default();
    flags.apply(&mut given);
    let roles: &[(&str, Role)] = match (given.config.as_str(), given.stan_config.as_str()) {
        ("", "") => &[],
        (path, "") | ("", path) => &[(path, Role::Both)],
        (core, streaming) if core == streaming => &[(core, Role::Both)],
        (core, streaming) => &[(core, Role::Core), (streaming, Role::Streaming)],
    };
    let mut draft = Draft::default();
    let mut warnings = std::mem::take(&mut flags.warnings);
    if !given.sql_source.is_empty() {
        warnings.push(format!(
            "the value of flag -sql_source can be seen by every process of this machine; \
             {SQL_SOURCE_VARIABLE} or the -sc file keep it private"
        ));
    }
    let mut files = Vec::new();
    for (path, role) in roles {
        files.push(file::load(
            path,
            *role,
            variables,
            &mut draft,
            &mut warnings,
        )?);
    }
    if let Some(source) = variables(SQL_SOURCE_VARIABLE).filter(|source| !source.is_empty()) {
        draft.sql_source = Secret::new(source);
    }
    flags.apply(&mut draft);
    let check_only = draft.check_only;
    let config = check::check(&draft, files, warnings)?;
    if check_only {
        return Ok(Command::Valid {
            text: validity(&config),
            warnings: config.warnings,
        });
    }
    Ok(Command::Run(Box::new(config)))
}

/// Wording of nats-server's `-t`.
fn validity(config: &Config) -> String {
    if config.files.is_empty() {
        return "stanchion-broker: configuration is valid".to_owned();
    }
    let line = |file: &FileRead| {
        format!(
            "stanchion-broker: configuration file {} is valid (sha256:{})",
            file.path, file.sha256
        )
    };
    config.files.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `, did you mean "x"?` if a known name is so near that it was meant; else empty.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let distance = |candidate| strsim::damerau_levenshtein(name, candidate);
    let best = known
        .map(|candidate| (distance(candidate), candidate))
        .min();
    match best {
        Some((distance, candidate)) if distance <= 1 + name.len() / 4 && distance < name.len() => {
            format!(", did you mean {candidate:?}?")
        }
        _ => String::new(),
    }
}
