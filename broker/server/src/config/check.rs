//! A draft becomes a configuration, or is refused with everything that is wrong in it.

mod auth;
mod client;
mod cluster;
mod external;
mod streaming;
mod tls;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use broker_core::{auth::settings::AuthSettings, cluster::mesh::split_address};
use broker_proto::conf::Position;

use super::{
    Advertise, Bind, Config, ConfigError, LogSettings, ProcessFiles,
    draft::{Address, Draft},
    file::{FileRead, Report},
};

pub(super) fn check(
    draft: &Draft,
    files: Vec<FileRead>,
    report: Report,
) -> Result<Config, ConfigError> {
    let mut problems = Problems {
        places: &draft.places,
        warnings: report.warnings,
        found: report.problems,
    };
    let default_host = "0.0.0.0".to_owned();
    let host = draft.client.host.clone().unwrap_or(default_host);
    let understood = problems.found.is_empty();
    let client = client::port(draft, &host, &mut problems);
    let external = external::settings(draft, &mut problems);
    let (mut auth, auth_timeout) = auth::settings(draft, client.tls.as_ref());
    let mut cluster = None;
    if external.is_some() {
        // Nobody connects here; who is named is who we are to others.
        auth = AuthSettings::default();
    } else {
        // What has not been understood would only look as if it were missing.
        if understood {
            auth::check(draft, &auth, &mut problems);
        }
        cluster = cluster::port(draft, &client, &mut problems);
    }
    let (monitor, monitor_tls) = monitor(draft, &host, client.tls.is_some(), &mut problems);
    let (streaming, store, encryption) = streaming::settings(draft, &mut problems);
    let config = Config {
        client,
        auth,
        auth_timeout,
        cluster,
        external,
        streaming_enabled: draft.streaming != Some(false),
        monitor,
        monitor_tls,
        monitor_base_path: base_path(&draft.monitor_base_path),
        metrics: problems.bind("metrics_port", &draft.metrics, &host),
        metrics_prefix: problems.metrics_prefix(&draft.metrics_prefix),
        streaming,
        store,
        encryption,
        log: log(draft, &mut problems),
        process_files: ProcessFiles {
            pid_file: path(&draft.pid_file),
            ports_file_dir: path(&draft.ports_file_dir),
        },
        files,
        warnings: std::mem::take(&mut problems.warnings),
    };
    if problems.found.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Setting(problems.found.join("\n")))
    }
}

/// Where it is, and whether it is HTTPS. Wording of `server/server.go`.
fn monitor(
    draft: &Draft,
    host: &str,
    has_tls: bool,
    problems: &mut Problems<'_>,
) -> (Option<Bind>, bool) {
    let (plain, tls) = (draft.monitor.port, draft.monitor_tls_port);
    if plain != 0 && tls != 0 {
        problems.add(&format!(
            "Can't start monitoring: can't specify both HTTP ({plain}) and HTTPs ({tls}) ports"
        ));
    }
    if tls == 0 {
        return (problems.bind("http_port", &draft.monitor, host), false);
    }
    if !has_tls {
        problems.add("Can't start monitoring: TLS cert and key required for HTTPS");
    }
    let address = Address {
        port: tls,
        ..draft.monitor.clone()
    };
    (problems.bind("https_port", &address, host), true)
}

/// Without empty parts, `.` and `..`; as Go's `path.Clean`.
fn base_path(text: &str) -> String {
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.iter().map(|part| format!("/{part}")).collect()
}

fn log(draft: &Draft, problems: &mut Problems<'_>) -> LogSettings {
    let size_limit = problems.count("log_size_limit", draft.log_size_limit);
    let max_num = problems.count("log_max_num", draft.log_max_num);
    let traced = problems.count("max_traced_msg_len", draft.max_traced_msg_len.max(0));
    LogSettings {
        file: path(&draft.log_file),
        file_size_limit: (size_limit > 0).then_some(size_limit as u64),
        file_max_num: (max_num > 0).then_some(max_num),
        time: draft.log_time,
        time_utc: draft.log_time_utc,
        debug: draft.debug,
        trace: draft.trace,
        trace_verbose: draft.trace_verbose,
        trace_headers: draft.trace_headers,
        max_traced_msg_len: (traced > 0).then_some(traced),
        stan_debug: draft.stan_debug,
        stan_trace: draft.stan_trace,
    }
}

