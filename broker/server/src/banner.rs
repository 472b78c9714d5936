//! Log lines that other programs look for: test harnesses read the port out of them, operators and
//! scripts wait for the ready lines. Word for word those of nats-server (`server/server.go`) and of
//! nats-streaming-server (`server/server.go`), whose lines start with `STREAM: `.

use std::{fmt, net::SocketAddr};

use deploy_runtime::ProcessSignal;
use tracing::{error, info, warn};

use crate::config::{Config, FileRead, StoreLimits};

const STARTING_NATS: &str = "Starting nats-server";
const STARTING_STREAMING: &str = "Starting nats-streaming-server";
const LISTENING: &str = "Listening for client connections on";
const TLS_REQUIRED: &str = "TLS required for client connections";
const MONITORING: &str = "Starting http monitor on";
const MONITORING_TLS: &str = "Starting https monitor on";
const NATS_READY: &str = "Server is ready";
const CLUSTER_NAME: &str = "Cluster name is";
const ROUTES_LISTENING: &str = "Listening for route connections on";
const LAME_DUCK: &str = "Entering lame duck mode, stop accepting new clients";
const CLOSING_CLIENTS: &str = "Closing existing clients";
const RELOADED: &str = "Reloaded server configuration";
const RELOAD_FAILED: &str = "Failed to reload server configuration:";
const SHUTTING_DOWN: &str = "Initiating Shutdown...";
const EXITING: &str = "Server Exiting..";
const RECOVERING: &str = "Recovering the state...";
const NO_STATE: &str = "No recovered state";
const STORE: &str = "Message store is";
const STREAMING_READY: &str = "Streaming Server is ready";
const STREAMING_SHUTDOWN: &str = "Shutting down.";

/// Logger name of lines about the NATS server.
const NATS: &str = "nats";
/// Logger name of lines about streaming.
const STREAMING: &str = "streaming";

macro_rules! nats {
    ($($text:tt)*) => { info!(target: NATS, $($text)*) };
}

macro_rules! streaming {
    ($($text:tt)*) => { info!(target: STREAMING, "STREAM: {}", format_args!($($text)*)) };
}

/// First lines of the log, and what the configuration has to say.
pub(crate) fn starting(config: &Config, streaming_id: &str) {
    if config.streaming_enabled {
        let version = env!("CARGO_PKG_VERSION");
        let cluster_id = &config.streaming.cluster_id;
        streaming!("{STARTING_STREAMING}[{cluster_id}] version {version}");
        streaming!("ServerID: {streaming_id}");
    }
    for FileRead { path, sha256 } in &config.files {
        nats!("Using configuration file: {path} (sha256:{sha256})");
    }
    for warning in &config.warnings {
        warn!(target: NATS, "{warning}");
    }
}

/// The NATS server has begun to start.
pub(crate) fn nats_starting(nats_version: &str, server_name: &str, server_id: &str) {
    nats!("{STARTING_NATS}");
    nats!("  Version:  {nats_version}");
    // What the reference shows when it does not know its commit; parsers expect the line.
    nats!("  Git:      [not set]");
    nats!("  Name:     {server_name}");
    nats!("  ID:       {server_id}");
}

/// Clients can connect.
pub(crate) fn listening(address: SocketAddr, tls: bool) {
    nats!("{LISTENING} {address}");
    if tls {
        nats!("{TLS_REQUIRED}");
    }
}

/// HTTP monitoring answers.
pub(crate) fn monitoring(address: SocketAddr) {
    nats!("{MONITORING} {address}");
}

/// HTTP monitoring answers, over TLS.
pub(crate) fn monitoring_tls(address: SocketAddr) {
    nats!("{MONITORING_TLS} {address}");
}

/// Other servers can connect.
pub(crate) fn routes_listening(cluster_name: &str, address: SocketAddr) {
    nats!("{CLUSTER_NAME} {cluster_name}");
    nats!("{ROUTES_LISTENING} {address}");
}

/// Metrics answer. Ours, not the reference's.
pub(crate) fn metrics(address: SocketAddr) {
    nats!("Serving metrics on {address}");
}

/// The NATS server is up.
pub(crate) fn nats_ready() {
    nats!("{NATS_READY}");
}

/// The store is about to be read.
pub(crate) fn recovering() {
    streaming!("{RECOVERING}");
}

/// The store has been read. None: nothing was ever stored.
pub(crate) fn recovered(channels: Option<usize>) {
    match channels {
        Some(count) => streaming!("Recovered {count} channel(s)"),
        None => streaming!("{NO_STATE}"),
    }
}

/// The limits in force, one line a limit.
pub(crate) fn limits(limits: &StoreLimits) {
    for line in limits.lines() {
        streaming!("{line}");
    }
}

/// Another process owns the store; `holder` is what is known of it.
pub(crate) fn standby(holder: &str) {
    streaming!("standby: the store is owned by {holder}");
}

/// Streaming serves. `kind` is `MEMORY`, `FILE` or `SQL`.
pub(crate) fn ready(kind: &str) {
    streaming!("{STORE} {kind}");
    streaming!("{STREAMING_READY}");
}

/// The connection to an external NATS server is lost; `reason` holds no secret.
pub(crate) fn nats_lost(connection: &str, reason: &dyn fmt::Display) {
    warn!(target: STREAMING, "STREAM: connection {connection:?} has been disconnected: {reason}");
}

