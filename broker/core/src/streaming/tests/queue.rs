//! Queue groups: who gets a message, who leaves what to whom, durable groups.

use std::time::Duration;

use broker_proto::streaming::SubscriptionRequest;

use super::harness::{Sub, World};
use crate::streaming::EngineConfig;

fn world_of(clients: &[&str]) -> World {
    let mut world = World::new();
    for client in clients {
        world.connect(client);
    }
    world
}

fn join(world: &mut World, client: &str, change: impl FnOnce(&mut SubscriptionRequest)) -> Sub {
    world.subscribe_with(client, "foo", |request| {
        request.q_group = "q".into();
        change(request);
    })
}

fn join_durable(world: &mut World, client: &str) -> Sub {
    join(world, client, |request| request.durable_name = "d".into())
}

#[test]
fn idle_members_take_turns() {
    let mut world = world_of(&["a", "b", "c"]);
    let subs = ["a", "b", "c"].map(|client| join(&mut world, client, |_| {}));
    let mut counts = [0; 3];
    for number in 1..=30 {
        world.publish("a", "foo", "x");
        for (sub, count) in subs.iter().zip(&mut counts) {
            for sequence in world.sequences(sub) {
                assert_eq!(sequence, number);
                world.ack(sub, sequence.unsigned_abs());
                *count += 1;
            }
        }
    }
    assert_eq!(counts, [10, 10, 10]);
}

#[test]
fn every_message_goes_to_one_member_within_its_limit() {
    let mut world = world_of(&["a", "b"]);
    let five = |request: &mut SubscriptionRequest| request.max_in_flight = 5;
    let subs = ["a", "b"].map(|client| join(&mut world, client, five));
    world.publish_many("a", "foo", 100);
    let mut all = Vec::new();
    loop {
        let received = subs.each_ref().map(|sub| world.sequences(sub));
        if received.iter().all(Vec::is_empty) {
            break;
        }
        for (sub, sequences) in subs.iter().zip(received) {
            assert!(sequences.len() <= 5);
            for sequence in sequences {
                all.push(sequence);
                world.ack(sub, sequence.unsigned_abs());
            }
        }
    }
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<_>>());
}

#[test]
fn durable_and_plain_groups_of_one_name_are_two() {
    let mut world = world_of(&["a"]);
    let plain = join(&mut world, "a", |_| {});
    let durable = join(&mut world, "a", |request| {
        (request.durable_name, request.inbox) = ("d".into(), "durable".into());
    });
    world.publish("a", "foo", "x");
    assert_eq!(
        (world.sequences(&plain), world.sequences(&durable)),
        (vec![1], vec![1])
    );
}

#[test]
fn joining_ignores_the_start_position() {
    let mut world = world_of(&["a", "b"]);
    world.publish_many("a", "foo", 3);
    let first = join(&mut world, "a", |_| {});
    assert_eq!(world.sequences(&first), [1, 2, 3]);
    let second = join(&mut world, "b", |_| {});
    assert!(world.sequences(&second).is_empty());
}

#[test]
fn a_stalled_member_does_not_stop_the_group_and_a_new_one_frees_it() {
    let mut world = world_of(&["a", "b", "c"]);
    let one = |request: &mut SubscriptionRequest| request.max_in_flight = 1;
    let slow = join(&mut world, "a", one);
    let fast = join(&mut world, "b", one);
    world.publish_many("a", "foo", 5);
    assert_eq!(world.sequences(&slow), [1]);
    for sequence in 2..=4 {
        assert_eq!(world.sequences(&fast), [sequence]);
        world.ack(&fast, sequence.unsigned_abs());
    }
    assert_eq!(world.sequences(&fast), [5]);
    world.publish_many("a", "foo", 1);
    assert!(world.sequences(&fast).is_empty());
    let new = join(&mut world, "c", one);
    assert_eq!(world.sequences(&new), [6]);
}

#[test]
fn an_unacked_message_goes_to_the_other_member_and_the_count_goes_along() {
    let mut world = world_of(&["a", "b"]);
    let short = |request: &mut SubscriptionRequest| request.ack_wait_in_secs = 1;
    let first = join(&mut world, "a", short);
    world.publish("a", "foo", "x");
    assert_eq!(world.sequences(&first), [1]);
    let second = join(&mut world, "b", short);
    let mut counts = Vec::new();
    for _ in 0..4 {
        world.advance_secs(1);
        for sub in [&first, &second] {
            counts.extend(
                world
                    .messages(sub)
                    .iter()
                    .map(|message| message.redelivery_count),
            );
        }
    }
    assert_eq!(counts, [1, 2, 3, 4]);
}

