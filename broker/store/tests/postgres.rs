//! The suite on the PostgreSQL store, and what can go wrong only with a database between.

mod database;

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use broker_core::durable::{Change, ChannelId, FlushOutcome, Sequence, Totals};
use broker_store::{
    Activation, Store, StoreError,
    conformance::{
        StoreFactory, activate,
        batches::{BatchBuilder, CHANNEL, server_info, subscription},
        flush, founded,
        postgres_server::PostgresServer,
        put, read_all, restart, run, sequences,
    },
    store_conformance_suite,
    watch::{Claim, Judge, LockObserver, LockState},
};
use prost::Message;
use tokio::time::{Instant, sleep, timeout};

use database::Database;

store_conformance_suite!(Database::new());

const PATIENCE: Duration = Duration::from_secs(30);

/// Hex digits of a protobuf message, as a bytea literal takes them.
fn hex(message: &impl Message) -> String {
    message
        .encode_to_vec()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn accepts_a_database_made_by_the_reference_script() {
    let database = Database::new();
    database.run(include_str!("fixtures/reference_schema.sql"));
    let indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'stanchion_totals' \
                   ORDER BY indexname";
    let before = database.run(indexes);
    database.run("INSERT INTO StoreLock (id, tick) VALUES ('', 0), ('', 0)");
    run(&database, async |database: &Database| {
        let store = founded(database, 1..=3).await;
        let owners = database.run("SELECT count(*), min(id) FROM StoreLock");
        assert_eq!(owners, format!("2|{}", store.owner()));
        let (_store, recovered) = restart(database, store).await;
        assert_eq!(recovered.channels[0].messages, 3);
        assert_eq!(database.run(indexes), before);
    });
}

#[test]
fn makes_the_tables_with_one_lock_row() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        let columns = database.run(
            "SELECT table_name, string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
             FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1 ORDER BY 1",
        );
        assert!(columns.contains(
            "messages|id integer, seq bigint, timestamp bigint, size integer, data bytea"
        ));
        assert!(columns.contains("storelock|id character varying, tick bigint"));
        assert!(columns.contains("stanchion_totals|id integer, first bigint, last bigint"));
        assert_eq!(columns.lines().count(), 8);
        assert_eq!(database.run("SELECT count(*) FROM StoreLock"), "1");
        store.close().await;
        assert_eq!(database.run("SELECT id || '.', tick FROM StoreLock"), ".|0");
    });
}

#[test]
fn missing_rights_are_a_configuration_error() {
    let database = Database::new();
    database.run("CREATE ROLE guest LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO guest");
    run(&database, async |database: &Database| {
        let store = database.open_as("guest");
        let error = store.activate().await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Config(text) if text.contains("CREATE")),
            "{error}"
        );
    });
    database.run("DROP OWNED BY guest; DROP ROLE guest");
}

/// As with tables that an administrator made for nats-streaming-server.
#[test]
fn without_the_right_to_make_the_table_of_totals_everything_else_works() {
    let database = Database::new();
    database.run(include_str!("fixtures/reference_schema.sql"));
    database.run(
        "INSERT INTO StoreLock (id, tick) VALUES ('', 0);
         CREATE ROLE user_only LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC;
         GRANT USAGE ON SCHEMA public TO user_only; GRANT ALL ON ALL TABLES IN SCHEMA public TO user_only",
    );
    run(&database, async |database: &Database| {
        let store = database.open_as("user_only");
        activate(&store).await;
        let totals = Totals {
            first: Sequence(1),
            last: Sequence(0),
            ..Totals::default()
        };
        let change = Change::PutTotals {
            channel: CHANNEL,
            totals,
        };
        let batch = BatchBuilder::founding().rows(CHANNEL, 1..=3);
        put(&store, batch.change(change).build()).await;
        store.close().await;
        let store = database.open_as("user_only");
        let recovered = activate(&store).await;
        assert_eq!(recovered.channels[0].messages, 3);
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        assert_eq!(database.run(tables), "7");
        store.close().await;
    });
    database.run("DROP OWNED BY user_only; DROP ROLE user_only");
}

