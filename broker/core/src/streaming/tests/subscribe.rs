//! Subscribe requests: validation, start positions, and the order of answer and messages.

use std::time::Duration;

use broker_proto::streaming::{SubscriptionRequest, SubscriptionResponse};
use prost::Message as _;

use super::harness::World;

const SUBSCRIBE: &str = "_STAN.sub.test-cluster";

#[test]
fn checks_come_in_their_order_with_their_texts() {
    let mut world = World::new();
    world.connect("me");
    let response: SubscriptionResponse = world.request_raw(SUBSCRIBE, b"dummy");
    assert_eq!(response.error, "stan: invalid subscription request");
    let mut request = SubscriptionRequest {
        start_position: 5,
        ..SubscriptionRequest::default()
    };
    let mut error_of = |request: &SubscriptionRequest| world.try_subscribe(request).error;
    assert_eq!(error_of(&request), "stan: clientID missing");
    request.client_id = "other".into();
    request.ack_wait_in_secs = -1;
    assert_eq!(
        error_of(&request),
        "stan: invalid ack wait time, should be >= 1s"
    );
    request.ack_wait_in_secs = 1;
    assert_eq!(
        error_of(&request),
        "stan: invalid MaxInflight, should be >= 1"
    );
    request.max_in_flight = 1;
    for position in [5, -1] {
        request.start_position = position;
        assert_eq!(error_of(&request), "stan: invalid start position");
    }
    request.start_position = 0;
    for channel in ["foo*.bar", "foo.bar*", "foo.>.*", "foo.*", ">", ""] {
        request.subject = channel.into();
        assert_eq!(error_of(&request), "stan: invalid subject");
    }
    request.subject = "foo".into();
    assert_eq!(error_of(&request), "stan: unknown clientID");
    request.client_id = "me".into();
    (request.q_group, request.durable_name) = ("q".into(), "d:x".into());
    let expected =
        "stan: durable name of a durable queue subscriber can't contain the character ':'";
    assert_eq!(error_of(&request), expected);
    request.q_group.clear();
    assert_eq!(error_of(&request), "");
    assert_eq!(world.engine.channel_count(), 1);
}

#[test]
fn the_answer_comes_before_the_first_message_for_every_kind() {
    for (q_group, durable_name) in [("", ""), ("", "d"), ("q", ""), ("q", "d")] {
        let mut world = World::new();
        world.connect("me");
        for _ in 0..2 {
            world.flushes_at_once = false;
            let mut request = World::sub_request("me", "foo");
            (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
            request.inbox = "both".into();
            world.send_unflushed(SUBSCRIBE, "both", &request.encode_to_vec());
            world.publish_unflushed("me", "foo", "x");
            world.end_pass();
            world.flush_all();
            let received = world.take("both");
            let response = SubscriptionResponse::decode(&received[0][..]).unwrap();
            assert!(!response.ack_inbox.is_empty());
            assert!(received.len() > 1);
            world.flushes_at_once = true;
            world.close("me");
            world.connect("me");
        }
    }
}

#[test]
fn every_subscription_and_every_resume_has_its_own_ack_inbox() {
    let mut world = World::new();
    world.connect("me");
    let mut inboxes = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
        assert!(inboxes.insert(sub.ack_inbox.clone()));
        assert!(sub.ack_inbox.starts_with("_INBOX."));
        world.sub_close(&sub);
    }
}

/// Ten messages, one a second, the first three removed by the limit; a new subscription's sequences.
fn start_at(change: impl FnOnce(&mut SubscriptionRequest)) -> Vec<i64> {
    let mut world = World::limited(|limits| limits.max_msgs = 7);
    world.connect("me");
    for _ in 0..10 {
        world.advance_secs(1);
        world.publish_many("me", "foo", 1);
    }
    let sub = world.subscribe_with("me", "foo", change);
    world.publish("me", "foo", "new");
    world.sequences(&sub)
}

