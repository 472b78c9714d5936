//! Settings that stay as they are until the server starts again.

use std::{fmt, num::NonZeroUsize, time::Duration};

use super::{
    super::{ClientPort, Config, StoreKind, TlsListener, duration::GoDuration},
    signed,
};

/// # Errors
/// The first one that differs.
pub(super) fn check(old: &Config, new: &Config) -> Result<(), String> {
    client(&old.client, &new.client)?;
    monitor(old, new)?;
    auth(old, new)?;
    cluster(old, new)?;
    log(old, new)?;
    same(
        "Streaming",
        [old, new].map(|config| config.streaming_enabled),
    )?;
    if new.streaming_enabled {
        streaming(old, new)?;
    }
    Ok(())
}

fn client(old: &ClientPort, new: &ClientPort) -> Result<(), String> {
    let ports = [old, new];
    let names = ports.map(|port| port.server_name.clone().unwrap_or_default());
    same("ServerName", names)?;
    same("Host", ports.map(|port| port.bind.host.as_str()))?;
    // Any free port is what there is already.
    if new.bind.port != 0 {
        same("Port", ports.map(|port| port.bind.port))?;
    }
    same("NoHeaderSupport", ports.map(|port| port.no_header_support))?;
    same("MaxSubs", ports.map(|port| bound(port.max_subscriptions)))?;
    same("MaxSubTokens", ports.map(|port| bound(port.max_sub_tokens)))?;
    same("MaxPending", ports.map(|port| port.max_pending))?;
    same("AllowNonTLS", ports.map(|port| port.allow_non_tls))?;
    let tls = ports.map(|port| port.tls.as_ref());
    let maps = |tls: Option<&TlsListener>| tls.is_some_and(|tls| tls.map_certificates);
    same("TLSMap", tls.map(maps))?;
    let rate =
        |tls: Option<&TlsListener>| tls.and_then(|tls| tls.connection_rate_limit).unwrap_or(0);
    same("TLSRateLimit", tls.map(rate))?;
    let timeouts = ports.map(|port| format!("{:?}", port.write_timeout).to_lowercase());
    same("WriteTimeout", timeouts)?;
    same(
        "MaxClosedClients",
        ports.map(|port| port.max_closed_clients),
    )?;
    span(
        "LameDuckDuration",
        ports.map(|port| port.lame_duck_duration),
    )?;
    span(
        "LameDuckGracePeriod",
        ports.map(|port| port.lame_duck_grace_period),
    )
}

fn monitor(old: &Config, new: &Config) -> Result<(), String> {
    let configs = [old, new];
    let host = |config: &Config| {
        config
            .monitor
            .as_ref()
            .map_or(String::new(), |at| at.host.clone())
    };
    let port = |config: &Config, tls: bool| match &config.monitor {
        Some(at) if config.monitor_tls == tls => at.port,
        _ => 0,
    };
    same("HTTPHost", configs.map(host))?;
    same("HTTPPort", configs.map(|config| port(config, false)))?;
    same(
        "HTTPBasePath",
        configs.map(|config| config.monitor_base_path.as_str()),
    )?;
    same("HTTPSPort", configs.map(|config| port(config, true)))?;
    let metrics = configs.map(|config| {
        let at = config.metrics.as_ref();
        at.map_or(String::new(), |at| format!("{}:{}", at.host, at.port))
    });
    same("Metrics", metrics)
}

/// The user for those who show nothing may only go together with its name.
fn auth(old: &Config, new: &Config) -> Result<(), String> {
    use broker_core::auth::settings::Login;

    let auth = [&old.auth, &new.auth];
    let names = auth.map(|auth| auth.no_auth_user.clone().unwrap_or_default());
    let [was, is] = &names;
    let still_there = new.auth.users.iter().any(|user| match &user.login {
        Login::Password { user, .. } => user == was,
        Login::Nkey(key) => key == was,
    });
    if was.is_empty() || !is.is_empty() || still_there {
        same("NoAuthUser", names)?;
    }
    let systems = auth.map(|auth| auth.system_account.clone().unwrap_or_default());
    same("SystemAccount", systems)
}

fn cluster(old: &Config, new: &Config) -> Result<(), String> {
    let ports = [&old.cluster, &new.cluster].map(Option::as_ref);
    let hosts = ports.map(|port| port.map_or("", |port| port.bind.host.as_str()));
    same("cluster host", hosts)?;
    if new
        .cluster
        .as_ref()
        .is_none_or(|cluster| cluster.bind.port != 0)
    {
        let numbers = ports.map(|port| port.map_or(0, |port| port.bind.port));
        same("cluster port", numbers)?;
    }
    let name = |port: &super::ClusterPort| port.settings.name.clone().unwrap_or_default();
    same(
        "cluster name",
        ports.map(|port| port.map_or(String::new(), name)),
    )
}

fn log(old: &Config, new: &Config) -> Result<(), String> {
    let logs = [&old.log, &new.log];
    same(
        "LogSizeLimit",
        logs.map(|log| log.file_size_limit.unwrap_or(0)),
    )?;
    same("LogMaxFiles", logs.map(|log| log.file_max_num.unwrap_or(0)))
}

/// What a store was first used with, and the store itself.
fn streaming(old: &Config, new: &Config) -> Result<(), String> {
    let settings = [&old.streaming, &new.streaming];
    same(
        "cluster_id",
        settings.map(|settings| settings.cluster_id.as_str()),
    )?;
    same(
        "discover_prefix",
        settings.map(|settings| settings.discover_prefix.as_str()),
    )?;
    same(
        "partitioning",
        settings.map(|settings| settings.partitioning),
    )?;
    let patterns = settings.map(|settings| {
        let channels = settings.limits.channels.iter();
        channels
            .map(|entry| entry.pattern.as_str())
            .collect::<Vec<_>>()
    });
    if new.streaming.partitioning && patterns[0] != patterns[1] {
        return Err(
            "config reload not supported for the channels of a partitioned server".to_owned(),
        );
    }
    same("store", [&old.store, &new.store].map(store_name))?;
    if old.encryption != new.encryption {
        return Err(
            "config reload not supported for encryption: old=[REDACTED], new=[REDACTED]".to_owned(),
        );
    }
    if old.external != new.external {
        return Err(
            "config reload not supported for nats_server: old=[REDACTED], new=[REDACTED]"
                .to_owned(),
        );
    }
    Ok(())
}

fn store_name(store: &StoreKind) -> String {
    match store {
        StoreKind::Memory => "MEMORY".to_owned(),
        StoreKind::File { dir } => format!("FILE {}", dir.display()),
        StoreKind::Sql { .. } => "SQL".to_owned(),
    }
}

/// Wording of `diffOptions`.
fn same<T: PartialEq + fmt::Display>(name: &str, [old, new]: [T; 2]) -> Result<(), String> {
    if old == new {
        Ok(())
    } else {
        Err(format!(
            "config reload not supported for {name}: old={old}, new={new}"
        ))
    }
}

fn span(name: &str, times: [Duration; 2]) -> Result<(), String> {
    same(name, times.map(|time| GoDuration(time).to_string()))
}

/// 0 for no limit.
fn bound(limit: Option<NonZeroUsize>) -> i64 {
    signed(limit.map(NonZeroUsize::get)).max(0)
}
