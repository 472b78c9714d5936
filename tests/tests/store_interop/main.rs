//! nats-streaming-server and our broker take turns on one PostgreSQL database, in random histories that begin with either:
//! nothing acknowledged is lost, nothing is there twice, subscriptions go on where they stood.
//!
//! * A [`plan`] follows from a seed: three turns of steps that clients take, and how each server ends.
//! * The [`rig`] has the database and starts the programs, one after the other on one port.
//! * The [`play`]er has the clients, which stay over all turns; a [`reader`] notes and acknowledges. What they have sent
//!   and seen is the [`record`].
//! * The [`judge`] holds that against the [`tables`], while a server serves and when it has ended. Where nobody can know,
//!   because a server was killed before its flush, both is right; no waiting time decides what is right.
//! * [`sabotage`] shows that the judge finds what is wrong; [`dump`] that a copy made by `pg_dump` is as good.
//!
//! In the environment `HISTORIES` says how many histories there are each way, `FIRST` which is the first, `SIDE_BY_SIDE` how
//! many are played at a time.

mod dump;
mod history;
mod judge;
mod plan;
mod play;
mod reader;
mod record;
mod rig;
mod sabotage;
mod tables;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use broker_store::conformance::postgres_server::PostgresServer;
use tests::environment;

use crate::{
    plan::{Plan, Program},
    play::PATIENCE,
    rig::Rig,
};

/// Histories each way.
const HISTORIES: u64 = 50;

/// Each is mostly waiting: for acknowledgements that run out, and for servers.
const SIDE_BY_SIDE: u64 = 10;

/// Broken histories after which a run ends.
const ENOUGH: usize = 3;

/// Histories between two lines about how far a run is.
const PROGRESS: u64 = 100;

/// Everything of a history is on one thread, beside the processes.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// Plays the histories that begin with this program; what is wrong with them.
fn play_all(begins: Program, test: &str) {
    let first = environment::number("FIRST", 0);
    let end = first + environment::number("HISTORIES", HISTORIES);
    let next = AtomicU64::new(first);
    let broken = Mutex::new(Vec::new());
    let began = Instant::now();
    let postgres = PostgresServer::shared().unwrap();
    let work = || {
        let source = postgres.create_database().unwrap();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= end || broken.lock().unwrap().len() >= ENOUGH {
                return;
            }
            let plan = Plan::of(begins, seed);
            let rig = Rig::new(Arc::clone(&postgres), &source).unwrap();
            let played = history::play_on(rig, &plan, PATIENCE, &history::nothing);
            let faults = match block_on(played) {
                Ok(faults) => faults,
                Err(error) => vec![format!("{error:#}")],
            };
            if !faults.is_empty() {
                println!("broken:\n{plan}{}\n", faults.join("\n"));
                broken.lock().unwrap().push(seed);
            }
            if (seed + 1 - first).is_multiple_of(PROGRESS) {
                println!(
                    "{test}: {} of {} after {:?}",
                    seed + 1 - first,
                    end - first,
                    began.elapsed()
                );
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..environment::number("SIDE_BY_SIDE", SIDE_BY_SIDE) {
            scope.spawn(work);
        }
    });
    let broken = broken.into_inner().unwrap();
    println!("{test}: {} histories in {:?}", end - first, began.elapsed());
    assert!(
        broken.is_empty(),
        "broken histories: {broken:?}; each is repeated by `HISTORIES=1 FIRST=<number> cargo test -p tests --test \
         store_interop {test} -- --nocapture`"
    );
}

#[test]
fn the_broker_serves_what_the_reference_has_left_and_the_other_way_round() {
    play_all(
        Program::Reference,
        "the_broker_serves_what_the_reference_has_left_and_the_other_way_round",
    );
}

#[test]
fn the_reference_serves_what_the_broker_has_left_and_the_other_way_round() {
    play_all(
        Program::Broker,
        "the_reference_serves_what_the_broker_has_left_and_the_other_way_round",
    );
}
