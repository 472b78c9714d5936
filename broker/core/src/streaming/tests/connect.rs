//! Connect, close, duplicate ids, heartbeats and pings.

use std::time::Duration;

use broker_proto::streaming::{CloseResponse, ConnectResponse, Ping, PingResponse, PubMsg};
use prost::Message as _;

use super::harness::World;
use crate::{durable::FlushOutcome, streaming::EngineConfig};

const TAKEN: &str = "stan: clientID already registered";

#[test]
fn connect_and_close_succeed_and_the_id_is_free_at_once() {
    let mut world = World::new();
    world.connect("me");
    assert!(world.store.has_client("me"));
    assert_eq!(world.close("me"), "");
    assert!(!world.store.has_client("me"));
    world.connect("me");
    assert_eq!(world.close("other"), "stan: unknown clientID");
}

#[test]
fn invalid_requests_are_refused_with_their_texts() {
    let mut world = World::new();
    let invalid_id = "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed";
    for id in ["", "a b", "a:b", "a,b", "a.b", "a\n", "\u{e4}"] {
        let mut request = World::connect_request("x");
        request.client_id = id.into();
        assert_eq!(world.try_connect(&request).error, invalid_id);
    }
    let mut request = World::connect_request("me");
    request.heartbeat_inbox.clear();
    assert_eq!(
        world.try_connect(&request).error,
        "stan: invalid connection request"
    );
    let discover = "_STAN.discover.test-cluster";
    let response: ConnectResponse = world.request_raw(discover, b"dummy");
    assert_eq!(response.error, "stan: invalid connection request");
    let response: CloseResponse = world.request_raw("_STAN.close.test-cluster", b"dummy");
    assert_eq!(response.error, "stan: invalid close request");
    assert_eq!(world.engine.client_count(), 0);
}

#[test]
fn the_answer_names_the_subjects_and_echoes_the_pings() {
    let mut world = World::new();
    let mut request = World::connect_request("me");
    request.ping_interval = -1;
    let response = world.try_connect(&request);
    let expected = ConnectResponse {
        pub_prefix: "_STAN.pub.test-cluster".into(),
        sub_requests: "_STAN.sub.test-cluster".into(),
        unsub_requests: "_STAN.unsub.test-cluster".into(),
        close_requests: "_STAN.close.test-cluster".into(),
        sub_close_requests: "_STAN.subclose.test-cluster".into(),
        ping_requests: "_STAN.discover.test-cluster.pings".into(),
        ping_interval: -1,
        ping_max_out: 3,
        protocol: 1,
        ..ConnectResponse::default()
    };
    assert_eq!(response, expected);
}

#[test]
fn an_old_client_gets_no_pings_and_works_without_connection_id() {
    let mut world = World::new();
    let mut request = World::connect_request("old");
    (
        request.protocol,
        request.ping_interval,
        request.ping_max_out,
    ) = (0, 0, 0);
    request.conn_id.clear();
    let response = world.try_connect(&request);
    assert_eq!((response.protocol, &*response.ping_requests), (1, ""));
    let mut message = world.pub_msg("old", "foo", "x");
    message.conn_id.clear();
    assert_eq!(world.try_publish(&message).error, "");
    let sub = world.subscribe_with("old", "foo", |_| {});
    assert_eq!(world.sequences(&sub), [1]);
}

#[test]
fn a_live_client_keeps_its_id() {
    let mut world = World::new();
    world.connect("me");
    for _ in 0..10 {
        assert_eq!(
            world.try_connect(&World::connect_request("me")).error,
            TAKEN
        );
    }
    assert_eq!(world.engine.client_count(), 1);
    world.publish("me", "foo", "x");
    assert_eq!(world.acks()[0].error, "");
}

