//! What the database's errors make of a flush and of a start: SQLSTATEs raised inside of a real database, and the
//! conditions themselves where a test can bring them about.

#[expect(dead_code, reason = "shared with tests that use the rest")]
mod database;

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use broker_core::durable::{FlushOutcome, Sequence};
use broker_store::{
    PostgresConfig, PostgresStore, Store, StoreError,
    conformance::{
        activate,
        batches::{BatchBuilder, CHANNEL},
        flush, founded,
        postgres_server::PostgresServer,
        put, run, sequences,
    },
    postgres::Source,
};
use database::Database;
use tokio::time::sleep;

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Inserts of messages fail with the code in `faults`, the first two that try.
const FAILING: &str = "
    CREATE TABLE faults (code TEXT);
    CREATE SEQUENCE attempts;
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE failing TEXT := (SELECT code FROM faults);
    BEGIN
        IF failing IS NOT NULL AND nextval('attempts') <= 2 THEN
            RAISE EXCEPTION 'raised by a test' USING ERRCODE = failing;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fail BEFORE INSERT ON Messages FOR EACH ROW EXECUTE FUNCTION fail()";

/// After which a flush is repeated, or its outcome looked up, until it is stored.
const OVERCOME: &[&str] = &[
    "08000", "08006", "08P01", "0A000", "23505", "25006", "25P02", "26000", "28000", "28P01",
    "3D000", "40001", "40P01", "40003", "42P05", "53100", "53200", "53300", "53400", "55000",
    "55P03", "57014", "57P01", "57P02", "57P03", "57P04", "58030",
];

/// After which it is given up, with a word of what to do.
const REFUSED: &[(&str, &str)] = &[
    ("22001", "1024 characters"),
    ("22021", "UTF8"),
    ("3F000", "store check"),
    ("42501", "store init"),
    ("42P01", "store check"),
    ("42703", "store check"),
    ("XX000", "log says more"),
    ("XX001", "REINDEX"),
    ("XX002", "REINDEX"),
];

fn fail_with(database: &Database, code: &str) {
    database.run(&format!(
        "TRUNCATE faults; INSERT INTO faults VALUES ('{code}'); ALTER SEQUENCE attempts RESTART"
    ));
}

/// Why a store cannot be opened, to the last cause.
async fn refusal(database: &Database, change: impl Fn(&str) -> String) -> String {
    let source = Source::parse(&change(&database.source), &BTreeMap::new());
    let store = PostgresStore::new(PostgresConfig {
        sources: source.unwrap().into(),
    });
    match store.activate().await.unwrap_err() {
        StoreError::Unavailable { source, .. } => source.to_string(),
        other => panic!("{other}"),
    }
}

/// Asks until the answer is yes.
async fn becomes_true(database: &Database, question: &str) {
    let (asker, connection) = database.connect().await;
    let _connection = tokio::task::spawn_local(connection);
    let answer = async || asker.query_one(question, &[]).await.unwrap().get(0);
    while !answer().await {
        sleep(POLL).await;
    }
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_refused_with_advice() {
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=1).await;
        database.run(FAILING);
        let mut last = 1;
        for code in OVERCOME {
            fail_with(database, code);
            last += 1;
            let outcome = flush(
                &store,
                BatchBuilder::new().rows(CHANNEL, last..=last).build(),
            )
            .await;
            assert_eq!(outcome, FlushOutcome::Stored, "{code}");
            assert_eq!(
                database.run("SELECT last_value FROM attempts"),
                "3",
                "{code}"
            );
        }
        for (code, advice) in REFUSED {
            fail_with(database, code);
            let outcome = flush(
                &store,
                BatchBuilder::new()
                    .rows(CHANNEL, last + 1..=last + 1)
                    .build(),
            )
            .await;
            let FlushOutcome::Refused { reason } = outcome else {
                panic!("{code}: {outcome:?}");
            };
            assert!(reason.contains(code) && reason.contains(advice), "{reason}");
            assert_eq!(
                database.run("SELECT last_value FROM attempts"),
                "1",
                "{code}"
            );
        }
        let expected: Vec<_> = (1..=last).collect();
        assert_eq!(sequences(&store, CHANNEL).await, expected);
    });
}

