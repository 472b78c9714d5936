//! `/routez`: connections to the other servers of the cluster.

use std::time::SystemTime;

use serde::Serialize;

use super::{
    super::{details::RouteFigures, facts::Facts},
    Rules, Stamp, SubscriptionDetail, Subscriptions, between, listed, round_trip, uptime,
};

/// What a route is compressed with.
const NO_COMPRESSION: &str = "off";

#[derive(Debug, Serialize)]
pub(crate) struct Routez<'a> {
    server_id: &'a str,
    server_name: &'a str,
    now: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<Rules<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<Rules<'a>>,
    num_routes: usize,
    routes: Vec<Route<'a>>,
}

#[derive(Debug, Serialize)]
struct Route<'a> {
    rid: u64,
    remote_id: &'a str,
    remote_name: &'a str,
    did_solicit: bool,
    is_configured: bool,
    ip: String,
    port: u16,
    start: Stamp,
    last_activity: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<Rules<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<Rules<'a>>,
    pending_size: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubscriptionDetail>,
    compression: &'static str,
}

impl<'a> Routez<'a> {
    /// `routes` is sorted by it, and loses its subscriptions.
    pub(crate) fn new(
        facts: &'a Facts,
        routes: &'a mut [RouteFigures],
        subscriptions: Subscriptions,
    ) -> Self {
        let now = SystemTime::now();
        routes.sort_by_key(|route| route.rid);
        let cluster = facts.cluster.as_ref();
        Self {
            server_id: &facts.identity.server_id,
            server_name: &facts.identity.server_name,
            now: now.into(),
            import: cluster.and_then(|cluster| cluster.import.as_ref().map(Rules::new)),
            export: cluster.and_then(|cluster| cluster.export.as_ref().map(Rules::new)),
            num_routes: routes.len(),
            routes: routes
                .iter_mut()
                .map(|route| Route::new(route, subscriptions, now))
                .collect(),
        }
    }
}

impl<'a> Route<'a> {
    fn new(route: &'a mut RouteFigures, shown: Subscriptions, now: SystemTime) -> Self {
        let subscriptions = std::mem::take(&mut route.subscriptions);
        let (subscriptions_list, subscriptions_list_detail) =
            listed(subscriptions, shown, SubscriptionDetail::of_connection);
        Self {
            rid: route.rid,
            remote_id: &route.remote_id,
            remote_name: &route.remote_name,
            did_solicit: route.did_solicit,
            is_configured: route.is_configured,
            ip: route.ip.to_string(),
            port: route.port,
            start: route.start.into(),
            last_activity: route.last_activity.into(),
            rtt: route.rtt.map(round_trip),
            uptime: uptime(between(route.start, now)),
            idle: uptime(between(route.last_activity, now)),
            import: route.import.as_ref().map(Rules::new),
            export: route.export.as_ref().map(Rules::new),
            pending_size: route.pending_bytes,
            in_msgs: route.received.msgs,
            out_msgs: route.sent.msgs,
            in_bytes: route.received.bytes,
            out_bytes: route.sent.bytes,
            subscriptions: route.subscription_count,
            subscriptions_list,
            subscriptions_list_detail,
            compression: NO_COMPRESSION,
        }
    }
}
