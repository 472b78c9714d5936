//! What has changed between two configurations, and whether that can be taken over while running.
//!
//! All or nothing: one setting that cannot change keeps the whole of the old configuration. Names and
//! texts are those of nats-server (`server/reload.go`); no text shows a secret.

mod fixed;

use std::{fmt, time::Duration};

use broker_core::auth::settings::{AuthSettings, Login, UserSettings};

use super::{
    ClusterPort, Config, HandshakeFirst, StreamingSettings, TlsListener, duration::GoDuration,
};

/// Which part of the server a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Level, file and form of the log.
    Log,
    /// Who may come, to be asked again of everybody who is there.
    Auth,
    /// TLS of clients: certificates are to be read again.
    Tls,
    /// What connections of clients may do, those that are there included.
    Client,
    /// What clients are told in `INFO`.
    Info,
    /// The cluster apart from its list of routes; its certificates are to be read again.
    Cluster,
    /// The list of routes.
    Routes,
    /// Heartbeats and limits of streaming.
    Streaming,
    /// Process ID and ports files.
    ProcessFiles,
    /// What monitoring shows.
    Shown,
}

impl Part {
    /// Of the NATS server, of which nothing is to be seen where streaming stands on another one.
    pub(crate) fn is_of_nats(self) -> bool {
        match self {
            Self::Auth | Self::Client | Self::Info | Self::Cluster | Self::Routes => true,
            Self::Log | Self::Tls | Self::Streaming | Self::ProcessFiles | Self::Shown => false,
        }
    }
}

/// One setting that has changed. Displayed as `key = value`, or without a value where that is a secret
/// or too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) part: Part,
    text: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The changes that make the new configuration of the old one. TLS is one of them wherever it is
/// configured, because the files may have changed.
///
/// # Errors
/// The first setting that cannot change while the server runs.
pub(crate) fn compare(old: &Config, new: &Config) -> Result<Vec<Change>, String> {
    fixed::check(old, new)?;
    let mut changes = Changes(Vec::new());
    log(&mut changes, old, new);
    client(&mut changes, old, new);
    auth(&mut changes, &old.auth, &new.auth);
    changes.shown(
        Part::Auth,
        "authorization timeout",
        [old, new].map(|config| config.auth_timeout.as_secs_f64()),
    );
    tls(
        &mut changes,
        old.client.tls.as_ref(),
        new.client.tls.as_ref(),
    );
    cluster(&mut changes, old.cluster.as_ref(), new.cluster.as_ref());
    let prefixes = [old, new].map(|config| config.metrics_prefix.as_str());
    changes.shown(Part::Shown, "metrics_prefix", prefixes);
    streaming(&mut changes, &old.streaming, &new.streaming);
    // Only the source can; see `fixed`.
    changes.hidden(Part::Streaming, "sql_source", old.store != new.store);
    process_files(&mut changes, old, new);
    Ok(changes.0)
}

struct Changes(Vec<Change>);

impl Changes {
    fn push(&mut self, part: Part, text: impl Into<String>) {
        let text = text.into();
        self.0.push(Change { part, text });
    }

    /// A setting without a value worth showing, or with one that must not be shown.
    fn hidden(&mut self, part: Part, name: &str, is_changed: bool) {
        if is_changed {
            self.push(part, name);
        }
    }

    fn shown<T: PartialEq + fmt::Display>(&mut self, part: Part, name: &str, [old, new]: [T; 2]) {
        if old != new {
            self.push(part, format!("{name} = {new}"));
        }
    }
}

fn log(changes: &mut Changes, old: &Config, new: &Config) {
    let logs = [&old.log, &new.log];
    let part = Part::Log;
    let file = |log: &super::LogSettings| shown_path(log.file.as_deref());
    changes.shown(part, "trace", logs.map(|log| log.trace));
    changes.shown(part, "debug", logs.map(|log| log.debug));
    changes.shown(part, "trace_verbose", logs.map(|log| log.trace_verbose));
    changes.shown(part, "trace_headers", logs.map(|log| log.trace_headers));
    changes.shown(part, "stan_trace", logs.map(|log| log.stan_trace));
    changes.shown(part, "stan_debug", logs.map(|log| log.stan_debug));
    changes.shown(part, "logtime", logs.map(|log| log.time));
    changes.shown(part, "logtime_utc", logs.map(|log| log.time_utc));
    changes.shown(part, "log_file", logs.map(file));
    let traced = logs.map(|log| log.max_traced_msg_len.unwrap_or(0));
    changes.shown(part, "max_traced_msg_len", traced);
}

