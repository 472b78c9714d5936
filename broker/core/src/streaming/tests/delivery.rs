//! Flow of new messages and acknowledgements.

use std::time::Duration;

use super::harness::World;
use crate::effect::Effect;

#[test]
fn at_most_max_in_flight_messages_are_out_and_each_ack_frees_one() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 30);
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 10);
    assert_eq!(world.sequences(&sub), (1..=10).collect::<Vec<_>>());
    world.publish_many("me", "foo", 1);
    assert!(world.sequences(&sub).is_empty());
    for sequence in 1..=21 {
        world.ack(&sub, sequence);
        assert_eq!(
            world.sequences(&sub),
            [i64::try_from(sequence).unwrap() + 10]
        );
    }
    world.ack(&sub, 25);
    assert!(world.sequences(&sub).is_empty());
}

#[test]
fn a_stalled_subscription_reads_nothing() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 2);
    world.restart();
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 1);
    let reads = world.read_count;
    world.publish_many("me", "foo", 10);
    assert_eq!((world.sequences(&sub), world.read_count), (vec![1], reads));
}

#[test]
fn acks_that_mean_nothing_change_nothing() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 2);
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 1);
    let other_channel = super::harness::Sub {
        channel: "bar".into(),
        ..sub.clone()
    };
    world.ack(&other_channel, 1);
    world.ack(&sub, 2);
    world.ack(&sub, u64::MAX);
    world.send(&sub.ack_inbox, "", b"dummy");
    world.send(&sub.ack_inbox, "", b"");
    assert_eq!(world.sequences(&sub), [1]);
    world.ack(&sub, 1);
    world.ack(&sub, 1);
    assert_eq!(world.sequences(&sub), [2]);
    let status: Vec<usize> = world
        .engine
        .subscriptions("foo")
        .map(|sub| sub.pending)
        .collect();
    assert_eq!(status, [1]);
}

#[test]
fn holes_in_the_stored_sequence_are_skipped() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 10);
    for sequence in [3, 4, 8] {
        world.store.lose_row("foo", sequence);
    }
    world.restart();
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&sub), [1, 2, 5, 6, 7, 9, 10, 11]);
}

#[test]
fn a_missing_tail_does_not_block_what_comes_after_it() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 5);
    world.restart();
    world.store.lose_row("foo", 4);
    world.store.lose_row("foo", 5);
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&sub), [1, 2, 3, 6]);
}

#[test]
fn corrupt_rows_are_reported_and_delivered_to_nobody() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 10);
    for sequence in [1, 4, 5, 10] {
        world.store.corrupt_row("foo", sequence);
    }
    world.restart();
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.publish_many("me", "foo", 1);
    assert_eq!(world.sequences(&sub), [2, 3, 6, 7, 8, 9, 11]);
    assert_eq!(world.engine.counters().corrupt_rows, 4);
    let notices = world.engine.take_notices();
    let told = notices.iter().find(|notice| notice.contains("corrupt"));
    let told = told.expect("a notice");
    assert!(
        told.starts_with("channel foo: 4 stored messages are corrupt and not delivered: 1 (it"),
        "{told}"
    );
}

#[test]
fn a_damaged_pending_message_is_not_sent_again() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3);
    let request = |request: &mut broker_proto::streaming::SubscriptionRequest| {
        request.durable_name = "dur".into();
        request.ack_wait_in_secs = 1;
    };
    let sub = world.subscribe_with("me", "foo", request);
    assert_eq!(world.sequences(&sub), [1, 2, 3]);
    world.store.corrupt_row("foo", 2);
    world.restart();
    world.advance_secs(1);
    let mut again = world.sequences(&sub);
    again.sort_unstable();
    again.dedup();
    assert_eq!(again, [-3, -1]);
}

#[test]
fn the_next_page_is_read_while_the_last_one_is_delivered_and_no_other() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 5_000);
    world.restart();
    world.reads_at_once = false;
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 500);
    world.finish_read();
    world.run();
    assert_eq!((world.sequences(&sub).len(), world.reads.len()), (500, 1));
    world.finish_read();
    world.run();
    assert_eq!((world.sequences(&sub).len(), world.reads.len()), (0, 0));
    for sequence in 1..=600 {
        world.ack(&sub, sequence);
    }
    assert_eq!((world.sequences(&sub).len(), world.reads.len()), (600, 1));
}

#[test]
fn a_failed_read_is_tried_again() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 5);
    world.restart();
    world.reads_at_once = false;
    let sub = world.subscribe_with("me", "foo", |_| {});
    world.fail_read();
    assert!(world.sequences(&sub).is_empty() && world.reads.is_empty());
    world.reads_at_once = true;
    world.advance(Duration::from_secs(1));
    assert_eq!(world.sequences(&sub), [1, 2, 3, 4, 5]);
}

