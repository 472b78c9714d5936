//! What monitoring shows of connections, subscriptions and accounts, asked of the workers that own
//! them. Counting costs nothing on the way of a message: sums are made when somebody asks.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::Arc,
    time::{Instant, SystemTime},
};

use broker_core::{
    account::Account,
    auth::user::UserKind,
    session::Claim,
    subscription::{Subscription, Target},
};
use certs::inspect;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::sync::oneshot;

use crate::{
    close_reason::CloseReason,
    config::HandshakeFirst,
    connection::{self, Connection, Role},
    monitor::details::{
        AccountFigures, Closed, ConnectionFigures, ConnectionList, ConnectionQuery,
        ConnectionState, PeerCertificate, RouteFigures, ServerDetails, SublistFigures,
        SublistStats, SubscriptionFigures, SubscriptionQuery, TlsFigures, Traffic,
    },
    routes::Link,
    shared::Shared,
    worker::Worker,
};

/// The connections of one worker that ended last.
#[derive(Debug, Default)]
pub(crate) struct ClosedConnections(VecDeque<ConnectionFigures>);

impl ClosedConnections {
    /// Remembers one, and forgets the first of more than `most`.
    fn push(&mut self, closed: ConnectionFigures, most: usize) {
        self.0.push_back(closed);
        while self.0.len() > most {
            self.0.pop_front();
        }
    }
}

/// What clients of one account did on one worker, as far as they have gone again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Departed {
    received: Traffic,
    sent: Traffic,
    slow_consumers: u64,
    /// What routes brought and took, which is not part of the above.
    from_routes: Traffic,
    to_routes: Traffic,
}

impl Worker {
    /// A message of an account came over a route.
    pub(crate) fn count_from_route(&mut self, account: &Account, bytes: u64) {
        let part = Traffic { msgs: 1, bytes };
        add(&mut self.departed_of(account).from_routes, part);
    }

    /// What was just routed belongs to an account: part of it may have gone over routes.
    pub(crate) fn count_forwarded(&mut self, account: &Account) {
        if self.exchange.forwarded.msgs > 0 {
            let part = mem::take(&mut self.exchange.forwarded);
            add(&mut self.departed_of(account).to_routes, part);
        }
    }

    /// A client's connection ends: what is to be remembered of it.
    pub(crate) fn remember_closed(
        &mut self,
        connection: &Connection,
        ended: &[Arc<Subscription>],
        reason: CloseReason,
    ) {
        let Some(session) = connection.client() else {
            return;
        };
        let account = Arc::clone(session.account());
        let departed = self.departed_of(&account);
        let (received, sent) = traffic(connection.traffic);
        add(&mut departed.received, received);
        add(&mut departed.sent, sent);
        if matches!(
            reason,
            CloseReason::PendingBytes | CloseReason::WriteDeadline
        ) {
            departed.slow_consumers += 1;
        }
        let most = self.exchange.settings.config.max_closed;
        if most == 0 {
            return;
        }
        let mut figures = self.connection_figures(connection, false);
        figures.subscription_count = ended.len() as u64;
        let listed = |one: &Arc<Subscription>| subscription_figures(one, &account.name);
        figures.subscriptions = ended.iter().map(listed).collect();
        figures.closed = Some(Closed {
            stop: SystemTime::now(),
            reason: reason.text(),
        });
        self.closed.push(figures, most);
    }

    fn departed_of(&mut self, account: &Account) -> &mut Departed {
        if self.departed.len() <= account.index {
            self.departed
                .resize_with(account.index + 1, Departed::default);
        }
        &mut self.departed[account.index]
    }

    fn connection_list(&self, query: &ConnectionQuery) -> ConnectionList {
        let mut list = ConnectionList::default();
        let wanted = |cid: u64| query.cids.as_ref().is_none_or(|cids| cids.contains(&cid));
        if query.state != ConnectionState::Closed {
            let clients = self.exchange.connections.iter().map(|(_, one)| one);
            for connection in clients.filter(|one| one.client().is_some()) {
                list.open += 1;
                if wanted(connection.peer.id) {
                    list.items
                        .push(self.connection_figures(connection, query.subscriptions));
                }
            }
        }
        if query.state != ConnectionState::Open {
            list.closed = self.closed.0.len() as u64;
            let closed = self.closed.0.iter().filter(|one| wanted(one.cid));
            list.items.extend(closed.cloned());
        }
        list
    }

