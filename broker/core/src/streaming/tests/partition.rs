//! A server that shares a cluster id with others and has channels of its own.

use broker_proto::streaming::{
    CtrlMsg, PubAck, SubscriptionRequest, SubscriptionResponse, UnsubscribeRequest,
};
use bytes::Bytes;
use prost::Message as _;

use super::harness::World;
use crate::streaming::{Claim, EngineConfig, LimitsOverride, PartitionConfig};

const LISTS: &str = "_STAN.part.test-cluster";
const SUBSCRIBE: &str = "_STAN.sub.test-cluster";

fn config(channels: &[&str]) -> EngineConfig {
    let overrides = channels.iter().map(|&pattern| LimitsOverride {
        pattern: pattern.to_owned(),
        max_msgs: 0,
        max_bytes: 0,
        max_age_nanos: 0,
        max_subs: 0,
        max_inactivity_nanos: 0,
    });
    EngineConfig {
        overrides: overrides.collect(),
        partition: Some(PartitionConfig {
            server_id: "me".to_owned(),
            max_payload: 1 << 20,
        }),
        ..EngineConfig::default()
    }
}

/// One that has told its list and heard nothing.
fn world(channels: &[&str]) -> World {
    let mut world = World::with(config(channels), 1);
    assert_eq!(*world.engine.claim(), Claim::Asking);
    world.advance_secs(1);
    assert_eq!(*world.engine.claim(), Claim::Held);
    world
}

fn list(server_id: &str, data: &'static [u8]) -> Vec<u8> {
    let message = CtrlMsg {
        msg_type: 4,
        server_id: server_id.to_owned(),
        data: Bytes::from_static(data),
        ref_id: String::new(),
    };
    message.encode_to_vec()
}

/// Says of a list that was told that this channel is the other's; nothing: that none is.
fn answer(world: &mut World, channel: &'static [u8]) {
    assert!(!world.take(LISTS).is_empty(), "the list is told");
    let reply = world.last_reply.clone();
    world.send(&reply, "", &list("other", channel));
}

#[test]
fn nobody_is_served_before_the_others_had_time_to_object() {
    let mut world = World::with(config(&["foo"]), 1);
    assert!(!world.is_listening_on("_STAN.discover.test-cluster"));
    world.advance(std::time::Duration::from_millis(900));
    answer(&mut world, b"");
    world.advance(std::time::Duration::from_millis(900));
    assert_eq!(*world.engine.claim(), Claim::Asking);
    world.advance(std::time::Duration::from_millis(100));
    assert_eq!(*world.engine.claim(), Claim::Held);
    assert!(world.is_listening_on("_STAN.discover.test-cluster"));
    assert!(world.is_listening_on("_STAN.pub.test-cluster.foo"));
    assert!(!world.is_listening_on("_STAN.pub.test-cluster.>"));
}

#[test]
fn a_channel_of_another_server_ends_the_start() {
    let mut world = World::with(config(&["foo"]), 1);
    answer(&mut world, b"foo");
    assert_eq!(
        *world.engine.claim(),
        Claim::Refused(
            "channel \"foo\" causes conflict with channels on server \"other\"".to_owned()
        )
    );
    assert!(!world.is_listening());
}

#[test]
fn lists_are_told_again_when_servers_meet_and_a_conflict_then_ends_the_service() {
    let mut world = world(&["foo"]);
    world.take(LISTS);
    let now = world.clock.now();
    world.engine.servers_changed(now);
    world.advance(std::time::Duration::from_millis(499));
    assert!(world.take(LISTS).is_empty());
    world.advance(std::time::Duration::from_millis(1));
    assert_eq!(*world.engine.claim(), Claim::Held);
    answer(&mut world, b"foo");
    assert!(matches!(world.engine.claim(), Claim::Refused(_)));
    assert!(!world.is_listening());
}

#[test]
fn lists_of_others_are_answered_with_the_conflict_or_without_one() {
    let mut world = world(&["foo.*"]);
    for (data, expected) in [
        (&b"\x03\x00bar"[..], &b""[..]),
        (b"\x03\x00bar\x07\x00foo.bar", b"foo.bar"),
        (b"\x05\x00foo.>", b"foo.>"),
    ] {
        world.send(LISTS, "reply", &list("other", data));
        let answers: Vec<CtrlMsg> = world.take_as("reply");
        assert_eq!((answers.len(), &*answers[0].data), (1, expected));
        assert_eq!((answers[0].msg_type, &*answers[0].server_id), (4, "me"));
    }
    for bad in [list("me", b"\x07\x00foo.bar"), vec![], vec![0xff; 5]] {
        world.send(LISTS, "reply", &bad);
        assert!(world.take("reply").is_empty());
    }
}

