//! What channels hold: written down, counted where in doubt, verified.

use super::harness::World;
use crate::durable::{ChannelLimits, FlushOutcome, Sequence, Totals};

/// Totals of a channel as the store has them on record: first, last, messages.
fn on_record(world: &World) -> Option<(u64, u64, u64)> {
    let totals = world.store.channel("foo").unwrap().totals?;
    Some((totals.first.0, totals.last.0, totals.messages))
}

/// A store that was left by a crash and guesses what channel foo holds, which has messages 1 to 10.
fn guessing(limit: impl FnOnce(&mut ChannelLimits)) -> World {
    let mut world = World::limited(limit);
    world.connect("me");
    world.publish_many("me", "foo", 10);
    world.is_guessing = true;
    world.counts_at_once = false;
    world.crash();
    world
}

#[test]
fn changed_totals_are_written_down_within_seconds_and_at_the_end() {
    let mut world = World::limited(|limits| limits.max_msgs = 3);
    world.connect("me");
    world.publish_many("me", "foo", 2);
    assert_eq!(on_record(&world), None);
    world.advance_secs(5);
    assert_eq!(on_record(&world), Some((1, 2, 2)));
    world.publish_many("me", "foo", 3);
    world.engine.stop(world.clock.now());
    world.run();
    assert!(world.engine.is_drained());
    assert_eq!(on_record(&world), Some((3, 5, 3)));
}

#[test]
fn nothing_is_removed_from_a_channel_in_doubt_before_it_was_counted() {
    let mut world = guessing(|limits| limits.max_msgs = 10);
    world.publish_many("me", "foo", 4);
    assert_eq!(world.store.messages("foo").len(), 14);
    world.advance_secs(5);
    assert_eq!(on_record(&world), None, "a guess is not written down");
    world.finish_count();
    world.run();
    assert_eq!(world.store.range("foo"), (5, 14));
    world.check_totals("foo");
    world.advance_secs(5);
    assert_eq!(on_record(&world), Some((5, 14, 10)));
}

#[test]
fn messages_of_a_channel_in_doubt_expire_after_it_was_counted() {
    let mut world = guessing(|limits| limits.max_age_nanos = 2_000_000_000);
    world.advance_secs(3);
    assert_eq!(world.store.messages("foo").len(), 10);
    world.finish_count();
    world.advance_secs(1);
    assert!(world.store.messages("foo").is_empty());
    world.check_totals("foo");
}

#[test]
fn a_count_that_fails_is_tried_again() {
    let mut world = guessing(|limits| limits.max_msgs = 9);
    world.fail_count();
    assert!(world.counts.is_empty());
    world.advance_secs(5);
    world.finish_count();
    world.run();
    assert_eq!(world.store.range("foo"), (2, 10));
}

#[test]
fn a_record_that_is_wrong_is_put_right_and_told() {
    let mut world = World::new();
    world.connect("me");
    world.publish_many("me", "foo", 10);
    world.engine.take_notices();
    world.counts_at_once = false;
    world.crash();
    world.store.lose_row("foo", 4);
    world.publish_many("me", "foo", 1);
    world.finish_count();
    world.check_totals("foo");
    assert_eq!(
        world.engine.take_notices(),
        [
            "channel foo: it holds 9 messages from 1 on, not 10 from 1 on as was written down"
                .to_owned()
        ]
    );
}

#[test]
fn what_is_removed_while_the_store_counts_is_not_taken_for_an_error() {
    let mut world = World::limited(|limits| limits.max_msgs = 10);
    world.connect("me");
    world.publish_many("me", "foo", 10);
    world.counts_at_once = false;
    world.crash();
    let (load, ..) = world.next_count();
    let before = Totals {
        first: Sequence(1),
        last: Sequence(10),
        messages: 10,
        bytes: 0,
    };
    world.publish_many("me", "foo", 5);
    world.engine.counted(load, Ok(before), world.clock.now());
    world.run();
    world.check_totals("foo");
    assert!(world.engine.take_notices().is_empty());
    world.advance_secs(1);
    assert_eq!(world.counts.len(), 1, "it is counted again");
}

#[test]
fn what_a_lower_limit_removes_goes_in_pieces() {
    let mut world = World::new();
    world.connect("me");
    for _ in 0..45 {
        world.publish_many("me", "foo", 1_000);
    }
    world.flushes_at_once = false;
    world.config.limits.max_msgs = 1_000;
    let config = world.config.clone();
    world.engine.reconfigure(config, world.clock.now());
    world.end_pass();
    let mut left = Vec::new();
    while world.flights[0].is_some() {
        world.finish_flush(0, FlushOutcome::Stored);
        world.run();
        left.push(world.store.messages("foo").len());
    }
    assert_eq!(left, [25_000, 5_000, 1_000]);
}
