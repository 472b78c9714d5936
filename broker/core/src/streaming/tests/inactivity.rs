//! Channels that go when nobody uses them.

use broker_proto::streaming::SubscriptionRequest;
use prost::Message as _;

use super::harness::{Sub, World};
use crate::{
    durable::FlushOutcome,
    streaming::{EngineConfig, LimitsOverride},
};

const SUBSCRIBE: &str = "_STAN.sub.test-cluster";
const SECOND: u64 = 1_000_000_000;
/// Of the worlds here.
const MAX: u64 = 10;

fn world() -> World {
    World::limited(|limits| limits.max_inactivity_nanos = MAX * SECOND)
}

/// Whether a channel is known to the engine and to the store alike.
fn exists(world: &World, channel: &str) -> bool {
    let known = world.engine.channel(channel).is_some();
    assert_eq!(known, world.store.channel(channel).is_some(), "{channel}");
    known
}

fn is_deleted_after(world: &mut World, channel: &str, seconds: u64) {
    world.advance_secs(seconds - 1);
    assert!(exists(world, channel), "too early");
    world.advance_secs(1);
    assert!(!exists(world, channel), "too late");
}

fn every_kind(world: &mut World, channel: &str) -> Vec<Sub> {
    let kinds = [("", ""), ("q", ""), ("", "d"), ("q", "dq")];
    kinds
        .map(|(group, durable)| {
            world.subscribe_with("me", channel, |request| {
                request.q_group = group.into();
                request.durable_name = durable.into();
            })
        })
        .into()
}

/// Sends a request that is not answered at once.
fn ask(world: &mut World, request: &SubscriptionRequest) {
    world.send(SUBSCRIBE, "reply", &request.encode_to_vec());
}

#[test]
fn any_online_subscription_keeps_a_channel_and_its_end_starts_the_time() {
    for kind in 0..4 {
        let mut world = world();
        world.connect("me");
        let subs = every_kind(&mut world, "foo");
        for (at, sub) in subs.iter().enumerate() {
            if at != kind {
                world.unsubscribe(sub);
            }
        }
        world.advance_secs(5 * MAX);
        assert!(exists(&world, "foo"), "{kind}");
        world.unsubscribe(&subs[kind]);
        is_deleted_after(&mut world, "foo", MAX);
    }
}

#[test]
fn a_channel_that_is_published_to_stays_until_that_stops() {
    let mut world = world();
    world.connect("me");
    for _ in 0..10 {
        world.publish("me", "foo", "x");
        world.advance_secs(MAX / 2);
    }
    assert!(exists(&world, "foo"));
    is_deleted_after(&mut world, "foo", MAX / 2);
}

#[test]
fn offline_durables_and_empty_durable_groups_go_with_their_channel() {
    let mut world = world();
    world.connect("me");
    let subs = every_kind(&mut world, "foo");
    world.publish_many("me", "foo", 3);
    for sub in &subs {
        world.sub_close(sub);
    }
    // Positions that are about to be saved must not be saved any more.
    is_deleted_after(&mut world, "foo", MAX);
    world.advance_secs(5);
    world.restart();
    assert!(!exists(&world, "foo"));
}

#[test]
fn a_publish_at_half_time_postpones_the_end_by_a_whole_period() {
    let mut world = world();
    world.connect("me");
    world.publish("me", "foo", "x");
    world.advance_secs(MAX / 2);
    world.publish("me", "foo", "x");
    is_deleted_after(&mut world, "foo", MAX);
}

