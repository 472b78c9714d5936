//! Durables: offline, resumed, replaced.

use broker_proto::streaming::SubscriptionRequest;

use super::harness::{Sub, World};
use crate::streaming::EngineConfig;

fn durable(request: &mut SubscriptionRequest) {
    request.durable_name = "d".into();
}

fn subscribe(world: &mut World) -> Sub {
    world.subscribe_with("me", "foo", durable)
}

#[test]
fn an_online_durable_is_not_given_twice_but_its_name_is_free_elsewhere() {
    let mut world = World::new();
    world.connect("me");
    world.connect("other");
    subscribe(&mut world);
    let mut request = World::sub_request("me", "foo");
    durable(&mut request);
    assert_eq!(
        world.try_subscribe(&request).error,
        "stan: duplicate durable registration"
    );
    world.subscribe_with("me", "bar", durable);
    world.subscribe_with("other", "foo", durable);
}

#[test]
fn resume_redelivers_what_is_pending_and_goes_on_behind_it() {
    for by_close in [true, false] {
        let mut world = World::new();
        world.connect("me");
        world.publish_many("me", "foo", 10);
        let sub = subscribe(&mut world);
        world.sequences(&sub);
        for sequence in [1, 2, 4, 10] {
            world.ack(&sub, sequence);
        }
        if by_close {
            world.close("me");
            world.connect("me");
        } else {
            assert_eq!(world.sub_close(&sub), "");
        }
        world.publish_many("me", "foo", 2);
        assert!(world.sequences(&sub).is_empty());
        let sub = subscribe(&mut world);
        assert_eq!(world.sequences(&sub), [-3, -5, -6, -7, -8, -9, 11, 12]);
    }
}

#[test]
fn pending_comes_before_new_even_with_publishers_at_work_and_reads_slow() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 50);
    let sub = subscribe(&mut world);
    assert_eq!(world.sequences(&sub).len(), 50);
    world.sub_close(&sub);
    world.restart();
    world.reads_at_once = false;
    let sub = subscribe(&mut world);
    world.publish_many("me", "foo", 5);
    assert!(world.sequences(&sub).is_empty());
    world.reads_at_once = true;
    world.finish_read();
    world.run();
    let expected: Vec<i64> = (1..=50).map(|sequence| -sequence).chain(51..=55).collect();
    assert_eq!(world.sequences(&sub), expected);
}

#[test]
fn resume_with_a_full_window_redelivers_and_waits_for_acks() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 4);
    let two = |request: &mut SubscriptionRequest| {
        durable(request);
        (request.max_in_flight, request.ack_wait_in_secs) = (2, 1);
    };
    let sub = world.subscribe_with("me", "foo", two);
    assert_eq!(world.sequences(&sub), [1, 2]);
    world.sub_close(&sub);
    let sub = world.subscribe_with("me", "foo", two);
    assert_eq!(world.sequences(&sub), [-1, -2]);
    world.advance_secs(1);
    assert_eq!(world.sequences(&sub), [-1, -2]);
    world.ack(&sub, 1);
    assert_eq!(world.sequences(&sub), [3]);
}

#[test]
fn resume_takes_the_new_options_and_ignores_the_start_position() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 6);
    let sub = world.subscribe_with("me", "foo", |request| {
        durable(request);
        request.max_in_flight = 1;
    });
    assert_eq!(world.sequences(&sub), [1]);
    world.ack(&sub, 1);
    assert_eq!(world.sequences(&sub), [2]);
    world.ack(&sub, 2);
    world.sequences(&sub);
    world.ack(&sub, 3);
    world.sequences(&sub);
    world.sub_close(&sub);
    for (position, value) in [(3, 1), (3, 100), (2, -1_000_000_000_i64)] {
        let sub = world.subscribe_with("me", "foo", |request| {
            durable(request);
            (request.max_in_flight, request.inbox) = (2, "new.inbox".into());
            request.start_position = position;
            request.start_sequence = value.cast_unsigned();
            request.start_time_delta = value;
        });
        let received = world.sequences(&sub);
        assert_eq!(
            received
                .iter()
                .map(|sequence| sequence.abs())
                .collect::<Vec<_>>(),
            [4, 5]
        );
        world.sub_close(&sub);
    }
}

