//! Planted bugs: a record is falsified the way that a faulty broker would write it, and the checker says which rule is broken.

use super::*;
use crate::{
    record::{Census, Publish},
    tables::{Position, Term},
};

const OWNER: &str = "broker-0 first";
const TAKER: &str = "broker-1 second";
const SECOND: Micros = 1_000_000;

fn id(number: u64) -> MessageId {
    MessageId {
        publisher: 0,
        number,
    }
}

/// Time of the commit of a sequence.
fn commit(sequence: u64) -> Micros {
    i64::try_from(sequence).unwrap() * SECOND
}

fn stored(sequence: u64) -> StoredMessage {
    StoredMessage {
        sequence,
        id: Some(id(sequence)),
        timestamp: commit(sequence) * 1000,
        written_by: OWNER.to_owned(),
        committed: commit(sequence),
    }
}

fn delivered(opening: usize, sequence: u64) -> Delivery {
    Delivery {
        opening,
        sequence,
        id: Some(id(sequence)),
        redelivered: false,
        at: commit(sequence) + SECOND / 4,
        acked: Some(commit(sequence) + SECOND / 2),
    }
}

/// Six messages, a second apart, as everybody should see them: a durable that goes after three and comes back, a kill
/// while nothing happens at 3.9 s that ends at 3.95 s.
fn faultless() -> (History, Tables) {
    let publishes = (1..=6).map(|number| Publish {
        id: id(number),
        sent: commit(number) - 6 * SECOND / 10,
        outcome: Some((commit(number) + 100, Outcome::Acked)),
    });
    let openings = [
        (0, Some(3 * SECOND + 800_000)),
        (3 * SECOND + 960_000, Some(8 * SECOND)),
    ];
    let deliveries = (1..=6).map(|sequence| delivered(usize::from(sequence > 3), sequence));
    let history = History {
        publishes: publishes.collect(),
        durables: vec!["steady".to_owned()],
        openings: openings
            .map(|(opened, closed)| Opening {
                durable: 0,
                opened,
                closed,
            })
            .into(),
        deliveries: deliveries.collect(),
        turmoils: vec![Turmoil {
            began: 3 * SECOND + 900_000,
            ended: Some(3 * SECOND + 950_000),
        }],
        censuses: vec![Census {
            at: 8 * SECOND,
            answers: 1,
        }],
        clock_was_steady: true,
        ..History::default()
    };
    let position = Position {
        last_sent: 6,
        pending: BTreeSet::new(),
    };
    let tables = Tables {
        messages: (1..=6).map(stored).collect(),
        terms: vec![Term {
            holder: Some(OWNER.to_owned()),
            committed: 1,
        }],
        positions: [("steady".to_owned(), position)].into(),
    };
    (history, tables)
}

/// Falsifies and gives back the rules that the checker finds broken.
fn found(falsify: impl FnOnce(&mut History, &mut Tables)) -> Vec<Rule> {
    let (mut history, mut tables) = faultless();
    falsify(&mut history, &mut tables);
    check(&history, &tables).0.into_keys().collect()
}

fn taken_over_at(committed: Micros) -> Term {
    Term {
        holder: Some(TAKER.to_owned()),
        committed,
    }
}

#[test]
fn a_faultless_history_passes() {
    assert_eq!(found(|_, _| {}), []);
}

#[test]
fn what_was_never_acknowledged_may_be_there_or_not() {
    let with = found(|history, _| history.publishes[5].outcome = None);
    let without = found(|history, tables| {
        history.publishes[5].outcome = Some((9 * SECOND, Outcome::Unknown));
        history.deliveries.pop();
        tables.messages.pop();
    });
    assert_eq!((with, without), (vec![], vec![]));
}

#[test]
fn acknowledged_before_the_commit_that_then_failed() {
    let rules = found(|history, tables| {
        tables.messages.pop();
        history.deliveries.pop();
    });
    assert_eq!(rules, [Rule::AckedIsStored]);
}

#[test]
fn acknowledged_before_the_commit_that_came_later() {
    let rules = found(|history, _| {
        history.publishes[5].outcome = Some((commit(6) - SECOND / 2, Outcome::Acked));
    });
    assert_eq!(rules, [Rule::AckedAfterCommit]);
}

#[test]
fn times_are_not_compared_when_somebody_has_set_the_clock() {
    let rules = found(|history, _| {
        history.publishes[5].outcome = Some((commit(6) - SECOND / 2, Outcome::Acked));
        history.clock_was_steady = false;
    });
    assert_eq!(rules, []);
}

#[test]
fn refused_and_stored_all_the_same() {
    let rules = found(|history, _| {
        let refused = Outcome::Refused("timed out".to_owned());
        history.publishes[2].outcome = Some((commit(3), refused));
    });
    assert_eq!(rules, [Rule::RefusedIsNotStored]);
}

#[test]
fn the_write_cache_was_emptied_by_an_error() {
    let rules = found(|history, tables| {
        tables.messages.remove(2);
        history.deliveries.remove(2);
    });
    assert_eq!(rules, [Rule::AckedIsStored, Rule::Sequences]);
}