#[test]
fn a_client_without_responders_is_replaced_at_once() {
    let mut world = World::new();
    world.connect("me");
    world.alive.clear();
    let mut request = World::connect_request("me");
    request.conn_id = "second".into();
    assert_eq!(world.try_connect(&request).error, "");
    assert_eq!(world.engine.client_count(), 1);
    world.publish("me", "foo", "by the old connection");
    assert_eq!(world.acks()[0].error, "stan: invalid publish request");
    let message = PubMsg {
        conn_id: "second".into(),
        ..world.pub_msg("me", "foo", "by the new")
    };
    assert_eq!(world.try_publish(&message).error, "");
    assert!(world.store.has_client("me"));
}

#[test]
fn a_mute_client_is_replaced_after_half_a_second_without_blocking_others() {
    let mut world = World::new();
    world.connect("me");
    world.alive.clear();
    world.mute.insert("hb.me".into());
    let connect = World::connect_request("me").encode_to_vec();
    world.send("_STAN.discover.test-cluster", "second", &connect);
    assert_eq!(
        world.try_connect(&World::connect_request("me")).error,
        TAKEN
    );
    world.connect("other");
    world.advance(Duration::from_millis(499));
    assert!(world.take("second").is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(world.take_as::<ConnectResponse>("second")[0].error, "");
    assert_eq!(world.engine.client_count(), 2);
}

#[test]
fn a_waiting_connect_gets_the_id_when_its_owner_closes() {
    let mut world = World::new();
    world.connect("me");
    world.alive.clear();
    world.mute.insert("hb.me".into());
    let connect = World::connect_request("me").encode_to_vec();
    world.send("_STAN.discover.test-cluster", "second", &connect);
    assert_eq!(world.close("me"), "");
    assert_eq!(world.take_as::<ConnectResponse>("second")[0].error, "");
    assert!(world.store.has_client("me"));
    world.advance_secs(1);
    assert_eq!(world.engine.client_count(), 1);
}

#[test]
fn responsive_clients_stay_and_silent_ones_go_after_the_last_failure() {
    let config = EngineConfig {
        heartbeat_interval: Duration::from_secs(1),
        heartbeat_timeout: Duration::from_secs(2),
        heartbeat_fail_count: 3,
        ..EngineConfig::default()
    };
    let mut world = World::with(config, 1);
    world.connect("live");
    world.connect("mute");
    world.connect("dead");
    world.alive.remove("hb.mute");
    world.alive.remove("hb.dead");
    world.mute.insert("hb.mute".into());
    world.advance(Duration::from_millis(3999));
    assert_eq!(world.engine.client_count(), 3);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.engine.client_count(), 2);
    world.advance(Duration::from_millis(7999));
    assert_eq!(world.engine.client_count(), 2);
    world.advance(Duration::from_millis(1));
    let left: Vec<&str> = world.engine.clients().map(|client| client.id).collect();
    assert_eq!(left, ["live"]);
    assert!(!world.store.has_client("dead"));
}

#[test]
fn one_answered_heartbeat_resets_the_count() {
    let config = EngineConfig {
        heartbeat_interval: Duration::from_secs(1),
        heartbeat_fail_count: 2,
        ..EngineConfig::default()
    };
    let mut world = World::with(config, 1);
    world.connect("me");
    for _ in 0..3 {
        world.alive.clear();
        world.advance_secs(2);
        world.alive.insert("hb.me".into());
        world.advance_secs(1);
    }
    assert_eq!(world.engine.clients().next().unwrap().failed_heartbeats, 0);
}

#[test]
fn pings_are_answered_empty_or_with_the_replaced_text() {
    let mut world = World::new();
    world.connect("me");
    let pings = "_STAN.discover.test-cluster.pings";
    world.send(
        pings,
        "pong",
        &Ping {
            conn_id: "conn-me".into(),
        }
        .encode_to_vec(),
    );
    assert_eq!(world.take("pong"), [b"".as_slice()]);
    let response: PingResponse = world.request(
        pings,
        &Ping {
            conn_id: "other".into(),
        },
    );
    assert_eq!(
        response.error,
        "client has been replaced or is no longer registered"
    );
    let response: PingResponse = world.request_raw(pings, &[0x0a, 0x00]);
    assert_eq!(
        response.error,
        "client has been replaced or is no longer registered"
    );
    world.send(pings, "pong", b"");
    world.send(pings, "pong", b"dummy");
    assert!(world.take("pong").is_empty());
}

