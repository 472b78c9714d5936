//! Heartbeats and pings: who is taken for dead, when, and what that means for its subscriptions.

use std::time::Duration;

use broker_proto::streaming::{Ping, PingResponse};
use prost::Message as _;

use super::harness::World;
use crate::streaming::EngineConfig;

const PINGS: &str = "_STAN.discover.test-cluster.pings";
const REPLACED: &str = "client has been replaced or is no longer registered";

/// A heartbeat a second, that may take five; `failures` are survived.
fn beating(failures: u32) -> World {
    let config = EngineConfig {
        heartbeat_interval: Duration::from_secs(1),
        heartbeat_timeout: Duration::from_secs(5),
        heartbeat_fail_count: failures,
        ..EngineConfig::default()
    };
    World::with(config, 1)
}

fn ping(id: &str) -> Ping {
    Ping {
        conn_id: format!("conn-{id}").into(),
    }
}

#[test]
fn a_heartbeat_is_an_empty_request_and_any_answer_will_do() {
    let mut world = beating(3);
    world.connect("me");
    world.alive.clear();
    world.mute.insert("hb.me".into());
    for (round, content) in [b"".as_slice(), b"dummy", &[0xff; 300]].iter().enumerate() {
        world.advance_secs(1);
        assert_eq!(world.take("hb.me"), [b"".as_slice()]);
        let reply = world.last_reply.clone();
        assert!(!reply.is_empty(), "round {round}");
        world.send(&reply, "", content);
        assert_eq!(world.engine.clients().next().unwrap().failed_heartbeats, 0);
    }
    world.advance_secs(1 + 5);
    assert_eq!(world.engine.clients().next().unwrap().failed_heartbeats, 1);
}

/// A NATS server that is not ours says so on the reply subject, behind the publish.
#[test]
fn word_that_nobody_is_there_ends_a_heartbeat_as_a_failure_and_never_as_an_answer() {
    let mut world = beating(3);
    world.connect("me");
    world.alive.clear();
    world.mute.insert("hb.me".into());
    world.advance_secs(1);
    let failed = |world: &World| world.engine.clients().next().unwrap().failed_heartbeats;
    assert_eq!(failed(&world), 0);
    let (reply, now) = (world.last_reply.clone(), world.clock.now());
    world.engine.no_responders_on(reply.as_bytes(), now);
    assert_eq!(failed(&world), 1);
    // Said again, or about something else.
    world.engine.no_responders_on(reply.as_bytes(), now);
    world.engine.no_responders_on(b"_INBOX.x", now);
    world.engine.no_responders_on(b"", now);
    assert_eq!(failed(&world), 1);
}

#[test]
fn a_client_that_answers_after_as_many_misses_as_are_allowed_starts_again_from_none() {
    let mut world = beating(2);
    world.connect("me");
    for _ in 0..2 {
        world.alive.clear();
        world.advance_secs(2);
        assert_eq!(world.engine.clients().next().unwrap().failed_heartbeats, 2);
        world.alive.insert("hb.me".into());
        world.advance_secs(1);
        assert_eq!(world.engine.clients().next().unwrap().failed_heartbeats, 0);
    }
    world.alive.clear();
    world.advance_secs(3);
    assert_eq!(world.engine.client_count(), 0);
}

#[test]
fn a_heartbeat_under_way_holds_nothing_up() {
    let mut world = beating(3);
    world.connect("me");
    world.alive.clear();
    world.mute.insert("hb.me".into());
    world.advance_secs(2);
    assert_eq!(world.take("hb.me").len(), 1, "and it is not answered");
    world.publish("me", "foo", "x");
    assert_eq!(world.acks()[0].error, "");
    let sub = world.subscribe_with("me", "foo", |_| {});
    assert_eq!(world.sequences(&sub), [1]);
    assert_eq!(world.unsubscribe(&sub), "");
    world.send(PINGS, "pong", &ping("me").encode_to_vec());
    assert_eq!(world.take("pong"), [b"".as_slice()]);
    world.connect("other");
    assert_eq!(world.close("me"), "");
}

