//! Unsubscribe and sub-close.

use broker_proto::streaming::{Ack, SubscriptionResponse, UnsubscribeRequest};
use prost::Message as _;

use super::harness::{Sub, World};

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
    let close = broker_proto::streaming::CloseRequest {
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
    world.advance_secs(2);
    assert_eq!(world.engine.next_deadline(), None);
}
