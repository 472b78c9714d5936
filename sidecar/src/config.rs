//! Everything settable, from flags and `STANCHION_SIDECAR_*` variables, fully checked before a socket
//! opens.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use certs::{leaf::MAX_COMMON_NAME, names, profile::Profile, reload::TlsFiles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use deploy_runtime::LogFormat;
use hyper::Uri;

use crate::lock::source::SqlSource;

/// Certificates for the process next door: obtains, rotates, proves, reports.
#[derive(Debug, Parser)]
#[command(name = "stanchion-sidecar", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep certificates fresh until asked to stop.
    Run(Box<RunArgs>),
}

/// What the neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A broker: renewals are proven at its port, its store lock is watched.
    Broker,
    /// An application.
    Client,
}

/// Where certificates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// An authority in a directory: without Kubernetes, for demonstrations and tests.
    Local,
    /// The issuer of the webhook, over HTTPS.
    Issuer,
}

/// The flags of `run` as they were written; [`Config::check`] makes sense of them.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// What the neighbour is.
    #[arg(long, env = "STANCHION_SIDECAR_ROLE")]
    role: Role,
    /// Where certificates come from.
    #[arg(long, env = "STANCHION_SIDECAR_SOURCE")]
    source: SourceKind,
    /// Directory with ca.pem and ca-key.pem, made on first use (source local).
    #[arg(long, env = "STANCHION_SIDECAR_AUTHORITY_DIR")]
    authority_dir: Option<PathBuf>,
    /// https://HOST:PORT (source issuer).
    #[arg(long, env = "STANCHION_SIDECAR_ISSUER_URL")]
    issuer_url: Option<Uri>,
    /// Authorities that the issuer's certificate is verified against, PEM (source issuer).
    #[arg(long, env = "STANCHION_SIDECAR_ISSUER_CA")]
    issuer_ca: Option<PathBuf>,
    /// File with the token that says who this pod is (source issuer).
    #[arg(long, env = "STANCHION_SIDECAR_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PROFILE=DIR: which certificate, and where; may be repeated.
    #[arg(
        long,
        env = "STANCHION_SIDECAR_OUT",
        value_delimiter = ',',
        required = true
    )]
    out: Vec<String>,
    /// DNS name or address in the certificate, may be repeated (source local).
    #[arg(long, env = "STANCHION_SIDECAR_NAME", value_delimiter = ',')]
    name: Vec<String>,
    /// Common name in the certificate; the first name by default.
    #[arg(long, env = "STANCHION_SIDECAR_COMMON_NAME")]
    common_name: Option<String>,
    /// Life of a certificate, such as 24h or 5m (source local).
    #[arg(long, env = "STANCHION_SIDECAR_LIFETIME", default_value = "24h", value_parser = parse_duration)]
    lifetime: Duration,
    /// Group that may read the private keys; without it their owner only.
    #[arg(long, env = "STANCHION_SIDECAR_KEY_GROUP")]
    key_group: Option<u32>,
    /// HOST:PORT of the broker's client port, where a renewal is proven.
    #[arg(long, env = "STANCHION_SIDECAR_PROVE")]
    prove: Option<String>,
    /// http://HOST:PORT of the broker's monitoring, for its claim on the store.
    #[arg(
        long,
        env = "STANCHION_SIDECAR_BROKER_MONITOR",
        default_value = "http://127.0.0.1:8222"
    )]
    broker_monitor: Uri,
    /// The broker's store configuration (its -sc); with it the store lock is watched.
    #[arg(long, env = "STANCHION_SIDECAR_STORE_CONFIG")]
    store_config: Option<PathBuf>,
    /// Address of probes and metrics.
    #[arg(long, env = "STANCHION_SIDECAR_ADMIN", default_value = "0.0.0.0:7778")]
    admin: SocketAddr,
    /// text, json or nats.
    #[arg(long, env = "STANCHION_SIDECAR_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Log filter, such as info or sidecar=debug.
    #[arg(long, env = "STANCHION_SIDECAR_LOG", default_value = "info")]
    log: String,
}

impl RunArgs {
    /// How to log; known before the rest is checked, so that complaints can be logged.
    pub fn logging(&self) -> (LogFormat, &str) {
        (self.log_format, &self.log)
    }
}

/// A certificate to keep in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub profile: Profile,
    pub dir: PathBuf,
}

impl Output {
    /// The files that the neighbour reads.
    pub fn files(&self) -> TlsFiles {
        TlsFiles::in_dir(&self.dir, self.profile)
    }
}

/// What a leaf of the local source says; the issuer writes names from policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
}

