//! `/connz`: connections of clients, open and closed, sorted and paged.

use std::{
    cmp::{Ordering, Reverse},
    collections::HashMap,
    time::SystemTime,
};

use broker_core::{auth::settings::GLOBAL_ACCOUNT, session::Claim};
use serde::Serialize;

use super::{
    super::{
        details::{
            ConnectionFigures, ConnectionList, ConnectionQuery, ConnectionState, PeerCertificate,
            SubscriptionFigures,
        },
        facts::Facts,
        parameters::Window,
    },
    Stamp, SubscriptionDetail, Subscriptions, between, hex, is_false, is_zero, listed, round_trip,
    uptime,
};

/// What is shown for credentials that are secrets themselves.
const REDACTED: &str = "[REDACTED]";

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnzQuery {
    pub(crate) sort: Sort,
    /// With users, accounts and certificates.
    pub(crate) auth: bool,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) window: Window,
    pub(crate) cid: Option<u64>,
    pub(crate) state: ConnectionState,
    pub(crate) user: Option<String>,
    pub(crate) account: Option<String>,
    /// MQTT there is none, so with it nothing is found.
    pub(crate) mqtt_client: Option<String>,
}

/// Order of the connections; the id decides between equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Cid,
    Start,
    Subscriptions,
    Pending,
    MsgsTo,
    MsgsFrom,
    BytesTo,
    BytesFrom,
    Last,
    Idle,
    Uptime,
    Stop,
    Reason,
    Rtt,
}

impl Sort {
    /// By the name that requests have for it.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "" | "cid" => Self::Cid,
            "start" => Self::Start,
            "subs" => Self::Subscriptions,
            "pending" => Self::Pending,
            "msgs_to" => Self::MsgsTo,
            "msgs_from" => Self::MsgsFrom,
            "bytes_to" => Self::BytesTo,
            "bytes_from" => Self::BytesFrom,
            "last" => Self::Last,
            "idle" => Self::Idle,
            "uptime" => Self::Uptime,
            "stop" => Self::Stop,
            "reason" => Self::Reason,
            "rtt" => Self::Rtt,
            _ => return None,
        })
    }

    /// Ids, starts, uptimes and reasons from the least, everything else from the most.
    fn compare(self, a: &ConnectionFigures, b: &ConnectionFigures, now: SystemTime) -> Ordering {
        fn by<K: Ord>(
            a: &ConnectionFigures,
            b: &ConnectionFigures,
            key: impl Fn(&ConnectionFigures) -> K,
        ) -> Ordering {
            key(a).cmp(&key(b))
        }
        match self {
            Self::Cid => Ordering::Equal,
            Self::Start => by(a, b, |one| one.start),
            Self::Subscriptions => by(b, a, |one| one.subscription_count),
            Self::Pending => by(b, a, |one| one.pending_bytes),
            Self::MsgsTo => by(b, a, |one| one.sent.msgs),
            Self::MsgsFrom => by(b, a, |one| one.received.msgs),
            Self::BytesTo => by(b, a, |one| one.sent.bytes),
            Self::BytesFrom => by(b, a, |one| one.received.bytes),
            Self::Last => by(b, a, |one| one.last_activity),
            Self::Idle => by(b, a, |one| between(one.last_activity, one.end(now))),
            Self::Uptime => by(a, b, |one| between(one.start, one.end(now))),
            Self::Stop => by(a, b, |one| Reverse(one.closed.as_ref().map(|end| end.stop))),
            Self::Reason => by(a, b, |one| one.closed.as_ref().map(|end| end.reason)),
            Self::Rtt => by(b, a, |one| one.rtt),
        }
    }
}

impl ConnectionFigures {
    /// Until when it lasted, or has lasted so far.
    fn end(&self, now: SystemTime) -> SystemTime {
        self.closed.as_ref().map_or(now, |closed| closed.stop)
    }

    /// User as it may be shown.
    fn shown_user(&self) -> Option<&str> {
        self.authorized_user.as_ref().map(|user| match user {
            Claim::Name(name) => name,
            Claim::Token => REDACTED,
        })
    }
}

impl ConnzQuery {
    /// What the server is asked first. Subscriptions come later and only for those on the page: a
    /// server may have millions.
    pub(crate) fn connections(&self) -> ConnectionQuery {
        ConnectionQuery {
            state: self.state,
            cids: self.cid.map(|cid| vec![cid]),
            subscriptions: false,
        }
    }

    /// Of those that fit the query, how many there are, and the ones on the page.
    pub(crate) fn select(
        &self,
        list: ConnectionList,
        now: SystemTime,
    ) -> (u64, Vec<ConnectionFigures>) {
        let mut items = list.items;
        let mut total = list.open.saturating_add(list.closed);
        // The total knows of accounts, but not of what else narrows the list.
        if let Some(account) = self.account.as_deref() {
            items.retain(|one| one.account.as_deref() == Some(account));
            total = items.len() as u64;
        }
        if let Some(user) = self.user.as_deref() {
            items.retain(|one| one.authorized_user == Some(Claim::Name(user.into())));
        }
        if let Some(cid) = self.cid {
            items.retain(|one| one.cid == cid);
        }
        if self.mqtt_client.is_some() {
            items.clear();
        }
        items.sort_unstable_by(|a, b| self.sort.compare(a, b, now).then_with(|| a.cid.cmp(&b.cid)));
        let range = self.window.range(items.len());
        items.truncate(range.end);
        items.drain(..range.start);
        (total, items)
    }

