//! Faults against brokers on a real PostgreSQL, and a checker that reads nothing but what the clients have written down
//! and what the tables hold in the end.
//!
//! * A *rig* ([`rig`]) is a PostgreSQL cluster of its own. A round gets a fresh database in it.
//! * The *stage* ([`stage`]) of a round: one to three servers on that database, each behind a [`proxy`] that delays, freezes
//!   or cuts, for instance after a certain byte of the answer to an insert ([`wire`]). Several servers meet on a NATS server
//!   that nobody harms. The tables get witnesses: which session wrote a row, and which session took the store when.
//! * The *load* ([`load`]): publishers with windows in flight, never the same message twice; two durables and a durable
//!   group, which come and go. Everything that they send and see goes into a history ([`record`]) with the time.
//! * The *storm* ([`storm`]) plays the faults of a [`plan`], which follows from a seed alone, each at a moment that the load
//!   decides; then all must work again.
//! * The [`checker`] is a pure function over history and tables. Where clients cannot know (an answer was lost), both is
//!   right. What a consumer has acknowledged counts from the moment when the same broker has answered the close of its
//!   subscription: no waiting time decides what is right. Planted bugs are in its tests.
//!
//! That the harness can find anything is shown on nats-streaming-server, whose faults it must find, and on brokers with a
//! bug planted in each (`planted/`, by `make planted`).
//!
//! * [`served`] looks at what single clients get while a database refuses, and at how soon they are served again.
//!
//! In the environment `BROKER` names another broker to play with, `ENOUGH` after how many broken rounds a run ends, `FAULTS` the kinds
//! that take turns (`KillBroker,CutAnswer`), `DISK_ROUNDS`
//! how many rounds there are with a disk of the database's own, `ROUNDS` says how many rounds, `SEED` which is the first, `RIGS` how many are played side by side.

mod access;
mod checker;
mod crowd;
mod disk;
mod load;
mod outage;
mod own_disk;
mod plan;
mod planted;
mod proxy;
mod record;
mod report;
mod rig;
mod round;
mod served;
mod stage;
mod storm;
mod tables;
mod wire;

