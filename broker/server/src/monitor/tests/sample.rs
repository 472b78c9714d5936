//! A server in detail, with values of which no two are alike, so that a wrong column shows.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use broker_core::{auth::settings::SubjectRules, session::Claim};
use futures_util::future::BoxFuture;

use super::{
    super::details::{
        AccountFigures, Closed, ConnectionFigures, ConnectionList, ConnectionQuery,
        ConnectionState, PeerCertificate, RouteFigures, ServerDetails, SublistFigures,
        SublistStats, SubscriptionFigures, SubscriptionQuery, TlsFigures, Traffic,
    },
    answer,
};

/// Connections 3, 4 and 7 are open, 5 and 6 closed.
#[derive(Debug)]
pub(super) struct Sample;

/// Whole seconds before a moment that does not move.
fn ago(seconds: u64) -> SystemTime {
    static NOW: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);
    *NOW - Duration::from_secs(seconds)
}

fn traffic(msgs: u64, bytes: u64) -> Traffic {
    Traffic { msgs, bytes }
}

fn subscription(cid: u64, sid: &str, subject: &str, group: Option<&str>) -> SubscriptionFigures {
    SubscriptionFigures {
        account: if cid == 4 { "A" } else { "$G" }.to_owned(),
        subject: subject.to_owned(),
        queue_group: group.map(str::to_owned),
        sid: sid.to_owned(),
        delivered: 40 + cid,
        max: group.map(|_| 5),
        cid,
    }
}

fn connection(cid: u64) -> ConnectionFigures {
    ConnectionFigures {
        cid,
        ip: "127.0.0.1".parse().unwrap(),
        port: 50_000 + u16::try_from(cid).unwrap(),
        start: ago(1000 - cid),
        last_activity: ago(10 * cid),
        closed: None,
        rtt: None,
        pending_bytes: 0,
        received: traffic(0, 0),
        sent: traffic(0, 0),
        stalls: 0,
        subscription_count: 0,
        name: String::new(),
        lang: String::new(),
        version: String::new(),
        tls: None,
        authorized_user: None,
        account: Some("$G".to_owned()),
        subscriptions: Vec::new(),
    }
}

/// Every column has a value.
fn full() -> ConnectionFigures {
    ConnectionFigures {
        rtt: Some(Duration::from_nanos(1_250_999)),
        pending_bytes: 11,
        received: traffic(12, 13),
        sent: traffic(14, 15),
        stalls: 16,
        subscription_count: 2,
        name: "a<b".to_owned(),
        lang: "rust".to_owned(),
        version: "1.2".to_owned(),
        tls: Some(TlsFigures {
            version: "1.3",
            cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
            first: true,
            peer_certificates: vec![PeerCertificate {
                subject: "CN=me".to_owned(),
                spki_sha256: [0x0a; 32],
                certificate_sha256: [0xf1; 32],
            }],
        }),
        authorized_user: Some(Claim::Name("ann".into())),
        account: Some("A".to_owned()),
        subscriptions: vec![
            subscription(4, "2", "foo.>", None),
            subscription(4, "9", "bar", Some("group")),
        ],
        ..connection(4)
    }
}

/// All of them, in no order.
pub(super) fn connections() -> Vec<ConnectionFigures> {
    vec![
        ConnectionFigures {
            received: traffic(50, 1),
            subscription_count: 1,
            authorized_user: Some(Claim::Token),
            subscriptions: vec![subscription(7, "1", "foo.*", None)],
            ..connection(7)
        },
        ConnectionFigures {
            sent: traffic(1, 50),
            rtt: Some(Duration::from_micros(90)),
            ..connection(3)
        },
        ConnectionFigures {
            closed: Some(Closed {
                stop: ago(20),
                reason: "Stale Connection",
            }),
            start: ago(140),
            last_activity: ago(80),
            ..connection(5)
        },
        full(),
        ConnectionFigures {
            closed: Some(Closed {
                stop: ago(30),
                reason: "Client Closed",
            }),
            start: ago(100),
            last_activity: ago(35),
            subscription_count: 9,
            account: None,
            ..connection(6)
        },
    ]
}

fn stats() -> SublistStats {
    SublistStats {
        subscriptions: 21,
        cached: 4,
        inserts: 23,
        removes: 2,
        matches: 8,
        cache_hits: 6,
        max_fanout: 24,
        total_fanout: 5,
    }
}

impl ServerDetails for Sample {
    fn connections(&self, query: ConnectionQuery) -> BoxFuture<'_, ConnectionList> {
        let state = query.state;
        let mut items = connections();
        items.retain(|one| match state {
            ConnectionState::Open => one.closed.is_none(),
            ConnectionState::Closed => one.closed.is_some(),
            ConnectionState::Any => true,
        });
        let closed = items.iter().filter(|one| one.closed.is_some()).count();
        let open = items.len() - closed;
        if let Some(cids) = &query.cids {
            items.retain(|one| cids.contains(&one.cid));
        }
        if !query.subscriptions {
            items.iter_mut().for_each(|one| one.subscriptions.clear());
        }
        answer(ConnectionList {
            open: open as u64,
            closed: closed as u64,
            items,
        })
    }

    fn routes(&self, subscriptions: bool) -> BoxFuture<'_, Vec<RouteFigures>> {
        let route = |rid: u64| RouteFigures {
            rid,
            remote_id: format!("NR{rid}"),
            remote_name: format!("remote{rid}"),
            did_solicit: rid == 8,
            is_configured: rid == 9,
            ip: "::1".parse().unwrap(),
            port: 6222,
            start: ago(60),
            last_activity: ago(5),
            rtt: (rid == 8).then(|| Duration::from_micros(434)),
            pending_bytes: 31,
            received: traffic(32, 33),
            sent: traffic(34, 35),
            subscription_count: 1,
            subscriptions: if subscriptions {
                vec![subscription(rid, "A foo", "foo", None)]
            } else {
                Vec::new()
            },
            import: (rid == 8).then(|| SubjectRules {
                allow: vec!["a.>".to_owned()],
                deny: Vec::new(),
            }),
            export: None,
        };
        answer(vec![route(9), route(8)])
    }

    /// Also what was not asked for, as far as that is allowed.
    fn subscriptions(&self, query: SubscriptionQuery) -> BoxFuture<'_, SublistFigures> {
        let lists = connections().into_iter().map(|one| one.subscriptions);
        answer(SublistFigures {
            stats: stats(),
            list: if query.list {
                lists.flatten().collect()
            } else {
                Vec::new()
            },
        })
    }

    fn accounts(&self) -> BoxFuture<'_, Vec<AccountFigures>> {
        let account = |name: &str, connections| AccountFigures {
            name: name.to_owned(),
            is_system: name == "$SYS",
            updated: SystemTime::UNIX_EPOCH,
            connections,
            sent: traffic(41, 42),
            sent_to_routes: traffic(43, 44),
            received: traffic(45, 46),
            received_from_routes: traffic(47, 48),
            slow_consumers: 49,
            sublist: stats(),
        };
        answer(vec![account("B", 0), account("$SYS", 0), account("A", 3)])
    }
}