/// The number of a channel that nats-streaming-server deleted can come back with other messages.
#[test]
fn totals_of_another_channel_with_the_same_number_are_not_believed() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        let batch = BatchBuilder::founding().rows(CHANNEL, 1..=9);
        put(&store, batch.build()).await;
        let totals = store.count(CHANNEL, Sequence(9)).await.unwrap();
        let change = Change::PutTotals {
            channel: CHANNEL,
            totals,
        };
        put(&store, BatchBuilder::new().change(change).build()).await;
        store.close().await;
        database.run("DELETE FROM Messages WHERE seq > 4");
        let (store, recovered) = restart(database, store).await;
        assert_eq!(recovered.channels[0].messages, 4);
        assert!(recovered.channels[0].is_counted);
        store.close().await;
        database.run("DELETE FROM Messages; DELETE FROM Channels");
        let (_store, _) = restart(database, store).await;
        assert_eq!(database.run("SELECT count(*) FROM stanchion_totals"), "0");
    });
}

#[test]
fn other_version_or_cluster_column_is_refused() {
    for change in ["version = 2", "id = 'other'"] {
        run(&Database::new(), async |database: &Database| {
            let store = database.open();
            activate(&store).await;
            put(&store, BatchBuilder::founding().build()).await;
            store.close().await;
            database.run(&format!("UPDATE ServerInfo SET {change}"));
            let error = database.open().activate().await.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
            assert_eq!(
                database.run("SELECT id || '.' FROM StoreLock"),
                ".",
                "the lock is given back"
            );
        });
    }
}

/// Rows as the reference writes them: pending, acknowledged, pending again; single sequences; in
/// inverted physical order.
#[test]
fn recovers_pending_rows_of_the_reference() {
    let database = Database::new();
    database.run(include_str!("fixtures/reference_schema.sql"));
    let info = hex(&server_info());
    let state = hex(&subscription(3));
    database.run(&format!(
        "INSERT INTO ServerInfo (id, proto, version) VALUES ('test-cluster', '\\x{info}', 1);
         INSERT INTO Clients (id, hbinbox) VALUES ('old', 'hb');
         INSERT INTO Channels (id, name, deleted) VALUES (1, 'foo', FALSE), (2, 'gone', TRUE);
         INSERT INTO Messages VALUES (1, 1, 10, 3, 'abc'), (1, 2, 20, 3, 'def'), (2, 1, 5, 1, 'x');
         INSERT INTO Subscriptions (id, subid, lastsent, proto) VALUES (1, 3, 4, '\\x{state}');
         INSERT INTO Subscriptions (id, subid, proto, deleted) VALUES (1, 9, '\\x{state}', TRUE);
         INSERT INTO SubsPending (subid, row, lastsent, pending, acks) VALUES
             (3, 4, 6, '[2]', NULL), (3, 3, 6, NULL, '[2,1]'), (3, 1, 5, '[5,1,2]', NULL);
         INSERT INTO SubsPending (subid, row, seq) VALUES (3, 2, 7)"
    ));
    run(&database, async |database: &Database| {
        let store = database.open();
        let recovered = activate(&store).await;
        assert_eq!(recovered.clients[0].hb_inbox, "hb");
        assert_eq!(
            (recovered.last_channel_id, recovered.last_subscription_id),
            (2, 9)
        );
        assert_eq!(recovered.channels.len(), 1);
        let channel = &recovered.channels[0];
        assert_eq!(
            (channel.messages, channel.bytes, channel.last_timestamp),
            (2, 6, 20)
        );
        assert_eq!((channel.first, channel.last), (Sequence(1), Sequence(7)));
        let found = &channel.subscriptions[0];
        assert_eq!(found.pending, [Sequence(2), Sequence(5), Sequence(7)]);
        assert_eq!(found.state.last_sent, 7);
        // Whatever the rows were, one new row above all of them takes their place.
        put(
            &store,
            BatchBuilder::new().pending(CHANNEL, 3, 8, &[5, 8]).build(),
        )
        .await;
        let rows =
            "SELECT row, seq, lastsent, convert_from(pending, 'UTF8'), acks FROM SubsPending";
        assert_eq!(database.run(rows), "5|0|8|[5,8]|");
        put(
            &store,
            BatchBuilder::new().pending(CHANNEL, 3, 8, &[]).build(),
        )
        .await;
        assert_eq!(database.run(rows), "");
        assert_eq!(
            database.run("SELECT lastsent FROM Subscriptions WHERE subid = 3"),
            "8"
        );
    });
}

