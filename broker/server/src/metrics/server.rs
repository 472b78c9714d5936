//! Names of the NATS server (`collector/collector.go`, `connz.go`, `routez.go`, `healthz.go` and
//! `accstatz.go` of the exporter), all of them gauges there and here. They begin with the configured
//! prefix.

use serde::Serialize;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Exposition;
use crate::monitor::{
    ConnzQuery, Health, Monitor, SubszQuery,
    details::{AccountFigures, ConnectionFigures, RouteFigures, ServerDetails},
};

/// Strings that the exporter shows.
const SHOWN_STRINGS: [&str; 3] = ["server_id", "server_name", "version"];

/// Times that the exporter shows, as milliseconds since the Unix epoch.
const SHOWN_TIMES: [&str; 2] = ["start", "config_load_time"];

/// Names, after that of the document, that the exporter leaves out.
const SKIPPED: [&str; 3] = [
    "_cluster_auth_timeout",
    "_cluster_cluster_port",
    "_cluster_tls_timeout",
];

/// Everything about the NATS server.
pub(super) async fn gather(page: &mut Exposition, monitor: &Monitor) {
    let facts = monitor.facts();
    let mut names = Names {
        page,
        prefix: &facts.metrics_prefix,
        server: facts.server_name(),
    };
    let varz = monitor.varz(|varz| value(varz)).await;
    names.document("varz", &varz);
    names.health(monitor.source.health().await);
    if let Some(details) = monitor.source.details() {
        names.detailed(monitor, details).await;
    }
}

fn value(document: &impl Serialize) -> Value {
    serde_json::to_value(document).unwrap_or_default()
}

/// Writes samples with the names and labels that all of them share.
struct Names<'a> {
    page: &'a mut Exposition,
    prefix: &'a str,
    server: &'a str,
}

impl Names<'_> {
    /// One sample; `labels` come after that of the server.
    fn add(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let name = format!("{}_{name}", self.prefix);
        let labels: Vec<_> = [("server_id", self.server)]
            .into_iter()
            .chain(labels.iter().copied())
            .collect();
        self.page.add("gauge", &name, "", &labels, value);
    }

    /// Numbers of a document, named by their place in it.
    fn document(&mut self, name: &str, document: &Value) {
        let Some(fields) = document.as_object() else {
            return;
        };
        for (key, value) in fields {
            let name = format!("{name}_{}", key.strip_prefix('/').unwrap_or(key))
                .replace(['/', '-', '.'], "_");
            if SKIPPED.iter().any(|skipped| name.ends_with(skipped)) {
                continue;
            }
            match value {
                Value::Number(number) => self.add(&name, &[], number),
                Value::Object(_) => self.document(&name, value),
                Value::String(text) if SHOWN_STRINGS.contains(&key.as_str()) => {
                    self.add(&name, &[("value", text)], 1);
                }
                Value::String(text) if SHOWN_TIMES.contains(&key.as_str()) => {
                    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
                        self.add(&name, &[], time.unix_timestamp_nanos() / 1_000_000);
                    }
                }
                Value::String(_) | Value::Bool(_) | Value::Null | Value::Array(_) => {}
            }
        }
    }

    fn health(&mut self, health: Health) {
        let serving = health == Health::Serving;
        self.add("healthz_status", &[], u8::from(!serving));
        self.add(
            "healthz_status_value",
            &[("value", "ok")],
            u8::from(serving),
        );
    }

    async fn detailed(&mut self, monitor: &Monitor, details: &dyn ServerDetails) {
        let query = ConnzQuery::default();
        let (total, connections) = monitor.connections(details, &query).await;
        self.connections(total, &query, &connections);
        let mut routes = details.routes(false).await;
        routes.sort_by_key(|route| route.rid);
        self.routes(&routes);
        let no_list = SubszQuery::default();
        let subsz = monitor.subsz(details, &no_list, |subsz| value(subsz)).await;
        self.document("subsz", &subsz);
        let mut accounts = details.accounts().await;
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        self.accounts(&accounts);
    }

    /// Sums over the first page, as the exporter makes them.
    fn connections(&mut self, total: u64, query: &ConnzQuery, page: &[ConnectionFigures]) {
        type Of = fn(&ConnectionFigures) -> u64;
        self.add("connz_num_connections", &[], page.len());
        self.add("connz_total", &[], total);
        self.add("connz_offset", &[], query.window.offset);
        self.add("connz_limit", &[], query.window.limit);
        let sums: [(&str, Of); 6] = [
            ("connz_pending_bytes", |one| one.pending_bytes),
            ("connz_subscriptions", |one| one.subscription_count),
            ("connz_in_bytes", |one| one.received.bytes),
            ("connz_out_bytes", |one| one.sent.bytes),
            ("connz_in_msgs", |one| one.received.msgs),
            ("connz_out_msgs", |one| one.sent.msgs),
        ];
        for (name, of) in sums {
            self.add(name, &[], page.iter().map(of).sum::<u64>());
        }
    }

    fn routes(&mut self, routes: &[RouteFigures]) {
        type Of = fn(&RouteFigures) -> u64;
        self.add("routez_num_routes", &[], routes.len());
        for route in routes {
            let (rid, ip) = (route.rid.to_string(), route.ip.to_string());
            let labels = [
                ("rid", rid.as_str()),
                ("remote_id", &route.remote_id),
                ("remote_name", &route.remote_name),
                ("ip", &ip),
            ];
            self.add("routez_route_info", &labels, 1);
        }
        for route in routes {
            if let Some(rtt) = route.rtt {
                let rid = route.rid.to_string();
                self.add(
                    "routez_route_rtt_seconds",
                    &[("rid", &rid)],
                    rtt.as_secs_f64(),
                );
            }
        }
        let of_route: [(&str, Of); 5] = [
            ("routez_route_subscriptions", |one| one.subscription_count),
            ("routez_route_in_msgs", |one| one.received.msgs),
            ("routez_route_out_msgs", |one| one.sent.msgs),
            ("routez_route_in_bytes", |one| one.received.bytes),
            ("routez_route_out_bytes", |one| one.sent.bytes),
        ];
        for (name, of) in of_route {
            for route in routes {
                let rid = route.rid.to_string();
                self.add(name, &[("rid", &rid)], of(route));
            }
        }
    }

    fn accounts(&mut self, accounts: &[AccountFigures]) {
        type Of = fn(&AccountFigures) -> u64;
        let of_account: [(&str, Of); 9] = [
            ("current_connections", |one| one.connections),
            // Of all servers of the cluster, as far as they are known.
            ("total_connections", |one| one.connections),
            ("subscriptions", |one| one.sublist.subscriptions),
            // Leaf nodes this server does not have.
            ("leaf_nodes", |_| 0),
            ("sent_messages", |one| one.sent.msgs),
            ("sent_bytes", |one| one.sent.bytes),
            ("received_messages", |one| one.received.msgs),
            ("received_bytes", |one| one.received.bytes),
            ("slow_consumers", |one| one.slow_consumers),
        ];
        for (name, of) in of_account {
            for account in accounts {
                let labels = [
                    ("account", account.name.as_str()),
                    ("account_id", &account.name),
                    ("account_name", &account.name),
                ];
                self.add(&format!("accstatz_{name}"), &labels, of(account));
            }
        }
    }
}