#[test]
fn a_late_ack_of_the_first_member_settles_it_at_the_second() {
    let mut world = world_of(&["a", "b"]);
    let first = join(&mut world, "a", |request| request.ack_wait_in_secs = 1);
    world.publish("a", "foo", "x");
    world.sequences(&first);
    let second = join(&mut world, "b", |request| request.ack_wait_in_secs = 1);
    world.advance_secs(1);
    assert_eq!(world.sequences(&second), [-1]);
    world.ack(&first, 1);
    world.advance_secs(5);
    assert!(world.sequences(&first).is_empty() && world.sequences(&second).is_empty());
}

#[test]
fn a_stalled_member_freed_by_anothers_ack_waits_for_its_own_word() {
    let mut world = world_of(&["a", "b"]);
    let one = |request: &mut SubscriptionRequest| {
        (request.max_in_flight, request.ack_wait_in_secs) = (1, 1);
    };
    let first = join(&mut world, "a", one);
    world.publish_many("a", "foo", 1);
    let second = join(&mut world, "b", one);
    world.advance_secs(1);
    assert_eq!(
        (world.sequences(&first), world.sequences(&second)),
        (vec![1], vec![-1])
    );
    world.ack(&first, 1);
    world.publish_many("a", "foo", 2);
    world.ack(&second, 77);
    let mut received = [world.sequences(&first), world.sequences(&second)].concat();
    received.sort_unstable();
    assert_eq!(received, [2, 3]);
}

