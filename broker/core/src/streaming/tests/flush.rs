//! Outcomes of flushes.

use std::time::Duration;

use broker_proto::streaming::{ConnectResponse, SubscriptionResponse, UnsubscribeRequest};
use prost::Message as _;

use super::harness::{ACKS, World};
use crate::{durable::FlushOutcome, streaming::EngineConfig};

fn refused() -> FlushOutcome {
    FlushOutcome::Refused {
        reason: "no room".into(),
    }
}

#[test]
fn limits_that_are_not_those_on_record_are_recorded() {
    let mut world = World::limited(|limits| limits.max_msgs = 10);
    world.connect("me");
    world.publish_many("me", "foo", 1);
    assert_eq!(world.store.channel("foo").unwrap().limits.max_msgs, 10);
    world.config.limits.max_msgs = 20;
    world.restart();
    world.flush_all();
    assert_eq!(world.store.channel("foo").unwrap().limits.max_msgs, 20);
    let mut config = world.config.clone();
    config.limits.max_bytes = 1_000;
    world.engine.reconfigure(config, world.clock.now());
    world.flush_all();
    assert_eq!(world.store.channel("foo").unwrap().limits.max_bytes, 1_000);
}

#[test]
fn an_empty_channel_is_known_although_other_limits_of_it_were_refused() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.unsubscribe(&sub);
    world.config.limits.max_msgs = 20;
    world.flushes_at_once = false;
    world.restart();
    world.finish_flush(0, refused());
    world.flushes_at_once = true;
    world.publish_many("me", "foo", 1);
    // The model store lets no other channel have the name.
    assert_eq!(world.engine.channels().next().unwrap().messages, 1);
}

#[test]
fn refused_messages_are_told_and_give_their_sequences_back() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish_many("me", "foo", 2);
    world.flushes_at_once = false;
    let lost = world.publish("me", "foo", "lost");
    let kept = world.publish("me", "foo", "kept");
    world.finish_flush(0, refused());
    world.flush_all();
    let acks: Vec<_> = world
        .acks()
        .into_iter()
        .map(|ack| (ack.guid, ack.error))
        .collect();
    assert_eq!(acks, [(lost, "no room".to_owned()), (kept, String::new())]);
    assert_eq!(world.store.messages("foo")[2], (3, "kept".into()));
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
}

#[test]
fn changes_refused_along_with_messages_are_tried_again_alone() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    world.publish_unflushed("me", "foo", "x");
    world.send_unflushed(
        "_STAN.sub.test-cluster",
        "reply",
        &World::sub_request("me", "foo").encode_to_vec(),
    );
    world.end_pass();
    world.finish_flush(0, refused());
    world.flush_all();
    assert_eq!(world.take_as::<SubscriptionResponse>("reply")[0].error, "");
    assert_eq!(world.acks()[0].error, "no room");
    world.publish("me", "foo", "y");
    world.flush_all();
    assert_eq!(world.store.messages("foo"), [(1, "y".into())]);
}

#[test]
fn a_channel_whose_creation_is_refused_does_not_exist() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    world.publish("me", "foo", "x");
    world.finish_flush(0, refused());
    world.run();
    world.finish_flush(0, refused());
    world.run();
    assert_eq!(world.engine.channel_count(), 0);
    world.publish("me", "Foo", "y");
    world.flush_all();
    assert_eq!(world.store.messages("Foo").len(), 1);
}

#[test]
fn a_channel_that_came_into_use_is_created_with_what_came() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    world.publish("me", "foo", "x");
    world.finish_flush(0, refused());
    world.run();
    world.publish("me", "foo", "y");
    world.finish_flush(0, refused());
    world.flush_all();
    assert_eq!(world.store.messages("foo"), [(1, "y".into())]);
}

