//! The seven tables in SQLite, one of our own, and how a connection is set up.

use std::{path::Path, time::Duration};

use rusqlite::Connection;

use super::unavailable;
use crate::StoreError;

/// Names, columns and keys are those of the reference's SQL store. `Messages` lives in its primary
/// key, and there is no index on timestamps: they ascend with the sequence, so one is found by
/// bisection, and the index would cost every insert.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS ServerInfo
        (uniquerow INTEGER PRIMARY KEY DEFAULT 1, id TEXT, proto BLOB, version INTEGER);
    CREATE TABLE IF NOT EXISTS Clients
        (id TEXT PRIMARY KEY, hbinbox TEXT, proto BLOB);
    CREATE TABLE IF NOT EXISTS Channels
        (id INTEGER PRIMARY KEY, name TEXT NOT NULL, maxseq INTEGER DEFAULT 0,
         maxmsgs INTEGER DEFAULT 0, maxbytes INTEGER DEFAULT 0, maxage INTEGER DEFAULT 0,
         deleted INTEGER DEFAULT 0);
    CREATE TABLE IF NOT EXISTS Messages
        (id INTEGER, seq INTEGER, timestamp INTEGER, size INTEGER, data BLOB,
         PRIMARY KEY (id, seq)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS Subscriptions
        (id INTEGER, subid INTEGER, lastsent INTEGER DEFAULT 0, proto BLOB,
         deleted INTEGER DEFAULT 0, PRIMARY KEY (id, subid));
    CREATE TABLE IF NOT EXISTS SubsPending
        (subid INTEGER, row INTEGER, seq INTEGER DEFAULT 0, lastsent INTEGER DEFAULT 0,
         pending BLOB, acks BLOB, PRIMARY KEY (subid, row));
    CREATE TABLE IF NOT EXISTS stanchion_totals
        (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, messages INTEGER NOT NULL,
         bytes INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS StoreLock (id TEXT, tick INTEGER DEFAULT 0);
    INSERT INTO StoreLock (id, tick) SELECT '', 0 WHERE NOT EXISTS (SELECT 1 FROM StoreLock);
";

/// How long a statement waits for a lock of another connection (a checkpoint, a look from outside).
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// Statements kept prepared on a connection; more than this crate has.
const PREPARED_STATEMENTS: usize = 64;

/// Opens the database with the settings that both threads need.
pub(super) fn open(database: &Path) -> Result<Connection, StoreError> {
    let setting_up = |error| unavailable(format!("opening {}", database.display()), error);
    let connection = Connection::open(database).map_err(setting_up)?;
    connection.busy_timeout(BUSY_PATIENCE).map_err(setting_up)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(setting_up)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    Ok(connection)
}

/// Makes what is missing.
pub(super) fn ensure(connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} COMMIT;"))
        .map_err(|error| unavailable("making the tables of the file store", error))
}
