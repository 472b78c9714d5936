//! Redelivery after the ack wait.

use std::time::Duration;

use super::harness::World;
use crate::streaming::EngineConfig;

#[test]
fn unacked_messages_come_again_marked_and_counted_until_acked() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
    world.ack(&sub, 2);
    world.advance(Duration::from_millis(999));
    assert!(world.sequences(&sub).is_empty());
    for count in 1..=3 {
        world.advance_secs(1);
        let again: Vec<_> = world
            .messages(&sub)
            .iter()
            .map(|m| (m.sequence, m.redelivery_count))
            .collect();
        assert_eq!(again, [(1, count), (3, count)]);
    }
    world.ack(&sub, 1);
    world.ack(&sub, 3);
    world.advance_secs(10);
    assert!(world.sequences(&sub).is_empty());
}

#[test]
fn each_message_comes_again_after_its_own_wait() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
    world.publish("me", "foo", "first");
    world.advance(Duration::from_millis(100));
    world.publish("me", "foo", "second");
    assert_eq!(world.sequences(&sub), [1, 2]);
    world.advance(Duration::from_millis(900));
    assert_eq!(world.sequences(&sub), [-1]);
    world.advance(Duration::from_millis(99));
    assert!(world.sequences(&sub).is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(world.sequences(&sub), [-2]);
}

#[test]
fn a_stalled_subscription_is_redelivered_to() {
    for (q_group, durable_name) in [("", ""), ("", "d"), ("q", "")] {
        let mut world = World::new();
        world.connect("me");
        world.publish_many("me", "foo", 2);
        let sub = world.subscribe_with("me", "foo", |request| {
            (request.ack_wait_in_secs, request.max_in_flight) = (1, 1);
            (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
        });
        world.advance_secs(2);
        assert_eq!(world.sequences(&sub), [1, -1, -1]);
        world.ack(&sub, 1);
        assert_eq!(world.sequences(&sub), [2]);
    }
}

#[test]
fn the_mark_is_per_subscription() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let one = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
    world.advance_secs(1);
    assert_eq!(world.sequences(&one), [1, -1]);
    let other = world.subscribe_with("me", "foo", |request| {
        (request.ack_wait_in_secs, request.inbox) = (1, "other".into());
    });
    assert_eq!(world.sequences(&other), [1]);
    assert_eq!(world.store.messages("foo").len(), 1);
}

#[test]
fn an_ack_during_the_lookup_prevents_the_redelivery() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 2);
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.durable_name, request.ack_wait_in_secs) = ("d".into(), 1);
    });
    world.restart();
    world.sequences(&sub);
    world.engine.forget_pages();
    world.reads_at_once = false;
    world.advance_secs(1);
    world.ack(&sub, 1);
    world.finish_read();
    world.run();
    assert_eq!(world.sequences(&sub), [-2]);
}

#[test]
fn pending_messages_that_a_limit_removed_are_dropped() {
    let mut world = World::limited(|limits| limits.max_msgs = 2);
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.ack_wait_in_secs, request.max_in_flight) = (1, 3);
    });
    world.publish_many("me", "foo", 4);
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
    world.advance_secs(1);
    assert_eq!(world.sequences(&sub), [-3, 4]);
    assert_eq!(world.engine.subscriptions("foo").next().unwrap().pending, 2);
}

#[test]
fn failing_reads_postpone_redelivery_and_the_count_goes_on() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.ack_wait_in_secs, request.durable_name) = (1, "d".into());
    });
    world.restart();
    world.advance_secs(1);
    assert_eq!(world.sequences(&sub), [1, -1]);
    // Pages of the channel go when a foreign row appears, so the next redelivery must read.
    world.engine.forget_pages();
    world.reads_at_once = false;
    world.advance_secs(1);
    world.fail_read();
    assert!(world.sequences(&sub).is_empty());
    world.reads_at_once = true;
    world.advance_secs(1);
    assert_eq!(world.messages(&sub)[0].redelivery_count, 2);
}

#[test]
fn nothing_is_redelivered_to_a_client_that_misses_heartbeats_until_it_answers() {
    let config = EngineConfig {
        heartbeat_interval: Duration::from_millis(500),
        ..EngineConfig::default()
    };
    let mut world = World::with(config, 1);
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
    world.alive.clear();
    world.advance_secs(3);
    assert_eq!(world.sequences(&sub), [1]);
    world.alive.insert("hb.me".into());
    world.advance_secs(2);
    assert!(world.sequences(&sub).contains(&-1));
}

#[test]
fn two_that_do_not_ack_get_each_its_own() {
    let mut world = World::new();
    world.connect("me");
    let subs = ["one", "two"].map(|inbox| {
        world.subscribe_with("me", "foo", |request| {
            (request.inbox, request.ack_wait_in_secs) = (inbox.into(), 1);
        })
    });
    world.publish_many("me", "foo", 1);
    world.advance_secs(1);
    for sub in &subs {
        assert_eq!(world.sequences(sub), [1, -1]);
        world.ack(sub, 1);
    }
    world.advance_secs(10);
    for sub in &subs {
        assert!(world.sequences(sub).is_empty());
    }
}

#[test]
fn an_ack_during_the_lookup_prevents_the_redelivery_to_a_group() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 2);
    let subs = ["one", "two"].map(|inbox| {
        world.subscribe_with("me", "foo", |request| {
            (request.inbox, request.q_group) = (inbox.into(), "q".into());
            request.ack_wait_in_secs = 1;
        })
    });
    assert_eq!(world.sequences(&subs[0]), [1, 2]);
    world.restart();
    world.engine.forget_pages();
    world.reads_at_once = false;
    world.advance_secs(1);
    world.ack(&subs[0], 1);
    world.finish_read();
    world.run();
    let received = subs.each_ref().map(|sub| world.sequences(sub)).concat();
    assert_eq!(received, [-2]);
}

#[test]
fn a_group_is_redelivered_to_at_the_pace_of_the_ack_wait() {
    let mut world = World::new();
    world.connect("me");
    let subs = ["one", "two"].map(|inbox| {
        world.subscribe_with("me", "foo", |request| {
            (request.inbox, request.q_group) = (inbox.into(), "q".into());
            request.ack_wait_in_secs = 2;
        })
    });
    world.publish_many("me", "foo", 1);
    assert_eq!(
        subs.each_ref().map(|sub| world.sequences(sub)).concat(),
        [1]
    );
    for _ in 0..10 {
        world.advance(Duration::from_millis(1_999));
        assert!(subs.iter().all(|sub| world.sequences(sub).is_empty()));
        world.advance(Duration::from_millis(1));
        assert_eq!(
            subs.each_ref().map(|sub| world.sequences(sub)).concat(),
            [-1]
        );
    }
}

#[test]
fn an_outage_of_several_ack_waits_brings_one_redelivery() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
    world.publish_many("me", "foo", 2);
    assert_eq!(world.sequences(&sub), [1, 2]);
    // Nobody could be served all the while: the clock goes on without the engine.
    world.clock.elapsed += Duration::from_secs(10);
    world.advance(Duration::ZERO);
    assert_eq!(world.sequences(&sub), [-1, -2]);
    world.ack(&sub, 1);
    world.ack(&sub, 2);
    world.advance_secs(10);
    assert!(world.sequences(&sub).is_empty());
}