    fn connection_figures(&self, connection: &Connection, listed: bool) -> ConnectionFigures {
        let session = connection.client();
        let client = session.and_then(|session| session.client());
        let client = client.cloned().unwrap_or_default();
        let account = session.map(|session| Arc::clone(session.account()));
        let user = session.and_then(|session| session.user());
        let (received, sent) = traffic(connection.traffic);
        let subscriptions = match (session, &account) {
            (Some(session), Some(account)) if listed => session
                .subscriptions()
                .map(|one| subscription_figures(one, &account.name))
                .collect(),
            _ => Vec::new(),
        };
        let config = &self.exchange.settings.config;
        let first = config
            .tls
            .as_ref()
            .is_some_and(|tls| tls.first != HandshakeFirst::Never);
        ConnectionFigures {
            cid: connection.peer.id,
            ip: connection.address.ip().to_canonical(),
            port: connection.address.port(),
            start: connection.accepted,
            last_activity: wall_clock(connection.liveness.last_activity()),
            closed: None,
            rtt: connection.liveness.round_trip(),
            pending_bytes: connection.output.pending() as u64,
            received,
            sent,
            stalls: connection.traffic.stalls,
            subscription_count: session.map_or(0, |session| session.subscription_count() as u64),
            name: client.name().to_owned(),
            lang: client.lang().to_owned(),
            version: client.version().to_owned(),
            tls: tls_figures(connection, first),
            authorized_user: match user {
                Some(user) if matches!(user.kind(), UserKind::Named | UserKind::Nkey) => {
                    Some(Claim::Name(user.name().into()))
                }
                _ => client.claim,
            },
            // Who was not let in is in none.
            account: account
                .filter(|_| user.is_some())
                .map(|account| account.name.to_string()),
            subscriptions,
        }
    }

    fn route_list(&self, listed: bool) -> Vec<RouteFigures> {
        let connections = self.exchange.connections.iter().map(|(_, one)| one);
        connections
            .filter_map(|connection| match &connection.role {
                Role::Route(link) => Some(route_figures(connection, link, listed)),
                Role::Client(_) => None,
            })
            .collect()
    }

    fn sublist_stats(&self, account: &Account) -> SublistStats {
        let cache = self.cache.stats(account.index);
        SublistStats {
            cached: cache.subjects as u64,
            matches: cache.look_ups,
            cache_hits: cache.hits,
            max_fanout: cache.max_fanout as u64,
            total_fanout: cache.total_fanout as u64,
            ..SublistStats::default()
        }
    }

    /// The part of an account's figures that this worker knows.
    fn account_figures(&self, account: &Account) -> AccountFigures {
        let departed = self.departed.get(account.index).copied();
        let departed = departed.unwrap_or_default();
        let mut figures = AccountFigures {
            name: account.name.to_string(),
            is_system: account.index == self.exchange.shared.accounts.system().index,
            updated: self.exchange.settings.loaded,
            connections: 0,
            sent: departed.sent,
            sent_to_routes: departed.to_routes,
            received: departed.received,
            received_from_routes: departed.from_routes,
            slow_consumers: departed.slow_consumers,
            sublist: self.sublist_stats(account),
        };
        add(&mut figures.sent, departed.to_routes);
        add(&mut figures.received, departed.from_routes);
        for (_, connection) in &self.exchange.connections {
            match &connection.role {
                Role::Client(session) if session.account().index == account.index => {
                    let (received, sent) = traffic(connection.traffic);
                    figures.connections += u64::from(session.is_connected());
                    add(&mut figures.received, received);
                    add(&mut figures.sent, sent);
                }
                Role::Client(_) | Role::Route(_) => {}
            }
        }
        figures
    }
}

/// Answers monitoring's questions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CoreDetails(Arc<Shared>);