#[test]
fn a_login_that_is_refused_says_what_to_do() {
    let server = Arc::new(PostgresServer::start().unwrap());
    run(&Database::on(server), async |database: &Database| {
        database.run(
            "CREATE ROLE asleep NOLOGIN; CREATE ROLE crowd LOGIN CONNECTION LIMIT 0; CREATE ROLE locked LOGIN PASSWORD 'right'",
        );
        let as_user = |name: &str| {
            let name = format!("user={name}");
            move |source: &str| source.replace("user=tester", &name)
        };
        let asleep = refusal(database, as_user("asleep")).await;
        assert!(
            asleep.contains("28000") && asleep.contains("ALTER ROLE"),
            "{asleep}"
        );
        let crowd = refusal(database, as_user("crowd")).await;
        assert!(
            crowd.contains("53300") && crowd.contains("CONNECTION LIMIT"),
            "{crowd}"
        );
        let nowhere = |source: &str| source.replace("dbname=", "dbname=no_");
        let nowhere = refusal(database, nowhere).await;
        assert!(
            nowhere.contains("3D000") && nowhere.contains("dbname"),
            "{nowhere}"
        );

        let file = database.run("SHOW hba_file");
        database.run(&format!(
            "COPY (VALUES ('host all locked all scram-sha-256'), ('host all all all trust')) TO '{file}'"
        ));
        // Read when the server gets to it.
        database.run("SELECT pg_reload_conf()");
        let wrong = |source: &str| source.replace("user=tester", "user=locked password=wrong");
        let mut locked = String::new();
        while !locked.contains("28P01") {
            let rules = database.run("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NULL");
            assert_eq!(rules, "2");
            locked = login(database, wrong).await;
        }
        assert!(
            locked.contains("passfile") && !locked.contains("wrong;"),
            "{locked}"
        );
    });
}

/// Why a session cannot be opened; empty while it can.
async fn login(database: &Database, change: impl Fn(&str) -> String) -> String {
    let opened = tokio_postgres::connect(&change(&database.source), tokio_postgres::NoTls).await;
    if opened.is_ok() {
        sleep(POLL).await;
        return String::new();
    }
    refusal(database, change).await
}

#[test]
fn tables_that_are_taken_away_refuse_messages_and_come_back() {
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=1).await;
        let second = || BatchBuilder::new().rows(CHANNEL, 2..=2).build();
        database.run("ALTER TABLE Messages RENAME TO elsewhere");
        let outcome = flush(&store, second()).await;
        assert!(
            matches!(&outcome, FlushOutcome::Refused { reason } if reason.contains("42P01")),
            "{outcome:?}"
        );
        database.run("ALTER TABLE elsewhere RENAME TO Messages; ALTER TABLE Messages RENAME COLUMN size TO bytes");
        let read = store.read(CHANNEL, Sequence(1), 10, 1 << 20).await;
        let Err(StoreError::Unavailable { source, .. }) = read else {
            panic!("{read:?}");
        };
        assert!(source.to_string().contains("42703"), "{source}");
        database.run("ALTER TABLE Messages RENAME COLUMN bytes TO size");
        put(&store, second()).await;
        assert_eq!(sequences(&store, CHANNEL).await, [1, 2]);
    });
}

#[test]
fn a_cancelled_flush_is_repeated() {
    const WAITING: &str = "
        SELECT coalesce(bool_or(pg_cancel_backend(pid)), FALSE) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO Messages%'";
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=1).await;
        let (locker, connection) = database.connect().await;
        let _connection = tokio::task::spawn_local(connection);
        locker
            .batch_execute("BEGIN; LOCK TABLE Messages IN SHARE MODE")
            .await
            .unwrap();
        let cancel = async {
            becomes_true(database, WAITING).await;
            locker.batch_execute("ROLLBACK").await.unwrap();
        };
        let batch = BatchBuilder::new().rows(CHANNEL, 2..=2).build();
        let (outcome, ()) = tokio::join!(flush(&store, batch), cancel);
        assert_eq!(outcome, FlushOutcome::Stored);
        assert_eq!(sequences(&store, CHANNEL).await, [1, 2]);
    });
}

#[test]
fn of_two_writers_that_wait_for_each_other_ours_goes_on() {
    const BLOCKED: &str = "
        SELECT EXISTS (SELECT FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO Messages%')";
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=1).await;
        let (other, connection) = database.connect().await;
        let _connection = tokio::task::spawn_local(connection);
        let intrude =
            |sequence: u64| format!("INSERT INTO messages VALUES (1, {sequence}, 1, 1, 'x')");
        let begin = format!("BEGIN; {}", intrude(3));
        other.batch_execute(&begin).await.unwrap();
        let embrace = async {
            becomes_true(database, BLOCKED).await;
            // Waits for the flush, which waits for this transaction: the database ends one of them.
            let _ = other.batch_execute(&intrude(2)).await;
            other.batch_execute("ROLLBACK").await.unwrap();
        };
        let batch = BatchBuilder::new().rows(CHANNEL, 2..=3).build();
        let (outcome, ()) = tokio::join!(flush(&store, batch), embrace);
        assert_eq!(outcome, FlushOutcome::Stored);
        assert_eq!(sequences(&store, CHANNEL).await, [1, 2, 3]);
    });
}

#[test]
fn a_database_that_takes_no_sessions_is_waited_for() {
    run(&Database::new(), async |database: &Database| {
        let server = database.server();
        let source = server.create_database().unwrap();
        let name = source
            .rsplit("dbname=")
            .next()
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        database.run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
        let parse = || Source::parse(&source, &BTreeMap::new()).unwrap();
        let store: Rc<dyn Store> = Rc::new(PostgresStore::new(PostgresConfig {
            sources: parse().into(),
        }));
        let Err(StoreError::Unavailable { source: cause, .. }) = store.activate().await else {
            panic!("the database takes sessions");
        };
        assert!(cause.to_string().contains("55000"), "{cause}");
        database.run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
        activate(&store).await;
    });
}
