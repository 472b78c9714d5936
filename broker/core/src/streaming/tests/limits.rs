//! Limits of channels.

use super::harness::World;
use crate::streaming::EngineConfig;

#[test]
fn no_more_channels_than_allowed() {
    let config = EngineConfig {
        max_channels: 1,
        ..EngineConfig::default()
    };
    let mut world = World::with(config, 1);
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let message = world.pub_msg("me", "bar", "x");
    assert_eq!(world.try_publish(&message).error, "too many channels");
    assert_eq!(
        world.try_subscribe(&World::sub_request("me", "bar")).error,
        "too many channels"
    );
    assert_eq!(world.engine.channel_count(), 1);
}

#[test]
fn no_more_subscriptions_than_allowed_but_resumes_do_not_count() {
    let mut world = World::limited(|limits| limits.max_subs = 1);
    world.connect("me");
    let durable = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    let refused = |world: &mut World| {
        for (q_group, durable_name) in [("", ""), ("", "e"), ("q", ""), ("q", "d")] {
            let mut request = World::sub_request("me", "foo");
            (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
            assert_eq!(
                world.try_subscribe(&request).error,
                "too many subscriptions per channel"
            );
        }
    };
    refused(&mut world);
    world.sub_close(&durable);
    refused(&mut world);
    world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    assert_eq!(world.store.subs("foo").len(), 1);
}

#[test]
fn the_oldest_messages_go_by_count_in_small_and_large_flushes() {
    let mut world = World::limited(|limits| limits.max_msgs = 5);
    world.connect("me");
    for number in 1..=20_u64 {
        world.publish_many("me", "foo", 1);
        assert_eq!(world.store.messages("foo").len() as u64, number.min(5));
    }
    for _ in 0..100 {
        world.publish_unflushed("me", "foo", "x");
    }
    world.end_pass();
    let stored: Vec<u64> = world
        .store
        .messages("foo")
        .iter()
        .map(|(sequence, _)| *sequence)
        .collect();
    assert_eq!(stored, [116, 117, 118, 119, 120]);
    let status = world.engine.channel("foo").unwrap();
    assert_eq!(
        (status.first.0, status.last.0, status.messages),
        (116, 120, 5)
    );
    world.restart();
    world.publish_many("me", "foo", 1);
    assert_eq!(world.store.messages("foo").len(), 5);
}

#[test]
fn the_oldest_messages_go_by_bytes_but_never_the_newest() {
    // An envelope of channel `foo` has 19 bytes.
    let mut world = World::limited(|limits| limits.max_bytes = 100);
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    for _ in 0..10 {
        world.publish("me", "foo", "12345678901");
        assert!(world.engine.channel("foo").unwrap().bytes <= 100);
    }
    assert_eq!(world.store.messages("foo").len(), 3);
    world.publish("me", "foo", &"x".repeat(500));
    assert_eq!(world.store.messages("foo").len(), 1);
    world.publish("me", "foo", "small");
    assert_eq!(world.store.messages("foo").len(), 1);
    assert_eq!(world.sequences(&sub), (1..=12).collect::<Vec<_>>());
}

#[test]
fn messages_go_by_age_and_are_not_delivered_when_expired() {
    let mut world = World::limited(|limits| limits.max_age_nanos = 10_000_000_000);
    world.connect("me");
    world.publish_many("me", "foo", 2);
    world.advance_secs(5);
    world.publish_many("me", "foo", 1);
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.max_in_flight, request.ack_wait_in_secs) = (1, 60);
    });
    assert_eq!(world.sequences(&sub), [1]);
    world.reads_at_once = false;
    world.advance_secs(5);
    assert_eq!(world.store.messages("foo").len(), 3);
    world.ack(&sub, 1);
    assert_eq!(world.sequences(&sub), [3]);
    world.reads_at_once = true;
    world.finish_read();
    world.run();
    assert_eq!(world.store.messages("foo").len(), 1);
    world.restart();
    world.advance(std::time::Duration::from_millis(4_999));
    assert_eq!(world.store.messages("foo").len(), 1);
    world.advance(std::time::Duration::from_millis(1));
    assert!(world.store.messages("foo").is_empty());
    world.publish("me", "foo", "x");
    assert_eq!(world.store.messages("foo")[0].0, 4);
}

#[test]
fn a_message_that_comes_while_the_others_expire_stays() {
    let mut world = World::limited(|limits| limits.max_age_nanos = 1_000_000_000);
    world.connect("me");
    world.publish_many("me", "foo", 2);
    world.reads_at_once = false;
    world.advance_secs(1);
    let question = world.reads.front().cloned().unwrap();
    world.reads.clear();
    world.publish_many("me", "foo", 1);
    let now = world.clock.now();
    world.engine.found(World::load_id(&question), Ok(None), now);
    world.run();
    assert_eq!(world.store.messages("foo").len(), 1);
}

/// Lets the engine take over other settings.
fn reconfigure(world: &mut World, change: impl FnOnce(&mut EngineConfig)) {
    let mut config = world.config.clone();
    change(&mut config);
    let now = world.clock.now();
    world.engine.reconfigure(config, now);
    world.end_pass();
}

