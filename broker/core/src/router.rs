//! Hands a run of messages with one subject to everyone interested: fan-out, queue groups,
//! auto-unsubscribe, echo.

use std::sync::Arc;

use crate::{
    interest::{Delivery, Interest},
    subscription::Subscription,
};

/// Most messages in a run, so that one word says which of them reached somebody.
pub const MAX_RUN: usize = 64;

/// Carries deliveries out.
pub trait Outlet<M> {
    /// Some messages of the run, in order, for one subscription.
    fn deliver(&mut self, delivery: &Delivery, messages: &[M]);

    /// A subscription has got its last message and must be removed.
    fn exhausted(&mut self, subscription: &Arc<Subscription>);
}

/// Random numbers for the choice among members of a queue group (wyrand). Not for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Every seed gives another sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Evenly from `0..bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        let random = (product >> 64) as u64 ^ product as u64;
        ((u128::from(random) * bound as u128) >> 64) as usize
    }
}

/// Delivers a run. `muted` is the publishing connection if it does not want to hear itself.
/// Returns which messages reached anybody, the first in the lowest bit.
pub fn route<M, O: Outlet<M>>(
    interest: &Interest,
    messages: &[M],
    muted: Option<u64>,
    dice: &mut Dice,
    outlet: &mut O,
) -> u64 {
    assert!(
        messages.len() <= MAX_RUN,
        "a run has at most {MAX_RUN} messages"
    );
    if !interest.interleaved {
        return route_together(interest, messages, muted, dice, outlet);
    }
    messages
        .chunks(1)
        .enumerate()
        .fold(0, |reached, (index, message)| {
            reached | route_together(interest, message, muted, dice, outlet) << index
        })
}

fn route_together<M, O: Outlet<M>>(
    interest: &Interest,
    messages: &[M],
    muted: Option<u64>,
    dice: &mut Dice,
    outlet: &mut O,
) -> u64 {
    let mut reached = 0;
    for delivery in &interest.plain {
        reached |= first(offer(delivery, messages, muted, outlet));
    }
    for group in &interest.groups {
        for (index, message) in messages.chunks(1).enumerate() {
            // The first member from a random place on that can take it.
            let start = dice.below(group.len());
            let taken = (start..group.len())
                .chain(0..start)
                .any(|member| offer(&group[member], message, muted, outlet) > 0);
            reached |= u64::from(taken) << index;
        }
    }
    reached
}

/// Delivers as many as the subscription may get; returns how many.
fn offer<M, O: Outlet<M>>(
    delivery: &Delivery,
    messages: &[M],
    muted: Option<u64>,
    outlet: &mut O,
) -> usize {
    let subscription = &delivery.subscription;
    if muted.is_some() && subscription.connection() == muted {
        return 0;
    }
    let granted = subscription.allowance.claim(messages.len());
    if granted.messages > 0 {
        outlet.deliver(delivery, &messages[..granted.messages]);
    }
    if granted.exhausted {
        outlet.exhausted(subscription);
    }
    granted.messages
}

/// The lowest `count` bits.
fn first(count: usize) -> u64 {
    match count {
        0 => 0,
        count => u64::MAX >> (64 - count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        interest::InterestCache, peer::Peer, sublist::SharedSublist, subscription::Target,
    };

    /// Connection and message of every delivery, in order.
    #[derive(Default)]
    struct Record {
        delivered: Vec<(u64, u32)>,
        exhausted: Vec<u64>,
    }

    impl Outlet<u32> for Record {
        fn deliver(&mut self, delivery: &Delivery, messages: &[u32]) {
            let connection = delivery.subscription.connection().unwrap();
            self.delivered
                .extend(messages.iter().map(|&message| (connection, message)));
        }

        fn exhausted(&mut self, subscription: &Arc<Subscription>) {
            self.exhausted.push(subscription.connection().unwrap());
        }
    }

    fn interest(subscriptions: &[(&str, u64, u32)]) -> std::rc::Rc<Interest> {
        let shared = SharedSublist::default();
        for &(group, connection, max) in subscriptions {
            let target = Target::Connection(Arc::new(Peer::new(connection, 0, 0)));
            let one = Arc::new(Subscription::new(b"a", group.as_bytes(), b"1", target));
            if max > 0 {
                one.allowance.limit_to(max);
            }
            shared.change(|list| list.insert(one));
        }
        InterestCache::default().look_up(b"a", &shared)
    }

    fn routed(interest: &Interest, messages: &[u32], muted: Option<u64>) -> (Record, u64) {
        let mut record = Record::default();
        let reached = route(interest, messages, muted, &mut Dice::new(1), &mut record);
        (record, reached)
    }

    #[test]
    fn a_run_goes_target_by_target() {
        let (record, reached) = routed(&interest(&[("", 1, 0), ("", 2, 0)]), &[10, 11], None);
        assert_eq!(record.delivered, [(1, 10), (1, 11), (2, 10), (2, 11)]);
        assert_eq!(reached, 0b11);
    }

    #[test]
    fn a_connection_with_two_parts_gets_them_in_published_order() {
        let (record, _) = routed(&interest(&[("", 1, 0), ("", 1, 0)]), &[10, 11], None);
        assert_eq!(record.delivered, [(1, 10), (1, 10), (1, 11), (1, 11)]);
    }

    #[test]
    fn a_maximum_cuts_the_run_and_reports_the_end_once() {
        let interest = interest(&[("", 1, 2)]);
        let (record, reached) = routed(&interest, &[10, 11, 12], None);
        assert_eq!(record.delivered, [(1, 10), (1, 11)]);
        assert_eq!((record.exhausted, reached), (vec![1], 0b011));
        let (record, reached) = routed(&interest, &[13], None);
        assert!(record.delivered.is_empty() && record.exhausted.is_empty() && reached == 0);
    }

    #[test]
    fn own_messages_are_kept_from_the_muted_in_groups_too() {
        let interest = interest(&[("", 1, 0), ("q", 1, 0), ("q", 2, 0)]);
        let (record, reached) = routed(&interest, &[10, 11, 12], Some(1));
        assert_eq!(record.delivered, [(2, 10), (2, 11), (2, 12)]);
        assert_eq!(reached, 0b111);
    }

    #[test]
    fn one_member_of_each_group_gets_a_message_and_all_get_their_share() {
        let interest = interest(&[("q", 1, 0), ("q", 2, 0), ("r", 3, 0)]);
        let mut record = Record::default();
        let mut dice = Dice::new(7);
        for message in 0..1000 {
            assert_eq!(
                route(&interest, &[message], None, &mut dice, &mut record),
                1
            );
        }
        let share = |connection| {
            record
                .delivered
                .iter()
                .filter(|one| one.0 == connection)
                .count()
        };
        assert_eq!(share(1) + share(2), 1000);
        assert_eq!(share(3), 1000);
        assert!((400..600).contains(&share(1)), "{} of 1000", share(1));
    }

    #[test]
    fn a_member_past_its_maximum_is_passed_over() {
        let interest = interest(&[("q", 1, 1), ("q", 2, 0)]);
        let messages: Vec<u32> = (0..64).collect();
        let (record, reached) = routed(&interest, &messages, None);
        assert_eq!(record.delivered.len(), 64);
        assert_eq!(record.delivered.iter().filter(|one| one.0 == 1).count(), 1);
        assert_eq!(reached, u64::MAX);
    }
}
