//! From the checked configuration to what the parts take: core, engine, store, TLS.

use std::{rc::Rc, sync::Arc};

use broker_core::streaming::{EngineConfig, LimitsOverride};
use broker_store::{
    MemoryStore, PostgresConfig, PostgresStore, SqliteStore, Store, StoreError,
    postgres::source::Source,
};
use certs::reload::{ReloadError, ServerTls};

use crate::{
    config::{ChannelEntry, ClientPort, StoreKind, StreamingSettings, TlsListener},
    launch::CoreConfig,
};

pub(crate) fn core_config(client: &ClientPort) -> CoreConfig {
    CoreConfig {
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
        ping_interval: client.ping_interval,
        ping_max: client.ping_max,
        write_deadline: client.write_deadline,
        tls_timeout: client
            .tls
            .as_ref()
            .map_or(CoreConfig::default().tls_timeout, |tls| tls.timeout),
        tls_verify: client.tls.as_ref().is_some_and(|tls| tls.settings.verify),
        ..CoreConfig::default()
    }
}

/// Loads certificate and key; a pair that cannot serve is an error here and not at the first handshake.
pub(crate) fn server_tls(tls: &TlsListener) -> Result<Arc<ServerTls>, ReloadError> {
    ServerTls::load(tls.settings.clone()).map(Arc::new)
}

pub(crate) fn engine_config(settings: &StreamingSettings) -> EngineConfig {
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
    }
}

/// Makes the store on the thread that will use it.
pub(crate) fn store(kind: &StoreKind) -> Result<Rc<dyn Store>, StoreError> {
    Ok(match kind {
        StoreKind::Memory => Rc::new(MemoryStore::new()),
        StoreKind::File { dir } => Rc::new(SqliteStore::new(dir)?),
        StoreKind::Sql { source } => {
            let environment = std::env::vars().collect();
            let source = Source::parse(source.expose(), &environment)?;
            Rc::new(PostgresStore::new(PostgresConfig { source }))
        }
    })
}