use std::{
    collections::BTreeSet,
    env,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tests::environment;

use crate::{
    checker::Rule,
    plan::{Fault, Kind, Plan, Strike},
    report::Report,
    rig::Rig,
    stage::Program,
};

/// Broken rounds after which a run ends.
const ENOUGH: u64 = 3;

/// Rounds between two looks at how far a run is.
const PROGRESS: usize = 1000;

/// Everything of a rig is on one thread, beside the processes.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// Those that take turns, or those that are asked for.
fn kinds() -> Vec<Kind> {
    let Ok(names) = env::var("FAULTS") else {
        return plan::KINDS.into();
    };
    let named = |name: &str| {
        let mut kinds = plan::KINDS.into_iter();
        let kind = kinds.find(|kind| format!("{kind:?}") == name);
        kind.unwrap_or_else(|| panic!("no faults are called {name:?}"))
    };
    names.split(',').map(named).collect()
}

/// Plays rounds one after the other, on several rigs at once if so wished, until enough are broken.
fn play_all(
    rigs: u64,
    rounds: u64,
    start: fn() -> anyhow::Result<Rig>,
    plan_of: impl Fn(u64) -> Plan + Sync,
) -> Report {
    let first = environment::number("SEED", 0);
    let enough = environment::number("ENOUGH", ENOUGH);
    let next = AtomicU64::new(first);
    let report = Mutex::new(Report::start());
    let work = || {
        let rig = start().unwrap();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + rounds || report.lock().unwrap().broken.len() as u64 >= enough {
                return;
            }
            let plan = plan_of(seed).refusing(|how| rig.playable(how));
            let programs = vec![Program::Broker; plan.brokers];
            let played = block_on(round::play(&rig, &programs, &plan));
            let mut report = report.lock().unwrap();
            report.add(&plan, played);
            if report.rounds().is_multiple_of(PROGRESS) {
                println!("{report}\n");
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..rigs.min(rounds) {
            scope.spawn(work);
        }
    });
    report.into_inner().unwrap()
}

#[test]
fn broker_keeps_its_promises_through_every_fault() {
    let rounds = environment::number("ROUNDS", 200);
    let rigs = environment::number("RIGS", 4);
    let kinds = kinds();
    let report = play_all(rigs, rounds, Rig::start, |seed| Plan::of(&kinds, seed));
    println!("{report}");
    assert!(
        report.broken.is_empty(),
        "broken rounds, each is repeated by `make faults ROUNDS=1 SEED=` and its number: {:?}",
        report.broken
    );
    assert!(
        !report.deposed_are_talkative(),
        "brokers acknowledge after they have lost the store"
    );
}

#[test]
fn what_is_acknowledged_outlives_machine_and_disk() {
    if !disk::may_mount() {
        println!("not shown: a disk that can be taken away takes the right to mount");
        return;
    }
    let rounds = environment::number("DISK_ROUNDS", 4);
    let kinds = [Kind::LoseHost, Kind::LogFull];
    let report = play_all(1, rounds, Rig::start_on_disk, |seed| Plan::of(&kinds, seed));
    println!("{report}");
    assert!(report.broken.is_empty(), "{:?}", report.broken);
}

/// Plays rounds with these faults alone until the rules that are broken in one are as they should be.
fn rounds_until(
    rig: &Rig,
    programs: &[Program],
    kind: Kind,
    faults: &[Fault],
    satisfy: impl Fn(&BTreeSet<Rule>) -> bool,
) {
    /// Where the moment decides, some rounds show nothing.
    const ROUNDS: u64 = 15;
    let mut seen = Vec::new();
    for seed in 0..ROUNDS {
        let mut plan = Plan::with_kind(kind, seed);
        let strike = plan.strikes[0].clone();
        let strikes = faults.iter().map(|fault| Strike {
            fault: fault.clone(),
            ..strike.clone()
        });
        plan.strikes = strikes.collect();
        match block_on(round::play(rig, programs, &plan)) {
            Ok(played) => {
                let broken: BTreeSet<_> = played.findings.0.keys().copied().collect();
                println!("{programs:?} through {faults:?}: {broken:?}");
                if satisfy(&broken) {
                    return;
                }
                seen.push(played.findings.to_string());
            }
            Err(error) => seen.push(format!("{error:#}")),
        }
    }
    panic!("{programs:?} through {faults:?}:\n{}", seen.join("\n"));
}

/// These rules are found broken.
fn finds(rig: &Rig, programs: &[Program], kind: Kind, fault: Fault, expected: &[Rule]) {
    rounds_until(rig, programs, kind, &[fault], |broken| {
        expected.iter().all(|rule| broken.contains(rule))
    });
}

#[test]
fn every_byte_of_a_commits_answer_may_be_the_last() {
    let rig = Rig::start().unwrap();
    let plan = Plan::with_kind(Kind::CutEveryByte, environment::number("SEED", 0));

    let played = block_on(round::play(&rig, &[Program::Broker], &plan)).unwrap();

    println!("{} answers were cut", played.cuts);
    assert!(played.findings.is_empty(), "{}", played.findings);
}

#[test]
fn a_database_that_confirms_what_it_has_not_stored_is_found_out() {
    let rig = Rig::start().unwrap();
    let lost = [Rule::AckedIsStored, Rule::Sequences];
    finds(&rig, &[Program::Broker], Kind::Lie, Fault::Lie, &lost);
}

/// Longer than anybody's patience with an owner of the store that does not tick.
const LONG_FREEZE: Fault = Fault::FreezeActive {
    for_: Duration::from_secs(8),
};

#[test]
fn reference_shows_its_known_faults() {
    let rig = Rig::start().unwrap();
    let alone = [Program::Reference];

    let away = Duration::ZERO;
    let stop = Fault::ImmediateStop { away };
    let dies = [Rule::StaysAlive];
    finds(&rig, &alone, Kind::ImmediateStop, stop, &dies);

    let end_all = Fault::Terminate { all: true };
    finds(&rig, &alone, Kind::Terminate, end_all, &dies);

    let pair = [Program::Reference; 2];
    let nobody_is_left = [Rule::StaysAlive, Rule::OneServes];
    finds(
        &rig,
        &pair,
        Kind::FreezeActive,
        LONG_FREEZE,
        &nobody_is_left,
    );
}

/// The broker has the store first. It is frozen until the reference has it; then the reference is killed.
#[test]
fn broker_and_reference_exclude_each_other() {
    let rig = Rig::start().unwrap();
    let pair = [Program::Broker, Program::Reference];
    let faults = [LONG_FREEZE, Fault::KillActive];
    rounds_until(&rig, &pair, Kind::FreezeActive, &faults, |broken| {
        // What a killed reference forgets of its consumers: it writes their positions up to a second late, and what is
        // pending at a member that leaves its group as late.
        let forgotten = [Rule::AckRemembered, Rule::Complete];
        broken.iter().all(|rule| forgotten.contains(rule))
    });
}