#[test]
fn marked_subscription_record_goes_when_a_higher_one_exists() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        let batch = BatchBuilder::founding().put_subscription(CHANNEL, subscription(1));
        put(&store, batch.build()).await;
        put(
            &store,
            BatchBuilder::new().delete_subscription(CHANNEL, 1).build(),
        )
        .await;
        let records = "SELECT subid, deleted FROM Subscriptions ORDER BY subid";
        assert_eq!(database.run(records), "1|t");
        put(
            &store,
            BatchBuilder::new()
                .put_subscription(CHANNEL, subscription(2))
                .build(),
        )
        .await;
        assert_eq!(database.run(records), "2|f");
    });
}

/// Under a stricter isolation than READ COMMITTED the fence would fail instead of reading again.
#[test]
fn defaults_of_the_database_do_not_weaken_the_fence() {
    run(&Database::new(), async |database: &Database| {
        for setting in [
            "default_transaction_isolation = 'serializable'",
            "synchronous_commit = off",
            "jit_above_cost = 0",
        ] {
            database.run(&format!("ALTER DATABASE {} SET {setting}", database.name()));
        }
        let store = database.open();
        activate(&store).await;
        put(&store, BatchBuilder::founding().build()).await;
        for sequence in 1..=1500 {
            put(
                &store,
                BatchBuilder::new()
                    .rows(CHANNEL, sequence..=sequence)
                    .build(),
            )
            .await;
        }
        assert_eq!(sequences(&store, CHANNEL).await.len(), 1500);
    });
}

/// The connection breaks again and again while flushes run: every batch must be there exactly once.
#[test]
fn broken_connections_neither_lose_nor_double() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        put(&store, BatchBuilder::founding().build()).await;
        let cutter = tokio::task::spawn_local(database.cut_again_and_again());
        for batch in 0..150_u64 {
            let first = batch * 20 + 1;
            put(
                &store,
                BatchBuilder::new()
                    .rows(CHANNEL, first..=first + 19)
                    .build(),
            )
            .await;
        }
        cutter.abort();
        assert_eq!(
            sequences(&store, CHANNEL).await,
            (1..=3000).collect::<Vec<_>>()
        );
        assert!(
            timeout(Duration::from_millis(10), store.deposed())
                .await
                .is_err()
        );
    });
}

/// A batch that is in the table already, because the answer to it was lost, is recognized.
#[test]
fn a_stored_batch_whose_answer_was_lost_is_recognized() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        put(&store, BatchBuilder::founding().build()).await;
        let batch = BatchBuilder::new().rows(CHANNEL, 1..=10).build();
        put(&store, batch.clone()).await;
        database.cut();
        assert_eq!(flush(&store, batch).await, FlushOutcome::Stored);
        assert_eq!(read_all(&store, CHANNEL).await.len(), 10);
    });
}

#[test]
fn survives_restarts_and_crashes_of_the_database() {
    let server = Arc::new(PostgresServer::start().unwrap());
    run(&Database::on(server), async |database: &Database| {
        let store = founded(database, 1..=5).await;
        let owner = store.owner();
        database.server().restart().unwrap();
        put(&store, BatchBuilder::new().rows(CHANNEL, 6..=10).build()).await;
        database.server().kill().unwrap();
        database.server().launch().unwrap();
        put(&store, BatchBuilder::new().rows(CHANNEL, 11..=15).build()).await;
        assert_eq!(
            sequences(&store, CHANNEL).await,
            (1..=15).collect::<Vec<_>>()
        );
        assert_eq!(store.owner(), owner);
    });
}

/// A busy machine only makes it take longer: the quickest of some takeovers counts.
async fn takes_less(than: Duration, takeover: impl AsyncFn() -> Duration) {
    let mut took = Vec::new();
    while took.len() < 5 {
        took.push(takeover().await);
        if took.iter().any(|one| *one < than) {
            return;
        }
    }
    panic!("{took:?}");
}

