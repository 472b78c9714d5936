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
//! That the harness can find anything is shown on nats-streaming-server, whose faults it must find.
//!
//! In the environment `ROUNDS` says how many rounds, `SEED` which is the first, `RIGS` how many are played side by side.

mod checker;
mod load;
mod plan;
mod proxy;
mod record;
mod report;
mod rig;
mod round;
mod stage;
mod storm;
mod tables;
mod wire;

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::{
    checker::Rule,
    plan::{Fault, Kind, Plan},
    report::Report,
    rig::Rig,
    stage::Program,
};

/// Broken rounds after which a run ends.
const ENOUGH: usize = 3;

/// Rounds between two looks at how far a run is.
const PROGRESS: usize = 1000;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
        Err(_) => default,
    }
}

/// Everything of a rig is on one thread, beside the processes.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

#[test]
fn broker_keeps_its_promises_through_every_fault() {
    let (first, rounds) = (setting("SEED", 0), setting("ROUNDS", 200));
    let rigs = setting("RIGS", 4).min(rounds);
    let next = AtomicU64::new(first);
    let report = Mutex::new(Report::start());
    let work = || {
        let rig = Rig::start().unwrap();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + rounds || report.lock().unwrap().broken.len() >= ENOUGH {
                return;
            }
            let plan = Plan::of(seed);
            let played = block_on(round::play(&rig, Program::Broker, &plan));
            let mut report = report.lock().unwrap();
            report.add(&plan, played);
            if report.rounds().is_multiple_of(PROGRESS) {
                println!("{report}\n");
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..rigs {
            scope.spawn(work);
        }
    });
    let report = report.into_inner().unwrap();
    println!("{report}");
    assert!(
        report.broken.is_empty(),
        "broken rounds, to be repeated one by one with ROUNDS=1 SEED=...: {:?}",
        report.broken
    );
    assert!(
        !report.deposed_are_talkative(),
        "brokers acknowledge after they have lost the store"
    );
}

/// Plays rounds with a single fault until all these rules are found broken, or it is certain that they are kept.
fn finds(rig: &Rig, program: Program, kind: Kind, fault: &Fault, expected: &[Rule]) {
    /// Where the moment decides, some rounds show nothing.
    const ROUNDS: u64 = 5;
    let mut seen = Vec::new();
    for seed in 0..ROUNDS {
        let mut plan = Plan::with_kind(kind, seed);
        plan.strikes.truncate(1);
        plan.strikes[0].fault = fault.clone();
        let found: BTreeSet<_> = match block_on(round::play(rig, program, &plan)) {
            Ok(played) => played.findings.0.into_keys().collect(),
            Err(error) => {
                seen.push(format!("{error:#}"));
                continue;
            }
        };
        println!("{fault:?} of {program:?}: {found:?}");
        if expected.iter().all(|rule| found.contains(rule)) {
            return;
        }
        seen.push(format!("{found:?}"));
    }
    panic!("{fault:?} of {program:?} shows {seen:#?}, never {expected:?}");
}

#[test]
fn every_byte_of_a_commits_answer_may_be_the_last() {
    let rig = Rig::start().unwrap();
    let plan = Plan::with_kind(Kind::CutEveryByte, setting("SEED", 0));

    let played = block_on(round::play(&rig, Program::Broker, &plan)).unwrap();

    println!("{} answers were cut", played.cuts);
    assert!(played.findings.is_empty(), "{}", played.findings);
}

#[test]
fn a_database_that_confirms_what_it_has_not_stored_is_found_out() {
    let rig = Rig::start().unwrap();
    let lost = [Rule::AckedIsStored, Rule::Sequences];
    finds(&rig, Program::Broker, Kind::Lie, &Fault::Lie, &lost);
}

#[test]
fn reference_shows_its_known_faults() {
    let rig = Rig::start().unwrap();
    let reference = Program::Reference;

    let away = Duration::ZERO;
    let stop = Fault::ImmediateStop { away };
    let dies = [Rule::StaysAlive];
    finds(&rig, reference, Kind::ImmediateStop, &stop, &dies);

    let end_all = Fault::Terminate { all: true };
    finds(&rig, reference, Kind::Terminate, &end_all, &dies);

    // Longer than the standby's patience with the lock row.
    let for_ = Duration::from_secs(8);
    let freeze = Fault::FreezeActive { for_ };
    let nobody_is_left = [Rule::StaysAlive, Rule::OneServes];
    finds(
        &rig,
        reference,
        Kind::FreezeActive,
        &freeze,
        &nobody_is_left,
    );
}
