//! What a new start on the same store brings back.

use broker_proto::streaming::{Ping, SubscriptionRequest};
use prost::Message as _;

use super::harness::World;

#[test]
fn clients_and_subscriptions_go_on_without_doing_anything() {
    let mut world = World::new();
    world.connect("me");
    let plain = world.subscribe_with("me", "foo", |request| request.inbox = "plain".into());
    let durable = world.subscribe_with("me", "foo", |request| {
        (request.inbox, request.durable_name) = ("durable".into(), "d".into());
    });
    let member = world.subscribe_with("me", "foo", |request| {
        (request.inbox, request.q_group) = ("member".into(), "q".into());
    });
    let subs = [plain, durable, member];
    world.publish_many("me", "foo", 2);
    for sub in &subs {
        assert_eq!(world.sequences(sub), [1, 2]);
        world.ack(sub, 1);
        world.ack(sub, 2);
    }
    world.restart();
    world.publish("me", "foo", "x");
    assert_eq!(world.acks()[0].error, "");
    for sub in &subs {
        assert_eq!(world.sequences(sub), [3]);
    }
    let ping = Ping {
        conn_id: "conn-me".into(),
    }
    .encode_to_vec();
    world.send("_STAN.discover.test-cluster.pings", "pong", &ping);
    assert_eq!(world.take("pong"), [b"".as_slice()]);
}

#[test]
fn a_backlog_goes_on_as_acks_come() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 6);
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 2);
    assert_eq!(world.sequences(&sub), [1, 2]);
    world.restart();
    assert!(world.sequences(&sub).is_empty());
    for sequence in 1..=4 {
        world.ack(&sub, sequence);
        assert_eq!(
            world.sequences(&sub),
            [i64::try_from(sequence).unwrap() + 2]
        );
    }
}

#[test]
fn pending_messages_come_again_when_due_by_their_timestamp_and_counted_anew() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 10);
    world.publish("me", "foo", "old");
    world.advance_secs(11);
    assert_eq!(world.sequences(&sub), [1, -1]);
    world.advance_secs(5);
    world.publish("me", "foo", "young");
    assert_eq!(world.sequences(&sub), [2]);
    world.advance_secs(3);
    world.restart();
    let again = world.messages(&sub);
    assert_eq!(
        again
            .iter()
            .map(|m| (m.sequence, m.redelivery_count))
            .collect::<Vec<_>>(),
        [(1, 1)]
    );
    world.advance_secs(6);
    assert!(world.sequences(&sub).is_empty());
    world.advance_secs(1);
    assert_eq!(world.sequences(&sub), [-2]);
}

#[test]
fn new_messages_wait_until_the_old_ones_have_been_looked_at() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 5);
    let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
    assert_eq!(world.sequences(&sub).len(), 5);
    world.advance(std::time::Duration::from_millis(900));
    world.engine.stop(world.clock.now());
    world.run();
    world.advance_secs(60);
    world.reads_at_once = false;
    world.crash();
    world.publish_many("me", "foo", 2);
    assert!(world.sequences(&sub).is_empty());
    world.finish_read();
    world.run();
    assert_eq!(world.sequences(&sub), [-1, -2, -3, -4, -5, 6, 7]);
}

#[test]
fn offline_durables_and_groups_get_nothing_until_resumed() {
    let mut world = World::new();
    world.connect("me");
    world.connect("other");
    let with_names = |q_group: &str, durable_name: &str| {
        let (q_group, durable_name) = (q_group.to_owned(), durable_name.to_owned());
        move |request: &mut SubscriptionRequest| {
            (request.q_group, request.durable_name) = (q_group, durable_name);
        }
    };
    let by_close = world.subscribe_with("me", "foo", with_names("", "d"));
    let by_sub_close = world.subscribe_with("other", "foo", with_names("", "d"));
    let group = world.subscribe_with("other", "bar", with_names("q", "d"));
    for channel in ["foo", "bar"] {
        world.publish_many("me", channel, 2);
    }
    for sub in [&by_close, &by_sub_close, &group] {
        assert_eq!(world.sequences(sub), [1, 2]);
    }
    world.close("me");
    world.sub_close(&by_sub_close);
    world.sub_close(&group);
    world.restart();
    world.advance_secs(100);
    for sub in [&by_close, &by_sub_close, &group] {
        assert!(world.sequences(sub).is_empty());
    }
    world.connect("me");
    world.publish_many("me", "foo", 1);
    let resumed = world.subscribe_with("me", "foo", with_names("", "d"));
    assert_eq!(world.sequences(&resumed), [-1, -2, 3]);
    let resumed = world.subscribe_with("me", "bar", with_names("q", "d"));
    assert_eq!(world.sequences(&resumed), [-1, -2]);
}

