//! Publishing: validation, storing, acks.

use broker_proto::streaming::{CtrlMsg, PubAck, PubMsg};
use prost::Message as _;

use super::harness::{ACKS, World};
use crate::streaming::EngineConfig;

const INVALID: &str = "stan: invalid publish request";
const PUBLISH: &str = "_STAN.pub.test-cluster.foo";

#[test]
fn a_published_message_is_stored_and_acked_with_its_guid() {
    let mut world = World::new();
    world.connect("me");
    let guid = world.publish("me", "foo", "hello");
    assert_eq!(
        world.acks(),
        [PubAck {
            guid,
            error: String::new()
        }]
    );
    assert_eq!(world.store.messages("foo"), [(1, "hello".into())]);
}

#[test]
fn malformed_publishes_are_refused_with_what_was_read_of_the_guid() {
    let mut world = World::new();
    world.connect("me");
    let refused: PubAck = world.request_raw(PUBLISH, b"dummy");
    assert_eq!(
        refused,
        PubAck {
            guid: String::new(),
            error: INVALID.into()
        }
    );
    let refused: PubAck = world.request_raw(PUBLISH, b"");
    assert_eq!(
        refused,
        PubAck {
            guid: String::new(),
            error: INVALID.into()
        }
    );
    let mut message = world.pub_msg("me", "foo", "x");
    message.guid.clear();
    assert_eq!(world.try_publish(&message).error, INVALID);
    for channel in [
        "foo.*", "foo.>", "foo*.bar", "foo..bar", ".foo", "foo.", "foo/bar", "",
    ] {
        let message = world.pub_msg("me", channel, "x");
        let ack = world.try_publish(&message);
        assert_eq!((ack.guid, &*ack.error), (message.guid, INVALID));
    }
    assert_eq!(world.engine.channel_count(), 0);
}

#[test]
fn the_connection_id_decides_alone_when_given() {
    let mut world = World::new();
    world.connect("me");
    let mut with = |client_id: &str, conn_id: &'static str| {
        let message = PubMsg {
            client_id: client_id.into(),
            conn_id: conn_id.into(),
            ..world.pub_msg("me", "foo", "x")
        };
        world.try_publish(&message).error
    };
    assert_eq!(with("wrong", "conn-me"), "");
    assert_eq!(with("", "conn-me"), "");
    assert_eq!(with("me", ""), "");
    assert_eq!(with("me", "unknown"), INVALID);
    assert_eq!(with("unknown", ""), INVALID);
}

#[test]
fn control_messages_of_old_servers_are_dropped() {
    let mut world = World::new();
    let control = CtrlMsg {
        msg_type: 3,
        server_id: "s".into(),
        ..CtrlMsg::default()
    };
    world.send(PUBLISH, "reply", &control.encode_to_vec());
    assert!(world.take("reply").is_empty());
}

#[test]
fn the_channel_is_the_one_in_the_message_and_the_answer_is_optional() {
    let mut world = World::new();
    world.connect("me");
    let message = world.pub_msg("me", "bar", "x").encode_to_vec();
    world.send(PUBLISH, "", &message);
    assert_eq!(world.store.messages("bar").len(), 1);
    assert!(world.store.channel("foo").is_none());
    assert!(
        world
            .published
            .iter()
            .all(|(subject, _)| !subject.is_empty())
    );
}

#[test]
fn a_long_guid_and_an_empty_payload_pass() {
    let mut world = World::new();
    world.connect("me");
    let guid = "g".repeat(300);
    let message = PubMsg {
        guid: guid.clone(),
        ..world.pub_msg("me", "foo", "")
    };
    assert_eq!(
        world.try_publish(&message),
        PubAck {
            guid,
            error: String::new()
        }
    );
    let sub = world.subscribe_with("me", "foo", |_| {});
    assert!(world.messages(&sub)[0].data.is_empty());
}

#[test]
fn messages_keep_their_order_over_many_flushes_and_every_guid_is_acked_once() {
    let mut world = World::with(EngineConfig::default(), 2);
    world.connect("me");
    world.flushes_at_once = false;
    let mut guids = Vec::new();
    for number in 0..9_000 {
        guids.push(world.publish_unflushed("me", ["a", "b"][number % 2], &number.to_string()));
        if number % 1_000 == 0 {
            world.end_pass();
        }
    }
    world.flush_all();
    let acked: Vec<String> = world.acks().into_iter().map(|ack| ack.guid).collect();
    assert_eq!(acked.len(), guids.len());
    for (channel, parity) in [("a", 0), ("b", 1)] {
        let expected: Vec<&String> = guids.iter().skip(parity).step_by(2).collect();
        let of_channel: Vec<&String> = acked
            .iter()
            .filter(|guid| expected.contains(guid))
            .take(50)
            .collect();
        assert_eq!(of_channel, expected[..50]);
        let stored = world.store.messages(channel);
        assert!(stored.iter().map(|(sequence, _)| *sequence).eq(1..=4_500));
        let numbers = stored
            .iter()
            .map(|(_, data)| std::str::from_utf8(data).unwrap().parse::<usize>().unwrap());
        assert!(numbers.eq((parity..9_000).step_by(2)));
    }
}