/// The connection to an external NATS server is there again; `server` is host and port.
pub(crate) fn nats_again(connection: &str, server: &str) {
    streaming!("connection {connection:?} reconnected to NATS Server at {server:?}");
}

/// Streaming stops serving.
pub(crate) fn streaming_shutdown() {
    streaming!("{STREAMING_SHUTDOWN}");
}

/// A signal has come.
pub(crate) fn trapped(signal: ProcessSignal) {
    nats!("Trapped {:?} signal", signal.to_string());
}

/// No more clients are taken in, and those that are there will be sent away.
pub(crate) fn lame_duck() {
    nats!("{LAME_DUCK}");
}

/// The grace period of lame duck mode is over.
pub(crate) fn closing_clients() {
    nats!("{CLOSING_CLIENTS}");
}

/// One setting has another value after a reload; no secrets. `change` is `key = value`.
pub(crate) fn reloaded_setting(change: &str) {
    nats!("Reloaded: {change}");
}

/// The same of a setting of the NATS server, where that is another one.
pub(crate) fn reloaded_in_vain(change: &str) {
    warn!(target: NATS, "{change} has no effect: the NATS server is external");
}

/// A reload has come to its end. None: there is no file.
pub(crate) fn reloaded(sha256: Option<&str>) {
    match sha256 {
        Some(sha256) => nats!("{RELOADED} (sha256:{sha256})"),
        None => nats!("{RELOADED}"),
    }
}

/// A reload has changed nothing.
pub(crate) fn reload_failed(reason: &dyn fmt::Display) {
    error!(target: NATS, "{RELOAD_FAILED} {reason}");
}

/// The channels of a server that shares its cluster id with others; nothing for one that does not.
pub(crate) fn partition(channels: &str) {
    if !channels.is_empty() {
        streaming!("Partitioning enabled, channels: {channels}");
    }
}

/// Something went wrong that the server lives on with.
pub(crate) fn error(error: &anyhow::Error) {
    error!(target: NATS, "{error:#}");
}

/// Why the server ends: the last line of the log of one that fails.
pub(crate) fn fatal(error: &anyhow::Error) {
    error!(target: deploy_runtime::FATAL, "{error:#}");
}

/// The NATS server stops serving.
pub(crate) fn shutting_down() {
    nats!("{SHUTTING_DOWN}");
}

/// Last line of the log.
pub(crate) fn exiting() {
    nats!("{EXITING}");
}

#[cfg(test)]
mod tests {
    use std::{
        fmt,
        sync::{Arc, Mutex},
    };

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;
    use crate::config;

    /// Keeps the messages of all events.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Visit for Lines {
        fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn lines_are_word_for_word_those_that_others_look_for() {
        let Ok(config::Command::Run(config)) = config::read(&[], &|_| None) else {
            panic!("configuration")
        };
        let lines = Lines::default();
        tracing::subscriber::with_default(lines.clone(), || {
            starting(&config, "SID");
            nats_starting("2.9.24", "n1", "NID");
            listening("0.0.0.0:4222".parse().unwrap(), true);
            monitoring("0.0.0.0:8222".parse().unwrap());
            monitoring_tls("0.0.0.0:8443".parse().unwrap());
            nats_ready();
            routes_listening("c1", "[::]:6222".parse().unwrap());
            recovering();
            recovered(None);
            recovered(Some(3));
            limits(&config.streaming.limits);
            ready("SQL");
            trapped(ProcessSignal::Hangup);
            reloaded_setting("debug = true");
            reloaded(Some("abc"));
            reload_failed(&"config reload not supported for Port: old=4222, new=4333");
            trapped(ProcessSignal::User2);
            lame_duck();
            closing_clients();
            streaming_shutdown();
            shutting_down();
            exiting();
        });
        let lines = lines.0.lock().unwrap().join("\n");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            lines,
            format!(
                "\
STREAM: Starting nats-streaming-server[test-cluster] version {version}
STREAM: ServerID: SID
Starting nats-server
  Version:  2.9.24
  Git:      [not set]
  Name:     n1
  ID:       NID
Listening for client connections on 0.0.0.0:4222
TLS required for client connections
Starting http monitor on 0.0.0.0:8222
Starting https monitor on 0.0.0.0:8443
Server is ready
Cluster name is c1
Listening for route connections on [::]:6222
STREAM: Recovering the state...
STREAM: No recovered state
STREAM: Recovered 3 channel(s)
STREAM: ---------- Store Limits ----------
STREAM: Channels:                  100 *
STREAM: --------- Channels Limits --------
STREAM:   Subscriptions:          1000 *
STREAM:   Messages     :       1000000 *
STREAM:   Bytes        :     976.56 MB *
STREAM:   Age          :     unlimited *
STREAM:   Inactivity   :     unlimited *
STREAM: ----------------------------------
STREAM: Message store is SQL
STREAM: Streaming Server is ready
Trapped \"hangup\" signal
Reloaded: debug = true
Reloaded server configuration (sha256:abc)
Failed to reload server configuration: config reload not supported for Port: old=4222, new=4333
Trapped \"user defined signal 2\" signal
Entering lame duck mode, stop accepting new clients
Closing existing clients
STREAM: Shutting down.
Initiating Shutdown...
Server Exiting.."
            )
        );
    }
}