#[test]
fn a_message_redelivered_to_another_member_is_pending_there() {
    let mut world = World::new();
    world.connect("a");
    world.connect("b");
    let member = |request: &mut SubscriptionRequest| {
        (request.q_group, request.ack_wait_in_secs) = ("q".into(), 1);
    };
    let first = world.subscribe_with("a", "foo", member);
    world.publish_many("a", "foo", 1);
    let second = world.subscribe_with("b", "foo", member);
    world.advance_secs(1);
    assert_eq!(
        (world.sequences(&first), world.sequences(&second)),
        (vec![1], vec![-1])
    );
    world.advance(std::time::Duration::from_millis(500));
    world.restart();
    world.advance(std::time::Duration::from_millis(100));
    assert_eq!(
        (world.sequences(&first), world.sequences(&second)),
        (vec![], vec![-1])
    );
    world.ack(&second, 1);
    world.restart();
    world.advance_secs(10);
    assert!(world.sequences(&first).is_empty() && world.sequences(&second).is_empty());
}

#[test]
fn the_last_sequence_survives_the_expiry_of_everything() {
    let mut world = World::limited(|limits| limits.max_age_nanos = 1_000_000_000);
    world.connect("me");
    world.publish_many("me", "foo", 3);
    world.advance_secs(5);
    assert!(world.store.messages("foo").is_empty());
    world.restart();
    world.publish("me", "foo", "x");
    assert_eq!(world.store.messages("foo")[0].0, 4);
}

#[test]
fn dead_clients_are_dropped_after_a_restart() {
    let mut world = World::new();
    world.connect("me");
    world.alive.clear();
    world.restart();
    world.advance_secs(329);
    assert_eq!(world.engine.client_count(), 1);
    world.advance_secs(1);
    assert_eq!(world.engine.client_count(), 0);
}

/// Plain, durable, in a group, in a durable group.
const KINDS: [(&str, &str); 4] = [("", ""), ("", "d"), ("q", ""), ("q", "d")];

#[test]
fn who_was_full_stays_full_and_gets_again_what_it_had() {
    for (q_group, durable_name) in KINDS {
        let mut world = World::new();
        world.connect("me");
        let sub = world.subscribe_with("me", "foo", |request| {
            (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
            (request.max_in_flight, request.ack_wait_in_secs) = (1, 2);
        });
        world.publish_many("me", "foo", 2);
        assert_eq!(world.sequences(&sub), [1]);
        world.restart();
        world.publish_many("me", "foo", 1);
        assert!(world.sequences(&sub).is_empty());
        let status: Vec<_> = world
            .engine
            .subscriptions("foo")
            .map(|sub| sub.pending)
            .collect();
        assert_eq!(status, [1]);
        world.advance_secs(2);
        assert_eq!(world.sequences(&sub), [-1]);
        for sequence in 1..=2 {
            world.ack(&sub, sequence);
            assert_eq!(
                world.sequences(&sub),
                [i64::try_from(sequence).unwrap() + 1]
            );
        }
    }
}

#[test]
fn who_has_room_is_not_taken_for_full() {
    for (q_group, durable_name) in KINDS {
        let mut world = World::new();
        world.connect("me");
        let sub = world.subscribe_with("me", "foo", |request| {
            (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
            request.max_in_flight = 3;
        });
        world.publish_many("me", "foo", 2);
        assert_eq!(world.sequences(&sub), [1, 2]);
        world.restart();
        world.publish_many("me", "foo", 2);
        assert_eq!(world.sequences(&sub), [3]);
    }
}

#[test]
fn a_durable_closed_while_its_client_stays_is_offline_and_can_be_resumed() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&sub), [1]);
    assert_eq!(world.sub_close(&sub), "");
    world.restart();
    assert!(world.engine.subscriptions("foo").all(|sub| sub.is_offline));
    world.publish_many("me", "foo", 1);
    assert!(world.sequences(&sub).is_empty());
    let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    assert_eq!(world.sequences(&sub), [-1, 2]);
    world.restart();
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&sub), [3]);
}