#[test]
fn channels_that_are_not_listed_are_left_to_others() {
    let mut world = world(&["foo", "bar.*"]);
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let subscription = world.subscribe_with("me", "bar.baz", |_| {});
    let other = World::sub_request("me", "other");
    world.send(SUBSCRIBE, "reply", &other.encode_to_vec());
    let other = UnsubscribeRequest {
        client_id: "me".to_owned(),
        subject: "other".to_owned(),
        inbox: "inbox".to_owned(),
        durable_name: String::new(),
    };
    for subject in ["_STAN.unsub.test-cluster", "_STAN.subclose.test-cluster"] {
        world.send(subject, "reply", &other.encode_to_vec());
    }
    assert!(world.take("reply").is_empty());
    let wildcard = world.try_subscribe(&World::sub_request("me", "bar.*"));
    assert_eq!(wildcard.error, "stan: invalid subject");
    assert_eq!(world.unsubscribe(&subscription), "");
    assert_eq!(world.engine.channel_count(), 2);
}

fn publish_early(world: &mut World, client: &str) {
    let message = world.pub_msg(client, "foo", "x");
    world.send(
        "_STAN.pub.test-cluster.foo",
        "ack",
        &message.encode_to_vec(),
    );
}

#[test]
fn a_publish_waits_a_second_for_its_client_and_then_fails_at_once() {
    let mut world = world(&["foo"]);
    publish_early(&mut world, "me");
    world.advance(std::time::Duration::from_millis(999));
    assert!(world.take("ack").is_empty());
    world.advance(std::time::Duration::from_millis(1));
    let refused = "stan: invalid publish request";
    assert_eq!(world.take_as::<PubAck>("ack")[0].error, refused);
    publish_early(&mut world, "me");
    assert_eq!(world.take_as::<PubAck>("ack")[0].error, refused);
    world.connect("me");
    publish_early(&mut world, "me");
    assert_eq!(world.take_as::<PubAck>("ack")[0].error, "");
}

#[test]
fn what_came_before_the_registration_is_done_in_order_when_it_has_come() {
    let mut world = world(&["foo"]);
    let early: SubscriptionRequest = World::sub_request("me", "foo");
    world.send(SUBSCRIBE, "sub", &early.encode_to_vec());
    for _ in 0..3 {
        publish_early(&mut world, "me");
    }
    publish_early(&mut world, "you");
    assert!(world.take("ack").is_empty() && world.take("sub").is_empty());
    world.connect("me");
    assert_eq!(world.take_as::<SubscriptionResponse>("sub")[0].error, "");
    let acks: Vec<PubAck> = world.take_as("ack");
    assert_eq!(acks.len(), 3);
    assert_eq!(world.store.messages("foo").len(), 3);
}

#[test]
fn a_subscription_waits_a_second_for_its_client() {
    let mut world = world(&["foo"]);
    let early = World::sub_request("me", "foo");
    world.send(SUBSCRIBE, "sub", &early.encode_to_vec());
    world.advance_secs(1);
    let refused = "stan: invalid subscription request";
    assert_eq!(
        world.take_as::<SubscriptionResponse>("sub")[0].error,
        refused
    );
    world.send(SUBSCRIBE, "sub", &early.encode_to_vec());
    assert_eq!(
        world.take_as::<SubscriptionResponse>("sub")[0].error,
        refused
    );
}

#[test]
fn any_number_of_unknown_clients_is_kept_in_bounds() {
    let mut world = world(&["foo"]);
    for round in 0..3 {
        for client in 0..20_000 {
            publish_early(&mut world, &format!("client-{round}-{client}"));
        }
        // Those beyond the bound are refused at once, the others later.
        assert!(world.take("ack").len() >= 10_000);
        world.advance_secs(1);
        world.take("ack");
    }
    let (waiting, invalid) = world.engine.unregistered();
    assert_eq!((waiting, invalid), (0, 256));
}