#[test]
fn nothing_is_acked_before_it_is_durable() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    world.publish("me", "foo", "x");
    assert!(world.take(ACKS).is_empty());
    world.publish("me", "foo", "y");
    world.finish_flush(0, crate::durable::FlushOutcome::Stored);
    world.run();
    assert_eq!(world.acks().len(), 1);
    world.flush_all();
    assert_eq!(world.acks().len(), 1);
}

#[test]
fn a_live_subscription_gets_the_message_before_the_publisher_gets_the_ack() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish("me", "foo", "x");
    let order: Vec<&str> = world
        .published
        .iter()
        .map(|(subject, _)| &**subject)
        .collect();
    let position = |wanted: &str| order.iter().position(|subject| *subject == wanted).unwrap();
    assert!(position(&sub.inbox) < position(ACKS));
}

#[test]
fn names_that_differ_in_case_are_refused_also_after_a_restart() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo2", 1);
    for _ in 0..2 {
        let message = world.pub_msg("me", "Foo2", "x");
        let expected = "rejecting channel \"Foo2\" because channel \"foo2\" alreay exists (different cases not allowed)";
        assert_eq!(world.try_publish(&message).error, expected);
        assert_eq!(
            world.try_subscribe(&World::sub_request("me", "FOO2")).error,
            expected.replace("Foo2", "FOO2")
        );
        world.publish("me", "foo2", "x");
        assert_eq!(world.acks()[0].error, "");
        world.restart();
    }
}

#[test]
fn the_reply_field_is_delivered_and_the_envelope_has_its_known_size() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish("me", "foo", "12345");
    assert_eq!(world.take(&sub.inbox)[0].len(), 5 + 19);
    let message = PubMsg {
        reply: "answer.here".into(),
        ..world.pub_msg("me", "foo", "x")
    };
    world.try_publish(&message);
    assert_eq!(world.messages(&sub)[0].reply, "answer.here");
}

#[test]
fn timestamps_never_go_back_within_a_channel() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.advance_secs(10);
    world.publish("me", "foo", "x");
    world.clock.elapsed -= std::time::Duration::from_secs(5);
    world.publish("me", "foo", "y");
    let messages = world.messages(&sub);
    assert_eq!(messages[0].timestamp, messages[1].timestamp);
}

#[test]
fn a_channel_of_a_hundred_and_one_tokens_is_one_as_any_other() {
    let mut world = World::new();
    world.connect("me");
    let channel = ["a"; 101].join(".");
    let sub = world.subscribe_with("me", &channel, |_| {});
    world.publish("me", &channel, "x");
    assert_eq!(world.acks()[0].error, "");
    assert_eq!(world.sequences(&sub), [1]);
}

#[test]
fn a_guid_that_comes_twice_is_two_messages() {
    let mut world = World::new();
    world.connect("me");
    let message = world.pub_msg("me", "foo", "x");
    for _ in 0..2 {
        let ack = world.try_publish(&message);
        assert_eq!((ack.guid, &*ack.error), (message.guid.clone(), ""));
    }
    assert_eq!(world.store.messages("foo").len(), 2);
}

#[test]
fn five_hundred_messages_come_whole_and_once_to_subscriptions_and_members() {
    let mut world = World::new();
    world.connect("me");
    let plain = world.subscribe_with("me", "foo", |request| request.inbox = "plain".into());
    let member = world.subscribe_with("me", "foo", |request| request.q_group = "q".into());
    for number in 1..=500_u64 {
        world.publish("me", "foo", &format!("data {number}"));
    }
    for sub in [&plain, &member] {
        let messages = world.messages(sub);
        assert_eq!(messages.len(), 500);
        for (message, number) in messages.iter().zip(1_u64..) {
            assert_eq!((message.sequence, &*message.subject), (number, "foo"));
            assert_eq!(message.data, format!("data {number}"));
            assert!(message.timestamp >= 1_600_000_000_000_000_000);
            assert!(!message.redelivered && message.redelivery_count == 0 && message.crc32 == 0);
        }
    }
}

#[test]
fn a_name_in_another_case_is_told_before_that_there_are_too_many() {
    let config = EngineConfig {
        max_channels: 1,
        ..EngineConfig::default()
    };
    let mut world = World::with(config, 1);
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let message = world.pub_msg("me", "Foo", "x");
    let error = world.try_publish(&message).error;
    assert!(error.contains("different cases"), "{error}");
    let message = world.pub_msg("me", "bar", "x");
    assert_eq!(world.try_publish(&message).error, "too many channels");
}
