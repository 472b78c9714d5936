//! Unsubscribe and sub-close.

use broker_proto::streaming::{Ack, CloseRequest, SubscriptionResponse, UnsubscribeRequest};
use prost::Message as _;

use super::harness::{Sub, World};
use crate::durable::FlushOutcome;

#[test]
fn requests_that_fit_nothing_are_refused_with_their_texts() {
    let mut world = World::new();
    world.connect("me");
    world.connect("other");
    let sub = world.subscribe_with("me", "foo", |_| {});
    for kind in ["unsub", "subclose"] {
        let subject = format!("_STAN.{kind}.test-cluster");
        let response: SubscriptionResponse = world.request_raw(&subject, b"dummy");
        assert_eq!(response.error, "stan: invalid unsubscribe request");
        let response: SubscriptionResponse = world.request_raw(&subject, b"");
        assert_eq!(response.error, "stan: unknown channel");
        let wrong = |change: fn(&mut Sub)| {
            let mut sub = sub.clone();
            change(&mut sub);
            sub
        };
        let unknown = world.end(&wrong(|sub| sub.ack_inbox = "wrong".into()), kind);
        assert_eq!(unknown, "stan: invalid subscription");
        let not_mine = world.end(&wrong(|sub| sub.client = "other".into()), kind);
        assert_eq!(not_mine, "stan: unknown clientID");
        let nobody = world.end(&wrong(|sub| sub.client = "nobody".into()), kind);
        assert_eq!(nobody, "stan: unknown clientID");
    }
    world.publish("me", "foo", "x");
    assert_eq!(world.sequences(&sub), [1]);
}

#[test]
fn an_ended_subscription_gets_nothing_and_its_siblings_do() {
    for kind in ["unsub", "subclose"] {
        let mut world = World::new();
        world.connect("me");
        let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
        let sibling = world.subscribe_with("me", "foo", |request| request.inbox = "sibling".into());
        world.publish("me", "foo", "x");
        assert_eq!(world.sequences(&sub), [1]);
        assert_eq!(world.end(&sub, kind), "");
        assert_eq!(world.end(&sub, kind), "stan: invalid subscription");
        world.publish("me", "foo", "y");
        world.advance_secs(5);
        assert!(world.sequences(&sub).is_empty());
        assert_eq!(world.sequences(&sibling), [1, 2]);
        assert_eq!(world.store.subs("foo").len(), 1);
    }
}

#[test]
fn the_delivery_inbox_is_accepted_and_no_reply_is_needed() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    let request = UnsubscribeRequest {
        client_id: "me".into(),
        subject: "foo".into(),
        inbox: sub.inbox,
        ..UnsubscribeRequest::default()
    };
    world.send("_STAN.subclose.test-cluster", "", &request.encode_to_vec());
    assert!(world.engine.subscriptions("foo").next().unwrap().is_offline);
}

#[test]
fn an_ack_sent_just_before_is_counted() {
    for kind in ["subclose", "close"] {
        let mut world = World::new();
        world.connect("me");
        world.publish_many("me", "foo", 10);
        let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
        for sequence in 1..=10 {
            let ack = Ack {
                subject: "foo".into(),
                sequence,
            };
            world.send_unflushed(&sub.ack_inbox, "", &ack.encode_to_vec());
        }
        let error = if kind == "close" {
            world.close("me")
        } else {
            world.end(&sub, kind)
        };
        assert_eq!(error, "");
        assert_eq!(world.store.subs("foo")[0].1, [0_u64; 0]);
        assert_eq!(world.store.subs("foo")[0].0.last_sent, 10);
    }
}

#[test]
fn publishes_sent_just_before_a_close_are_stored_and_acked() {
    let mut world = World::new();
    world.connect("me");
    world.flushes_at_once = false;
    for _ in 0..1_000 {
        world.publish_unflushed("me", "foo", "x");
    }
    let close = CloseRequest {
        client_id: "me".into(),
    };
    world.send("_STAN.close.test-cluster", "closed", &close.encode_to_vec());
    assert!(world.take("closed").is_empty());
    world.flush_all();
    assert_eq!(world.take("closed"), [b"".as_slice()]);
    assert_eq!(
        world
            .acks()
            .iter()
            .filter(|ack| ack.error.is_empty())
            .count(),
        1_000
    );
    assert_eq!(world.store.messages("foo").len(), 1_000);
}

#[test]
fn many_cycles_leave_nothing_behind() {
    let mut world = World::new();
    for _ in 0..300 {
        world.connect("me");
        world.subscribe_with("me", "foo", |_| {});
        world.subscribe_with("me", "foo", |request| request.q_group = "q".into());
        world.publish_many("me", "foo", 2);
        world.close("me");
        world.published.clear();
    }
    assert_eq!(world.engine.subscription_count(), 0);
    assert_eq!(world.engine.client_count(), 0);
    assert!(world.store.subs("foo").is_empty());
    world.advance_secs(6);
    assert_eq!(world.engine.next_deadline(), None);
}