    /// What the server is asked next, where subscriptions are to be shown.
    pub(crate) fn subscriptions_of(&self, page: &[ConnectionFigures]) -> Option<ConnectionQuery> {
        (self.subscriptions != Subscriptions::Count && !page.is_empty()).then(|| ConnectionQuery {
            state: self.state,
            cids: Some(page.iter().map(|one| one.cid).collect()),
            subscriptions: true,
        })
    }
}

/// Adds the subscriptions of a second look to the page of a first one. A connection that has gone in
/// between stays without.
pub(crate) fn add_subscriptions(page: &mut [ConnectionFigures], with: ConnectionList) {
    let lists = with
        .items
        .into_iter()
        .map(|one| (one.cid, one.subscriptions));
    let mut lists: HashMap<u64, Vec<SubscriptionFigures>> = lists.collect();
    for one in page {
        one.subscriptions = lists.remove(&one.cid).unwrap_or_default();
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Connz<'a> {
    server_id: &'a str,
    now: Stamp,
    num_connections: usize,
    total: u64,
    offset: i64,
    limit: i64,
    connections: Vec<Connection>,
}

#[derive(Debug, Serialize)]
struct Connection {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    protocol: &'static str,
    ip: String,
    port: u16,
    start: Stamp,
    last_activity: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    pending_bytes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cipher_suite: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_peer_certs: Vec<Certificate>,
    #[serde(skip_serializing_if = "is_false")]
    tls_first: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorized_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubscriptionDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_tag: Option<String>,
}

#[derive(Debug, Serialize)]
struct Certificate {
    subject: String,
    spki_sha256: String,
    cert_sha256: String,
}

impl From<PeerCertificate> for Certificate {
    fn from(certificate: PeerCertificate) -> Self {
        Self {
            subject: certificate.subject,
            spki_sha256: hex(&certificate.spki_sha256),
            cert_sha256: hex(&certificate.certificate_sha256),
        }
    }
}

impl<'a> Connz<'a> {
    /// The document of a page that [`ConnzQuery::select`] has chosen.
    pub(crate) fn new(
        facts: &'a Facts,
        query: &ConnzQuery,
        (total, page): (u64, Vec<ConnectionFigures>),
    ) -> Self {
        let now = SystemTime::now();
        Self {
            server_id: &facts.identity.server_id,
            now: now.into(),
            num_connections: page.len(),
            total,
            offset: query.window.offset,
            limit: query.window.limit,
            connections: page
                .into_iter()
                .map(|one| Connection::new(one, query, now))
                .collect(),
        }
    }
}

impl Connection {
    fn new(figures: ConnectionFigures, query: &ConnzQuery, now: SystemTime) -> Self {
        let end = figures.end(now);
        let detail = match figures.closed {
            Some(_) => SubscriptionDetail::with_account,
            // The connection says the account itself.
            None => SubscriptionDetail::of_connection,
        };
        let authorized_user = figures.shown_user().map(str::to_owned);
        let (subscriptions_list, subscriptions_list_detail) =
            listed(figures.subscriptions, query.subscriptions, detail);
        let tls = figures.tls.as_ref();
        let tls_first = tls.is_some_and(|tls| tls.first);
        let tls_version = tls.map(|tls| tls.version);
        let (tls_cipher_suite, certificates) = figures
            .tls
            .map(|tls| (tls.cipher_suite, tls.peer_certificates))
            .unzip();
        let account = figures.account.filter(|_| query.auth);
        let certificates = certificates.filter(|_| query.auth).unwrap_or_default();
        Self {
            cid: figures.cid,
            kind: "Client",
            protocol: "nats",
            ip: figures.ip.to_string(),
            port: figures.port,
            start: figures.start.into(),
            last_activity: figures.last_activity.into(),
            stop: figures.closed.as_ref().map(|closed| closed.stop.into()),
            reason: figures.closed.as_ref().map(|closed| closed.reason),
            rtt: figures.rtt.map(round_trip),
            uptime: uptime(between(figures.start, end)),
            idle: uptime(between(figures.last_activity, end)),
            pending_bytes: figures.pending_bytes,
            in_msgs: figures.received.msgs,
            out_msgs: figures.sent.msgs,
            in_bytes: figures.received.bytes,
            out_bytes: figures.sent.bytes,
            stalls: figures.stalls,
            subscriptions: figures.subscription_count,
            name: figures.name,
            lang: figures.lang,
            version: figures.version,
            tls_version,
            tls_cipher_suite,
            tls_peer_certs: certificates.into_iter().map(Into::into).collect(),
            tls_first,
            authorized_user: authorized_user.filter(|_| query.auth),
            account: account.clone().filter(|name| name != GLOBAL_ACCOUNT),
            subscriptions_list,
            subscriptions_list_detail,
            name_tag: account,
        }
    }
}
