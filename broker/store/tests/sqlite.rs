//! The suite on the embedded store, and what only it has.

use std::{fs, rc::Rc, time::Duration};

use broker_core::durable::{ChannelId, Sequence};
use broker_store::{
    SqliteStore, Store, StoreError,
    conformance::{
        StoreFactory, activate,
        batches::{BatchBuilder, CHANNEL},
        founded, put, run,
    },
    store_conformance_suite,
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use rusqlite::{Connection, params};
use tempfile::TempDir;

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A connection from outside.
    fn connection(&self) -> Connection {
        Connection::open(self.0.path().join("stanchion.db")).unwrap()
    }
}

impl StoreFactory for Directory {
    fn open(&self) -> Rc<dyn Store> {
        Rc::new(SqliteStore::new(self.0.path()).unwrap())
    }

    fn has_lock(&self) -> bool {
        true
    }

    fn depose(&self) -> LocalBoxFuture<'_, ()> {
        async {
            let sql = "UPDATE StoreLock SET id = 'somebody', tick = 1";
            self.connection().execute(sql, []).unwrap();
        }
        .boxed_local()
    }

    fn intrude<'a>(
        &'a self,
        channel: ChannelId,
        sequence: Sequence,
        data: &'a [u8],
    ) -> LocalBoxFuture<'a, ()> {
        async move {
            let sql =
                "INSERT INTO Messages (id, seq, timestamp, size, data) VALUES (?1, ?2, 1, ?3, ?4)";
            let sequence = i64::try_from(sequence.0).unwrap();
            let size = i64::try_from(data.len()).unwrap();
            self.connection()
                .execute(sql, params![channel.0, sequence, size, data])
                .unwrap();
        }
        .boxed_local()
    }
}

store_conformance_suite!(Directory::new());

#[test]
fn refuses_the_directory_of_a_reference_file_store() {
    for name in ["server.dat", "clients.dat"] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join(name), "").unwrap();
        let error = SqliteStore::new(directory.path()).unwrap_err();
        assert!(
            matches!(&error, StoreError::Config(text) if text.contains(name)),
            "{error}"
        );
    }
}

#[test]
fn commits_are_on_the_disk() {
    run(&Directory::new(), async |factory: &Directory| {
        let _store = founded(factory, 1..=1).await;
        let mode: String = factory
            .connection()
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    });
}

/// Dropping without closing is what a crash leaves: the lock file is free, the row is not.
#[test]
fn opens_after_a_crash() {
    run(&Directory::new(), async |factory: &Directory| {
        let store = founded(factory, 1..=3).await;
        drop(store);
        factory.depose().await;
        let recovered = activate(&factory.open()).await;
        assert_eq!(recovered.channels[0].messages, 3);
    });
}

#[test]
fn messages_of_a_deleted_channel_go_also_after_a_restart() {
    run(&Directory::new(), async |directory: &Directory| {
        let count = |sql: &str| -> i64 {
            let connection = directory.connection();
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let messages = "SELECT count(*) FROM Messages WHERE id = 1";
        let swept = async || {
            let swept = tokio::time::timeout(Duration::from_secs(20), async {
                while count(messages) > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            assert!(swept.await.is_ok(), "{}", count(messages));
        };
        let store = founded(directory, 1..=3_500).await;
        put(&store, BatchBuilder::new().delete_channel(CHANNEL).build()).await;
        swept().await;
        assert_eq!(count("SELECT count(*) FROM Channels WHERE deleted"), 1);
        store.close().await;

        let row = "INSERT INTO Messages (id, seq, timestamp, size, data) VALUES (1, 9, 1, 1, 'x')";
        directory.connection().execute(row, []).unwrap();
        let other = "INSERT INTO Channels (id, name) VALUES (2, 'other')";
        directory.connection().execute(other, []).unwrap();
        let store = directory.open();
        activate(&store).await;
        swept().await;
        store.close().await;
        assert_eq!(count("SELECT count(*) FROM Channels WHERE id = 1"), 0);
    });
}