#[test]
fn each_channel_has_the_time_of_its_narrowest_pattern() {
    let entry = |pattern: &str, seconds: i64| LimitsOverride {
        pattern: pattern.into(),
        max_msgs: 0,
        max_bytes: 0,
        max_age_nanos: 0,
        max_subs: 0,
        max_inactivity_nanos: seconds * 1_000_000_000,
    };
    let mut config = EngineConfig::default();
    config.limits.max_inactivity_nanos = 60 * SECOND;
    let mut unlimited = entry("foo.kept", 0);
    unlimited.max_inactivity_nanos = -1;
    config.overrides = vec![entry("foo.*", 5), unlimited];
    let mut world = World::with(config, 1);
    world.connect("me");
    // The one with the longest time first: it delays nobody.
    for channel in ["bar", "foo.kept", "foo.short"] {
        world.publish("me", channel, "x");
    }
    is_deleted_after(&mut world, "foo.short", 5);
    is_deleted_after(&mut world, "bar", 55);
    world.advance_secs(1_000);
    assert!(exists(&world, "foo.kept"));
}

#[test]
fn a_recovered_channel_has_its_whole_time_again_unless_somebody_is_there() {
    let mut world = world();
    world.connect("me");
    world.publish("me", "foo", "x");
    world.subscribe_with("me", "used", |_| {});
    world.advance_secs(MAX - 1);
    world.restart();
    is_deleted_after(&mut world, "foo", MAX);
    assert!(exists(&world, "used"));
}

#[test]
fn a_request_stops_the_time_and_its_failure_starts_it_anew() {
    let mut world = world();
    world.connect("me");
    world.publish("me", "foo", "x");
    world.advance_secs(MAX - 1);
    let mut request = World::sub_request("me", "foo");
    (request.q_group, request.durable_name) = ("q".into(), "d:d".into());
    assert_ne!(world.try_subscribe(&request).error, "");
    is_deleted_after(&mut world, "foo", MAX);

    // One that waits for the store to find its start.
    world.publish("me", "foo", "x");
    world.advance_secs(MAX - 1);
    world.reads_at_once = false;
    let mut request = World::sub_request("me", "foo");
    request.start_position = 2;
    request.start_time_delta = 1;
    ask(&mut world, &request);
    world.advance_secs(2 * MAX);
    assert!(exists(&world, "foo"));
    world.fail_read();
    world.run();
    is_deleted_after(&mut world, "foo", MAX);
}

#[test]
fn a_refused_subscription_record_starts_the_time_too() {
    let mut world = world();
    world.connect("me");
    world.publish("me", "foo", "x");
    world.flushes_at_once = false;
    ask(&mut world, &World::sub_request("me", "foo"));
    world.advance_secs(2 * MAX);
    let reason = "no".to_owned();
    world.finish_flush(0, FlushOutcome::Refused { reason });
    world.flushes_at_once = true;
    world.run();
    assert!(exists(&world, "foo"));
    is_deleted_after(&mut world, "foo", MAX);
}

#[test]
fn the_end_of_a_client_starts_the_time_whether_it_closes_or_falls_silent() {
    let mut world = world();
    world.connect("me");
    every_kind(&mut world, "foo");
    world.close("me");
    is_deleted_after(&mut world, "foo", MAX);

    world.connect("me");
    every_kind(&mut world, "foo");
    world.alive.clear();
    world.mute.clear();
    while world.engine.client_count() > 0 {
        world.advance_secs(1);
        assert!(exists(&world, "foo"));
    }
    is_deleted_after(&mut world, "foo", MAX);
}

#[test]
fn while_the_store_deletes_the_name_is_refused_and_afterwards_free() {
    let mut world = world();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let durable = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    world.sub_close(&durable);
    world.flushes_at_once = false;
    world.advance_secs(MAX);
    let refused = "stan: channel is being deleted";
    let message = world.pub_msg("me", "foo", "x");
    assert_eq!(world.try_publish(&message).error, refused);
    let request = World::sub_request("me", "foo");
    assert_eq!(world.try_subscribe(&request).error, refused);
    world.flushes_at_once = true;
    world.flush_all();
    assert!(!exists(&world, "foo"));

    // Another case is another name now.
    world.publish("me", "FOO", "x");
    let durable = world.subscribe_with("me", "FOO", |request| {
        (request.durable_name, request.start_position) = ("d".into(), 4);
    });
    assert_eq!(world.sequences(&durable), [1]);
}