#[test]
fn a_flush_with_a_lost_answer_was_repeated_under_new_sequences() {
    let rules = found(|history, tables| {
        let mut again = stored(7);
        again.id = Some(id(6));
        tables.messages.push(again);
        let mut delivery = delivered(1, 7);
        delivery.id = Some(id(6));
        history.deliveries.push(delivery);
        tables.positions.get_mut("steady").unwrap().last_sent = 7;
    });
    assert_eq!(rules, [Rule::StoredOnce]);
}

#[test]
fn a_message_appeared_that_nobody_has_published() {
    let rules = found(|_, tables| tables.messages[3].id = None);
    assert_eq!(
        rules,
        [
            Rule::AckedIsStored,
            Rule::StoredOnce,
            Rule::DeliveredIsStored
        ]
    );
}

#[test]
fn one_publishers_messages_were_written_out_of_order() {
    let rules = found(|history, tables| {
        tables.messages[1].id = Some(id(3));
        tables.messages[2].id = Some(id(2));
        history.deliveries[1].id = Some(id(3));
        history.deliveries[2].id = Some(id(2));
        history.publishes[1].outcome = Some((commit(3) + 100, Outcome::Acked));
        history.publishes[2].sent = commit(2) - 100;
    });
    assert_eq!(rules, [Rule::PublisherOrder]);
}

#[test]
fn the_clock_of_the_server_went_back() {
    let rules = found(|_, tables| tables.messages[3].timestamp = 1);
    assert_eq!(rules, [Rule::Timestamps]);
}

#[test]
fn a_sequence_was_reused() {
    // Delivered as one message, forgotten by a crash, given to another.
    let rules = found(|history, _| {
        let mut phantom = delivered(0, 3);
        phantom.id = Some(id(5));
        history.deliveries.insert(2, phantom);
    });
    assert_eq!(rules, [Rule::DeliveredIsStored, Rule::DeliveryOrder]);
}

#[test]
fn delivered_before_the_commit() {
    let rules = found(|history, _| history.deliveries[5].at = commit(6) - SECOND / 2);
    assert_eq!(rules, [Rule::DeliveredAfterCommit]);
}

#[test]
fn new_messages_were_delivered_out_of_order() {
    let rules = found(|history, _| history.deliveries.swap(0, 1));
    assert_eq!(rules, [Rule::DeliveryOrder]);
}

#[test]
fn last_sent_was_written_too_high_and_a_message_skipped() {
    let rules = found(|history, _| {
        history.deliveries.remove(3);
    });
    assert_eq!(rules, [Rule::Complete]);
}

#[test]
fn last_sent_was_lost_and_everything_came_again() {
    let rules = found(|history, _| {
        let mut again = delivered(1, 2);
        again.at = 4 * SECOND;
        history.deliveries.insert(3, again);
    });
    assert_eq!(rules, [Rule::AckRemembered]);
}

#[test]
fn last_sent_was_not_written_at_the_end() {
    let rules = found(|_, tables| tables.positions.get_mut("steady").unwrap().last_sent = 4);
    assert_eq!(rules, [Rule::PositionRemembered]);
}

#[test]
fn the_durable_was_lost() {
    let rules = found(|_, tables| tables.positions.clear());
    assert_eq!(rules, [Rule::PositionRemembered]);
}

#[test]
fn an_acknowledgement_was_swallowed() {
    let rules = found(|_, tables| {
        let position = tables.positions.get_mut("steady").unwrap();
        position.pending.insert(5);
    });
    assert_eq!(rules, [Rule::AckRemembered]);
}

#[test]
fn an_acknowledgement_that_a_kill_may_have_swallowed_may_be_forgotten() {
    let rules = found(|history, tables| {
        history.turmoils[0].began = commit(3);
        let mut again = delivered(1, 3);
        again.redelivered = true;
        again.at = 4 * SECOND;
        history.deliveries.insert(3, again);
        tables.positions.get_mut("steady").unwrap().last_sent = 6;
    });
    assert_eq!(rules, []);
}

#[test]
fn the_fence_was_missing_and_a_deposed_broker_wrote() {
    let rules = found(|_, tables| tables.terms.push(taken_over_at(commit(6) - 1)));
    assert_eq!(rules, [Rule::OwnerWrites]);
}

#[test]
fn rows_were_written_after_the_store_was_given_back() {
    let rules = found(|_, tables| {
        tables.terms.push(Term {
            holder: None,
            committed: commit(5) + 1,
        });
    });
    assert_eq!(rules, [Rule::OwnerWrites]);
}

#[test]
fn an_owner_that_was_fenced_in_time_has_done_nothing_wrong() {
    let rules = found(|_, tables| {
        tables.terms.push(taken_over_at(commit(5) + 1));
        tables.messages[5].written_by = TAKER.to_owned();
    });
    assert_eq!(rules, []);
}

#[test]
fn two_served_or_none() {
    let two = found(|history, _| history.censuses[0].answers = 2);
    let none = found(|history, _| history.censuses[0].answers = 0);
    assert_eq!(two, [Rule::OneServes]);
    assert_eq!(none, [Rule::OneServes]);
}

#[test]
fn a_server_died_or_forgot_a_client() {
    let died = found(|history, _| history.deaths.push("panic".to_owned()));
    let forgot = found(|history, _| history.forgotten_clients.push("unknown".to_owned()));
    assert_eq!(died, [Rule::StaysAlive]);
    assert_eq!(forgot, [Rule::ClientsStayKnown]);
}