/// Where certificates come from, with all that is needed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Local {
        authority_dir: PathBuf,
        subject: Subject,
        lifetime: Duration,
    },
    Issuer {
        url: Uri,
        ca: PathBuf,
        token_file: PathBuf,
        common_name: String,
    },
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub role: Role,
    pub source: Source,
    /// At least one; each profile once.
    pub outputs: Vec<Output>,
    pub key_group: Option<u32>,
    /// `HOST:PORT`.
    pub prove: Option<String>,
    pub store: Option<WatchedStore>,
    pub admin: SocketAddr,
}

/// A store whose lock is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedStore {
    /// The broker's store configuration; read again whenever a connection is made.
    pub config: PathBuf,
    /// `http://HOST:PORT` of the broker's monitoring.
    pub monitor: Uri,
}

impl Config {
    /// Checks flags against each other.
    ///
    /// # Errors
    /// One line that names the flag and says what would be right.
    pub fn check(args: RunArgs) -> anyhow::Result<Self> {
        let outputs = parse_outputs(&args.out)?;
        let source = parse_source(&args, &outputs)?;
        if let Some(prove) = &args.prove {
            host_and_port(prove).with_context(|| format!("--prove {prove}"))?;
            ensure!(
                outputs
                    .iter()
                    .any(|output| output.profile == Profile::Server),
                "--prove needs a server certificate to look for: add --out server=DIR"
            );
        }
        let store = parse_store(&args)?;
        Ok(Self {
            role: args.role,
            source,
            outputs,
            key_group: args.key_group,
            prove: args.prove,
            store,
            admin: args.admin,
        })
    }
}

fn parse_outputs(words: &[String]) -> anyhow::Result<Vec<Output>> {
    let mut outputs: Vec<Output> = Vec::with_capacity(words.len());
    for word in words {
        let (profile, dir) = word
            .split_once('=')
            .with_context(|| format!("--out {word}: expected PROFILE=DIR"))?;
        let profile: Profile = profile.parse().with_context(|| format!("--out {word}"))?;
        let dir = PathBuf::from(dir);
        ensure!(
            dir.is_absolute(),
            "--out {word}: the directory must be an absolute path"
        );
        for other in &outputs {
            ensure!(
                other.profile != profile,
                "--out {word}: {profile} is given twice"
            );
            ensure!(
                other.dir != dir,
                "--out {word}: the directory is used twice"
            );
        }
        outputs.push(Output { profile, dir });
    }
    Ok(outputs)
}

fn parse_source(args: &RunArgs, outputs: &[Output]) -> anyhow::Result<Source> {
    let subject = parse_subject(args)?;
    match args.source {
        SourceKind::Local => {
            let authority_dir = args
                .authority_dir
                .clone()
                .context("--source local needs --authority-dir DIR")?;
            let nameless = subject.dns_names.is_empty() && subject.ip_addresses.is_empty();
            for output in outputs {
                ensure!(
                    !(nameless && output.profile.is_server()),
                    "a {} certificate needs a name: add --name DNS_OR_IP",
                    output.profile
                );
            }
            ensure!(
                args.lifetime >= Duration::from_secs(5),
                "--lifetime must be at least 5s"
            );
            Ok(Source::Local {
                authority_dir,
                subject,
                lifetime: args.lifetime,
            })
        }
        SourceKind::Issuer => {
            let url = args
                .issuer_url
                .clone()
                .context("--source issuer needs --issuer-url URL")?;
            ensure!(
                url.scheme_str() == Some("https") && url.host().is_some(),
                "--issuer-url {url}: expected https://HOST:PORT"
            );
            ensure!(
                args.name.is_empty(),
                "--name is for --source local: the issuer writes names from policy"
            );
            Ok(Source::Issuer {
                url,
                ca: args
                    .issuer_ca
                    .clone()
                    .context("--source issuer needs --issuer-ca FILE")?,
                token_file: args
                    .token_file
                    .clone()
                    .context("--source issuer needs --token-file FILE")?,
                common_name: subject.common_name,
            })
        }
    }
}