#[test]
fn a_refused_deletion_leaves_the_channel_usable_and_is_tried_again_later() {
    let mut world = world();
    world.connect("me");
    world.publish_many("me", "foo", 2);
    let durable = world.subscribe_with("me", "foo", |request| {
        (request.durable_name, request.start_position) = ("d".into(), 4);
    });
    assert_eq!(world.sequences(&durable), [1, 2]);
    world.ack(&durable, 1);
    world.sub_close(&durable);
    // Everything else is written meanwhile.
    world.advance_secs(MAX - 1);
    world.flushes_at_once = false;
    world.advance_secs(1);
    let reason = "no".to_owned();
    world.finish_flush(0, FlushOutcome::Refused { reason });
    world.flushes_at_once = true;
    world.run();
    world.publish("me", "foo", "x");
    let durable = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    assert_eq!(world.sequences(&durable), [-2, 3]);
    world.sub_close(&durable);
    is_deleted_after(&mut world, "foo", MAX);
}

#[test]
fn no_limit_removes_messages_of_a_channel_that_is_deleted_with_the_same_flush() {
    let mut world = World::limited(|limits| limits.max_inactivity_nanos = MAX * SECOND);
    world.connect("me");
    world.publish_many("me", "foo", 3);
    world.flushes_at_once = false;
    // Behind a flush, what a lower limit removes waits together with the deletion.
    world.send("_STAN.discover.test-cluster", "", &connect_request());
    let mut config = world.config.clone();
    config.limits.max_msgs = 1;
    world.engine.reconfigure(config, world.clock.now());
    world.end_pass();
    world.advance_secs(MAX);
    world.flushes_at_once = true;
    world.flush_all();
    assert!(!exists(&world, "foo"));
}

fn connect_request() -> Vec<u8> {
    World::connect_request("other").encode_to_vec()
}

/// The flush of a deletion is under way, and messages of that channel turn out to be too old.
fn expires_while_it_is_deleted() -> World {
    let mut world = World::limited(|limits| {
        limits.max_inactivity_nanos = 2 * MAX * SECOND;
        limits.max_age_nanos = MAX * SECOND;
    });
    world.connect("me");
    world.publish_many("me", "foo", 2);
    world.reads_at_once = false;
    world.advance_secs(2 * MAX - 1);
    world.flushes_at_once = false;
    world.advance_secs(1);
    assert!(world.flights[0].is_some() && !world.reads.is_empty());
    world.finish_read();
    world.end_pass();
    (world.reads_at_once, world.flushes_at_once) = (true, true);
    world
}

#[test]
fn no_age_removes_messages_of_a_channel_that_is_being_deleted() {
    let mut world = expires_while_it_is_deleted();
    world.flush_all();
    assert!(!exists(&world, "foo"));
}

#[test]
fn what_is_too_old_goes_all_the_same_when_the_deletion_is_refused() {
    let mut world = expires_while_it_is_deleted();
    let reason = "no".to_owned();
    world.finish_flush(0, FlushOutcome::Refused { reason });
    world.run();
    world.advance_secs(1);
    assert!(exists(&world, "foo"));
    assert!(world.store.messages("foo").is_empty());
}

/// The place of a deleted channel in memory is given again.
#[test]
fn what_the_store_says_late_of_a_deleted_channel_is_not_taken_for_another_one_s() {
    let mut world = World::limited(|limits| {
        limits.max_inactivity_nanos = 2 * MAX * SECOND;
        limits.max_age_nanos = MAX * SECOND;
    });
    world.connect("me");
    world.publish_many("me", "foo", 2);
    world.reads_at_once = false;
    world.advance_secs(MAX);
    let question = world.reads.front().cloned().unwrap();
    world.reads.clear();
    world.advance_secs(MAX);
    assert!(!exists(&world, "foo"));
    world.publish("me", "bar", "x");
    let now = world.clock.now();
    world.engine.found(World::load_id(&question), Ok(None), now);
    world.run();
    assert_eq!(world.store.messages("bar").len(), 1);
}
