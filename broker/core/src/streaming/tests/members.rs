//! Members of queue groups that come and go: what they leave, to whom, and how soon.

use std::time::Duration;

use broker_proto::streaming::{SubscriptionRequest, UnsubscribeRequest};
use prost::Message as _;

use super::harness::{Sub, World};

/// A world in which these clients are connected.
fn world_of(clients: &[&str]) -> World {
    let mut world = World::new();
    for client in clients {
        world.connect(client);
    }
    world
}

/// One more member of the group, which is durable or not.
fn join(
    world: &mut World,
    client: &str,
    durable_name: &str,
    change: impl FnOnce(&mut SubscriptionRequest),
) -> Sub {
    world.subscribe_with(client, "foo", |request| {
        (request.q_group, request.durable_name) = ("q".into(), durable_name.into());
        change(request);
    })
}

fn sorted(mut sequences: Vec<i64>) -> Vec<i64> {
    sequences.sort_unstable();
    sequences
}

#[test]
fn members_of_a_durable_group_leave_one_by_one_and_the_next_one_goes_on() {
    let mut world = world_of(&["a", "b", "c"]);
    let first = join(&mut world, "a", "d", |_| {});
    let second = join(&mut world, "b", "d", |_| {});
    world.publish_many("a", "foo", 2);
    let received = [world.sequences(&first), world.sequences(&second)].concat();
    assert_eq!(sorted(received), [1, 2]);
    assert_eq!(world.sub_close(&first), "");
    assert_eq!(world.store.subs("foo").len(), 1);
    assert_eq!(world.sub_close(&second), "");
    let (shadow, pending) = &world.store.subs("foo")[0];
    assert_eq!((&*shadow.client_id, &pending[..]), ("", &[1, 2][..]));
    world.publish_many("a", "foo", 1);
    let third = join(&mut world, "c", "d", |_| {});
    assert_eq!(world.sequences(&third), [-1, -2, 3]);
}

#[test]
fn what_is_handed_over_comes_although_the_heir_is_full_of_newer_or_older_messages() {
    for leaver_has in [1, 2] {
        let mut world = world_of(&["a", "b"]);
        let one = |request: &mut SubscriptionRequest| {
            (request.max_in_flight, request.ack_wait_in_secs) = (1, 60);
        };
        let subs = [
            join(&mut world, "a", "", one),
            join(&mut world, "b", "", one),
        ];
        world.publish_many("a", "foo", 2);
        let received = subs.each_ref().map(|sub| world.sequences(sub));
        assert_eq!(sorted(received.concat()), [1, 2]);
        let leaver = usize::from(received[1] == [leaver_has]);
        world.sub_close(&subs[leaver]);
        world.advance(Duration::from_millis(100));
        let heir = &subs[1 - leaver];
        assert_eq!(world.sequences(heir), [-leaver_has]);
        world.ack(heir, 1);
        world.ack(heir, 2);
        world.publish_many("a", "foo", 1);
        assert_eq!(world.sequences(heir), [3]);
    }
}

#[test]
fn a_member_that_comes_back_inherits_from_the_one_that_leaves_and_gets_what_is_new() {
    let mut world = world_of(&["a", "b"]);
    let first = join(&mut world, "a", "d", |_| {});
    let second = join(&mut world, "b", "d", |_| {});
    world.sub_close(&first);
    world.publish_many("a", "foo", 100);
    assert_eq!(world.sequences(&second).len(), 100);
    let back = join(&mut world, "a", "d", |_| {});
    assert!(world.sequences(&back).is_empty());
    assert_eq!(world.close("b"), "");
    world.publish_many("a", "foo", 1);
    world.advance(Duration::from_millis(100));
    let expected: Vec<i64> = (-100..=-1).chain([101]).collect();
    assert_eq!(sorted(world.sequences(&back)), expected);
}

#[test]
fn a_member_whose_client_leaves_midway_does_not_stall_the_others() {
    let mut world = world_of(&["a", "b", "p"]);
    let five = |request: &mut SubscriptionRequest| request.max_in_flight = 5;
    let leaver = join(&mut world, "a", "", five);
    let other = join(&mut world, "b", "", five);
    let mut seen = std::collections::BTreeSet::new();
    world.publish_many("p", "foo", 10);
    assert_eq!(
        world.sequences(&leaver).len(),
        5,
        "it acks nothing: it is full"
    );
    for number in 11..=1_000 {
        world.publish_many("p", "foo", 1);
        if number == 500 {
            assert_eq!(world.close("a"), "");
            world.advance(Duration::from_millis(100));
        }
        for sequence in world.sequences(&other) {
            seen.insert(sequence.unsigned_abs());
            world.ack(&other, sequence.unsigned_abs());
        }
    }
    seen.extend(world.sequences(&other).into_iter().map(i64::unsigned_abs));
    assert!(world.sequences(&leaver).is_empty());
    assert!(seen.into_iter().eq(1..=1_000));
}

#[test]
fn a_member_of_a_busy_group_leaves_and_nothing_is_lost_or_sent_to_it() {
    let mut world = world_of(&["a", "b"]);
    let leaver = join(&mut world, "a", "", |_| {});
    let other = join(&mut world, "b", "", |_| {});
    let end = UnsubscribeRequest {
        client_id: "a".into(),
        subject: "foo".into(),
        inbox: leaver.ack_inbox.clone(),
        ..UnsubscribeRequest::default()
    };
    world.flushes_at_once = false;
    for number in 1..=200 {
        world.publish_unflushed("b", "foo", "x");
        if number == 100 {
            world.send_unflushed("_STAN.subclose.test-cluster", "", &end.encode_to_vec());
        }
        if number % 10 == 0 {
            world.end_pass();
        }
        if number == 150 {
            world.flush_all();
            world.take(&leaver.inbox);
        }
    }
    world.flush_all();
    world.flushes_at_once = true;
    world.advance(Duration::from_millis(200));
    assert!(world.sequences(&leaver).is_empty(), "it has left");
    let seen: std::collections::BTreeSet<u64> = world
        .sequences(&other)
        .into_iter()
        .map(i64::unsigned_abs)
        .collect();
    assert!(seen.into_iter().eq(1..=200));
}

