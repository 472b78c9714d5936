use std::rc::Rc;

use super::*;
use crate::{account::Accounts, interest::InterestCache, peer::Peer, subscription::Target};

/// Connection and message of every delivery, in order.
#[derive(Default)]
struct Record {
    delivered: Vec<(u64, u32)>,
    exhausted: Vec<u64>,
    /// Route, message, groups.
    forwarded: Vec<(u64, u32, Vec<String>)>,
}

impl Outlet<u32> for Record {
    fn deliver(&mut self, delivery: &Delivery, messages: &[u32]) {
        let connection = delivery.subscription.connection().unwrap();
        self.delivered
            .extend(messages.iter().map(|&message| (connection, message)));
    }

    fn forward(&mut self, route: &RouteDelivery, messages: &[u32], queues: &[&[u8]]) {
        let named = |queue: &&[u8]| String::from_utf8(queue.to_vec()).unwrap();
        let queues: Vec<_> = queues.iter().map(named).collect();
        self.forwarded.extend(
            messages
                .iter()
                .map(|&message| (route.peer.id, message, queues.clone())),
        );
    }

    fn exhausted(&mut self, subscription: &Arc<Subscription>) {
        self.exhausted.push(subscription.connection().unwrap());
    }
}

/// Group, connection and maximum of local subscriptions; group, route and weight of others.
fn interest_with(local: &[(&str, u64, u32)], remote: &[(&str, u64, u32)]) -> Rc<Interest> {
    let accounts = Accounts::new(None);
    let insert = |group: &str, target| {
        let one = Arc::new(Subscription::new(b"a", group.as_bytes(), b"1", target));
        let list = &accounts.global().sublist;
        list.change(|list| list.insert(Arc::clone(&one)));
        one
    };
    for &(group, connection, max) in local {
        let peer = Arc::new(Peer::new(connection, 0, 0));
        let one = insert(group, Target::Connection(peer));
        if max > 0 {
            one.allowance.limit_to(max);
        }
    }
    for &(group, route, weight) in remote {
        let peer = Arc::new(Peer::new(route, 0, 0));
        insert(group, Target::Route { peer, weight });
    }
    InterestCache::default().look_up(b"a", accounts.global())
}

fn interest(subscriptions: &[(&str, u64, u32)]) -> Rc<Interest> {
    interest_with(subscriptions, &[])
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

#[test]
fn another_server_gets_one_message_for_plain_interest_and_for_groups() {
    let interest = interest_with(&[("", 1, 0)], &[("", 9, 1), ("q", 9, 1), ("r", 9, 1)]);
    let (record, reached) = routed(&interest, &[10], None);
    assert_eq!(record.delivered, [(1, 10)]);
    let groups = vec!["q".to_owned(), "r".to_owned()];
    assert_eq!(record.forwarded, [(9, 10, groups)]);
    assert_eq!(reached, 1);
}

#[test]
fn members_count_alike_wherever_they_are() {
    let interest = interest_with(&[("q", 1, 0)], &[("q", 9, 3)]);
    let mut record = Record::default();
    let mut dice = Dice::new(7);
    for message in 0..1000 {
        assert_eq!(
            route(&interest, &[message], None, &mut dice, &mut record),
            1
        );
    }
    let here = record.delivered.len();
    assert_eq!(here + record.forwarded.len(), 1000);
    assert!((200..300).contains(&here), "{here} of 1000");
}

#[test]
fn a_member_here_that_cannot_take_it_leaves_it_to_another_server() {
    let interest = interest_with(&[("q", 1, 1)], &[("q", 9, 1)]);
    let messages: Vec<u32> = (0..64).collect();
    let (record, reached) = routed(&interest, &messages, None);
    assert!(record.delivered.len() <= 1);
    assert_eq!(record.delivered.len() + record.forwarded.len(), 64);
    assert_eq!(reached, u64::MAX);
}

fn arrived(interest: &Interest, queues: &[&[u8]], from: u64) -> Record {
    let mut record = Record::default();
    route_arrived(interest, &10, queues, from, &mut Dice::new(1), &mut record);
    record
}

#[test]
fn messages_of_other_servers_reach_plain_interest_and_the_named_groups_here_only() {
    let local = [("", 1, 0), ("q", 2, 0), ("r", 3, 0)];
    let interest = interest_with(&local, &[("", 9, 1), ("q", 8, 5)]);
    let record = arrived(&interest, &[], 9);
    assert_eq!(record.delivered, [(1, 10)]);
    let record = arrived(&interest, &[b"q"], 9);
    assert_eq!(record.delivered, [(1, 10), (2, 10)]);
    assert!(record.forwarded.is_empty());
}

#[test]
fn a_message_for_a_group_that_has_left_goes_on_but_never_back() {
    let interest = interest_with(&[], &[("q", 8, 1), ("q", 9, 1)]);
    let record = arrived(&interest, &[b"q"], 9);
    assert_eq!(record.forwarded, [(8, 10, vec!["q".to_owned()])]);
    let interest = interest_with(&[], &[("q", 9, 1)]);
    assert!(arrived(&interest, &[b"q"], 9).forwarded.is_empty());
}