/// Dropping without closing closes the sockets, as the end of the process does.
#[test]
fn a_crashed_broker_is_replaced_within_five_seconds() {
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=3).await;
        let owner = Cell::new(Some(store));
        takes_less(Duration::from_secs(4), async || {
            let standby = database.open();
            assert!(matches!(
                standby.activate().await.unwrap(),
                Activation::Standby { .. }
            ));
            drop(owner.take());
            let crashed = Instant::now();
            let recovered = activate(&standby).await;
            assert_eq!(recovered.channels[0].messages, 3);
            let took = crashed.elapsed();
            owner.set(Some(standby));
            took
        })
        .await;
    });
}

/// A frozen process keeps its connections, and with them the advisory lock. Here a thread that does
/// not poll stands for it. Gives back how long it took to replace it.
fn a_frozen_owner_is_replaced(database: &Database) -> Duration {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let owner = scope.spawn(|| {
            run(database, async move |database: &Database| {
                let store = founded(database, 1..=3).await;
                ready.send(()).unwrap();
                woken.recv().unwrap();
                let late = BatchBuilder::new().rows(CHANNEL, 4..=6).build();
                assert_eq!(flush(&store, late).await, FlushOutcome::Deposed);
                timeout(PATIENCE, store.deposed()).await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        run(database, async move |database: &Database| {
            let store = database.open();
            let frozen = Instant::now();
            activate(&store).await;
            tell.send(frozen.elapsed()).unwrap();
            put(
                &store,
                BatchBuilder::new()
                    .row(CHANNEL, 4, b"of the new owner")
                    .build(),
            )
            .await;
            wake.send(()).unwrap();
            owner.join().unwrap();
            assert_eq!(sequences(&store, CHANNEL).await, [1, 2, 3, 4]);
        });
    });
    told.recv().unwrap()
}

#[test]
fn a_frozen_owner_is_replaced_and_stores_nothing_when_it_wakes() {
    // A busy machine only makes it take longer.
    let took = || a_frozen_owner_is_replaced(&Database::new());
    assert!((0..5).any(|_| took() < Duration::from_secs(7)));
}

#[test]
fn a_standby_that_never_saw_the_crashed_owner_takes_over_too() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        put(&store, BatchBuilder::founding().build()).await;
        let owner = Cell::new(Some(store));
        takes_less(Duration::from_secs(6), async || {
            drop(owner.take());
            let crashed = Instant::now();
            let standby = database.open();
            activate(&standby).await;
            let took = crashed.elapsed();
            owner.set(Some(standby));
            took
        })
        .await;
    });
}

/// A reference server as owner: its row ticks, it holds no advisory lock.
#[test]
fn a_ticking_reference_is_left_alone_and_a_dead_one_replaced() {
    run(&Database::new(), async |database: &Database| {
        let standby = database.open();
        activate(&standby).await;
        standby.close().await;
        let mut looked = None;
        for tick in 1..=12 {
            database.run(&format!(
                "UPDATE StoreLock SET id = 'reference', tick = {tick}"
            ));
            looked = Some(Instant::now());
            assert!(matches!(
                standby.activate().await.unwrap(),
                Activation::Standby { .. }
            ));
            sleep(Duration::from_millis(500)).await;
        }
        // Since it was seen alive for the last time, however long this test slept after that.
        activate(&standby).await;
        let took = looked.unwrap().elapsed();
        assert!(took > Duration::from_secs(4), "{took:?}");
    });
}

/// Giving the lock back is conditional on our own id.
#[test]
fn releasing_does_not_wipe_a_successor() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        database.run("UPDATE StoreLock SET id = 'successor', tick = 5");
        timeout(PATIENCE, store.deposed()).await.unwrap();
        store.close().await;
        assert_eq!(
            database.run("SELECT id, tick FROM StoreLock"),
            "successor|5"
        );
    });
}

