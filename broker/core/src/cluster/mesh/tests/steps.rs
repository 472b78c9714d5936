//! Single steps of a handshake, in the right order and in any other.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::super::*;

fn own(settings: ClusterSettings) -> Mesh {
    let info = RouteInfo {
        connect_urls: vec!["us:4222".into()],
        ..introduction("US")
    };
    Mesh::new(info, settings, 1, start())
}

/// Any moment will do, as long as it stays the same within a test.
fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

fn introduction(id: &str) -> RouteInfo {
    RouteInfo {
        server_id: id.into(),
        server_name: format!("name-{id}"),
        proto: 1,
        host: "0.0.0.0".into(),
        port: 6222,
        cluster: "C".into(),
        connect_urls: vec![format!("{id}:4222")],
        ..RouteInfo::default()
    }
}

fn hello(id: &str) -> RouteConnect {
    RouteConnect {
        name: id.into(),
        cluster: "C".into(),
        ..RouteConnect::default()
    }
}

fn from(last: u8) -> SocketAddr {
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 40_000).into()
}

/// A peer that dialled us and said everything right.
fn join(mesh: &mut Mesh, route: u64, id: &str) -> Vec<MeshEffect> {
    let (now, route) = (start(), RouteId(route));
    mesh.accepted(now, route, from(route.0 as u8));
    mesh.connect(now, route, &hello(id));
    mesh.info(now, route, introduction(id))
}

fn closes(effects: &[MeshEffect]) -> Option<(CloseReason, Option<String>)> {
    effects.iter().find_map(|effect| match effect {
        MeshEffect::Close { reason, error, .. } => Some((*reason, error.clone())),
        _ => None,
    })
}