impl fmt::Debug for CoreDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreDetails").finish_non_exhaustive()
    }
}

impl CoreDetails {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Asks every worker; those that have ended do not answer.
    async fn ask<R: Send + 'static>(
        &self,
        look: impl Fn(&Worker) -> R + Send + Clone + 'static,
    ) -> Vec<R> {
        let answers = (0..self.0.workers.len()).map(|worker| {
            let (sender, answer) = oneshot::channel();
            let look = look.clone();
            // Whoever asked may have gone.
            let request = Box::new(move |handle: &crate::worker::WorkerHandle| {
                let _ = sender.send(handle.with(|worker| look(worker)));
            });
            self.0.ask(worker, request);
            answer
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    fn accounts_of(&self, name: Option<&str>) -> Vec<Arc<Account>> {
        match name {
            Some(name) => self.0.accounts.find(name).into_iter().collect(),
            None => self.0.accounts.list(),
        }
    }
}

impl ServerDetails for CoreDetails {
    fn connections(&self, query: ConnectionQuery) -> BoxFuture<'_, ConnectionList> {
        async move {
            let most = self.0.settings().config.max_closed;
            let lists = self.ask(move |worker| worker.connection_list(&query)).await;
            let mut all = ConnectionList::default();
            for list in lists {
                all.open += list.open;
                all.closed += list.closed;
                all.items.extend(list.items);
            }
            forget_oldest(&mut all, most);
            all
        }
        .boxed()
    }

    fn routes(&self, subscriptions: bool) -> BoxFuture<'_, Vec<RouteFigures>> {
        async move {
            let lists = self
                .ask(move |worker| worker.route_list(subscriptions))
                .await;
            lists.into_iter().flatten().collect()
        }
        .boxed()
    }

    fn subscriptions(&self, query: SubscriptionQuery) -> BoxFuture<'_, SublistFigures> {
        async move {
            let mut figures = SublistFigures::default();
            for account in self.accounts_of(query.account.as_deref()) {
                let asked = Arc::clone(&account);
                let parts = self.ask(move |worker| worker.sublist_stats(&asked)).await;
                for part in parts {
                    merge(&mut figures.stats, part);
                }
                merge(&mut figures.stats, list_stats(&account));
                if query.list {
                    list_subscriptions(&account, query.subject.as_deref(), &mut figures.list);
                }
            }
            figures
        }
        .boxed()
    }

    fn accounts(&self) -> BoxFuture<'_, Vec<AccountFigures>> {
        async move {
            let mut all = Vec::new();
            for account in self.0.accounts.list() {
                let asked = Arc::clone(&account);
                let mut parts = self
                    .ask(move |worker| worker.account_figures(&asked))
                    .await
                    .into_iter();
                let Some(mut sum) = parts.next() else {
                    continue;
                };
                for part in parts {
                    sum.connections += part.connections;
                    add(&mut sum.sent, part.sent);
                    add(&mut sum.sent_to_routes, part.sent_to_routes);
                    add(&mut sum.received, part.received);
                    add(&mut sum.received_from_routes, part.received_from_routes);
                    sum.slow_consumers += part.slow_consumers;
                    merge(&mut sum.sublist, part.sublist);
                }
                merge(&mut sum.sublist, list_stats(&account));
                all.push(sum);
            }
            all
        }
        .boxed()
    }
}

/// Workers remember as many each as all together shall.
fn forget_oldest(list: &mut ConnectionList, most: usize) {
    let excess = (list.closed as usize).saturating_sub(most);
    if excess == 0 {
        return;
    }
    let stops = list.items.iter().filter_map(|one| one.closed.as_ref());
    let mut stops: Vec<_> = stops.map(|closed| closed.stop).collect();
    stops.sort_unstable();
    list.closed = most as u64;
    if let Some(first_kept) = stops.len().checked_sub(most).and_then(|at| stops.get(at)) {
        let kept = |one: &ConnectionFigures| {
            one.closed
                .as_ref()
                .is_none_or(|closed| closed.stop >= *first_kept)
        };
        list.items.retain(kept);
    }
}

