//! The port of routes.

use std::time::Duration;

use broker_core::{
    auth::settings::Secret,
    cluster::settings::{ClusterSettings, RouteUrl},
};

use super::{
    super::{
        Bind, ClientPort, ClusterPort,
        draft::{Address, ClusterDraft, Draft},
        url::{self, ServerUrl},
    },
    Problems, text, tls,
};

/// Longest time between two pings to a peer (`routeMaxPingInterval`).
const MAX_PING_INTERVAL: Duration = Duration::from_secs(30);
/// For a peer to show who it is, where nothing is said and there is no TLS.
const AUTH_TIMEOUT: Duration = Duration::from_secs(2);

/// None: there are no routes.
pub(super) fn port(
    draft: &Draft,
    client: &ClientPort,
    problems: &mut Problems<'_>,
) -> Option<ClusterPort> {
    let cluster = &draft.cluster;
    let (address, login) = listen(cluster, problems)?;
    let routes = routes(cluster, problems)?;
    let Some(port) = problems.port("cluster port", address.port) else {
        if !routes.is_empty() {
            // Wording of `server/opts.go`.
            let text = "solicited routes require cluster capabilities, e.g. --cluster";
            problems.add_at(cluster.at.as_ref(), text);
        } else if let Some(at) = &cluster.at {
            let text = format!("{at}: cluster has no effect: it has no port");
            problems.warnings.push(text);
        }
        return None;
    };
    let host = address.host.unwrap_or_else(|| "0.0.0.0".to_owned());
    let tls = tls::listener(&cluster.tls, tls::Of::Routes, problems);
    let auth_timeout = match (cluster.auth_timeout_nanos, &tls) {
        (0, None) => AUTH_TIMEOUT,
        (0, Some(tls)) => tls.timeout + Duration::from_secs(1),
        (nanos, _) => problems.span("cluster authorization timeout", nanos),
    };
    let write_deadline = match cluster.write_deadline_nanos {
        0 => client.write_deadline,
        nanos => problems.span("cluster write_deadline", nanos),
    };
    Some(ClusterPort {
        bind: Bind { host, port },
        tls,
        auth_timeout,
        write_deadline,
        write_timeout: cluster.write_timeout,
        settings: ClusterSettings {
            name: name(cluster, problems),
            routes,
            login,
            import: cluster.import.clone(),
            export: cluster.export.clone(),
            advertise: advertise(cluster, problems),
            no_advertise: cluster.no_advertise,
            connect_retries: problems.small("connect_retries", cluster.connect_retries),
            connect_backoff: cluster.connect_backoff,
            ping_interval: ping_interval(cluster, problems),
            ping_max: problems.small("cluster ping_max", cluster.ping_max),
        },
    })
}

/// Where to listen and what peers have to show. A flag wins over both, as in `overrideCluster`.
fn listen(
    cluster: &ClusterDraft,
    problems: &mut Problems<'_>,
) -> Option<(Address, Option<(String, Secret)>)> {
    match cluster.listen_flag.as_deref() {
        None => {
            let login = (!cluster.user.is_empty())
                .then(|| (cluster.user.clone(), cluster.password.clone()));
            Some((cluster.bind.clone(), login))
        }
        Some("") => Some((Address::default(), None)),
        Some(flag) => match url::server(flag) {
            Ok(ServerUrl { host, port, login }) => {
                let host = Some(host);
                Some((Address { host, port }, login))
            }
            Err(error) => {
                problems.add(&format!("invalid value for flag -cluster: {error}"));
                None
            }
        },
    }
}

fn routes(cluster: &ClusterDraft, problems: &mut Problems<'_>) -> Option<Vec<RouteUrl>> {
    let Some(flag) = cluster.routes_flag.as_deref() else {
        return Some(cluster.routes.clone());
    };
    let words = flag.split(',').map(str::trim);
    let routes: Result<_, _> = words
        .filter(|word| !word.is_empty())
        .map(url::route)
        .collect();
    routes
        .inspect_err(|error| problems.add(&format!("invalid value for flag -routes: {error}")))
        .ok()
}

fn name(cluster: &ClusterDraft, problems: &mut Problems<'_>) -> Option<String> {
    if cluster.name.contains(char::is_whitespace) {
        // Wording of `server/errors.go`.
        problems.add_at(cluster.at.as_ref(), "cluster name cannot contain spaces");
    }
    text(&cluster.name)
}

fn advertise(cluster: &ClusterDraft, problems: &mut Problems<'_>) -> Option<String> {
    problems.advertise("cluster_advertise", &cluster.advertise)?;
    text(&cluster.advertise)
}

fn ping_interval(cluster: &ClusterDraft, problems: &mut Problems<'_>) -> Duration {
    let interval = problems.span("cluster ping_interval", cluster.ping_interval_nanos);
    if interval > MAX_PING_INTERVAL {
        let text = "Cluster 'ping_interval' will reset to 30s which is the max for routes";
        problems
            .warnings
            .push(super::placed(cluster.at.as_ref(), text));
    }
    interval.min(MAX_PING_INTERVAL)
}
