//! The sessions that a standby has ready.

#[expect(dead_code, reason = "shared with tests that use the rest")]
mod database;

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use broker_core::durable::FlushOutcome;
use broker_store::{
    Activation, Store,
    conformance::{
        StoreFactory, activate,
        batches::{BatchBuilder, CHANNEL},
        flush, founded, put, run, sequences,
    },
};
use database::Database;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Backends of sessions of brokers, but for those that bear this owner's name.
fn backends(database: &Database, but: &str) -> BTreeSet<String> {
    let sessions = database.run(&format!(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
         AND application_name LIKE 'stanchion-broker stn-%' AND application_name NOT LIKE '%{but}'"
    ));
    sessions.lines().map(str::to_owned).collect()
}

async fn stand_by(database: &Database) -> Rc<dyn Store> {
    let standby = database.open();
    let activation = standby.activate().await.unwrap();
    assert!(
        matches!(activation, Activation::Standby { .. }),
        "{activation:?}"
    );
    standby
}

#[test]
fn a_standby_takes_over_with_the_sessions_that_it_had() {
    run(&Database::new(), async |database: &Database| {
        let owner = founded(database, 1..=1).await;
        let standby = stand_by(database).await;
        let ready = backends(database, &owner.owner());
        assert_eq!(ready.len(), 4, "{ready:?}");
        owner.close().await;
        activate(&standby).await;
        put(&standby, BatchBuilder::new().rows(CHANNEL, 2..=2).build()).await;
        // The one that recovered need not be the one that reads.
        let used = backends(database, "nobody");
        assert!(
            used.intersection(&ready).count() >= 3,
            "{used:?} of {ready:?}"
        );
        assert_eq!(sequences(&standby, CHANNEL).await, [1, 2]);
    });
}

#[test]
fn a_standby_whose_sessions_were_ended_takes_over_all_the_same() {
    run(&Database::new(), async |database: &Database| {
        let owner = founded(database, 1..=1).await;
        let standby = stand_by(database).await;
        let name = owner.owner();
        database.run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
             AND application_name LIKE 'stanchion-broker stn-%' AND application_name NOT LIKE '%{name}'"
        ));
        let until = Instant::now() + PATIENCE;
        while !backends(database, &name).is_empty() {
            assert!(Instant::now() < until, "ended sessions stay");
            sleep(POLL).await;
        }
        owner.close().await;
        // What has not noticed yet that its session has ended fails once.
        while !matches!(standby.activate().await, Ok(Activation::Active(_))) {
            assert!(Instant::now() < until, "the standby does not take over");
            sleep(POLL).await;
        }
        let outcome = flush(&standby, BatchBuilder::new().rows(CHANNEL, 2..=2).build()).await;
        assert_eq!(outcome, FlushOutcome::Stored);
        assert_eq!(sequences(&standby, CHANNEL).await, [1, 2]);
    });
}
