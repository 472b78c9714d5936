//! A database that the reference has written is copied with `pg_dump`: our broker serves the copy as it would have served
//! the original, and the reference takes the copy over again.

use std::{process::Command, thread};

use anyhow::ensure;
use broker_store::conformance::postgres_server::PostgresServer;
use tests::{programs, streaming_server::CLUSTER_ID};

use crate::{
    block_on, history,
    plan::{Plan, Program},
    play::PATIENCE,
    rig::Rig,
};

/// The first of the histories that are copied, away from those that are played anyhow.
const FIRST: u64 = 1_000_000;

/// Runs a program of PostgreSQL.
fn run(rig: &Rig, tool: &str, words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(rig.postgres.tool(tool));
    done(command.args(words))
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Copies the rig's database with the help of a file into a fresh one.
type Copying = fn(rig: &Rig, file: &str, fresh: &str) -> anyhow::Result<()>;

fn as_sql(rig: &Rig, file: &str, fresh: &str) -> anyhow::Result<()> {
    run(rig, "pg_dump", &["-d", &rig.source, "-f", file])?;
    let stop = "ON_ERROR_STOP=1";
    run(
        rig,
        "psql",
        &["-X", "-q", "-v", stop, "-d", fresh, "-f", file],
    )
}

fn in_custom_format(rig: &Rig, file: &str, fresh: &str) -> anyhow::Result<()> {
    run(rig, "pg_dump", &["-Fc", "-d", &rig.source, "-f", file])?;
    run(rig, "pg_restore", &["--exit-on-error", "-d", fresh, file])
}

/// The rows alone, into tables that `store init` has made.
fn into_our_tables(rig: &Rig, file: &str, fresh: &str) -> anyhow::Result<()> {
    let mut init = Command::new(programs::ours("stanchion-broker")?);
    init.args(["store", "init", "-store", "SQL", "-cluster_id", CLUSTER_ID]);
    done(init.env("STANCHION_SQL_SOURCE", fresh))?;
    let words = ["-Fc", "--data-only", "-d", rig.source.as_str(), "-f", file];
    run(rig, "pg_dump", &words)?;
    run(rig, "pg_restore", &["--exit-on-error", "-d", fresh, file])
}

/// Plays a history that the reference begins, and moves it to another database after the first turn. In the end `store
/// verify` has nothing to say, as after each history.
fn moved(copy: Copying, seed: u64) {
    let between = |turn, rig: &mut Rig| {
        if turn > 0 {
            return Ok(());
        }
        let file = rig.dir.path().join("dump").display().to_string();
        let fresh = rig.postgres.create_database()?;
        copy(rig, &file, &fresh)?;
        rig.source = fresh;
        Ok(())
    };
    let plan = Plan::of(Program::Reference, seed);
    let faults = block_on(history::play(&plan, PATIENCE, &between)).unwrap();
    assert!(faults.is_empty(), "{plan}{}", faults.join("\n"));
}

#[test]
fn a_dump_of_the_reference_s_database_is_served_as_the_database_itself() {
    let postgres = PostgresServer::shared().unwrap();
    thread::scope(|scope| {
        let ways: [Copying; 3] = [as_sql, in_custom_format, into_our_tables];
        for copy in ways {
            for seed in FIRST..FIRST + 2 {
                scope.spawn(move || moved(copy, seed));
            }
        }
    });
    drop(postgres);
}
