//! A draft becomes a configuration, or is refused with the name of what is wrong.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use broker_core::auth::settings::AuthSettings;
use certs::settings::{PairFiles, TlsSettings};

use super::{
    Advertise, Bind, ClientPort, Config, ConfigError, HandshakeFirst, LogSettings, ProcessFiles,
    StoreKind, StreamingSettings, TlsListener, WriteTimeout,
    draft::{Address, Draft},
    file::FileRead,
    limits::{Limits, Own, StoreLimits},
};

/// Port of clients where none is given.
const CLIENT_PORT: u16 = 4222;

pub(super) fn check(
    draft: &Draft,
    files: Vec<FileRead>,
    mut warnings: Vec<String>,
) -> Result<Config, ConfigError> {
    if !draft.log_time {
        warnings
            .push("logtime: false has no effect: log lines always have a time stamp".to_owned());
    }
    let host = draft
        .client
        .host
        .clone()
        .unwrap_or_else(|| "0.0.0.0".to_owned());
    Ok(Config {
        client: client_port(draft, &host)?,
        auth: AuthSettings::default(),
        auth_timeout: Duration::from_secs(2),
        cluster: None,
        streaming_enabled: true,
        monitor: bind("http_port", &draft.monitor, &host)?,
        monitor_tls: false,
        monitor_base_path: String::new(),
        metrics: bind("metrics_port", &draft.metrics, &host)?,
        streaming: streaming(draft)?,
        store: store(draft)?,
        log: LogSettings {
            file: path(&draft.log_file),
            file_size_limit: None,
            file_max_num: None,
            time: true,
            time_utc: true,
            trace_verbose: false,
            trace_headers: false,
            max_traced_msg_len: None,
            debug: draft.debug,
            trace: draft.trace,
            stan_debug: draft.stan_debug,
            stan_trace: draft.stan_trace,
        },
        process_files: ProcessFiles {
            pid_file: path(&draft.pid_file),
            ports_file_dir: path(&draft.ports_file_dir),
        },
        files,
        warnings,
    })
}

fn client_port(draft: &Draft, host: &str) -> Result<ClientPort, ConfigError> {
    if draft.server_name.contains(char::is_whitespace) {
        return Err(ConfigError::Setting(
            "server name cannot contain spaces".to_owned(),
        ));
    }
    let max_payload = positive("max_payload", draft.max_payload)?;
    let max_pending = positive("max_pending", draft.max_pending)?;
    if max_payload > max_pending {
        return Err(ConfigError::Setting(format!(
            "max_payload ({max_payload}) cannot be higher than max_pending ({max_pending})"
        )));
    }
    Ok(ClientPort {
        bind: Bind {
            host: host.to_owned(),
            port: port("port", draft.client.port)?.unwrap_or(CLIENT_PORT),
        },
        advertise: advertise(&draft.client_advertise)?,
        server_name: text(&draft.server_name),
        tls: tls(draft)?,
        allow_non_tls: false,
        max_connections: usize::try_from(draft.max_connections).ok(),
        max_subscriptions: None,
        max_sub_tokens: None,
        max_closed_clients: 10_000,
        write_timeout: WriteTimeout::Default,
        no_header_support: false,
        no_fast_producer_stall: false,
        lame_duck_duration: Duration::from_secs(120),
        lame_duck_grace_period: Duration::from_secs(10),
        server_tags: Vec::new(),
        server_metadata: BTreeMap::new(),
        connect_error_reports: 3600,
        reconnect_error_reports: 1,
        max_control_line: positive("max_control_line", draft.max_control_line)?,
        max_payload,
        max_pending,
        ping_interval: span("ping_interval", draft.ping_interval_nanos)?,
        ping_max: count("ping_max", draft.ping_max)?,
        write_deadline: span("write_deadline", draft.write_deadline_nanos)?,
    })
}