#[test]
fn unsubscribe_removes_the_durable_state() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let sub = subscribe(&mut world);
    world.ack(&sub, 1);
    assert_eq!(world.unsubscribe(&sub), "");
    assert!(world.store.subs("foo").is_empty());
    world.sequences(&sub);
    let sub = subscribe(&mut world);
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
}

#[test]
fn an_offline_durable_cannot_be_ended() {
    let mut world = World::new();
    world.connect("me");
    let sub = subscribe(&mut world);
    world.sub_close(&sub);
    assert_eq!(world.unsubscribe(&sub), "stan: invalid subscription");
    assert_eq!(world.sub_close(&sub), "stan: invalid subscription");
    assert_eq!(world.store.subs("foo").len(), 1);
}

#[test]
fn messages_removed_while_offline_are_skipped() {
    let mut world = World::limited(|limits| limits.max_msgs = 3);
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let sub = subscribe(&mut world);
    world.ack(&sub, 3);
    world.sequences(&sub);
    world.sub_close(&sub);
    world.publish_many("me", "foo", 5);
    let sub = subscribe(&mut world);
    assert_eq!(world.sequences(&sub), [6, 7, 8]);
    assert_eq!(world.engine.subscriptions("foo").next().unwrap().pending, 3);
}

#[test]
fn a_durable_can_be_replaced_if_configured() {
    let config = EngineConfig {
        replace_durable: true,
        ..EngineConfig::default()
    };
    let mut world = World::with(config, 1);
    world.connect("me");
    let first = subscribe(&mut world);
    let second = world.subscribe_with("me", "foo", |request| {
        durable(request);
        request.inbox = "second".into();
    });
    world.publish("me", "foo", "x");
    assert!(world.sequences(&first).is_empty());
    assert_eq!(world.sequences(&second), [1]);
    assert_eq!(world.sub_close(&first), "stan: invalid subscription");
    assert_eq!(world.sub_close(&second), "");
}

#[test]
fn acks_to_a_former_ack_inbox_are_lost() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let former = subscribe(&mut world);
    world.sub_close(&former);
    let sub = subscribe(&mut world);
    world.ack(&former, 1);
    assert_eq!(world.engine.subscriptions("foo").next().unwrap().pending, 1);
    world.ack(&sub, 1);
    assert_eq!(world.engine.subscriptions("foo").next().unwrap().pending, 0);
}

#[test]
fn a_durable_that_comes_and_goes_receives_everything_in_order() {
    for window in [3, 1024] {
        let mut world = World::new();
        world.connect("me");
        world.publish_many("me", "foo", 100);
        let mut received = Vec::new();
        for _ in 0..100 {
            let sub = world.subscribe_with("me", "foo", |request| {
                durable(request);
                request.max_in_flight = window;
            });
            let first = world.sequences(&sub)[0].unsigned_abs();
            received.push(first);
            world.ack(&sub, first);
            // What else is at the client is lost with it, as in a crash.
            world.close("me");
            world.connect("me");
            world.published.clear();
        }
        assert_eq!(received, (1..=100).collect::<Vec<_>>());
    }
}

#[test]
fn a_closed_durable_gets_what_was_published_meanwhile_alone_and_in_a_group() {
    for q_group in ["", "q"] {
        let mut world = World::new();
        world.connect("me");
        let options = |request: &mut SubscriptionRequest| {
            durable(request);
            request.q_group = q_group.into();
        };
        let sub = world.subscribe_with("me", "foo", options);
        world.publish_many("me", "foo", 1);
        assert_eq!(world.sequences(&sub), [1]);
        world.ack(&sub, 1);
        assert_eq!(world.sub_close(&sub), "");
        world.publish_many("me", "foo", 2);
        let sub = world.subscribe_with("me", "foo", options);
        assert_eq!(world.sequences(&sub), [2, 3]);
    }
}

#[test]
fn resume_takes_the_new_ack_wait() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let sub = subscribe(&mut world);
    world.sub_close(&sub);
    world.sequences(&sub);
    let sub = world.subscribe_with("me", "foo", |request| {
        durable(request);
        request.ack_wait_in_secs = 2;
    });
    assert_eq!(world.sequences(&sub), [-1]);
    world.advance(std::time::Duration::from_millis(1_999));
    assert!(world.sequences(&sub).is_empty());
    world.advance(std::time::Duration::from_millis(1));
    assert_eq!(world.sequences(&sub), [-1]);
}