#[test]
fn a_ping_of_a_replaced_client_is_an_error() {
    let mut world = World::new();
    world.connect("me");
    world.alive.clear();
    let mut request = World::connect_request("me");
    request.conn_id = "conn-second".into();
    assert_eq!(world.try_connect(&request).error, "");
    let response: PingResponse = world.request(PINGS, &ping("me"));
    assert_eq!(response.error, REPLACED);
    world.send(PINGS, "pong", &ping("second").encode_to_vec());
    assert_eq!(world.take("pong"), [b"".as_slice()]);
}

#[test]
fn a_client_that_was_dropped_may_neither_publish_nor_ping_when_it_is_back() {
    let mut world = beating(0);
    world.connect("me");
    world.alive.clear();
    world.advance_secs(1);
    assert_eq!(world.engine.client_count(), 0);
    world.alive.insert("hb.me".into());
    world.publish("me", "foo", "x");
    assert_eq!(world.acks()[0].error, "stan: invalid publish request");
    let response: PingResponse = world.request(PINGS, &ping("me"));
    assert_eq!(response.error, REPLACED);
    let request = World::sub_request("me", "foo");
    assert_eq!(
        world.try_subscribe(&request).error,
        "stan: unknown clientID"
    );
}

#[test]
fn of_a_dropped_client_durables_stay_and_members_hand_over() {
    let mut world = beating(0);
    for client in ["me", "other"] {
        world.connect(client);
    }
    world.subscribe_with("me", "foo", |request| request.inbox = "plain".into());
    world.subscribe_with("me", "foo", |request| {
        (request.inbox, request.durable_name) = ("durable".into(), "d".into());
    });
    let member = world.subscribe_with("me", "foo", |request| {
        (request.inbox, request.q_group) = ("member".into(), "q".into());
        request.ack_wait_in_secs = 60;
    });
    world.publish_many("other", "foo", 2);
    assert_eq!(world.sequences(&member), [1, 2]);
    let heir = world.subscribe_with("other", "foo", |request| request.q_group = "q".into());
    world.alive.remove("hb.me");
    world.advance(Duration::from_millis(1_100));
    assert_eq!(world.engine.client_count(), 1);
    assert_eq!(world.sequences(&heir), [-1, -2]);
    let left: Vec<_> = world
        .engine
        .subscriptions("foo")
        .map(|sub| (sub.durable_name.to_owned(), sub.is_offline))
        .collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&("d".into(), true)) && left.contains(&(String::new(), false)));
}

#[test]
fn a_durable_is_spared_while_its_client_is_silent_and_served_again_when_it_is_back() {
    for q_group in ["", "q"] {
        let mut world = beating(100);
        world.connect("me");
        let durable = |request: &mut broker_proto::streaming::SubscriptionRequest| {
            (request.durable_name, request.q_group) = ("d".into(), q_group.into());
            request.ack_wait_in_secs = 2;
        };
        let sub = world.subscribe_with("me", "foo", durable);
        world.publish_many("me", "foo", 1);
        assert_eq!(world.sequences(&sub), [1]);
        world.alive.clear();
        world.advance_secs(5);
        if q_group.is_empty() {
            assert!(world.sequences(&sub).is_empty());
        }
        world.alive.insert("hb.me".into());
        let mut request = World::connect_request("me");
        request.heartbeat_inbox = "hb.again".into();
        world.alive.remove("hb.me");
        world.alive.insert("hb.again".into());
        assert_eq!(world.try_connect(&request).error, "");
        world.sequences(&sub);
        let sub = world.subscribe_with("me", "foo", durable);
        assert_eq!(world.sequences(&sub), [-1]);
        world.advance_secs(2);
        assert_eq!(world.sequences(&sub), [-1], "group {q_group:?}");
    }
}
