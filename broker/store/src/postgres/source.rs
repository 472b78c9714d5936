//! Source strings: where the database is and how to log in, as `key=value` words or as a URL.
//!
//! Keys, defaults and environment follow the driver that nats-streaming-server uses (lib/pq), so
//! that a source written for it works here. No error and no `Debug` text shows a value that could be
//! a secret.

mod duration;
mod passfile;
mod text;

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use tokio_postgres::config::SslMode as Negotiation;

use super::tls::{self, TlsError};

/// Variables of the environment and the keys they are the default of.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
];

/// Keys of the reference's driver that mean nothing here and do no harm.
const IGNORED: &[&str] = &["binary_parameters", "sslsni", "fallback_application_name"];

/// Keys whose meaning would be lost silently.
const UNSUPPORTED: &[&str] = &["sslpassword", "krbsrvname", "krbspn"];

/// How long a connection attempt may take unless the source says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle time after which the kernel probes a connection, so that a silent network is noticed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// Why a source string cannot be used. The one who wrote it is at fault; retrying cannot help.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("database source is empty")]
    Empty,
    /// Not words of `key=value` and not a URL. The text may hold the password, so it is not shown.
    #[error("database source is malformed: {0}")]
    Malformed(&'static str),
    #[error("database source: value of {key} is not {expected}")]
    Value { key: String, expected: &'static str },
    #[error("database source: {0} is not supported")]
    Unsupported(String),
    #[error("database source: tls settings cannot be used")]
    Tls(#[from] TlsError),
}

/// What protects the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS with any certificate; with `sslrootcert` as `VerifyCa`, as libpq has it.
    Require,
    /// The chain must lead to a trusted root, the name does not matter.
    VerifyCa,
    /// Chain and name must be right.
    VerifyFull,
}

/// Files and mode of TLS, read again at every connection.
#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    pub(crate) mode: SslMode,
    pub(crate) root: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// A parsed source.
#[derive(Clone)]
pub struct Source {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: TlsSettings,
    /// Run-time parameters, set on every session.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) application_name: Option<String>,
    /// Where the password is if the source has none, read again at every connection.
    passfile: Option<PathBuf>,
    /// The longer of `readTimeout` and `writeTimeout`: how long a statement may stay unanswered.
    pub(crate) answer_timeout: Option<Duration>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("dbname", &self.config.get_dbname())
            .field("user", &self.config.get_user())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Parses a source. `environment` gives the `PG*` variables, which count where the source is
    /// silent; pass an empty map to keep the process environment out.
    ///
    /// # Errors
    /// Syntax, impossible values, unreadable certificate files.
    pub fn parse(text: &str, environment: &BTreeMap<String, String>) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        let mut keys = match text::strip_scheme(text) {
            Some(rest) => text::parse_url(rest)?,
            None => text::parse_words(text)?,
        };
        for (variable, key) in ENVIRONMENT {
            if let Some(value) = environment.get(*variable) {
                keys.entry((*key).to_owned())
                    .or_insert_with(|| value.clone());
            }
        }
        if let Some(home) = environment.get("HOME") {
            keys.entry("passfile".to_owned())
                .or_insert_with(|| format!("{home}/.pgpass"));
        }
        let source = Self::from_keys(keys)?;
        // Unusable certificate files are better found now than at the first connection.
        tls::client_config(&source.tls)?;
        Ok(source)
    }

    fn from_keys(mut keys: BTreeMap<String, String>) -> Result<Self, SourceError> {
        for key in UNSUPPORTED {
            if keys.get(*key).is_some_and(|value| !value.is_empty()) {
                return Err(SourceError::Unsupported((*key).to_owned()));
            }
        }
        let mut answer_timeout: Option<Duration> = None;
        keys.retain(|key, _| !IGNORED.contains(&key.as_str()));
        for name in ["readtimeout", "writetimeout"] {
            let Some(key) = keys
                .keys()
                .find(|key| key.eq_ignore_ascii_case(name))
                .cloned()
            else {
                continue;
            };
            let value = keys.remove(&key).unwrap_or_default();
            let timeout = duration::parse(&value).ok_or(SourceError::Value {
                key,
                expected: "a duration such as 5s",
            })?;
            answer_timeout = answer_timeout.max(Some(timeout).filter(|timeout| !timeout.is_zero()));
        }
        let tls = take_tls(&mut keys)?;
        let application_name = keys.remove("application_name");
        let passfile = take_path(&mut keys, "passfile");
        let mut config = tokio_postgres::Config::new();
        take_hosts(&mut keys, &mut config)?;
        take_login(&mut keys, &mut config)?;
        let on_socket_only = config
            .get_hosts()
            .iter()
            .all(|host| matches!(host, tokio_postgres::config::Host::Unix(_)));
        // Nobody encrypts a Unix socket; libpq ignores the mode there too.
        config.ssl_mode(if tls.mode == SslMode::Disable || on_socket_only {
            Negotiation::Disable
        } else {
            Negotiation::Require
        });
        config.keepalives_idle(KEEPALIVE_IDLE);
        if let Some(timeout) = answer_timeout {
            config.tcp_user_timeout(timeout);
        }
        Ok(Self {
            config,
            tls,
            parameters: keys.into_iter().collect(),
            application_name,
            passfile,
            answer_timeout,
        })
    }

    /// What a connection is made with now. Of several hosts the first one's password is taken for all.
    pub(super) fn login(&self) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        if config.get_password().is_none()
            && let Some(file) = &self.passfile
            && let Some(password) = passfile::password(file, passfile_login(&config))
        {
            config.password(password);
        }
        config
    }

    pub(crate) fn client_config(&self) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        tls::client_config(&self.tls)
    }
}