#[test]
fn as_many_subscriptions_come_back_as_there_were() {
    let mut world = World::new();
    world.connect("me");
    let expect = |world: &mut World, count: usize| {
        assert_eq!(world.engine.subscription_count(), count);
        world.restart();
        assert_eq!(world.engine.subscription_count(), count);
        assert_eq!(world.store.subs("foo").len(), count);
    };
    let subs = KINDS.map(|(q_group, durable_name)| {
        world.subscribe_with("me", "foo", |request| {
            (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
        })
    });
    expect(&mut world, 4);
    for sub in &subs {
        assert_eq!(world.sub_close(sub), "");
    }
    expect(&mut world, 2);
    let resumed = [("", "d"), ("q", "d")].map(|(q_group, durable_name)| {
        world.subscribe_with("me", "foo", |request| {
            (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
        })
    });
    expect(&mut world, 2);
    for (sub, left) in resumed.iter().zip([1, 0]) {
        assert_eq!(world.unsubscribe(sub), "");
        expect(&mut world, left);
    }
}

#[test]
fn plain_subscriptions_of_a_closed_client_do_not_come_back() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.close("me");
    world.restart();
    assert_eq!(world.engine.subscription_count(), 0);
    world.connect("me");
    world.publish_many("me", "foo", 1);
    assert!(world.sequences(&sub).is_empty());
}

#[test]
fn all_that_a_client_said_of_itself_survives() {
    let mut world = World::new();
    world.connect("me");
    let before = world.store.recover().clients;
    world.restart();
    let after = world.store.recover().clients;
    assert_eq!(before, after);
    let info = &after[0];
    let request = World::connect_request("me");
    assert_eq!(
        (&info.id, &info.hb_inbox, &info.conn_id),
        (
            &request.client_id,
            &request.heartbeat_inbox,
            &request.conn_id
        )
    );
    assert_eq!(
        (info.protocol, info.ping_interval, info.ping_max_out),
        (1, 5, 3)
    );
    world.publish("me", "foo", "x");
    assert_eq!(world.acks()[0].error, "");
}

#[test]
fn thousands_of_pending_messages_are_known_one_by_one() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3_000);
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.durable_name, request.max_in_flight) = ("d".into(), 5_000);
    });
    assert_eq!(world.sequences(&sub).len(), 3_000);
    for sequence in (1..=3_000).step_by(3) {
        world.ack(&sub, sequence);
    }
    world.restart();
    let status: Vec<_> = world
        .engine
        .subscriptions("foo")
        .map(|sub| sub.pending)
        .collect();
    assert_eq!(status, [2_000]);
    let expected: Vec<u64> = (1..=3_000).filter(|sequence| sequence % 3 != 1).collect();
    assert_eq!(world.store.subs("foo")[0].1, expected);
}

#[test]
fn what_was_redelivered_is_a_first_delivery_to_others() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| {
        (request.ack_wait_in_secs, request.inbox) = (1, "one".into());
    });
    world.publish_many("me", "foo", 1);
    world.advance_secs(1);
    assert_eq!(world.sequences(&sub), [1, -1]);
    world.restart();
    let other = world.subscribe_with("me", "foo", |_| {});
    assert_eq!(world.sequences(&other), [1]);
}