#[test]
fn a_member_that_leaves_a_large_backlog_leaves_no_timer() {
    let mut world = world_of(&["a"]);
    world.publish_many("a", "foo", 1_024);
    let sub = join(&mut world, "a", "", |request| request.ack_wait_in_secs = 1);
    assert_eq!(world.sequences(&sub).len(), 1_024);
    assert_eq!(world.sub_close(&sub), "");
    world.advance_secs(29);
    assert!(world.sequences(&sub).is_empty());
    assert_eq!(world.close("a"), "");
    world.advance_secs(2);
    assert_eq!(world.engine.next_deadline(), None);
}

#[test]
fn when_the_last_member_leaves_as_another_joins_there_is_one_group() {
    for leaver_first in [true, false] {
        let mut world = world_of(&["a", "b"]);
        let first = join(&mut world, "a", "d", |_| {});
        world.publish_many("a", "foo", 2);
        assert_eq!(world.sequences(&first), [1, 2]);
        let end = UnsubscribeRequest {
            client_id: "a".into(),
            subject: "foo".into(),
            inbox: first.ack_inbox,
            ..UnsubscribeRequest::default()
        }
        .encode_to_vec();
        let mut request = World::sub_request("b", "foo");
        (request.q_group, request.durable_name) = ("q".into(), "d".into());
        let request = request.encode_to_vec();
        let mut inputs = [
            ("_STAN.subclose.test-cluster", end),
            ("_STAN.sub.test-cluster", request),
        ];
        if !leaver_first {
            inputs.reverse();
        }
        for (subject, payload) in &inputs {
            world.send_unflushed(subject, "reply", payload);
        }
        world.end_pass();
        world.advance(Duration::from_millis(200));
        assert_eq!(world.store.subs("foo").len(), 1, "no shadow is left beside");
        world.restart();
        assert!(world.engine.take_notices().is_empty());
        assert_eq!(world.store.subs("foo").len(), 1);
        world.publish_many("a", "foo", 1);
        let received = world.take_as::<broker_proto::streaming::MsgProto>("in.b.foo");
        let sequences: Vec<u64> = received.iter().map(|message| message.sequence).collect();
        assert_eq!(sequences, [1, 2, 3]);
    }
}

#[test]
fn who_joins_beside_a_dead_member_gets_nothing_old_but_what_that_one_left() {
    let mut world = world_of(&["a", "b"]);
    let dead = join(&mut world, "a", "d", |_| {});
    world.publish_many("a", "foo", 10);
    for sequence in world.sequences(&dead) {
        world.ack(&dead, sequence.unsigned_abs());
    }
    world.alive.remove("hb.a");
    let new = join(&mut world, "b", "d", |_| {});
    world.advance_secs(1);
    assert!(world.sequences(&new).is_empty());
    world.advance_secs(400);
    assert_eq!(
        world.engine.client_count(),
        1,
        "the dead client was dropped"
    );
    assert!(world.sequences(&new).is_empty());
    world.publish_many("b", "foo", 1);
    assert_eq!(world.sequences(&new), [11]);
}

#[test]
fn resuming_a_durable_group_ignores_the_start_position() {
    let mut world = world_of(&["a"]);
    world.publish_many("a", "foo", 5);
    for (position, value) in [(4, 0), (3, 2), (3, 100), (2, -1_000_000_000_i64)] {
        let sub = join(&mut world, "a", "d", |request| {
            request.start_position = position;
            request.start_sequence = value.cast_unsigned();
            request.start_time_delta = value;
        });
        for sequence in world.sequences(&sub) {
            assert_eq!(position, 4, "only the first begins anywhere");
            world.ack(&sub, sequence.unsigned_abs());
        }
        world.sub_close(&sub);
    }
}

#[test]
fn what_a_leaving_member_had_survives_a_crash_right_behind_it() {
    let mut world = world_of(&["a", "b"]);
    let leaver = join(&mut world, "a", "d", |_| {});
    let heir = join(&mut world, "b", "d", |_| {});
    world.publish_many("a", "foo", 4);
    let received = [world.sequences(&leaver), world.sequences(&heir)].concat();
    assert_eq!(sorted(received), [1, 2, 3, 4]);
    world.advance_secs(2);
    assert_eq!(world.sub_close(&leaver), "");
    world.crash();
    world.advance_secs(60);
    let seen: std::collections::BTreeSet<i64> = world.sequences(&heir).into_iter().collect();
    assert!(seen.into_iter().eq([-4, -3, -2, -1]));
}

#[test]
fn what_a_member_has_survives_a_crash_right_behind_another_that_joins() {
    let mut world = world_of(&["a", "b"]);
    let first = join(&mut world, "a", "d", |_| {});
    world.publish_many("a", "foo", 4);
    assert_eq!(world.sequences(&first), [1, 2, 3, 4]);
    join(&mut world, "b", "d", |_| {});
    world.crash();
    world.advance_secs(60);
    let mut seen = world.sequences(&first);
    seen.extend(
        world
            .take_as::<broker_proto::streaming::MsgProto>("in.b.foo")
            .into_iter()
            .map(|message| -(message.sequence as i64)),
    );
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [-4, -3, -2, -1]);
}
