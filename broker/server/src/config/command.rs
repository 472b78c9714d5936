//! From the command line, files and variables to what is to be done.

use std::io;

use broker_core::auth::settings::Secret;
use broker_proto::conf::ParseError;

use super::{
    Config,
    check::check,
    draft::Draft,
    file::{self, FileRead, Report, Role, Variables},
    flags::{self, Request},
};

/// Database source, where neither a flag nor a file shall carry it.
pub(super) const SQL_SOURCE_VARIABLE: &str = "STANCHION_SQL_SOURCE";

/// Key of an encrypted store; before a flag or a file, as in the reference.
pub(super) const ENCRYPTION_KEY_VARIABLE: &str = "NATS_STREAMING_ENCRYPTION_KEY";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print to standard output and end with success: help or version.
    Print(String),
    /// `-t`: what is written is valid. If the files it names are too, print to standard error and end with
    /// success.
    Valid {
        text: String,
        config: Box<Config>,
    },
    Run(Box<Config>),
    /// `-sl`: signal another process and end.
    Signal(SignalRequest),
    /// `store ...`: look after what is stored, and end.
    Store {
        task: StoreTask,
        config: Box<Config>,
    },
}

/// What to do with the store that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreTask {
    /// Make the tables, and grant a role what a broker needs.
    Init { role: Option<String> },
    /// Look at everything that a broker needs.
    Check,
    /// Read everything.
    Verify,
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
    #[error("after `store` comes init (and perhaps a role), check or verify, and then flags")]
    StoreTask,
    /// Wording of nats-server.
    #[error("unrecognized command: {0:?}")]
    UnknownCommand(String),
    #[error("cannot read configuration file {path}")]
    FileUnreadable {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Syntax(#[from] ParseError),
    /// Values, or two of them together, that cannot work: one line each, with the place of those
    /// that stand in a file.
    #[error("{0}")]
    Setting(String),
    #[error("{0}")]
    Signal(String),
    /// Wording of nats-server.
    #[error("must specify [-c, --config] option to check configuration file syntax")]
    NothingToCheck,
}

/// Reads flags (without the program's name), files and variables. May be called again with the same
/// words to read what the files say now: flags win over them each time.
///
/// # Errors
/// See [`ConfigError`]; no message contains a secret.
pub(crate) fn read(args: &[String], variables: Variables<'_>) -> Result<Command, ConfigError> {
    match args {
        [first, rest @ ..] if first == "store" => read_store(rest, variables),
        _ => read_flags(args, variables),
    }
}

/// `store init [role]`, `store check`, `store verify`, each with the flags of a start behind it.
fn read_store(args: &[String], variables: Variables<'_>) -> Result<Command, ConfigError> {
    let (task, flags) = match args {
        [task, role, rest @ ..] if task == "init" && !role.starts_with('-') => {
            let role = Some(role.clone());
            (StoreTask::Init { role }, rest)
        }
        [task, rest @ ..] if task == "init" => (StoreTask::Init { role: None }, rest),
        [task, rest @ ..] if task == "check" => (StoreTask::Check, rest),
        [task, rest @ ..] if task == "verify" => (StoreTask::Verify, rest),
        _ => return Err(ConfigError::StoreTask),
    };
    Ok(match read_flags(flags, variables)? {
        Command::Run(config) => Command::Store { task, config },
        other => other,
    })
}

fn read_flags(args: &[String], variables: Variables<'_>) -> Result<Command, ConfigError> {
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
    if !given.signal.is_empty() {
        return signal(&given.signal).map(Command::Signal);
    }
    let mut report = Report {
        warnings: std::mem::take(&mut flags.warnings),
        problems: Vec::new(),
    };
    visible_secrets(&given, &mut report);
    let mut draft = Draft::default();
    let mut files = Vec::new();
    for (path, role) in sources(&given) {
        let streaming = given.streaming;
        let file = file::load(path, role, streaming, variables, &mut draft, &mut report)?;
        files.push(file);
    }
    if let Some(source) = variables(SQL_SOURCE_VARIABLE).filter(|source| !source.is_empty()) {
        draft.sql_source = Secret::new(source);
    }
    flags.apply(&mut draft);
    if let Some(key) = variables(ENCRYPTION_KEY_VARIABLE).filter(|key| !key.is_empty())
        && draft.encrypts()
    {
        draft.encryption_key = Secret::new(key);
    }
    if draft.streaming == Some(false) {
        report.warnings.extend(flags.about_streaming());
    }
    if draft.check_only && files.is_empty() {
        return Err(ConfigError::NothingToCheck);
    }
    let config = check(&draft, files, report)?;
    if draft.check_only {
        return Ok(Command::Valid {
            text: validity(&config),
            config: Box::new(config),
        });
    }
    Ok(Command::Run(Box::new(config)))
}

/// Files to read, and what for.
fn sources(given: &Draft) -> Vec<(&str, Role)> {
    match (given.config.as_str(), given.stan_config.as_str()) {
        ("", "") => Vec::new(),
        (path, "") | ("", path) => vec![(path, Role::Both)],
        (core, streaming) if core == streaming => vec![(core, Role::Both)],
        (core, streaming) => vec![(core, Role::Core), (streaming, Role::Streaming)],
    }
}

/// Arguments are shown to everybody on the machine.
fn visible_secrets(given: &Draft, report: &mut Report) {
    for (name, secret, variable) in [
        ("sql_source", &given.sql_source, SQL_SOURCE_VARIABLE),
        (
            "encryption_key",
            &given.encryption_key,
            ENCRYPTION_KEY_VARIABLE,
        ),
    ] {
        if !secret.is_empty() {
            report.warnings.push(format!(
                "the value of flag -{name} can be seen by every process of this machine; \
                 {variable} or the -sc file keep it private"
            ));
        }
    }
    if given.external.url.expose().contains('@') {
        report.warnings.push(
            "the value of flag -nats_server can be seen by every process of this machine; \
             a password is private in the -sc file"
                .to_owned(),
        );
    }
    let auth = &given.auth;
    for (name, secret) in [("pass", &auth.password), ("auth", &auth.token)] {
        if !secret.is_empty() {
            report.warnings.push(format!(
                "the value of flag -{name} can be seen by every process of this machine; \
                 authorization in a file keeps it private"
            ));
        }
    }
}

/// `SIG` or `SIG=TARGET`. Wording of `server/signal.go` and `server/opts.go`.
fn signal(text: &str) -> Result<SignalRequest, ConfigError> {
    let mut parts = text.split('=');
    let (name, target) = (parts.next().unwrap_or_default(), parts.next());
    let rest: Vec<_> = parts.collect();
    if !rest.is_empty() {
        let rest = rest.join(" ");
        return Err(ConfigError::Signal(format!(
            "invalid signal parameters: [{rest}]"
        )));
    }
    let action = match name {
        "stop" => SignalAction::Stop,
        "quit" => SignalAction::Quit,
        "term" => SignalAction::Term,
        "reopen" => SignalAction::Reopen,
        "reload" => SignalAction::Reload,
        "ldm" => SignalAction::LameDuck,
        _ => return Err(ConfigError::Signal(format!("unknown signal {name:?}"))),
    };
    let target = target
        .filter(|target| !target.is_empty())
        .map(str::to_owned);
    Ok(SignalRequest { action, target })
}

/// Wording of nats-server's `-t`.
fn validity(config: &Config) -> String {
    let line = |file: &FileRead| {
        format!(
            "stanchion-broker: configuration file {} is valid (sha256:{})",
            file.path, file.sha256
        )
    };
    config.files.iter().map(line).collect::<Vec<_>>().join("\n")
}