fn client(changes: &mut Changes, old: &Config, new: &Config) {
    let ports = [&old.client, &new.client];
    let part = Part::Client;
    // Advertising is told in INFO, which carries no secret.
    let advertise = ports.map(|port| {
        let told = port.advertise.as_ref();
        told.map_or(String::new(), |told| match told.port {
            Some(port) => format!("{}:{port}", told.host),
            None => told.host.clone(),
        })
    });
    changes.shown(Part::Info, "client_advertise", advertise);
    let connections = ports.map(|port| signed(port.max_connections));
    changes.shown(part, "max_connections", connections);
    let intervals = ports.map(|port| GoDuration(port.ping_interval).to_string());
    changes.shown(part, "ping_interval", intervals);
    changes.shown(part, "ping_max", ports.map(|port| port.ping_max));
    changes.shown(
        part,
        "max_control_line",
        ports.map(|port| port.max_control_line),
    );
    changes.shown(part, "max_payload", ports.map(|port| port.max_payload));
    let deadlines = ports.map(|port| GoDuration(port.write_deadline).to_string());
    changes.shown(part, "write_deadline", deadlines);
    if old.client.no_fast_producer_stall != new.client.no_fast_producer_stall {
        let not = if new.client.no_fast_producer_stall {
            "not "
        } else {
            ""
        };
        changes.push(part, format!("fast producers will {not}be stalled"));
    }
    let reports = ports.map(|port| port.connect_error_reports);
    changes.shown(Part::Cluster, "connect_error_reports", reports);
    let reports = ports.map(|port| port.reconnect_error_reports);
    changes.shown(Part::Cluster, "reconnect_error_reports", reports);
    let [old, new] = ports;
    changes.hidden(Part::Shown, "tags", old.server_tags != new.server_tags);
    let metadata = old.server_metadata != new.server_metadata;
    changes.hidden(Part::Shown, "metadata", metadata);
}

fn streaming(changes: &mut Changes, old: &StreamingSettings, new: &StreamingSettings) {
    let both = [old, new];
    let part = Part::Streaming;
    let span =
        |of: fn(&StreamingSettings) -> Duration| both.map(|one| GoDuration(of(one)).to_string());
    changes.shown(part, "hb_interval", span(|one| one.hb_interval));
    changes.shown(part, "hb_timeout", span(|one| one.hb_timeout));
    changes.shown(part, "hb_fail_count", both.map(|one| one.hb_fail_count));
    changes.shown(part, "replace_durable", both.map(|one| one.replace_durable));
    changes.hidden(part, "store_limits", old.limits != new.limits);
}

fn auth(changes: &mut Changes, old: &AuthSettings, new: &AuthSettings) {
    let part = Part::Auth;
    let is_nkey = |user: &&UserSettings| matches!(user.login, Login::Nkey(_));
    let (user, password) = single(old);
    let (new_user, new_password) = single(new);
    let users = old.users.iter().filter(|user| !is_nkey(user));
    let users = users.ne(new.users.iter().filter(|user| !is_nkey(user)));
    let nkeys = old.users.iter().filter(is_nkey);
    let nkeys = nkeys.ne(new.users.iter().filter(is_nkey));
    changes.hidden(part, "authorization nkey users", nkeys);
    changes.hidden(part, "authorization users", users);
    changes.hidden(part, "accounts", old.accounts != new.accounts);
    changes.hidden(part, "no_auth_user", old.no_auth_user != new.no_auth_user);
    changes.hidden(part, "authorization username", user != new_user);
    changes.hidden(part, "authorization password", password != new_password);
    changes.hidden(part, "authorization token", old.token != new.token);
}

fn single(auth: &AuthSettings) -> (Option<&str>, Option<&broker_core::auth::settings::Secret>) {
    match &auth.single {
        Some((user, password)) => (Some(user), Some(password)),
        None => (None, None),
    }
}

fn tls(changes: &mut Changes, old: Option<&TlsListener>, new: Option<&TlsListener>) {
    let part = Part::Tls;
    let Some(new) = new else {
        changes.hidden(part, "tls = disabled", old.is_some());
        return;
    };
    changes.push(part, "tls = enabled");
    let Some(old) = old else { return };
    let timeouts = [old, new].map(|tls| tls.timeout.as_secs_f64());
    changes.shown(part, "tls timeout", timeouts);
    let pins = &new.settings.pinned_certs;
    let text = format!("{} pinned_certs", pins.len());
    changes.hidden(part, &text, old.settings.pinned_certs != *pins);
    if old.handshake_first != new.handshake_first {
        let first = new.handshake_first != HandshakeFirst::Never;
        changes.push(part, format!("Client TLS handshake first: {first}"));
        if let HandshakeFirst::After(wait) = new.handshake_first {
            let wait = GoDuration(wait);
            let text = format!("Client TLS handshake first fallback delay: {wait}");
            changes.push(part, text);
        }
    }
}

fn cluster(changes: &mut Changes, old: Option<&ClusterPort>, new: Option<&ClusterPort>) {
    let (Some(old), Some(new)) = (old, new) else {
        return;
    };
    let same_routes = old.settings.routes == new.settings.routes;
    let mut rest = new.clone();
    rest.settings.routes.clone_from(&old.settings.routes);
    let is_changed = rest != *old || new.tls.is_some();
    changes.hidden(Part::Cluster, "cluster", is_changed);
    changes.hidden(Part::Routes, "cluster routes", !same_routes);
}

fn process_files(changes: &mut Changes, old: &Config, new: &Config) {
    let files = [&old.process_files, &new.process_files];
    let part = Part::ProcessFiles;
    let pids = files.map(|files| shown_path(files.pid_file.as_deref()));
    changes.shown(part, "pid_file", pids);
    let dirs = files.map(|files| shown_path(files.ports_file_dir.as_deref()));
    changes.shown(part, "ports_file_dir", dirs);
}

fn shown_path(path: Option<&std::path::Path>) -> String {
    path.map_or(String::new(), |path| path.display().to_string())
}

/// -1 for no limit.
fn signed(limit: Option<usize>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}