#[test]
fn what_a_leaving_member_had_goes_to_the_others_soon() {
    let mut world = world_of(&["a", "b"]);
    let leaver = join(&mut world, "a", |_| {});
    world.publish_many("a", "foo", 3);
    assert_eq!(world.sequences(&leaver), [1, 2, 3]);
    let other = join(&mut world, "b", |request| request.max_in_flight = 1);
    world.publish_many("a", "foo", 1);
    assert_eq!(world.sequences(&other), [4]);
    world.sub_close(&leaver);
    world.advance(Duration::from_millis(99));
    assert!(world.sequences(&other).is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(world.sequences(&other), [-1, -2, -3]);
}

#[test]
fn crashed_members_are_replaced_without_waiting_for_the_ack_wait() {
    let mut world = world_of(&["a", "b", "p"]);
    let one = |request: &mut SubscriptionRequest| {
        (request.max_in_flight, request.ack_wait_in_secs) = (1, 60);
        request.durable_name = "d".into();
    };
    for client in ["a", "b"] {
        join(&mut world, client, one);
    }
    world.publish_many("p", "foo", 20);
    for client in ["a", "b"] {
        world.alive.remove(&format!("hb.{client}"));
        assert_eq!(world.try_connect(&World::connect_request(client)).error, "");
        world.take(&format!("in.{client}.foo"));
    }
    let subs = ["a", "b"].map(|client| join(&mut world, client, one));
    let mut all = std::collections::BTreeSet::new();
    for _ in 0..40 {
        world.advance(Duration::from_millis(100));
        for sub in &subs {
            for sequence in world.sequences(sub) {
                all.insert(sequence.unsigned_abs());
                world.ack(sub, sequence.unsigned_abs());
            }
        }
    }
    assert_eq!(all.len(), 20);
}

#[test]
fn a_plain_group_ends_with_its_last_member() {
    for by_close in [true, false] {
        let mut world = world_of(&["a"]);
        world.publish_many("a", "foo", 3);
        let sub = join(&mut world, "a", |request| request.start_position = 0);
        if by_close {
            world.close("a");
            world.connect("a");
        } else {
            world.unsubscribe(&sub);
        }
        assert!(world.store.subs("foo").is_empty());
        let sub = join(&mut world, "a", |_| {});
        assert_eq!(world.sequences(&sub), [1, 2, 3]);
    }
}

#[test]
fn a_durable_group_without_members_keeps_position_and_pending_for_anyone() {
    let mut world = world_of(&["a", "b"]);
    world.publish_many("a", "foo", 4);
    let sub = join_durable(&mut world, "a");
    assert_eq!(world.sequences(&sub), [1, 2, 3, 4]);
    world.ack(&sub, 2);
    world.close("a");
    let (shadow, pending) = &world.store.subs("foo")[0];
    assert_eq!(
        (&*shadow.client_id, &*shadow.q_group, shadow.last_sent),
        ("", "d:q", 4)
    );
    assert_eq!(*pending, [1, 3, 4]);
    world.publish_many("b", "foo", 1);
    let sub = join_durable(&mut world, "b");
    assert_eq!(world.sequences(&sub), [-1, -3, -4, 5]);
}

#[test]
fn only_the_last_member_takes_a_durable_group_along() {
    let mut world = world_of(&["a", "b"]);
    let first = join_durable(&mut world, "a");
    let second = join_durable(&mut world, "b");
    world.publish_many("a", "foo", 2);
    for sub in [&first, &second] {
        for sequence in world.sequences(sub) {
            world.ack(sub, sequence.unsigned_abs());
        }
    }
    assert_eq!(world.unsubscribe(&first), "");
    assert_eq!(world.store.subs("foo").len(), 1);
    assert_eq!(world.sub_close(&second), "");
    assert_eq!(world.store.subs("foo").len(), 1);
    let again = join_durable(&mut world, "a");
    assert!(world.sequences(&again).is_empty());
    assert_eq!(world.unsubscribe(&again), "");
    assert!(world.store.subs("foo").is_empty());
    let new = join_durable(&mut world, "a");
    assert_eq!(world.sequences(&new), [1, 2]);
}

#[test]
fn the_position_survives_when_the_member_that_was_furthest_leaves() {
    let mut world = world_of(&["a", "b"]);
    let members = ["a", "b"].map(|client| join_durable(&mut world, client));
    world.publish_many("a", "foo", 4);
    for sub in &members {
        for sequence in world.sequences(sub) {
            world.ack(sub, sequence.unsigned_abs());
        }
    }
    let furthest = world
        .engine
        .subscriptions("foo")
        .max_by_key(|sub| sub.last_sent)
        .unwrap();
    let furthest = furthest.client_id.to_owned();
    let leaver = members.iter().find(|sub| sub.client == furthest).unwrap();
    world.sub_close(leaver);
    world.restart();
    world.connect("c");
    let third = join_durable(&mut world, "c");
    world.publish_many("c", "foo", 2);
    let other = members.iter().find(|sub| sub.client != furthest).unwrap();
    let mut received = [world.sequences(&third), world.sequences(other)].concat();
    received.sort_unstable();
    assert_eq!(received, [5, 6]);
}

#[test]
fn members_of_a_failing_client_are_passed_over_while_another_is_there() {
    let config = EngineConfig {
        heartbeat_interval: Duration::from_secs(1),
        ..EngineConfig::default()
    };
    let mut world = World::with(config, 1);
    world.connect("dead");
    world.connect("live");
    let dead = join(&mut world, "dead", |request| request.ack_wait_in_secs = 2);
    let live = join(&mut world, "live", |request| request.ack_wait_in_secs = 2);
    world.alive.remove("hb.dead");
    world.advance_secs(1);
    world.publish_many("live", "foo", 4);
    assert!(world.sequences(&dead).is_empty());
    assert_eq!(world.sequences(&live), [1, 2, 3, 4]);
    world.advance_secs(2);
    assert!(world.sequences(&dead).is_empty());
    assert_eq!(world.sequences(&live), [-1, -2, -3, -4]);
}

#[test]
fn a_backlog_flows_to_members_that_join_as_acks_come() {
    let mut world = world_of(&["a", "b", "c", "d"]);
    world.publish_many("a", "foo", 2_000);
    let subs = ["a", "b", "c", "d"]
        .map(|client| join(&mut world, client, |request| request.max_in_flight = 20));
    let mut count = 0;
    loop {
        let received = subs.each_ref().map(|sub| world.sequences(sub));
        if received.iter().all(Vec::is_empty) {
            break;
        }
        for (sub, sequences) in subs.iter().zip(received) {
            count += sequences.len();
            for sequence in sequences {
                world.ack(sub, sequence.unsigned_abs());
            }
        }
    }
    assert_eq!(count, 2_000);
}