#[test]
fn readers_of_one_channel_share_reads_and_none_starves() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 3_000);
    world.restart();
    world.reads_at_once = false;
    let request = |inbox: &str, start| {
        let mut request = World::sub_request("me", "foo");
        request.max_in_flight = 100_000;
        request.inbox = inbox.into();
        (request.start_position, request.start_sequence) = (3, start);
        request
    };
    let subs = [("a", 1), ("b", 1), ("late", 2_500)]
        .map(|(inbox, start)| world.subscribe(&request(inbox, start)));
    let mut progress = Vec::new();
    while !world.reads.is_empty() {
        assert_eq!(world.reads.len(), 1, "one read of a channel at a time");
        world.finish_read();
        world.run();
        progress.push(subs.each_ref().map(|sub| world.sequences(sub).len()));
    }
    let totals = progress
        .iter()
        .fold([0; 3], |sum, step| [0, 1, 2].map(|at| sum[at] + step[at]));
    assert_eq!(totals, [3_000, 3_000, 501]);
    assert!(
        progress[..2].iter().any(|step| step[2] > 0),
        "the late reader is served in turn"
    );
    assert!(progress.len() <= 5, "reads are shared: {progress:?}");
}

#[test]
fn an_ack_of_the_whole_window_frees_it_in_one_pass() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 6_000);
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 3_000);
    assert_eq!(world.sequences(&sub).len(), 3_000);
    for sequence in 1..=3_000 {
        let ack = broker_proto::streaming::Ack {
            subject: "foo".into(),
            sequence,
        };
        world.send_unflushed(&sub.ack_inbox, "", &prost::Message::encode_to_vec(&ack));
    }
    world.end_pass();
    assert_eq!(world.sequences(&sub), (3_001..=6_000).collect::<Vec<_>>());
}

#[test]
fn effects_of_a_large_fan_out_do_not_pile_up_and_acks_come_last() {
    let mut world = World::new();
    world.connect("me");
    for number in 0..100 {
        world.subscribe_with("me", "foo", |request| {
            request.inbox = format!("in.{number}")
        });
    }
    world.flushes_at_once = false;
    for _ in 0..1_000 {
        world.publish_unflushed("me", "foo", "x");
    }
    world.end_pass();
    world.finish_flush(0, crate::durable::FlushOutcome::Stored);
    let (mut deliveries, mut acks) = (0, 0);
    while let Some(effect) = world.engine.next_effect() {
        assert!(
            world.engine.effects.len() <= 1_000,
            "bounded by one piece of work"
        );
        match effect {
            Effect::Publish { .. } => {
                assert_eq!(acks, 0, "deliveries come before publish acks");
                deliveries += 1;
            }
            Effect::Acknowledge(answers) => {
                acks += answers.runs().map(|(_, acks)| acks.count()).sum::<usize>();
            }
            _ => {}
        }
    }
    assert_eq!((deliveries, acks), (100_000, 1_000));
}

#[test]
fn with_room_for_one_the_next_comes_after_the_ack_for_every_kind() {
    for (q_group, durable_name) in [("", ""), ("", "d"), ("q", ""), ("q", "d")] {
        let mut world = World::new();
        world.connect("me");
        let subs = [("one", 0), ("two", usize::from(!q_group.is_empty()))]
            .into_iter()
            .filter(|(name, wanted)| *name == "one" || *wanted == 1)
            .map(|(name, _)| {
                world.subscribe_with("me", "foo", |request| {
                    (request.q_group, request.durable_name) = (q_group.into(), durable_name.into());
                    (request.inbox, request.max_in_flight) = (name.into(), 1);
                })
            })
            .collect::<Vec<_>>();
        world.publish_many("me", "foo", 20);
        let mut received = Vec::new();
        while received.len() < 20 {
            for sub in &subs {
                let sequences = world.sequences(sub);
                assert!(sequences.len() <= 1, "room for one");
                assert!(world.sequences(sub).is_empty());
                for sequence in sequences {
                    received.push(sequence);
                    world.ack(sub, sequence.unsigned_abs());
                }
            }
        }
        received.sort_unstable();
        assert_eq!(received, (1..=20).collect::<Vec<_>>());
    }
}

#[test]
fn messages_stored_while_the_end_is_being_read_are_not_skipped() {
    let mut world = World::new();
    world.connect("me");
    let sub = world.subscribe_with("me", "foo", |request| request.max_in_flight = 1);
    world.restart();
    world.reads_at_once = false;
    let mut received = Vec::new();
    for round in 0..300_u32 {
        world.publish_many("me", "foo", 1);
        if !round.is_multiple_of(3) && !world.reads.is_empty() {
            world.finish_read();
            world.run();
        }
        world.engine.forget_pages();
        for sequence in world.sequences(&sub) {
            received.push(sequence);
            world.ack(&sub, sequence.unsigned_abs());
        }
    }
    world.reads_at_once = true;
    while received.len() < 300 {
        if !world.reads.is_empty() {
            world.finish_read();
            world.run();
        }
        for sequence in world.sequences(&sub) {
            received.push(sequence);
            world.ack(&sub, sequence.unsigned_abs());
        }
    }
    assert_eq!(received, (1..=300).collect::<Vec<_>>());
}

#[test]
fn nothing_empty_is_ever_delivered() {
    let mut world = World::limited(|limits| limits.max_age_nanos = 10_000_000_000);
    world.connect("me");
    for data in ["", "x", ""] {
        world.publish("me", "foo", data);
    }
    let sub = world.subscribe_with("me", "foo", |request| request.ack_wait_in_secs = 1);
    world.store.lose_row("foo", 2);
    world.restart();
    world.advance_secs(30);
    let received = world.take(&sub.inbox);
    assert!(received.len() > 3, "redeliveries, too");
    assert!(received.iter().all(|payload| !payload.is_empty()));
}
