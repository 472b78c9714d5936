//! The owner is frozen while a flush is under way, and wakes when somebody else has taken the store.

#[expect(dead_code, reason = "most of it is for the other tests on PostgreSQL")]
mod database;

use std::{rc::Rc, thread, time::Duration};

use broker_core::durable::FlushOutcome;
use broker_store::conformance::{
    batches::{BatchBuilder, CHANNEL},
    flush, founded, run,
};
use tokio::task::{spawn_local, yield_now};

use database::Database;

/// Longer than an owner may be without sessions before another one takes the store.
const FROZEN: Duration = Duration::from_millis(1600);

/// Turns of the runtime in which a statement certainly leaves, and an answer hardly ever comes.
const TURNS: usize = 20;

/// Looks at the table, each a new session, in which a statement that has left is executed.
const LOOKS: usize = 50;

#[test]
fn a_deposed_owner_does_not_tell_what_it_reads_too_late() {
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=1).await;
        for sequence in 2.. {
            let batch = BatchBuilder::default().rows(CHANNEL, sequence..=sequence);
            let flushing = spawn_local({
                let store = Rc::clone(&store);
                async move { flush(&store, batch.build()).await }
            });
            for _ in 0..TURNS {
                yield_now().await;
            }
            if flushing.is_finished() {
                // It was too quick for us.
                continue;
            }
            // From here on this thread is frozen, and the store with it.
            let stored = format!("SELECT count(*) FROM Messages WHERE seq = {sequence}");
            if !(0..LOOKS).any(|_| database.run(&stored) == "1") {
                // The statement has not left, after all.
                flushing.await.unwrap();
                continue;
            }
            database.run("UPDATE StoreLock SET id = 'somebody', tick = 1");
            thread::sleep(FROZEN);

            assert_eq!(flushing.await.unwrap(), FlushOutcome::Deposed);
            break;
        }
    });
}