#[test]
fn start_positions_begin_where_they_say() {
    assert_eq!(start_at(|request| request.start_position = 0), [11]);
    assert_eq!(start_at(|request| request.start_position = 1), [10, 11]);
    assert_eq!(start_at(|_| {}), [4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn start_sequences_out_of_range_are_moved_into_it() {
    let from = |sequence| {
        start_at(|request| (request.start_position, request.start_sequence) = (3, sequence))
    };
    assert_eq!(from(6), [6, 7, 8, 9, 10, 11]);
    assert_eq!(from(0)[0], 4);
    assert_eq!(from(2)[0], 4);
    assert_eq!(from(10), [10, 11]);
    assert_eq!(from(11), [11]);
    assert_eq!(from(100), [11]);
    assert_eq!(from(u64::MAX), [11]);
}

#[test]
fn start_times_begin_at_the_first_message_at_or_after_them() {
    let ago = |delta: i64| {
        start_at(|request| (request.start_position, request.start_time_delta) = (2, delta))
    };
    assert_eq!(ago(i64::MAX)[0], 4);
    assert_eq!(ago(2_500_000_000), [8, 9, 10, 11]);
    assert_eq!(ago(2_000_000_000), [8, 9, 10, 11]);
    assert_eq!(ago(0), [10, 11]);
    assert_eq!(ago(-1_000_000_000), [11]);
    // Wraps around to long ago.
    assert_eq!(ago(i64::MIN)[0], 4);
}

#[test]
fn a_request_that_waits_for_its_start_ends_with_its_client_though_the_id_is_registered_again() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    world.reads_at_once = false;
    let mut request = World::sub_request("me", "foo");
    (request.start_position, request.start_time_delta) = (2, 1_000_000_000);
    // The first one waits for the store, the second one for the first.
    for reply in ["first", "second"] {
        world.send(SUBSCRIBE, reply, &request.encode_to_vec());
    }
    world.close("me");
    world.connect("me");
    world.finish_read();
    world.run();
    for reply in ["first", "second"] {
        let answers: Vec<SubscriptionResponse> = world.take_as(reply);
        assert_eq!(answers[0].error, "stan: unknown clientID", "{reply}");
    }
    assert_eq!(world.engine.subscription_count(), 0);
    assert!(world.take(&request.inbox).is_empty());
}

#[test]
fn on_an_empty_channel_every_position_gets_the_first_message() {
    for position in 0..=4 {
        let mut world = World::new();
        world.connect("me");
        let sub = world.subscribe_with("me", "foo", |request| {
            request.start_position = position;
            request.start_sequence = 7;
            request.start_time_delta = -5;
        });
        world.publish("me", "foo", "x");
        assert_eq!(world.sequences(&sub), [1], "{position}");
    }
}

#[test]
fn after_everything_expired_every_position_means_new_only() {
    for position in 0..=4 {
        let mut world = World::limited(|limits| limits.max_age_nanos = 1_000_000_000);
        world.connect("me");
        world.publish_many("me", "foo", 5);
        world.advance_secs(3);
        assert!(world.store.messages("foo").is_empty());
        let sub = world.subscribe_with("me", "foo", |request| {
            request.start_position = position;
            request.start_sequence = 2;
            request.start_time_delta = 10_000_000_000;
        });
        world.publish("me", "foo", "x");
        assert_eq!(world.sequences(&sub), [6], "{position}");
    }
}

#[test]
fn new_only_begins_after_what_was_published_before_it_though_not_yet_durable() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    for _ in 0..50 {
        world.publish_unflushed("me", "foo", "before");
    }
    let mut request = World::sub_request("me", "foo");
    request.start_position = 0;
    world.send_unflushed(SUBSCRIBE, "reply", &request.encode_to_vec());
    for _ in 0..50 {
        world.publish_unflushed("me", "foo", "after");
    }
    world.end_pass();
    world.flush_all();
    let sub = super::harness::Sub {
        client: "me".into(),
        channel: "foo".into(),
        inbox: request.inbox,
        ack_inbox: String::new(),
    };
    assert_eq!(world.sequences(&sub), (51..=100).collect::<Vec<_>>());
}

#[test]
fn requests_behind_a_search_wait_for_it_in_order() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    world.reads_at_once = false;
    let mut request = World::sub_request("me", "foo");
    request.durable_name = "d".into();
    (request.start_position, request.start_time_delta) = (2, 1_000);
    world.send(SUBSCRIBE, "first", &request.encode_to_vec());
    world.send(SUBSCRIBE, "second", &request.encode_to_vec());
    assert!(world.take("first").is_empty() && world.take("second").is_empty());
    world.reads_at_once = true;
    world.finish_read();
    world.run();
    assert_eq!(world.take_as::<SubscriptionResponse>("first")[0].error, "");
    let second = world.take_as::<SubscriptionResponse>("second");
    assert_eq!(second[0].error, "stan: duplicate durable registration");
}