#[test]
fn two_contenders_for_an_empty_lock_table_make_one_owner() {
    run(&Database::new(), async |database: &Database| {
        let founder = database.open();
        activate(&founder).await;
        founder.close().await;
        for _ in 0..5 {
            database.run("DELETE FROM StoreLock");
            let stores = [database.open(), database.open()];
            let (first, second) = tokio::join!(stores[0].activate(), stores[1].activate());
            // On a machine that is busy enough, one takes over from the other.
            let mut owners = 0;
            for (store, activation) in stores.iter().zip([first, second]) {
                if let Activation::Active(_) = activation.unwrap() {
                    let batch = BatchBuilder::founding().build();
                    owners += usize::from(flush(store, batch).await == FlushOutcome::Stored);
                }
            }
            assert_eq!(owners, 1);
            assert_eq!(database.run("SELECT count(*) FROM StoreLock"), "1");
            for store in &stores {
                store.close().await;
            }
        }
    });
}

/// Both lanes at once, with changes and trims, then everything is where it belongs.
#[test]
fn lanes_write_at_the_same_time() {
    run(&Database::new(), async |database: &Database| {
        use broker_core::durable::ChannelId;
        let store = database.open();
        activate(&store).await;
        let founding = BatchBuilder::founding()
            .create_channel(ChannelId(2), "two")
            .put_subscription(CHANNEL, subscription(1))
            .put_subscription(ChannelId(2), subscription(2));
        put(&store, founding.build()).await;
        let write = async |channel: ChannelId, subscription: u64| {
            for round in 0..50_u64 {
                let first = round * 10 + 1;
                let batch = BatchBuilder::new()
                    .pending(channel, subscription, first, &[first])
                    .rows(channel, first..=first + 9)
                    .trim(channel, 1, first.saturating_sub(1));
                put(&store, batch.build()).await;
            }
        };
        tokio::join!(write(CHANNEL, 1), write(ChannelId(2), 2));
        assert_eq!(
            sequences(&store, CHANNEL).await,
            (491..=500).collect::<Vec<_>>()
        );
        assert_eq!(
            sequences(&store, ChannelId(2)).await,
            (491..=500).collect::<Vec<_>>()
        );
        let store: Rc<dyn Store> = store;
        let (_store, recovered) = restart(database, store).await;
        for channel in &recovered.channels {
            assert_eq!(channel.subscriptions[0].pending, [Sequence(491)]);
        }
        assert_eq!(database.run("SELECT count(*) FROM SubsPending"), "2");
    });
}

#[test]
fn the_lock_is_observed_from_outside() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        let observer = LockObserver::connect(&database.source()).await.unwrap();
        let earlier = observer.observe().await.unwrap();
        assert_eq!(earlier.owner_id, store.owner());
        let latest = timeout(PATIENCE, async {
            loop {
                let latest = observer.observe().await.unwrap();
                if latest.tick > earlier.tick {
                    return latest;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        let latest = latest.await.expect("the owner ticks");
        let mut judge = Judge::default();
        let mut seen = |row, claim| judge.look(Some(row), Some(claim), Instant::now().into_std());
        let owner_id = store.owner();
        assert_eq!(
            seen(latest.clone(), Claim::Active { owner_id }),
            LockState::Held
        );
        assert_eq!(seen(latest, Claim::Standby), LockState::Standby);
        store.close().await;
        let released = observer.observe().await.unwrap();
        assert_eq!(seen(released, Claim::Standby), LockState::Free);
    });
}

/// Waits until a query has this answer; the store works meanwhile.
async fn becomes(database: &Database, sql: &str, expected: &str) {
    let answer = timeout(PATIENCE, async {
        while database.run(sql) != expected {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(answer.await.is_ok(), "{sql}: {}", database.run(sql));
}

const CHANNEL_ROWS: &str = "SELECT id, deleted FROM Channels ORDER BY id";
const MESSAGES_OF_1: &str = "SELECT count(*) FROM Messages WHERE id = 1";

#[test]
fn messages_of_a_deleted_channel_go_and_its_row_when_a_higher_one_exists() {
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=12_000).await;
        put(&store, BatchBuilder::new().delete_channel(CHANNEL).build()).await;
        becomes(database, MESSAGES_OF_1, "0").await;
        assert_eq!(database.run(CHANNEL_ROWS), "1|t");
        put(
            &store,
            BatchBuilder::new()
                .create_channel(ChannelId(2), "other")
                .build(),
        )
        .await;
        store.close().await;
        let store = database.open();
        activate(&store).await;
        becomes(database, CHANNEL_ROWS, "2|f").await;
    });
}

#[test]
fn a_deletion_that_was_cut_short_is_finished_by_the_next_owner() {
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=10).await;
        store.close().await;
        // As the reference leaves it when it dies behind its first statement.
        let state = hex(&subscription(3));
        database.run(&format!(
            "UPDATE Channels SET deleted = TRUE;
             INSERT INTO Subscriptions (id, subid, lastsent, proto) VALUES (1, 2, 4, '\\x{state}'), (1, 3, 4, '\\x{state}');
             INSERT INTO SubsPending (subid, row, lastsent, pending) VALUES (2, 1, 4, '[4]'), (3, 2, 4, '[4]')"
        ));
        let store = database.open();
        let recovered = activate(&store).await;
        assert!(recovered.channels.is_empty());
        assert_eq!(
            (recovered.last_channel_id, recovered.last_subscription_id),
            (1, 3)
        );
        becomes(database, MESSAGES_OF_1, "0").await;
        becomes(
            database,
            "SELECT subid, deleted FROM Subscriptions ORDER BY subid",
            "3|t",
        )
        .await;
        assert_eq!(database.run("SELECT count(*) FROM SubsPending"), "0");
    });
}