fn passfile_login(config: &tokio_postgres::Config) -> passfile::Login<'_> {
    let user = config.get_user().unwrap_or_default();
    passfile::Login {
        host: match config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host,
            // As libpq has it for sockets.
            _ => "localhost",
        },
        port: config.get_ports().first().copied().unwrap_or(5432),
        database: config.get_dbname().unwrap_or(user),
        user,
    }
}

fn take_tls(keys: &mut BTreeMap<String, String>) -> Result<TlsSettings, SourceError> {
    let mode = keys.remove("sslmode").unwrap_or_default();
    let root = take_path(keys, "sslrootcert");
    let mode = match mode.as_str() {
        "disable" => SslMode::Disable,
        "" | "require" if root.is_some() => SslMode::VerifyCa,
        "" | "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => {
            return Err(SourceError::Value {
                key: "sslmode".to_owned(),
                expected: "disable, require, verify-ca or verify-full",
            });
        }
    };
    Ok(TlsSettings {
        mode,
        root,
        certificate: take_path(keys, "sslcert"),
        key: take_path(keys, "sslkey"),
    })
}

fn take_path(keys: &mut BTreeMap<String, String>, key: &str) -> Option<PathBuf> {
    let path = keys.remove(key).filter(|path| !path.is_empty());
    path.map(PathBuf::from)
}

/// Hosts, addresses and ports, each a list separated by commas.
fn take_hosts(
    keys: &mut BTreeMap<String, String>,
    config: &mut tokio_postgres::Config,
) -> Result<(), SourceError> {
    let hosts = keys.remove("host").filter(|hosts| !hosts.is_empty());
    for host in hosts.as_deref().unwrap_or("localhost").split(',') {
        config.host(host);
    }
    if let Some(addresses) = keys.remove("hostaddr") {
        for address in addresses.split(',') {
            config.hostaddr(parse_value("hostaddr", address, "an IP address")?);
        }
    }
    let ports = keys.remove("port").filter(|ports| !ports.is_empty());
    for port in ports.as_deref().unwrap_or("5432").split(',') {
        let port = if port.is_empty() { "5432" } else { port };
        config.port(parse_value("port", port, "a port number")?);
    }
    if config.get_ports().len() > 1 && config.get_ports().len() != config.get_hosts().len() {
        return Err(SourceError::Value {
            key: "port".to_owned(),
            expected: "one port, or one for each host",
        });
    }
    Ok(())
}

fn take_login(
    keys: &mut BTreeMap<String, String>,
    config: &mut tokio_postgres::Config,
) -> Result<(), SourceError> {
    if let Some(user) = keys.remove("user") {
        config.user(user);
    }
    if let Some(password) = keys.remove("password") {
        config.password(password);
    }
    if let Some(dbname) = keys.remove("dbname") {
        config.dbname(dbname);
    }
    if let Some(options) = keys.remove("options") {
        config.options(options);
    }
    let mut connect_timeout = CONNECT_TIMEOUT;
    if let Some(seconds) = keys.remove("connect_timeout") {
        let seconds: u64 = parse_value("connect_timeout", &seconds, "a number of seconds")?;
        if seconds > 0 {
            connect_timeout = Duration::from_secs(seconds);
        }
    }
    config.connect_timeout(connect_timeout);
    match keys.remove("target_session_attrs").as_deref() {
        None | Some("" | "any") => {}
        Some("read-write" | "primary") => {
            config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        }
        Some(_) => {
            return Err(SourceError::Value {
                key: "target_session_attrs".to_owned(),
                expected: "any, read-write or primary",
            });
        }
    }
    Ok(())
}

fn parse_value<T: FromStr>(
    key: &str,
    value: &str,
    expected: &'static str,
) -> Result<T, SourceError> {
    value.trim().parse().map_err(|_| SourceError::Value {
        key: key.to_owned(),
        expected,
    })
}

#[cfg(test)]
mod tests;
