//! Everything settable, fully checked before a socket opens: defaults, then files, then the
//! environment (`STANCHION_SQL_SOURCE` only), then flags.
//!
//! Stricter than the reference: an unknown flag or key is refused with the nearest known one, a known
//! one that this server cannot honour is refused or warned about by name. Nothing is ignored silently.

mod check;
mod draft;
mod duration;
mod file;
mod flags;
mod limits;
mod setting;
#[cfg(test)]
mod tests;

use std::{io, num::NonZeroUsize, path::PathBuf, time::Duration};

use broker_proto::conf::ParseError;

use self::{draft::Draft, file::Role, flags::Request};
pub(crate) use self::{
    draft::Secret,
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
}

/// The configuration of one broker. Plain data, all of it valid.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) client: ClientPort,
    /// HTTP monitoring.
    pub(crate) monitor: Option<Bind>,
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
    pub(crate) tls: Option<TlsFiles>,
    /// None: unlimited.
    pub(crate) max_connections: Option<NonZeroUsize>,
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
}

/// TLS for clients.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    /// Present if `verify`.
    pub(crate) ca_file: Option<PathBuf>,
    /// Clients must show a certificate of the CA.
    pub(crate) verify: bool,
    /// For the handshake.
    pub(crate) timeout: Duration,
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
    pub(crate) debug: bool,
    pub(crate) trace: bool,
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