fn list_stats(account: &Account) -> SublistStats {
    let (subscriptions, (inserts, removes)) = account
        .sublist
        .read(|list| (list.len() as u64, list.turnover()));
    SublistStats {
        subscriptions,
        inserts,
        removes,
        ..SublistStats::default()
    }
}

fn list_subscriptions(account: &Account, subject: Option<&str>, to: &mut Vec<SubscriptionFigures>) {
    account.sublist.read(|list| match subject {
        Some(subject) => {
            let matches = list.matches(subject.as_bytes());
            let all = matches.plain.iter().chain(matches.groups.iter().flatten());
            to.extend(all.map(|one| subscription_figures(one, &account.name)));
        }
        None => list.for_each(|one| to.push(subscription_figures(one, &account.name))),
    });
}

fn merge(to: &mut SublistStats, part: SublistStats) {
    to.subscriptions += part.subscriptions;
    to.cached += part.cached;
    to.inserts += part.inserts;
    to.removes += part.removes;
    to.matches += part.matches;
    to.cache_hits += part.cache_hits;
    to.max_fanout = to.max_fanout.max(part.max_fanout);
    to.total_fanout += part.total_fanout;
}

fn add(to: &mut Traffic, part: Traffic) {
    to.msgs += part.msgs;
    to.bytes += part.bytes;
}

/// Received and sent.
fn traffic(of: connection::Traffic) -> (Traffic, Traffic) {
    let received = Traffic {
        msgs: of.in_msgs,
        bytes: of.in_bytes,
    };
    let sent = Traffic {
        msgs: of.out_msgs,
        bytes: of.out_bytes,
    };
    (received, sent)
}

pub(crate) fn subscription_figures(one: &Subscription, account: &str) -> SubscriptionFigures {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let group = (!one.queue_group.is_empty()).then(|| text(&one.queue_group));
    SubscriptionFigures {
        account: account.to_owned(),
        subject: text(&one.subject),
        queue_group: group,
        sid: text(&one.sid),
        delivered: one.allowance.delivered(),
        max: one.allowance.limit(),
        cid: match &one.target {
            Target::Connection(peer) | Target::Route { peer, .. } => peer.id,
            Target::Internal(_) => 0,
        },
    }
}

fn route_figures(connection: &Connection, link: &Link, listed: bool) -> RouteFigures {
    let (received, sent) = traffic(connection.traffic);
    RouteFigures {
        rid: connection.peer.id,
        remote_id: link.remote_id.clone(),
        remote_name: link.remote_name.clone(),
        did_solicit: link.solicited,
        is_configured: link.configured,
        ip: connection.address.ip().to_canonical(),
        port: connection.address.port(),
        start: connection.accepted,
        last_activity: wall_clock(connection.liveness.last_activity()),
        rtt: connection.liveness.round_trip(),
        pending_bytes: connection.output.pending() as u64,
        received,
        sent,
        subscription_count: link.interest_count() as u64,
        subscriptions: if listed {
            link.subscriptions()
        } else {
            Vec::new()
        },
        import: link.import.clone(),
        export: link.export.clone(),
    }
}

fn tls_figures(connection: &Connection, first: bool) -> Option<TlsFigures> {
    let tls = connection.transport.tls()?;
    let version = match tls.protocol_version()? {
        rustls::ProtocolVersion::TLSv1_2 => "1.2",
        _ => "1.3",
    };
    let suite = tls.negotiated_cipher_suite()?;
    // Go writes TLS 1.3 suites without the number.
    let suite = suite.suite().as_str().unwrap_or_default();
    let chain = connection.transport.peer_certificates().iter();
    let certificates = chain.filter_map(|der| {
        Some(PeerCertificate {
            subject: inspect::subject_text(der).ok()?,
            spki_sha256: inspect::spki_sha256(der).ok()?,
            certificate_sha256: inspect::cert_sha256(der),
        })
    });
    Some(TlsFigures {
        version,
        cipher_suite: suite.replace("TLS13_", "TLS_"),
        first,
        peer_certificates: certificates.collect(),
    })
}

fn wall_clock(at: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}