#[test]
fn a_newcomer_is_established_and_told_of_to_others() {
    let mut mesh = own(ClusterSettings::default());
    let effects = join(&mut mesh, 1, "A");
    assert_eq!(
        effects,
        [
            MeshEffect::Established { route: RouteId(1) },
            MeshEffect::ClientUrls(vec!["us:4222".into(), "A:4222".into()]),
        ]
    );
    let effects = join(&mut mesh, 2, "B");
    let [
        _,
        MeshEffect::Send { route, info },
        MeshEffect::ClientUrls(urls),
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(
        (*route, info.ip.as_str()),
        (RouteId(1), "nats-route://10.0.0.2:6222/")
    );
    assert_eq!(info.server_id, "B");
    assert_eq!(urls.len(), 3);
}

#[test]
fn clients_at_the_wrong_port_are_told_so() {
    let mut mesh = own(ClusterSettings::default());
    mesh.accepted(start(), RouteId(1), from(1));
    let client = RouteConnect {
        lang: "go".into(),
        ..RouteConnect::default()
    };
    let (reason, error) = closes(&mesh.connect(start(), RouteId(1), &client)).unwrap();
    assert_eq!(reason.to_string(), "Incorrect Port");
    assert_eq!(error.unwrap(), "attempted to connect to route port");
}

#[test]
fn another_cluster_is_refused_by_name() {
    let mut mesh = own(ClusterSettings::default());
    mesh.accepted(start(), RouteId(1), from(1));
    let stranger = RouteConnect {
        cluster: "D".into(),
        ..hello("A")
    };
    let (reason, error) = closes(&mesh.connect(start(), RouteId(1), &stranger)).unwrap();
    assert_eq!(reason.to_string(), "Cluster Name Conflict");
    let text = "Rejecting connection, cluster name \"D\" does not match \"C\"";
    assert_eq!(error.unwrap(), text);
}

#[test]
fn a_second_server_of_our_name_is_refused() {
    let mut mesh = own(ClusterSettings::default());
    mesh.accepted(start(), RouteId(1), from(1));
    mesh.connect(start(), RouteId(1), &hello("A"));
    let twin = RouteInfo {
        server_name: "name-US".into(),
        ..introduction("A")
    };
    let (reason, _) = closes(&mesh.info(start(), RouteId(1), twin)).unwrap();
    assert_eq!(reason.to_string(), "Duplicate Server Name");
}

#[test]
fn who_does_not_introduce_itself_is_closed() {
    let mut mesh = own(ClusterSettings::default());
    mesh.accepted(start(), RouteId(1), from(1));
    let deadline = mesh.next_deadline().unwrap();
    let (reason, error) = closes(&mesh.tick(deadline)).unwrap();
    assert_eq!(reason, CloseReason::AuthenticationTimeout);
    assert_eq!(error.unwrap(), "Authentication Timeout");
    assert_eq!(mesh.next_deadline(), None);
}

#[test]
fn a_lame_duck_s_addresses_are_taken_back() {
    let mut mesh = own(ClusterSettings::default());
    join(&mut mesh, 1, "A");
    let leaving = RouteInfo {
        ldm: true,
        ..introduction("A")
    };
    let effects = mesh.info(start(), RouteId(1), leaving);
    assert_eq!(effects, [MeshEffect::ClientUrls(vec!["us:4222".into()])]);
    let effects = mesh.lame_duck(start());
    assert!(matches!(&effects[0], MeshEffect::Send { info, .. } if info.ldm));
    assert_eq!(effects[1], MeshEffect::ClientUrls(vec![]));
}

#[test]
fn without_advertising_neither_clients_nor_peers_hear_of_addresses() {
    let mut mesh = own(ClusterSettings {
        no_advertise: true,
        ..ClusterSettings::default()
    });
    let effects = mesh.accepted(start(), RouteId(9), from(9));
    assert!(
        matches!(&effects[..], [MeshEffect::Send { info, .. }] if info.connect_urls.is_empty())
    );
    assert_eq!(join(&mut mesh, 1, "A").len(), 1);
    assert!(mesh.client_urls().is_empty());
}

#[test]
fn a_server_only_heard_of_is_dialled_once_unless_more_is_asked_for() {
    for retries in [0, 2] {
        let mut mesh = own(ClusterSettings {
            connect_retries: retries,
            ..ClusterSettings::default()
        });
        join(&mut mesh, 1, "A");
        let news = RouteInfo {
            ip: "nats-route://10.0.0.7:6222/".into(),
            ..introduction("X")
        };
        let mut effects = mesh.info(start(), RouteId(1), news.clone());
        assert!(
            mesh.info(start(), RouteId(1), news).is_empty(),
            "told twice"
        );
        let (mut dials, mut now) = (0, start());
        while let Some(MeshEffect::Dial { target, .. }) = effects
            .iter()
            .find(|effect| matches!(effect, MeshEffect::Dial { .. }))
        {
            dials += 1;
            mesh.dial_failed(now, *target, DialFailure::Unreachable);
            now = mesh.next_deadline().unwrap_or(now);
            effects = mesh.tick(now);
        }
        assert_eq!(dials, retries + 1);
    }
}

#[test]
fn a_configured_server_is_dialled_for_ever_with_growing_pauses_if_asked_for() {
    for (backoff, longest) in [(false, 1), (true, 30)] {
        let url = RouteUrl {
            host: "b".into(),
            port: 1,
            login: None,
        };
        let mut mesh = own(ClusterSettings {
            routes: vec![url],
            connect_backoff: backoff,
            ..ClusterSettings::default()
        });
        let mut now = start();
        for expected in 1..=4000 {
            let [MeshEffect::Dial { target, .. }] = mesh.tick(now)[..] else {
                panic!("a dial is due");
            };
            let failed = mesh.dial_failed(now, target, DialFailure::Unreachable);
            let [MeshEffect::Unreachable { attempt, again, .. }] = failed[..] else {
                panic!("every failure can be read of");
            };
            assert_eq!((attempt, again), (expected, false));
            let pause = mesh.next_deadline().unwrap() - now;
            assert!(pause >= Duration::from_secs(1));
            assert!(pause < Duration::from_millis(longest * 1000 + 100));
            now += pause;
        }
        assert!(now - start() > Duration::from_secs(3990 * longest));
    }
}

#[test]
fn a_route_that_is_no_longer_configured_is_closed() {
    let url = RouteUrl {
        host: "b".into(),
        port: 1,
        login: None,
    };
    let mut mesh = own(ClusterSettings {
        routes: vec![url],
        ..ClusterSettings::default()
    });
    let [MeshEffect::Dial { target, .. }] = mesh.tick(start())[..] else {
        panic!("a dial is due");
    };
    mesh.dialled(start(), target, RouteId(1), from(1));
    mesh.info(start(), RouteId(1), introduction("A"));
    let peer = mesh.peer(RouteId(1)).unwrap();
    assert!(peer.solicited && peer.configured);
    let (reason, _) = closes(&mesh.reload(start(), ClusterSettings::default())).unwrap();
    assert_eq!(reason.to_string(), "Route Removed");
    assert_eq!(mesh.next_deadline(), None);
}

/// Something that happens to a mesh. Small numbers make the same route and server come again.
#[derive(Clone, Debug)]
enum Input {
    Accept(u64),
    Dialled(u64),
    Failed,
    Connect(u64, u8, bool),
    Info(u64, u8, u8),
    Gossip(u64, u8),
    Closed(u64),
    Tick(u64),
}

fn input() -> impl Strategy<Value = Input> {
    let (route, server) = (0..4u64, 0..4u8);
    prop_oneof![
        route.clone().prop_map(Input::Accept),
        route.clone().prop_map(Input::Dialled),
        Just(Input::Failed),
        (route.clone(), server.clone(), any::<bool>())
            .prop_map(|(r, s, d)| Input::Connect(r, s, d)),
        (route.clone(), server.clone(), 0..3u8).prop_map(|(r, s, c)| Input::Info(r, s, c)),
        (route.clone(), server).prop_map(|(r, s)| Input::Gossip(r, s)),
        route.prop_map(Input::Closed),
        (0..40_000u64).prop_map(Input::Tick),
    ]
}

/// Server 0 is ourselves.
fn id(server: u8) -> &'static str {
    ["US", "A", "B", "X"][usize::from(server)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Steps repeated, left out and out of order: no panic, and at no time two routes to one server or
    /// effects for a route that is gone.
    #[test]
    fn no_order_of_steps_confuses(dynamic in any::<bool>(), inputs in prop::collection::vec(input(), 0..60)) {
        let everybody = (1..3).map(|last| RouteUrl { host: format!("10.0.0.{last}"), port: 6222, login: None });
        let settings = ClusterSettings { routes: everybody.collect(), ..ClusterSettings::default() };
        let info = RouteInfo { cluster_dynamic: dynamic, ..introduction("US") };
        let mut mesh = Mesh::new(info, settings, 3, start());
        let mut now = start();
        // The shell gives each connection a number of its own: a slot is used again only when free.
        let (mut slots, mut next) = ([None; 4], 0);
        let mut dialling = Vec::new();
        for input in inputs {
            let at = |route: u64| slots[route as usize].unwrap_or(RouteId(u64::MAX));
            let cluster = |number: u8| ["C", "D", ""][usize::from(number)].to_owned();
            let effects = match input {
                Input::Accept(slot) | Input::Dialled(slot) if slots[slot as usize].is_some() => continue,
                Input::Accept(slot) => {
                    next += 1;
                    slots[slot as usize] = Some(RouteId(next));
                    mesh.accepted(now, RouteId(next), from(slot as u8))
                }
                Input::Dialled(slot) => {
                    let Some(target) = dialling.pop() else { continue };
                    next += 1;
                    slots[slot as usize] = Some(RouteId(next));
                    mesh.dialled(now, target, RouteId(next), from(slot as u8))
                }
                Input::Failed => {
                    let Some(target) = dialling.pop() else { continue };
                    mesh.dial_failed(now, target, DialFailure::Unreachable)
                }
                Input::Connect(route, server, dynamic) => {
                    let connect = RouteConnect { cluster_dynamic: dynamic, cluster: cluster(server % 3), ..hello(id(server)) };
                    mesh.connect(now, at(route), &connect)
                }
                Input::Info(route, server, name) => {
                    let info = RouteInfo { cluster: cluster(name), cluster_dynamic: dynamic, ..introduction(id(server)) };
                    mesh.info(now, at(route), info)
                }
                Input::Gossip(route, server) => {
                    let ip = format!("nats-route://10.0.0.{}:6222/", server + 5);
                    mesh.info(now, at(route), RouteInfo { ip, ..introduction(id(server)) })
                }
                Input::Closed(route) => {
                    let closed = at(route);
                    slots[route as usize] = None;
                    mesh.closed(now, closed)
                }
                Input::Tick(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    mesh.tick(now)
                }
            };
            for effect in effects {
                match effect {
                    MeshEffect::Dial { target, .. } => {
                        prop_assert!(!dialling.contains(&target));
                        dialling.push(target);
                    }
                    MeshEffect::Connect { route, .. }
                    | MeshEffect::Send { route, .. }
                    | MeshEffect::Established { route } => {
                        prop_assert!(slots.contains(&Some(route)));
                    }
                    MeshEffect::Close { route, .. } => {
                        let slot = slots.iter_mut().find(|slot| **slot == Some(route));
                        prop_assert!(slot.is_some());
                        *slot.unwrap() = None;
                    }
                    _ => {}
                }
            }
            let mut ids: Vec<_> = mesh.established().map(|route| mesh.peer(route).unwrap().info.server_id.as_str()).collect();
            ids.sort_unstable();
            prop_assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
            prop_assert!(!ids.contains(&"US"));
            prop_assert!(mesh.next_deadline().is_none_or(|due| due > now || !mesh.tick(now).is_empty()) );
        }
    }
}
