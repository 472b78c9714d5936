//! What monitoring asks of the NATS server itself: raw facts about connections, routes, subscriptions
//! and accounts. Sorting, filtering and paging are monitoring's own business.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use broker_core::{auth::settings::SubjectRules, session::Claim};
use futures_util::future::BoxFuture;

/// The NATS server as its documents need it. Each answer is one look, taken by whatever threads own
/// the data; two questions may see two states.
pub(crate) trait ServerDetails: fmt::Debug + Send + Sync {
    /// Connections of clients, in any order.
    fn connections(&self, query: ConnectionQuery) -> BoxFuture<'_, ConnectionList>;

    /// Routes to other servers, in any order.
    fn routes(&self, subscriptions: bool) -> BoxFuture<'_, Vec<RouteFigures>>;

    /// Subscriptions of one account or all; zeros for an account that there is not.
    fn subscriptions(&self, query: SubscriptionQuery) -> BoxFuture<'_, SublistFigures>;

    /// All accounts, in any order.
    fn accounts(&self) -> BoxFuture<'_, Vec<AccountFigures>>;
}

/// Which connections are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    #[default]
    Open,
    /// Of the last ones that ended, `max_closed_clients` of them at most.
    Closed,
    Any,
}

/// A question about connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionQuery {
    pub(crate) state: ConnectionState,
    /// Only those of them with these ids; `None`: all. Few as a rule, and more would be ignored.
    pub(crate) cids: Option<Vec<u64>>,
    /// With [`ConnectionFigures::subscriptions`].
    pub(crate) subscriptions: bool,
}

/// Connections, and how many there are where not all were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionList {
    /// Open now, whatever the query left out; 0 if only closed ones were asked for.
    pub(crate) open: u64,
    /// Remembered closed ones, whatever the query left out; 0 if only open ones were asked for.
    pub(crate) closed: u64,
    pub(crate) items: Vec<ConnectionFigures>,
}

/// Messages and their bytes: headers and payloads, without the protocol around them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) msgs: u64,
    pub(crate) bytes: u64,
}

/// One client's connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionFigures {
    pub(crate) cid: u64,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) start: SystemTime,
    /// When something was last read from it or delivered to it.
    pub(crate) last_activity: SystemTime,
    /// `None`: it is open.
    pub(crate) closed: Option<Closed>,
    /// `None`: not measured yet.
    pub(crate) rtt: Option<Duration>,
    /// Waiting to be written.
    pub(crate) pending_bytes: u64,
    /// From the client.
    pub(crate) received: Traffic,
    /// To the client.
    pub(crate) sent: Traffic,
    /// How often it had to wait as a publisher for slow receivers.
    pub(crate) stalls: u64,
    pub(crate) subscription_count: u64,
    /// As the client calls itself; empty as a rule.
    pub(crate) name: String,
    pub(crate) lang: String,
    pub(crate) version: String,
    pub(crate) tls: Option<TlsFigures>,
    /// Whom it was found to be, or else says to be; `None`: it showed no credentials.
    pub(crate) authorized_user: Option<Claim>,
    /// `None`: it never belonged to one.
    pub(crate) account: Option<String>,
    /// If asked for.
    pub(crate) subscriptions: Vec<SubscriptionFigures>,
}

/// The end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) stop: SystemTime,
    /// As `ClosedState.String` of `server/monitor.go` words it.
    pub(crate) reason: &'static str,
}

/// What was agreed on for an encrypted connection.
#[derive(Clone, Debug)]
pub(crate) struct TlsFigures {
    /// `1.2` or `1.3`.
    pub(crate) version: &'static str,
    /// Go's name: `TLS_AES_128_GCM_SHA256`.
    pub(crate) cipher_suite: String,
    /// The handshake came before INFO.
    pub(crate) first: bool,
    /// Chain that the client showed, the leaf first.
    pub(crate) peer_certificates: Vec<PeerCertificate>,
}

/// A certificate of a client.
#[derive(Clone, Debug)]
pub(crate) struct PeerCertificate {
    /// RFC 2253, as Go writes it.
    pub(crate) subject: String,
    /// Over the SubjectPublicKeyInfo.
    pub(crate) spki_sha256: [u8; 32],
    /// Over the certificate.
    pub(crate) certificate_sha256: [u8; 32],
}

/// One subscription of a client or of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionFigures {
    pub(crate) account: String,
    pub(crate) subject: String,
    pub(crate) queue_group: Option<String>,
    pub(crate) sid: String,
    /// Messages so far.
    pub(crate) delivered: u64,
    /// Messages after which it ends.
    pub(crate) max: Option<u64>,
    /// Connection or route that holds it.
    pub(crate) cid: u64,
}

/// A connection to another server of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct RouteFigures {
    /// From the same numbers as those of clients.
    pub(crate) rid: u64,
    pub(crate) remote_id: String,
    pub(crate) remote_name: String,
    /// We opened it.
    pub(crate) did_solicit: bool,
    /// Its server is in our configuration.
    pub(crate) is_configured: bool,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) start: SystemTime,
    pub(crate) last_activity: SystemTime,
    pub(crate) rtt: Option<Duration>,
    pub(crate) pending_bytes: u64,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
    /// Interest that the other server has told us.
    pub(crate) subscription_count: u64,
    /// If asked for.
    pub(crate) subscriptions: Vec<SubscriptionFigures>,
    /// What the other server says it takes and gives.
    pub(crate) import: Option<SubjectRules>,
    pub(crate) export: Option<SubjectRules>,
}

/// A question about subscriptions.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubscriptionQuery {
    /// `None`: all accounts.
    pub(crate) account: Option<String>,
    /// With [`SublistFigures::list`].
    pub(crate) list: bool,
    /// A literal subject: what does not match it need not be listed.
    pub(crate) subject: Option<String>,
}

/// Figures of the engine that finds subscriptions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SublistStats {
    pub(crate) subscriptions: u64,
    /// Subjects whose matches are remembered.
    pub(crate) cached: u64,
    pub(crate) inserts: u64,
    pub(crate) removes: u64,
    /// Lookups, answered from memory or not.
    pub(crate) matches: u64,
    /// Lookups answered from memory.
    pub(crate) cache_hits: u64,
    /// Over the remembered subjects: most subscriptions of one, and how many all have together.
    pub(crate) max_fanout: u64,
    pub(crate) total_fanout: u64,
}

/// Subscriptions, counted and listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct SublistFigures {
    pub(crate) stats: SublistStats,
    /// If asked for, in any order.
    pub(crate) list: Vec<SubscriptionFigures>,
}

/// One account.
#[derive(Clone, Debug)]
pub(crate) struct AccountFigures {
    pub(crate) name: String,
    /// It belongs to the server.
    pub(crate) is_system: bool,
    /// When it was last set up: at the start or by a reload.
    pub(crate) updated: SystemTime,
    /// Clients now.
    pub(crate) connections: u64,
    /// To clients and routes, and the part of it that went over routes.
    pub(crate) sent: Traffic,
    pub(crate) sent_to_routes: Traffic,
    /// From clients and routes, and the part of it that came over routes.
    pub(crate) received: Traffic,
    pub(crate) received_from_routes: Traffic,
    pub(crate) slow_consumers: u64,
    pub(crate) sublist: SublistStats,
}
