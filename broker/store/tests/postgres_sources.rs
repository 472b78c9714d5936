//! The source of a store in use changes: another login, another place, nothing that works.

#[expect(dead_code, reason = "shared with tests that use the rest")]
mod database;

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use broker_store::{
    PostgresConfig, PostgresStore, Store,
    conformance::{
        activate,
        batches::{BatchBuilder, CHANNEL},
        put, run, sequences,
    },
    postgres::Source,
};
use database::Database;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Who is connected for the store, each once.
const USERS: &str = "
    SELECT string_agg(DISTINCT usename, ',') FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'stanchion-broker stn-%'";

/// Who holds the advisory lock.
const HOLDERS: &str = "
    SELECT string_agg(usename, ',') FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND datname = current_database()";

fn parse(source: &str) -> Arc<Source> {
    Arc::new(Source::parse(source, &BTreeMap::new()).unwrap())
}

/// Waits until a query of the database gives this.
async fn becomes(database: &Database, query: &str, expected: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = database.run(query);
        if found == expected {
            return;
        }
        assert!(Instant::now() < until, "{found} instead of {expected}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_new_login_is_used_without_losing_the_store_and_a_wrong_one_changes_nothing() {
    let database = Database::new();
    database.run("CREATE ROLE renewed SUPERUSER LOGIN");
    run(&database, async |database: &Database| {
        let (sources, current) = watch::channel(parse(&database.source));
        let store: Rc<dyn Store> = Rc::new(PostgresStore::new(PostgresConfig {
            sources: current.into(),
        }));
        activate(&store).await;
        let owner = store.owner();
        let batch = BatchBuilder::founding().rows(CHANNEL, 1..=2);
        put(&store, batch.build()).await;

        let as_user = |user| {
            let login = format!("user={user}");
            parse(&database.source.replace("user=tester", &login))
        };
        sources.send_replace(as_user("nobody_of_that_name"));
        // It is tried, and given up, while the store is at work.
        for sequence in 3..=20 {
            let batch = BatchBuilder::new().rows(CHANNEL, sequence..=sequence);
            put(&store, batch.build()).await;
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(database.run(USERS), "tester");

        sources.send_replace(as_user("renewed"));
        let until = Instant::now() + PATIENCE;
        let mut last = 20;
        while database.run(USERS) != "renewed" || database.run(HOLDERS) != "renewed" {
            assert!(Instant::now() < until, "{}", database.run(USERS));
            // A connection is replaced when it is used.
            for channel in [1, 2] {
                let channel = broker_core::durable::ChannelId(channel);
                let mut batch = BatchBuilder::new();
                if last == 20 && channel.0 == 2 {
                    batch = batch.create_channel(channel, "other");
                }
                put(&store, batch.rows(channel, last + 1..=last + 1).build()).await;
            }
            last += 1;
            assert_eq!(sequences(&store, CHANNEL).await.len() as u64, last);
        }
        assert_eq!(store.owner(), owner);
        becomes(database, "SELECT id FROM StoreLock", &owner).await;
        store.close().await;
    });
    database.run("DROP OWNED BY renewed; DROP ROLE renewed");
}