/// `host` or `host:port`.
fn advertise(value: &str) -> Result<Option<Advertise>, ConfigError> {
    if value.is_empty() {
        return Ok(None);
    }
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>())),
        None => (value, None),
    };
    match port.transpose() {
        Ok(port) if !host.is_empty() && port != Some(0) => Ok(Some(Advertise {
            host: host.to_owned(),
            port,
        })),
        _ => Err(ConfigError::Setting(format!(
            "client_advertise {value:?} is not host or host:port"
        ))),
    }
}

fn tls(draft: &Draft) -> Result<Option<TlsListener>, ConfigError> {
    let tls = &draft.tls;
    let implied = tls.verify || !tls.cert_file.is_empty();
    if !tls.wanted.unwrap_or(implied) {
        return Ok(None);
    }
    let missing = |flag: &str, key: &str| {
        ConfigError::Setting(format!(
            "TLS for clients needs -{flag} ({key} in the tls block)"
        ))
    };
    let cert_file = path(&tls.cert_file).ok_or_else(|| missing("tlscert", "cert_file"))?;
    let key_file = path(&tls.key_file).ok_or_else(|| missing("tlskey", "key_file"))?;
    let ca_file = path(&tls.ca_file);
    if tls.verify && ca_file.is_none() {
        return Err(missing("tlscacert", "ca_file"));
    }
    let timeout = span("tls timeout", tls.timeout_nanos)?;
    Ok(Some(TlsListener {
        settings: TlsSettings {
            pairs: vec![PairFiles {
                cert: cert_file,
                key: key_file,
            }],
            ca_file,
            verify: tls.verify,
            ..TlsSettings::default()
        },
        timeout,
        handshake_first: HandshakeFirst::Never,
        map_certificates: false,
        connection_rate_limit: None,
    }))
}

fn streaming(draft: &Draft) -> Result<StreamingSettings, ConfigError> {
    subject_tokens("cluster_id", &draft.cluster_id)?;
    subject_tokens("discover_prefix", &draft.discover_prefix)?;
    Ok(StreamingSettings {
        cluster_id: draft.cluster_id.clone(),
        discover_prefix: draft.discover_prefix.clone(),
        hb_interval: span("hb_interval", draft.hb_interval_nanos)?,
        hb_timeout: span("hb_timeout", draft.hb_timeout_nanos)?,
        hb_fail_count: count("hb_fail_count", draft.hb_fail_count)?,
        replace_durable: draft.replace_durable,
        limits: limits(draft)?,
    })
}

/// Becomes part of subjects, so it must be whole tokens without wildcards.
fn subject_tokens(name: &str, value: &str) -> Result<(), ConfigError> {
    let bad = |token: &str| token.is_empty() || token == "*" || token == ">";
    if value.contains(|next: char| next.is_whitespace() || next.is_control())
        || value.split('.').any(bad)
    {
        return Err(ConfigError::Setting(format!(
            "{name} {value:?} cannot be part of a subject"
        )));
    }
    Ok(())
}

fn limits(draft: &Draft) -> Result<StoreLimits, ConfigError> {
    let unsigned = |name: &str, value: i64| {
        u64::try_from(value).map_err(|_| {
            ConfigError::Setting(format!("max {name} limit cannot be negative ({value})"))
        })
    };
    let Own {
        max_msgs,
        max_bytes,
        max_age_nanos,
        max_subs,
        max_inactivity_nanos,
    } = draft.limits;
    let general = Limits {
        max_msgs: unsigned("messages", max_msgs)?,
        max_bytes: unsigned("bytes", max_bytes)?,
        max_age_nanos: unsigned("age", max_age_nanos)?,
        max_subs: unsigned("subscriptions", max_subs)?,
        max_inactivity_nanos: unsigned("inactivity", max_inactivity_nanos)?,
    };
    let max_channels = unsigned("channels", draft.max_channels)?;
    if general.max_inactivity_nanos > 0 {
        return Err(ConfigError::Setting(
            "max_inactivity is not supported yet: only 0s".to_owned(),
        ));
    }
    if let Some(channel) = draft
        .channels
        .iter()
        .find(|channel| channel.own.max_inactivity_nanos > 0)
    {
        return Err(ConfigError::Setting(format!(
            "{}: max_inactivity of channel {:?} is not supported yet: only \"0s\"",
            channel.at, channel.pattern
        )));
    }
    let entries = draft
        .channels
        .iter()
        .map(|channel| (channel.pattern.clone(), channel.own))
        .collect();
    let limits = StoreLimits::new(max_channels, general, entries);
    let literal = limits.literal_channels();
    if max_channels > 0 && literal as u64 > max_channels {
        return Err(ConfigError::Setting(format!(
            "too many channels defined ({literal}). The max channels limit is set to {max_channels}"
        )));
    }
    Ok(limits)
}

