//! Damage done between two servers by hand: the judge finds each.

use std::{thread, time::Duration};

use broker_store::conformance::postgres_server::PostgresServer;

use crate::{
    block_on, history,
    plan::{Channel, End, Kind, Plan, Program, Role, Start, Step, Turn},
    play::PATIENCE,
    rig::Rig,
};

/// How long the judge waits for what does not come. A longer time would change nothing but that.
const SHORT_PATIENCE: Duration = Duration::from_secs(20);

/// A history with something of everything: a durable that holds two of three messages back, one that holds nothing, and
/// clients that stay.
fn plan(program: Program) -> Plan {
    let role = |held| Role {
        channel: Channel::Orders,
        kind: Kind::Durable,
        start: Start::First,
        max_in_flight: 64,
        ack_wait_secs: 1,
        held,
    };
    let publish = Step::Publish {
        client: 1,
        channel: Channel::Orders,
        messages: 12,
    };
    let joins = (0..2).map(|role| Step::Join { client: 0, role });
    let turn = |program, steps| Turn {
        program,
        few: 10,
        bulk: 0,
        uncached: false,
        steps,
        settled: true,
        end: End::Stop,
    };
    let first = joins.chain([publish]).collect();
    Plan {
        seed: 0,
        roles: vec![role(60), role(0)],
        turns: vec![
            turn(program, first),
            turn(program.other(), vec![publish, Step::Settle]),
        ],
    }
}

/// What somebody does to the tables, and what the judge says then.
const DAMAGE: &[(&str, &str, &str)] = &[
    (
        "a message is lost",
        "DELETE FROM Messages WHERE seq = 5",
        "nothing between Some(4) and 6",
    ),
    (
        "the first messages are lost",
        "DELETE FROM Messages WHERE seq < 3",
        "acknowledged and lost (without a limit)",
    ),
    (
        "sequences are given again",
        "DELETE FROM Messages WHERE seq > 10; DELETE FROM Subscriptions; DELETE FROM SubsPending",
        "was given to each of",
    ),
    (
        "a message is there twice",
        "UPDATE Messages SET size = other.size, data = other.data FROM Messages other
         WHERE Messages.seq = 4 AND other.seq = 5",
        "row 4 holds another message",
    ),
    (
        "a position is lost",
        "DELETE FROM SubsPending; UPDATE Subscriptions SET lastsent = 0",
        "came again and was not pending",
    ),
    (
        "a position is too far",
        "UPDATE Subscriptions SET lastsent = 18",
        "nothing between Some(12) and 19",
    ),
    (
        "pending messages are lost",
        "UPDATE Subscriptions SET lastsent = 12; DELETE FROM SubsPending",
        "not pending, and not acknowledged",
    ),
    (
        "an acknowledgement is forgotten",
        "INSERT INTO SubsPending (subid, row, seq, lastsent, pending)
         SELECT subid, 1000000, 0, 12, '[1,2,3,4,5,6,7,8,9,10,11,12]' FROM Subscriptions",
        "came again and was not pending",
    ),
    (
        "a subscription is lost",
        "DELETE FROM Subscriptions WHERE subid = (SELECT max(subid) FROM Subscriptions)",
        "is gone",
    ),
    (
        "a client is lost",
        "DELETE FROM Clients WHERE id = 'client-1'",
        "client",
    ),
    (
        "a channel is lost",
        "UPDATE Channels SET deleted = TRUE",
        "orders",
    ),
];

/// What the judge says after these statements.
fn found(program: Program, sql: &str, patience: Duration) -> Vec<String> {
    let plan = plan(program);
    let tamper = |turn, rig: &mut Rig| match turn {
        0 => rig.tamper(sql),
        _ => Ok(()),
    };
    match block_on(history::play(&plan, patience, &tamper)) {
        Ok(faults) => faults,
        Err(error) => vec![format!("{error:#}")],
    }
}

#[test]
fn all_damage_is_found_whichever_server_comes_first_and_without_damage_nothing() {
    let postgres = PostgresServer::shared().unwrap();
    thread::scope(|scope| {
        for program in [Program::Reference, Program::Broker] {
            scope.spawn(move || {
                let faults = found(program, "SELECT", PATIENCE);
                assert!(faults.is_empty(), "{program:?} first: {faults:#?}");
            });
            for (what, sql, expected) in DAMAGE {
                scope.spawn(move || {
                    let faults = found(program, sql, SHORT_PATIENCE);
                    assert!(
                        faults.iter().any(|fault| fault.contains(expected)),
                        "{program:?} first, {what}: expected {expected:?}, found {faults:#?}"
                    );
                });
            }
        }
    });
    drop(postgres);
}
