//! From the checked configuration to what the parts take: core, engine, store, TLS.

use std::{rc::Rc, sync::Arc};

use broker_core::{
    session::SubscriptionLimits,
    streaming::{EngineConfig, LimitsOverride, PartitionConfig},
};
use broker_store::{
    MemoryStore, PostgresConfig, PostgresStore, SealedStore, SqliteStore, Store, StoreError,
    postgres::{Sources, source::Source},
};
use certs::{
    reload::{ClientTls, ReloadError, ServerTls},
    settings::TlsSettings,
};
use time::OffsetDateTime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{ChannelEntry, ClusterPort, Config, Encryption, StoreKind, TlsListener, WriteTimeout},
    monitor::https,
    settings::{AdmitPeer, CoreConfig, FailureReports, RoutePort, RouteTls, TlsPort},
    trace::TraceSettings,
};

/// TLS of all ports, as loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadedTls {
    pub(crate) clients: Option<Arc<ServerTls>>,
    /// Both directions of routes.
    pub(crate) routes: Option<(Arc<ServerTls>, Arc<ClientTls>)>,
    /// The certificates of the port of clients, asking for none.
    pub(crate) monitor: Option<Arc<ServerTls>>,
}

impl LoadedTls {
    /// Loads certificates and keys; a pair that cannot serve is an error here and not at the first
    /// handshake.
    pub(crate) fn load(config: &Config) -> Result<Self, ReloadError> {
        let clients = config.client.tls.as_ref().map(|tls| &tls.settings);
        let routes = config.cluster.as_ref().and_then(|port| port.tls.as_ref());
        Ok(Self {
            clients: clients
                .map(|tls| ServerTls::load(tls.clone()).map(Arc::new))
                .transpose()?,
            routes: routes.map(|tls| load_routes(&tls.settings)).transpose()?,
            monitor: clients
                .filter(|_| config.monitor_tls)
                .map(https)
                .transpose()?,
        })
    }

    /// Those of its parts that another one does not have.
    pub(crate) fn begun_since(&self, old: &Self) -> Self {
        let new = |ours: &Option<Arc<ServerTls>>, theirs: &Option<Arc<ServerTls>>| {
            ours.clone().filter(|_| theirs.is_none())
        };
        Self {
            clients: new(&self.clients, &old.clients),
            routes: self.routes.clone().filter(|_| old.routes.is_none()),
            monitor: new(&self.monitor, &old.monitor),
        }
    }

    /// Follows the files of all of them.
    pub(crate) fn watch(&self, tasks: &TaskTracker, token: &CancellationToken) {
        for tls in self.clients.iter().chain(&self.monitor) {
            tasks.spawn(Arc::clone(tls).watch(token.clone()));
        }
        if let Some((accepting, dialling)) = &self.routes {
            tasks.spawn(Arc::clone(accepting).watch(token.clone()));
            tasks.spawn(Arc::clone(dialling).watch(token.clone()));
        }
    }

    /// What is already in force takes over new settings; what is new is loaded. Nothing changes unless
    /// all of it can be used.
    pub(crate) fn reload(&self, config: &Config) -> Result<Self, ReloadError> {
        let fresh = Self::load(config)?;
        if let (Some(old), Some(new)) = (&self.clients, &fresh.clients) {
            old.replace(new.settings().as_ref().clone())?;
        }
        if let (Some(old), Some(new)) = (&self.routes, &fresh.routes) {
            old.0.replace(new.0.settings().as_ref().clone())?;
            old.1.replace(new.1.settings().as_ref().clone())?;
        }
        if let (Some(old), Some(new)) = (&self.monitor, &fresh.monitor) {
            old.replace(new.settings().as_ref().clone())?;
        }
        Ok(Self {
            clients: keep(self.clients.as_ref(), fresh.clients),
            routes: keep(self.routes.as_ref(), fresh.routes),
            monitor: keep(self.monitor.as_ref(), fresh.monitor),
        })
    }
}

/// The old one, which lives on with new settings, where there is still to be one.
fn keep<T: Clone>(old: Option<&T>, fresh: Option<T>) -> Option<T> {
    fresh.map(|fresh| old.cloned().unwrap_or(fresh))
}

fn load_routes(settings: &TlsSettings) -> Result<(Arc<ServerTls>, Arc<ClientTls>), ReloadError> {
    // Other servers always have to show a certificate.
    let accepting = TlsSettings {
        verify: true,
        ..settings.clone()
    };
    Ok((
        Arc::new(ServerTls::load(accepting)?),
        Arc::new(ClientTls::load(settings.clone())?),
    ))
}