#[test]
fn an_ack_sent_just_before_an_unsubscribe_is_counted() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 10);
    for round in 0..50 {
        let inbox = |name: &'static str| {
            move |request: &mut broker_proto::streaming::SubscriptionRequest| {
                (request.q_group, request.inbox) = ("q".into(), name.into());
            }
        };
        let leaver = world.subscribe_with("me", "foo", inbox("leaver"));
        assert_eq!(world.sequences(&leaver).len(), 10);
        let heir = world.subscribe_with("me", "foo", inbox("heir"));
        for sequence in 1..=10 {
            let ack = Ack {
                subject: "foo".into(),
                sequence,
            };
            world.send_unflushed(&leaver.ack_inbox, "", &ack.encode_to_vec());
        }
        assert_eq!(world.unsubscribe(&leaver), "", "round {round}");
        world.advance_secs(40);
        assert!(world.sequences(&heir).is_empty(), "nothing was left to it");
        assert_eq!(world.unsubscribe(&heir), "");
    }
}

#[test]
fn the_end_of_a_subscription_and_then_of_its_client_come_in_their_order() {
    for kind in ["unsub", "subclose"] {
        let mut world = World::new();
        world.connect("me");
        let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
        let end = UnsubscribeRequest {
            client_id: "me".into(),
            subject: "foo".into(),
            inbox: sub.ack_inbox,
            ..UnsubscribeRequest::default()
        };
        let close = CloseRequest {
            client_id: "me".into(),
        };
        let subject = format!("_STAN.{kind}.test-cluster");
        world.send_unflushed(&subject, "ended", &end.encode_to_vec());
        world.send_unflushed("_STAN.close.test-cluster", "closed", &close.encode_to_vec());
        world.end_pass();
        assert_eq!(world.take("ended"), [b"".as_slice()]);
        assert_eq!(world.take("closed"), [b"".as_slice()]);
        let left = usize::from(kind == "subclose");
        assert_eq!(world.engine.subscription_count(), left);
    }
}

#[test]
fn a_durable_whose_client_closes_before_the_tenth_ack_gets_the_tenth_again() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 10);
    let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    assert_eq!(world.sequences(&sub).len(), 10);
    for sequence in 1..=9 {
        world.ack(&sub, sequence);
    }
    assert_eq!(world.close("me"), "");
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&sub), [-10, 11]);
}

/// Records are written together with the flush, so a refusal is that of a flush: it is told, and changes nothing.
#[test]
fn an_end_that_the_store_refuses_to_write_is_told_and_is_an_end_all_the_same() {
    for kind in ["unsub", "subclose"] {
        let mut world = World::new();
        world.connect("me");
        let sub = world.subscribe_with("me", "foo", |_| {});
        let end = UnsubscribeRequest {
            client_id: "me".into(),
            subject: "foo".into(),
            inbox: sub.ack_inbox.clone(),
            ..UnsubscribeRequest::default()
        };
        world.flushes_at_once = false;
        let subject = format!("_STAN.{kind}.test-cluster");
        world.send(&subject, "ended", &end.encode_to_vec());
        let reason = "no room".to_owned();
        world.finish_flush(0, FlushOutcome::Refused { reason });
        world.run();
        let answer = world.take_as::<SubscriptionResponse>("ended");
        assert_eq!(answer[0].error, "no room");
        world.flushes_at_once = true;
        assert_eq!(world.engine.subscription_count(), 0);
        assert_eq!(world.end(&sub, kind), "stan: invalid subscription");
        world.publish_many("me", "foo", 1);
        assert!(world.sequences(&sub).is_empty());
    }
}

#[test]
fn a_subscription_ends_while_it_is_being_redelivered_to() {
    for kind in ["unsub", "subclose"] {
        for (q_group, durable_name) in [("", ""), ("", "d"), ("q", ""), ("q", "d")] {
            let mut world = World::new();
            world.connect("me");
            world.publish_many("me", "foo", 5);
            let sub = world.subscribe_with("me", "foo", |request| {
                (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
                request.ack_wait_in_secs = 1;
            });
            assert_eq!(world.sequences(&sub).len(), 5);
            world.restart();
            world.engine.forget_pages();
            world.reads_at_once = false;
            world.advance_secs(1);
            assert!(!world.reads.is_empty(), "the messages are being looked up");
            assert_eq!(world.end(&sub, kind), "");
            while !world.reads.is_empty() {
                world.finish_read();
                world.run();
            }
            world.advance_secs(10);
            assert!(world.sequences(&sub).is_empty());
        }
    }
}

#[test]
fn acks_behind_the_end_of_their_client_do_no_harm() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    assert_eq!(world.close("me"), "");
    for sequence in 1..=3 {
        world.ack(&sub, sequence);
    }
    world.connect("me");
    world.sequences(&sub);
    let sub = world.subscribe_with("me", "foo", |request| request.durable_name = "d".into());
    assert_eq!(world.sequences(&sub), [-1, -2, -3]);
}

#[test]
fn a_durable_that_ends_before_its_record_is_refused_has_one_beside_its_position() {
    let mut world = World::new();
    world.connect("me");
    world.publish("me", "foo", "x");
    world.flushes_at_once = false;
    let mut request = World::sub_request("me", "foo");
    request.durable_name = "d".into();
    let (subject, reply) = ("_STAN.sub.test-cluster", "reply");
    world.send(subject, reply, &request.encode_to_vec());
    let close = CloseRequest {
        client_id: "me".into(),
    };
    world.send("_STAN.close.test-cluster", "", &close.encode_to_vec());
    let reason = "no".to_owned();
    world.finish_flush(0, FlushOutcome::Refused { reason });
    world.flush_all();
    assert_eq!(world.store.subs("foo").len(), 1);
}