#[test]
fn a_failed_search_is_told() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    world.reads_at_once = false;
    let mut request = World::sub_request("me", "foo");
    request.start_position = 2;
    world.send(SUBSCRIBE, "reply", &request.encode_to_vec());
    world.fail_read();
    assert_eq!(
        world.take_as::<SubscriptionResponse>("reply")[0].error,
        "disk on fire"
    );
    assert_eq!(world.engine.subscription_count(), 0);
}

#[test]
fn a_client_that_closes_while_its_request_waits_gets_unknown_client() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    world.reads_at_once = false;
    let mut request = World::sub_request("me", "foo");
    request.start_position = 2;
    world.send(SUBSCRIBE, "reply", &request.encode_to_vec());
    world.close("me");
    world.finish_read();
    world.run();
    let response = world.take_as::<SubscriptionResponse>("reply");
    assert_eq!(response[0].error, "stan: unknown clientID");
}

#[test]
fn replay_with_concurrent_publishing_misses_and_repeats_nothing() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 2_500);
    world.restart();
    world.reads_at_once = false;
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 10_000);
    let mut received = Vec::new();
    for _ in 0..100 {
        world.publish_many("me", "foo", 5);
        if !world.reads.is_empty() {
            world.finish_read();
            world.run();
        }
        received.extend(world.sequences(&sub));
    }
    assert_eq!(received, (1..=3_000).collect::<Vec<_>>());
}

#[test]
fn an_inbox_that_is_no_subject_gets_nothing() {
    let mut world = World::new();
    world.connect("me");
    for inbox in ["", "a b"] {
        world.subscribe_with("me", "foo", |request| request.inbox = inbox.into());
    }
    world.publish("me", "foo", "x");
    assert!(world.take("").is_empty() && world.take("a b").is_empty());
    world.advance(Duration::from_secs(60));
}

#[test]
fn a_group_name_is_refused_after_its_channel_came_to_be() {
    let mut world = World::new();
    world.connect("me");
    let mut request = World::sub_request("me", "foo");
    (request.q_group, request.durable_name) = ("q".into(), "a:b".into());
    assert_ne!(world.try_subscribe(&request).error, "");
    assert_eq!(world.engine.subscription_count(), 0);
    assert!(world.store.channel("foo").is_some());
}

#[test]
fn a_durable_of_a_client_that_left_is_not_resumed_by_nobody() {
    let mut world = World::new();
    world.connect("me");
    world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    world.close("me");
    let mut request = World::sub_request("me", "foo");
    request.durable_name = "d".into();
    assert_eq!(
        world.try_subscribe(&request).error,
        "stan: unknown clientID"
    );
    assert!(world.engine.subscriptions("foo").all(|sub| sub.is_offline));
}

#[test]
fn an_ack_right_behind_the_answer_counts() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.max_in_flight, request.ack_wait_in_secs) = (1, 1);
    });
    world.ack(&sub, 1);
    world.ack(&sub, 2);
    world.ack(&sub, 3);
    world.advance_secs(5);
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
}

#[test]
fn a_subscription_brings_its_channel_along() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    assert_eq!(world.engine.channel_count(), 1);
    assert!(world.store.channel("foo").is_some());
    assert_eq!(world.unsubscribe(&sub), "");
    assert_eq!(world.engine.channel_count(), 1);
}

#[test]
fn subscriptions_come_and_go_until_there_is_none() {
    let mut world = World::new();
    world.connect("me");
    for _ in 0..100 {
        let subs: Vec<_> = [("", ""), ("", "d"), ("q", ""), ("q", ""), ("q", "d")]
            .into_iter()
            .map(|(q_group, durable_name)| {
                world.subscribe_with("me", "foo", |request| {
                    (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
                })
            })
            .collect();
        assert_eq!(world.engine.subscription_count(), 5);
        for sub in &subs {
            assert_eq!(world.unsubscribe(sub), "");
        }
    }
    assert_eq!(world.engine.subscription_count(), 0);
    assert!(world.store.subs("foo").is_empty());
}

#[test]
fn a_time_after_the_last_message_means_new_only() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    world.advance_secs(10);
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.start_position, request.start_time_delta) = (2, 1_000_000_000);
    });
    assert!(world.sequences(&sub).is_empty());
    world.publish("me", "foo", "new");
    assert_eq!(world.sequences(&sub), [4]);
}