fn parse_subject(args: &RunArgs) -> anyhow::Result<Subject> {
    let mut subject = Subject {
        common_name: String::new(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
    };
    for name in &args.name {
        if let Ok(address) = name.parse() {
            subject.ip_addresses.push(address);
        } else {
            ensure!(
                names::is_dns_name(name),
                "--name {name}: neither a DNS name nor an address"
            );
            subject.dns_names.push(name.clone());
        }
    }
    let default = || match args.role {
        Role::Broker => "stanchion-broker".to_owned(),
        Role::Client => "stanchion-client".to_owned(),
    };
    // A name that is too long for a common name stands among the alternative names alone.
    let first = args
        .name
        .first()
        .filter(|name| name.len() <= MAX_COMMON_NAME);
    subject.common_name = args
        .common_name
        .clone()
        .or_else(|| first.cloned())
        .unwrap_or_else(default);
    ensure!(
        (1..=MAX_COMMON_NAME).contains(&subject.common_name.len()),
        "--common-name must have 1 to {MAX_COMMON_NAME} characters"
    );
    Ok(subject)
}

fn parse_store(args: &RunArgs) -> anyhow::Result<Option<WatchedStore>> {
    let monitor = &args.broker_monitor;
    ensure!(
        monitor.scheme_str() == Some("http") && monitor.host().is_some(),
        "--broker-monitor {monitor}: expected http://HOST:PORT"
    );
    let Some(config) = &args.store_config else {
        return Ok(None);
    };
    ensure!(
        args.role == Role::Broker,
        "--store-config is for --role broker"
    );
    SqlSource::read(config).with_context(|| format!("--store-config {}", config.display()))?;
    Ok(Some(WatchedStore {
        config: config.clone(),
        monitor: monitor.clone(),
    }))
}

/// Splits `HOST:PORT`; an IPv6 address stands in brackets.
fn host_and_port(text: &str) -> anyhow::Result<(&str, u16)> {
    let (host, port) = text.rsplit_once(':').context("expected HOST:PORT")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ensure!(!host.is_empty(), "expected HOST:PORT");
    Ok((host, port.parse().context("expected a port number")?))
}

/// Durations as Go writes them: `90s`, `5m`, `24h`, `1h30m`; and `30d`.
fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, unit) = rest.split_at(digits);
        let number: u64 = number
            .parse()
            .with_context(|| format!("{text:?} is no duration"))?;
        let seconds = match unit.chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 60 * 60,
            Some('d') => 24 * 60 * 60,
            _ => bail!("{text:?} is no duration: expected a number with s, m, h or d"),
        };
        let part = number.checked_mul(seconds).map(Duration::from_secs);
        total = part
            .and_then(|part| total.checked_add(part))
            .with_context(|| format!("{text:?} is too long"))?;
        rest = &unit[1..];
    }
    ensure!(!text.is_empty(), "a duration is missing");
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Config, String> {
        let words = std::iter::once("stanchion-sidecar").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Run(args) = cli.command;
        Config::check(*args).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn local_broker_is_accepted() {
        let config = check(
            "run --role broker --source local --authority-dir /ca --out server=/s --out route=/r \
             --name nats --name 127.0.0.1 --lifetime 1h30m --prove 127.0.0.1:4222",
        )
        .unwrap();
        assert_eq!(config.outputs.len(), 2);
        let Source::Local {
            subject, lifetime, ..
        } = config.source
        else {
            panic!("local")
        };
        assert_eq!(lifetime, Duration::from_secs(5400));
        assert_eq!(subject.common_name, "nats");
        assert_eq!(subject.ip_addresses, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn mistakes_are_named() {
        let local = "run --role broker --source local --authority-dir /ca";
        let issuer = "run --role client --source issuer --out client=/c";
        for (line, expected) in [
            (format!("{local} --out peer=/s"), "\"peer\""),
            (
                format!("{local} --out server=relative --name a"),
                "absolute",
            ),
            (format!("{local} --out server=/s"), "--name"),
            (
                format!("{local} --out server=/s --out server=/t --name a"),
                "twice",
            ),
            (format!("{local} --out server=/s --name a..b"), "a..b"),
            (
                format!("{local} --out route=/s --name a --prove h:1"),
                "--out server",
            ),
            (
                format!("{local} --out server=/s --name a --prove h"),
                "HOST:PORT",
            ),
            (
                format!("{local} --out server=/s --name a --lifetime 3w"),
                "3w",
            ),
            (
                format!("{local} --out server=/s --name a --broker-monitor ftp://h"),
                "http://",
            ),
            (
                format!("{local} --out server=/s --name a --store-config /nowhere"),
                "/nowhere",
            ),
            (issuer.to_owned(), "--issuer-url"),
            (format!("{issuer} --issuer-url http://h:1"), "https://"),
            (format!("{issuer} --issuer-url https://h:1"), "--issuer-ca"),
            (
                format!("{issuer} --issuer-url https://h:1 --issuer-ca /f"),
                "--token-file",
            ),
        ] {
            let error = check(&line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