/// What is wrong, and what is only worth saying, a line each. Values that are wrong are replaced, so
/// that the check can go on to the next one.
struct Problems<'a> {
    /// Where the values stand that come from a file.
    places: &'a BTreeMap<&'static str, Position>,
    warnings: Vec<String>,
    found: Vec<String>,
}

impl Problems<'_> {
    fn add(&mut self, text: &str) {
        self.found.push(text.to_owned());
    }

    /// About what stands there, if it is from a file.
    fn add_at(&mut self, at: Option<&Position>, text: &str) {
        self.found.push(placed(at, text));
    }

    /// About the value of a key or flag.
    fn about(&mut self, name: &str, text: impl fmt::Display) {
        let at = self.places.get(name);
        self.found.push(placed(at, &text.to_string()));
    }

    fn warn_about(&mut self, name: &str, text: &str) {
        let at = self.places.get(name);
        self.warnings.push(placed(at, text));
    }

    /// Longer than nothing.
    fn span(&mut self, name: &str, nanos: i64) -> Duration {
        match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => {
                self.about(name, format_args!("{name} must be longer than 0s"));
                Duration::from_secs(1)
            }
        }
    }

    /// From 0 to 2^31 - 1, but a size may need more.
    fn count(&mut self, name: &str, value: i64) -> usize {
        usize::try_from(value).unwrap_or_else(|_| {
            self.about(name, format_args!("{name} {value} is out of range"));
            0
        })
    }

    fn small(&mut self, name: &str, value: i64) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.about(name, format_args!("{name} {value} is out of range"));
            0
        })
    }

    /// From 1 to 2^31 - 1. Wording of `server/opts.go` for what is more.
    fn positive(&mut self, name: &str, value: i64) -> usize {
        match i32::try_from(value) {
            Ok(value) if value > 0 => value.unsigned_abs() as usize,
            _ => {
                let problem = if value > 0 {
                    format!("{name} value is too big")
                } else {
                    format!("{name} {value} is out of range")
                };
                self.about(name, problem);
                1
            }
        }
    }

    fn bind(&mut self, name: &str, address: &Address, host: &str) -> Option<Bind> {
        let host = address.host.clone().unwrap_or_else(|| host.to_owned());
        self.port(name, address.port)
            .map(|port| Bind { host, port })
    }

    /// Names begin with it, so it must be a name itself (Prometheus, data model).
    fn metrics_prefix(&mut self, value: &str) -> String {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
        if !value.bytes().all(allowed) || !value.starts_with(|first: char| !first.is_ascii_digit())
        {
            let name = "metrics_prefix";
            self.about(
                name,
                format_args!("{name} {value:?} is no name of a metric"),
            );
        }
        value.to_owned()
    }

    /// None for 0; -1 is the operating system's choice, which sockets spell 0.
    fn port(&mut self, name: &str, value: i64) -> Option<u16> {
        match value {
            0 => None,
            -1 => Some(0),
            _ => u16::try_from(value)
                .inspect_err(|_| self.about(name, format_args!("{name} {value} is no port")))
                .ok(),
        }
    }

    /// `host` or `host:port`, with brackets around an IPv6 address.
    fn advertise(&mut self, name: &str, value: &str) -> Option<Advertise> {
        if value.is_empty() {
            return None;
        }
        match split_address(value) {
            Some((host, port)) if port != Some(0) => Some(Advertise { host, port }),
            _ => {
                self.about(
                    name,
                    format_args!("{name} {value:?} is not host or host:port"),
                );
                None
            }
        }
    }
}

fn placed(at: Option<&Position>, text: &str) -> String {
    match at {
        Some(at) => format!("{at}: {text}"),
        None => text.to_owned(),
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