#[test]
fn batches_whose_messages_were_trimmed_are_not_kept() {
    let mut world = World::limited(|limits| limits.max_msgs = 5);
    world.connect("me");
    world.publish_many("me", "foo", 1);
    assert!(
        world.engine.lanes[0].kept.is_empty(),
        "nobody looks them up"
    );
    world.subscribe_with("me", "foo", |request| request.max_in_flight = 1);
    for _ in 0..100 {
        world.publish_many("me", "foo", 1);
    }
    let lane = &world.engine.lanes[0];
    // The trim of a flush is done before its batch is kept or right after it.
    assert!((5..=6).contains(&lane.kept.len()), "{}", lane.kept.len());
    let bytes = lane.kept.iter().map(|kept| kept.bytes).sum::<usize>();
    assert_eq!(lane.kept_bytes, bytes);
}

#[test]
fn lower_limits_hold_at_once_and_higher_ones_from_now_on() {
    let mut world = World::limited(|limits| limits.max_msgs = 5);
    world.connect("me");
    world.publish_many("me", "foo", 5);
    reconfigure(&mut world, |config| config.limits.max_msgs = 2);
    assert_eq!(world.store.messages("foo").len(), 2);
    reconfigure(&mut world, |config| config.limits.max_msgs = 4);
    world.publish_many("me", "foo", 5);
    assert_eq!(world.store.messages("foo").len(), 4);
    reconfigure(&mut world, |config| config.limits.max_subs = 1);
    world.subscribe_with("me", "foo", |_| {});
    let second = world.try_subscribe(&World::sub_request("me", "foo"));
    assert_eq!(second.error, "too many subscriptions per channel");
}

#[test]
fn an_age_may_come_change_and_go() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 1);
    world.advance_secs(10);
    let age = |seconds: u64| {
        move |config: &mut EngineConfig| config.limits.max_age_nanos = seconds * 1_000_000_000
    };
    reconfigure(&mut world, age(20));
    world.publish_many("me", "foo", 1);
    world.advance_secs(10);
    assert_eq!(world.store.messages("foo").len(), 1);
    // Taken away while the store is asked what is too old.
    world.reads_at_once = false;
    world.advance_secs(10);
    let question = world.reads.front().cloned().unwrap();
    world.reads.clear();
    reconfigure(&mut world, age(0));
    let now = world.clock.now();
    world.engine.found(World::load_id(&question), Ok(None), now);
    world.reads_at_once = true;
    world.advance_secs(100);
    assert_eq!(world.store.messages("foo").len(), 1);
    reconfigure(&mut world, age(1));
    world.run();
    world.advance_secs(1);
    assert!(world.store.messages("foo").is_empty());
}

#[test]
fn a_shorter_heartbeat_interval_is_for_clients_that_are_there_too() {
    let mut world = World::new();
    world.connect("me");
    let inbox = World::connect_request("me").heartbeat_inbox;
    reconfigure(&mut world, |config| {
        config.heartbeat_interval = std::time::Duration::from_secs(2);
    });
    world.advance_secs(2);
    assert_eq!(world.take(&inbox).len(), 1);
}

#[test]
fn who_joins_a_group_after_messages_were_dropped_goes_on_at_the_first_that_is_left() {
    let mut world = World::limited(|limits| limits.max_msgs = 3);
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let durable = |request: &mut broker_proto::streaming::SubscriptionRequest| {
        (request.q_group, request.durable_name) = ("q".into(), "d".into());
    };
    let first = world.subscribe_with("me", "foo", durable);
    assert_eq!(world.sequences(&first), [1, 2, 3]);
    for sequence in 1..=3 {
        world.ack(&first, sequence);
    }
    world.sub_close(&first);
    world.publish_many("me", "foo", 10);
    let next = world.subscribe_with("me", "foo", durable);
    assert_eq!(world.sequences(&next), [11, 12, 13]);
}

#[test]
fn channels_have_limits_of_their_own_and_inherit_the_rest() {
    let override_of = |pattern: &str, max_msgs, max_subs| crate::streaming::LimitsOverride {
        pattern: pattern.into(),
        max_msgs,
        max_subs,
        max_bytes: 0,
        max_age_nanos: 0,
        max_inactivity_nanos: 0,
    };
    let mut config = EngineConfig::default();
    (config.limits.max_msgs, config.limits.max_subs) = (2, 1);
    config.overrides = vec![override_of("more", 4, 0), override_of("unlimited", -1, -1)];
    let mut world = World::with(config, 1);
    world.connect("me");
    for (channel, messages, second) in [
        ("foo", 2, "too many subscriptions per channel"),
        ("more", 4, "too many subscriptions per channel"),
        ("unlimited", 10, ""),
    ] {
        world.publish_many("me", channel, 10);
        assert_eq!(world.store.messages(channel).len(), messages);
        world.subscribe_with("me", channel, |_| {});
        let request = World::sub_request("me", channel);
        assert_eq!(world.try_subscribe(&request).error, second, "{channel}");
    }
}