#[test]
fn a_ping_of_a_failing_client_brings_a_heartbeat_at_once() {
    let mut world = World::new();
    world.connect("me");
    world.alive.clear();
    world.advance_secs(30);
    assert_eq!(world.engine.clients().next().unwrap().failed_heartbeats, 1);
    world.alive.insert("hb.me".into());
    let ping = Ping {
        conn_id: "conn-me".into(),
    }
    .encode_to_vec();
    world.send("_STAN.discover.test-cluster.pings", "pong", &ping);
    assert_eq!(world.engine.clients().next().unwrap().failed_heartbeats, 0);
}

#[test]
fn a_refused_registration_is_told_and_undone() {
    let mut world = World::new();
    world.flushes_at_once = false;
    let connect = World::connect_request("me").encode_to_vec();
    world.send("_STAN.discover.test-cluster", "answer", &connect);
    world.finish_flush(
        0,
        FlushOutcome::Refused {
            reason: "no room".into(),
        },
    );
    world.run();
    let answer = world.take_as::<ConnectResponse>("answer");
    assert_eq!(answer[0].error, "no room");
    assert_eq!(world.engine.client_count(), 0);
}

#[test]
fn ten_dead_clients_are_replaced_in_one_pass() {
    let mut world = World::new();
    let ids: Vec<String> = (0..10).map(|number| format!("me-{number}")).collect();
    for id in &ids {
        world.connect(id);
    }
    world.alive.clear();
    for id in &ids {
        let mut request = World::connect_request(id);
        request.conn_id = format!("second-{id}").into();
        world.send_unflushed("_STAN.discover.test-cluster", id, &request.encode_to_vec());
    }
    world.end_pass();
    for id in &ids {
        assert_eq!(world.take_as::<ConnectResponse>(id)[0].error, "");
    }
    assert_eq!(world.engine.client_count(), 10);
}

#[test]
fn what_a_replaced_client_had_is_gone_but_for_durables_that_the_next_one_resumes() {
    let mut world = World::new();
    world.connect("me");
    let plain = world.subscribe_with("me", "foo", |request| request.inbox = "plain".into());
    world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&plain), [1]);
    world.alive.clear();
    let response = world.try_connect(&World::connect_request("me"));
    assert_eq!(response.error, "");
    let status: Vec<_> = world.engine.subscriptions("foo").collect();
    assert_eq!(status.len(), 1);
    assert!(status[0].is_offline && status[0].durable_name == "d");
    world.take("in.me.foo");
    let durable = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&durable), [-1, 2]);
    assert!(world.sequences(&plain).is_empty());
}

#[test]
fn the_close_of_a_replaced_client_closes_its_replacement() {
    let mut world = World::new();
    world.connect("me");
    world.alive.clear();
    let mut request = World::connect_request("me");
    request.conn_id = "second".into();
    assert_eq!(world.try_connect(&request).error, "");
    assert_eq!(world.close("me"), "");
    assert_eq!(world.engine.client_count(), 0);
}

#[test]
fn a_refused_deletion_of_a_client_is_no_reason_to_keep_it() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    let close = broker_proto::streaming::CloseRequest {
        client_id: "me".into(),
    };
    world.send("_STAN.close.test-cluster", "closed", &close.encode_to_vec());
    world.finish_flush(
        0,
        FlushOutcome::Refused {
            reason: "no room".into(),
        },
    );
    world.run();
    assert_eq!(world.take("closed"), [b"".as_slice()]);
    assert_eq!(world.engine.client_count(), 0);
}