pub(crate) fn core_config(config: &Config, tls: &LoadedTls) -> CoreConfig {
    let client = &config.client;
    let listens = config.external.is_none();
    CoreConfig {
        listens,
        // One that nobody connects to carries the engine.
        workers: (!listens).then_some(1),
        host: client.bind.host.clone(),
        port: client.bind.port.into(),
        server_name: client.server_name.clone().unwrap_or_default(),
        client_advertise: client
            .advertise
            .as_ref()
            .map(|told| (told.host.clone(), told.port.unwrap_or(client.bind.port))),
        max_payload: client.max_payload,
        max_control_line: client.max_control_line,
        max_pending: client.max_pending,
        max_connections: client.max_connections,
        subscriptions: SubscriptionLimits {
            count: client.max_subscriptions.map(Into::into),
            tokens: client.max_sub_tokens.map(Into::into),
        },
        max_closed: client.max_closed_clients,
        ping_interval: client.ping_interval,
        ping_max: client.ping_max,
        write_deadline: client.write_deadline,
        retry_writes: client.write_timeout == WriteTimeout::Retry,
        headers: !client.no_header_support,
        stall_producers: !client.no_fast_producer_stall,
        auth: config.auth.clone(),
        auth_timeout: config.auth_timeout,
        tls: client
            .tls
            .as_ref()
            .zip(tls.clients.clone())
            .map(|(listener, loaded)| tls_port(listener, loaded, client.allow_non_tls)),
        trace: config.log.trace.then_some(TraceSettings {
            headers_only: config.log.trace_headers,
            max_bytes: config.log.max_traced_msg_len,
        }),
        cluster: config.cluster.as_ref().map(|port| RoutePort {
            reports: FailureReports {
                connecting: client.connect_error_reports,
                reconnecting: client.reconnect_error_reports,
            },
            ..route_port(port, tls.routes.clone())
        }),
        ..CoreConfig::default()
    }
}

/// By what is in force when it is asked.
fn admits(tls: &Arc<ServerTls>) -> AdmitPeer {
    let tls = Arc::clone(tls);
    Arc::new(move |leaf| tls.admits(leaf, OffsetDateTime::now_utc()))
}

fn tls_port(listener: &TlsListener, loaded: Arc<ServerTls>, optional: bool) -> TlsPort {
    TlsPort {
        admits: admits(&loaded),
        handle: Arc::new(move || loaded.current()),
        timeout: listener.timeout,
        first: listener.handshake_first,
        optional,
        verify: listener.settings.verify,
        rate_limit: listener.connection_rate_limit,
    }
}

fn route_port(port: &ClusterPort, tls: Option<(Arc<ServerTls>, Arc<ClientTls>)>) -> RoutePort {
    let timeout = port.tls.as_ref().map(|tls| tls.timeout).unwrap_or_default();
    RoutePort {
        host: port.bind.host.clone(),
        port: port.bind.port.into(),
        auth_timeout: port.auth_timeout,
        tls: tls.map(|(accepting, dialling)| RouteTls {
            admits: admits(&accepting),
            accepting: Arc::new(move || accepting.current()),
            dialling: Arc::new(move || dialling.current()),
            timeout,
        }),
        write_deadline: port.write_deadline,
        retry_writes: port.write_timeout != WriteTimeout::Close,
        settings: port.settings.clone(),
        reports: FailureReports::default(),
    }
}

/// `server_id` is of this process.
pub(crate) fn engine_config(config: &Config, server_id: &str) -> EngineConfig {
    let settings = &config.streaming;
    let limits = &settings.limits;
    EngineConfig {
        cluster_id: settings.cluster_id.clone(),
        discover_prefix: settings.discover_prefix.clone(),
        heartbeat_interval: settings.hb_interval,
        heartbeat_timeout: settings.hb_timeout,
        heartbeat_fail_count: settings.hb_fail_count,
        max_channels: limits.max_channels,
        limits: limits.general.for_channel(),
        overrides: limits.channels.iter().map(limits_override).collect(),
        replace_durable: settings.replace_durable,
        partition: settings.partitioning.then(|| PartitionConfig {
            server_id: server_id.to_owned(),
            max_payload: config.client.max_payload,
        }),
    }
}

/// The entry's limits are complete, so nothing is left to inherit.
fn limits_override(entry: &ChannelEntry) -> LimitsOverride {
    let set = |value: u64| match value {
        0 => -1,
        value => i64::try_from(value).unwrap_or(-1),
    };
    let limits = entry.limits.for_channel();
    LimitsOverride {
        pattern: entry.pattern.clone(),
        max_msgs: set(limits.max_msgs),
        max_bytes: set(limits.max_bytes),
        max_age_nanos: set(limits.max_age_nanos),
        max_subs: set(limits.max_subs),
        max_inactivity_nanos: set(limits.max_inactivity_nanos),
    }
}

/// Where the database is; `None` for stores without one.
///
/// # Errors
/// The source cannot be used.
pub(crate) fn source(kind: &StoreKind) -> Result<Option<Arc<Source>>, StoreError> {
    let StoreKind::Sql { source } = kind else {
        return Ok(None);
    };
    let environment = std::env::vars().collect();
    Ok(Some(Arc::new(Source::parse(
        source.expose(),
        &environment,
    )?)))
}

/// Makes the store on the thread that will use it. `sources` says where the database of a SQL store is.
pub(crate) fn store(
    kind: &StoreKind,
    sources: Option<Sources>,
    encryption: Option<&Encryption>,
) -> Result<Rc<dyn Store>, StoreError> {
    let store: Rc<dyn Store> = match kind {
        StoreKind::Memory => Rc::new(MemoryStore::new()),
        StoreKind::File { dir } => Rc::new(SqliteStore::new(dir)?),
        StoreKind::Sql { .. } => {
            let sources = sources.expect("a SQL store has a source");
            Rc::new(PostgresStore::new(PostgresConfig { sources }))
        }
    };
    Ok(match encryption {
        None => store,
        Some(Encryption { cipher, key }) => {
            Rc::new(SealedStore::new(store, key.expose().as_bytes(), *cipher))
        }
    })
}