fn store(draft: &Draft) -> Result<StoreKind, ConfigError> {
    let refuse = |text: &str| Err(ConfigError::Setting(text.to_owned()));
    match draft.store.to_ascii_uppercase().as_str() {
        "MEMORY" => Ok(StoreKind::Memory),
        "FILE" => match path(&draft.dir) {
            Some(dir) => Ok(StoreKind::File { dir }),
            None => refuse("for FILE stores, root directory must be specified (-dir)"),
        },
        "SQL" => match draft.sql_driver.as_str() {
            // The source alone says it, and nothing else is offered.
            "postgres" | "" if draft.sql_source.is_empty() => refuse(
                "the SQL store needs a source: streaming { sql { source: ... } } in the -sc file, or STANCHION_SQL_SOURCE",
            ),
            "postgres" | "" => Ok(StoreKind::Sql {
                source: draft.sql_source.clone(),
            }),
            "mysql" => refuse("sql driver \"mysql\" is not supported yet: only postgres"),
            other => Err(ConfigError::Setting(format!(
                "sql: unknown driver {other:?}: only postgres"
            ))),
        },
        _ => Err(ConfigError::Setting(format!(
            "unsupported store type: {}: expected MEMORY, FILE or SQL",
            draft.store
        ))),
    }
}

fn bind(name: &str, address: &Address, host: &str) -> Result<Option<Bind>, ConfigError> {
    let host = address.host.clone().unwrap_or_else(|| host.to_owned());
    Ok(port(name, address.port)?.map(|port| Bind { host, port }))
}

/// None for 0; -1 is the operating system's choice, which sockets spell 0.
fn port(name: &str, value: i64) -> Result<Option<u16>, ConfigError> {
    match value {
        0 => Ok(None),
        -1 => Ok(Some(0)),
        _ => match u16::try_from(value) {
            Ok(port) => Ok(Some(port)),
            Err(_) => Err(ConfigError::Setting(format!("{name} {value} is no port"))),
        },
    }
}

fn span(name: &str, nanos: i64) -> Result<Duration, ConfigError> {
    match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos)),
        _ => Err(ConfigError::Setting(format!(
            "{name} must be longer than 0s"
        ))),
    }
}

fn count(name: &str, value: i64) -> Result<u32, ConfigError> {
    u32::try_from(value)
        .map_err(|_| ConfigError::Setting(format!("{name} {value} is out of range")))
}

fn positive(name: &str, value: i64) -> Result<usize, ConfigError> {
    match i32::try_from(value) {
        Ok(value) if value > 0 => Ok(value.unsigned_abs() as usize),
        _ => Err(ConfigError::Setting(format!(
            "{name} {value} is out of range"
        ))),
    }
}

fn text(value: &str) -> Option<String> {
    if value.is_empty() {
        None
    } else {
        Some(value.to_owned())
    }
}

fn path(value: &str) -> Option<PathBuf> {
    if value.is_empty() {
        None
    } else {
        Some(PathBuf::from(value))
    }
}