#[test]
fn a_refused_subscription_leaves_no_trace_and_a_refused_resume_leaves_the_durable() {
    for (q_group, durable_name) in [("", ""), ("", "d"), ("q", ""), ("q", "d")] {
        let mut world = World::new();
        world.connect("me");
        world.publish_many("me", "foo", 3);
        let mut request = World::sub_request("me", "foo");
        (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
        let refuse = |world: &mut World| {
            world.flushes_at_once = false;
            world.send("_STAN.sub.test-cluster", "reply", &request.encode_to_vec());
            world.finish_flush(0, refused());
            world.run();
            world.flushes_at_once = true;
            assert_eq!(
                world.take_as::<SubscriptionResponse>("reply")[0].error,
                "no room"
            );
        };
        refuse(&mut world);
        assert_eq!(world.engine.subscription_count(), 0);
        let sub = world.subscribe(&request);
        assert_eq!(world.sequences(&sub), [1, 2, 3]);
        world.ack(&sub, 1);
        world.sub_close(&sub);
        let before = world.engine.subscription_count();
        refuse(&mut world);
        assert_eq!(world.engine.subscription_count(), before);
        if !durable_name.is_empty() {
            let sub = world.subscribe(&request);
            assert_eq!(world.sequences(&sub), [-2, -3]);
        }
    }
}

#[test]
fn a_foreign_tail_is_kept_and_ours_follows_it() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish_many("me", "foo", 2);
    world.flushes_at_once = false;
    let first = world.publish("me", "foo", "ours");
    let second = world.publish("me", "foo", "ours too");
    let foreign = world.store.plant_row("foo", "foreign");
    world.finish_flush(
        0,
        FlushOutcome::Foreign {
            last: vec![foreign],
        },
    );
    assert!(world.take(ACKS).is_empty());
    world.flush_all();
    let guids: Vec<String> = world.acks().into_iter().map(|ack| ack.guid).collect();
    assert_eq!(guids, [first, second]);
    let stored: Vec<_> = world.store.messages("foo").into_iter().skip(2).collect();
    assert_eq!(
        stored,
        [
            (3, "foreign".into()),
            (4, "ours".into()),
            (5, "ours too".into())
        ]
    );
    assert_eq!(world.sequences(&sub), [1, 2, 3, 4, 5]);
}

#[test]
fn a_deposed_engine_is_silent_and_listens_no_more() {
    let mut world = World::with(EngineConfig::default(), 2);
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.flushes_at_once = false;
    world.publish("me", "foo", "x");
    world.send(
        "_STAN.discover.test-cluster",
        "reply",
        &World::connect_request("new").encode_to_vec(),
    );
    let lane = world.flights.iter().rposition(Option::is_some).unwrap();
    world.finish_flush(lane, FlushOutcome::Deposed);
    world.run();
    assert!(world.engine.is_deposed() && world.engine.is_drained());
    for lane in 0..2 {
        if world.flights[lane].is_some() {
            world.finish_flush(lane, FlushOutcome::Stored);
        }
    }
    world.publish("me", "foo", "y");
    world.ack(&sub, 1);
    world.advance_secs(1_000);
    assert!(world.take(ACKS).is_empty());
    assert!(world.take_as::<ConnectResponse>("reply").is_empty());
    assert!(world.sequences(&sub).is_empty());
    assert!(!world.is_listening());
}

#[test]
fn stop_flushes_what_is_open_and_takes_nothing_more() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.ack(&sub, 2);
    world.flushes_at_once = false;
    let guid = world.publish_unflushed("me", "foo", "last");
    world.engine.stop(world.clock.now());
    world.publish_unflushed("me", "foo", "too late");
    assert!(!world.engine.is_drained());
    world.flush_all();
    assert!(world.engine.is_drained());
    assert_eq!(
        world
            .acks()
            .into_iter()
            .map(|ack| ack.guid)
            .collect::<Vec<_>>(),
        [guid]
    );
    assert_eq!(world.store.subs("foo")[0].1, [1, 3]);
    assert_eq!(world.store.messages("foo").len(), 4);
}