#[test]
fn a_deposed_owner_sweeps_nothing() {
    run(&Database::new(), async |database: &Database| {
        let store = founded(database, 1..=10).await;
        database.run(
            "UPDATE Channels SET deleted = TRUE; UPDATE StoreLock SET id = 'somebody', tick = 1",
        );
        let outcome = flush(&store, BatchBuilder::new().delete_channel(CHANNEL).build()).await;
        assert_eq!(outcome, FlushOutcome::Deposed);
        sleep(Duration::from_millis(300)).await;
        assert_eq!(database.run(MESSAGES_OF_1), "10");
    });
}

/// A session as another program has it, which ends with the value.
struct Session {
    client: tokio_postgres::Client,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    async fn open(database: &Database) -> Self {
        let (client, connection) = database.connect().await;
        let driver = tokio::task::spawn_local(async {
            // It ends with the session.
            let _ = connection.await;
        });
        Self { client, driver }
    }
}

async fn standby(store: &Rc<dyn Store>) -> Option<String> {
    match store.activate().await.unwrap() {
        Activation::Standby { holder } => Some(holder),
        Activation::Active(_) => None,
    }
}

#[test]
fn a_server_that_takes_no_lock_keeps_the_store() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        put(&store, BatchBuilder::founding().build()).await;
        store.close().await;
        let other = Session::open(database).await;
        let insert = "INSERT INTO Messages VALUES ($1, $2, $3, $4, $5)";
        let data: &[u8] = b"x";
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [&1, &1_i64, &1_i64, &1, &data];
        other.client.execute(insert, &row).await.unwrap();
        let holder = standby(&store).await.unwrap();
        assert!(
            holder.starts_with("a server that takes no lock"),
            "{holder}"
        );
        drop(other);
        let recovered = activate(&store).await;
        assert_eq!(recovered.channels[0].messages, 1);
    });
}

#[test]
fn a_session_that_may_be_such_a_server_s_is_watched_for_writes() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        put(&store, BatchBuilder::founding().build()).await;
        store.close().await;
        let other = Session::open(database).await;
        let mut sequence = 0;
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            sequence += 1;
            let write = format!(
                "BEGIN; INSERT INTO Messages (id, seq, timestamp, size) VALUES (1, {sequence}, 1, 1); COMMIT"
            );
            other.client.batch_execute(&write).await.unwrap();
            other.client.batch_execute("COMMIT").await.unwrap();
            assert!(standby(&store).await.is_some());
            sleep(Duration::from_millis(50)).await;
        }
        activate(&store).await;
    });
}