#[test]
fn positions_are_written_within_a_second_and_not_more_often() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.ack(&sub, 2);
    assert!(world.store.subs("foo")[0].1.is_empty());
    world.advance_secs(1);
    assert_eq!(world.store.subs("foo")[0].1, [1, 3]);
    world.crash();
    world.ack(&sub, 1);
    world.ack(&sub, 3);
    world.advance_secs(60);
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
}

#[test]
fn a_client_on_other_lanes_is_forgotten_after_its_subscriptions() {
    let mut world = World::with(EngineConfig::default(), 2);
    world.connect("me");
    for channel in ["a", "b", "c"] {
        world.subscribe_with("me", channel, |request| {
            (request.q_group, request.durable_name) = ("q".into(), "d".into());
        });
    }
    world.flushes_at_once = false;
    let close = broker_proto::streaming::CloseRequest {
        client_id: "me".into(),
    };
    world.send("_STAN.close.test-cluster", "closed", &close.encode_to_vec());
    while let Some(lane) = world.flights.iter().position(Option::is_some) {
        assert!(world.store.has_client("me") && world.take("closed").is_empty());
        world.finish_flush(lane, FlushOutcome::Stored);
        world.run();
    }
    assert!(!world.store.has_client("me"));
    assert_eq!(world.take("closed"), [b"".as_slice()]);
    world.flushes_at_once = true;
    world.crash();
    assert!(world.engine.take_notices().is_empty());
}

#[test]
fn a_position_that_is_refused_fails_no_publish_and_is_written_later() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&sub), [1]);
    world.flushes_at_once = false;
    world.advance_secs(1);
    world.finish_flush(0, refused());
    world.run();
    world.publish("me", "foo", "x");
    world.flush_all();
    assert_eq!(world.acks()[0].error, "");
    assert_eq!(world.sequences(&sub), [2]);
    world.advance_secs(1);
    world.flush_all();
    assert_eq!(world.store.subs("foo")[0].1, [1, 2]);
}

/// Rows of the flush that is under way after this many were published behind one that takes so long.
fn rows_after(world: &mut World, published: usize, took: Duration) -> usize {
    world.publish("me", "foo", "under way");
    world.clock.elapsed += took;
    world.finish_flush(0, FlushOutcome::Stored);
    world.run();
    world.publish("me", "foo", "under way");
    for _ in 0..published {
        world.publish_unflushed("me", "foo", "x");
    }
    world.end_pass();
    world.finish_flush(0, FlushOutcome::Stored);
    world.run();
    let rows = world.flights[0].as_ref().unwrap().rows.len();
    world.flush_all();
    rows
}

#[test]
fn flushes_are_larger_where_the_database_is_far() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    for (took, rows) in [(1, 2_000), (8, 5_000), (5, 2_000)] {
        let took = Duration::from_millis(took);
        assert_eq!(rows_after(&mut world, 6_000, took), rows, "{took:?}");
    }
}

#[test]
fn what_was_pending_when_a_position_was_refused_is_saved_with_the_record_of_who_comes_back() {
    let mut world = World::new();
    world.connect("me");
    let mut request = World::sub_request("me", "foo");
    request.durable_name = "d".into();
    let sub = world.subscribe(&request);
    world.publish_many("me", "foo", 3);
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
    world.flushes_at_once = false;
    let end = UnsubscribeRequest {
        client_id: "me".into(),
        subject: "foo".into(),
        inbox: sub.ack_inbox.clone(),
        ..Default::default()
    };
    world.send("_STAN.subclose.test-cluster", "", &end.encode_to_vec());
    world.finish_flush(0, refused());
    world.flush_all();
    world.send("_STAN.sub.test-cluster", "", &request.encode_to_vec());
    world.flush_all();
    world.crash();
    world.flushes_at_once = true;
    world.published.clear();
    world.advance_secs(30);
    assert_eq!(world.sequences(&sub), [-1, -2, -3]);
}
