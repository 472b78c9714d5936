//! The seven tables, and one of our own: makes what is missing, leaves alone what is there.
//!
//! Names, columns, types and keys are those of the script that nats-streaming-server ships, so that
//! it can be started on the same database. A database made by that script is accepted unchanged,
//! with its index on a constant and with the two lock rows that two of its servers can leave.

use tokio_postgres::error::SqlState;
use tracing::{info, warn};

use super::{
    session::{Failure, Session},
    sqlstate::Verdict,
};
use crate::StoreError;

/// The tables that nats-streaming-server knows too.
pub(super) const TABLES: &[&str] = &[
    "channels",
    "clients",
    "messages",
    "serverinfo",
    "storelock",
    "subscriptions",
    "subspending",
];

/// True if nothing is missing.
const COMPLETE: &str = "
    SELECT count(*) = 7
       AND EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = to_regclass('clients') AND attname = 'proto' AND NOT attisdropped)
    FROM unnest($1::text[]) AS name
    WHERE to_regclass(name) IS NOT NULL";

const LOCK_ROW: &str = "SELECT EXISTS (SELECT FROM StoreLock)";

/// One transaction. The advisory lock keeps two brokers from making the same thing at once, which
/// `IF NOT EXISTS` alone does not; the table lock keeps a second lock row from being made.
const CREATE: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(1398030926, 0);
    CREATE TABLE IF NOT EXISTS ServerInfo
        (uniquerow INTEGER DEFAULT 1, id VARCHAR(1024), proto BYTEA, version INTEGER,
         PRIMARY KEY (uniquerow));
    CREATE TABLE IF NOT EXISTS Clients
        (id VARCHAR(1024), hbinbox TEXT, proto BYTEA, PRIMARY KEY (id));
    ALTER TABLE Clients ADD COLUMN IF NOT EXISTS proto BYTEA;
    CREATE TABLE IF NOT EXISTS Channels
        (id INTEGER, name VARCHAR(1024) NOT NULL, maxseq BIGINT DEFAULT 0, maxmsgs INTEGER DEFAULT 0,
         maxbytes BIGINT DEFAULT 0, maxage BIGINT DEFAULT 0, deleted BOOL DEFAULT FALSE,
         PRIMARY KEY (id));
    CREATE INDEX IF NOT EXISTS Idx_ChannelsName ON Channels (name);
    CREATE TABLE IF NOT EXISTS Messages
        (id INTEGER, seq BIGINT, timestamp BIGINT, size INTEGER, data BYTEA,
         CONSTRAINT PK_MsgKey PRIMARY KEY (id, seq));
    CREATE INDEX IF NOT EXISTS Idx_MsgsTimestamp ON Messages (timestamp);
    CREATE TABLE IF NOT EXISTS Subscriptions
        (id INTEGER, subid BIGINT, lastsent BIGINT DEFAULT 0, proto BYTEA,
         deleted BOOL DEFAULT FALSE, CONSTRAINT PK_SubKey PRIMARY KEY (id, subid));
    CREATE TABLE IF NOT EXISTS SubsPending
        (subid BIGINT, row BIGINT, seq BIGINT DEFAULT 0, lastsent BIGINT DEFAULT 0, pending BYTEA,
         acks BYTEA, CONSTRAINT PK_MsgPendingKey PRIMARY KEY (subid, row));
    CREATE INDEX IF NOT EXISTS Idx_SubsPendingSeq ON SubsPending (seq);
    CREATE TABLE IF NOT EXISTS StoreLock (id VARCHAR(30), tick BIGINT DEFAULT 0);
    LOCK TABLE StoreLock IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO StoreLock (id, tick) SELECT '', 0 WHERE NOT EXISTS (SELECT FROM StoreLock);
    COMMIT";

/// A database that several servers have used stays as it is to them: none of theirs looks at other tables.
const CREATE_TOTALS: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(1398030926, 0);
    CREATE TABLE IF NOT EXISTS stanchion_totals
        (id INTEGER PRIMARY KEY, first BIGINT NOT NULL, last BIGINT NOT NULL, messages BIGINT NOT NULL,
         bytes BIGINT NOT NULL);
    COMMIT";

/// Attempts to make the tables while others are in the way.
const TRIES: u32 = 5;

/// Makes tables, columns, indexes and the lock row that are missing.
///
/// # Errors
/// `Config` if the role may not make them.
pub(super) async fn ensure(session: &Session) -> Result<(), StoreError> {
    let looking =
        |failure: Failure| failure.into_store_error("looking for the tables of the store");
    if is_complete(session).await.map_err(looking)? {
        return Ok(());
    }
    info!("making the tables of the store");
    let mut tries = 0;
    let failure = loop {
        let Err(failure) = session.batch(CREATE).await else {
            return Ok(());
        };
        if !session.is_closed() {
            // The session goes on to be used; a failure here would show at its next statement.
            let _ = session.batch("ROLLBACK").await;
        }
        tries += 1;
        // Whoever prepares statements meanwhile takes the tables in another order.
        if failure.verdict() != Verdict::Again || tries == TRIES {
            break failure;
        }
    };
    if failure.is(&SqlState::INSUFFICIENT_PRIVILEGE) || failure.is(&SqlState::INVALID_SCHEMA_NAME) {
        return Err(StoreError::Config(format!(
            "unable to make the tables of the store: {failure}; or grant CREATE on the schema to this role"
        )));
    }
    Err(failure.into_store_error("making the tables of the store"))
}

/// Whether the seven tables are there; nothing is made.
pub(super) async fn is_there(session: &Session) -> Result<bool, StoreError> {
    let complete = is_complete(session).await;
    complete.map_err(|failure| failure.into_store_error("looking for the tables of the store"))
}

/// Whether there is a table of totals that this role may use.
pub(super) async fn has_totals(session: &Session) -> Result<bool, StoreError> {
    const USABLE: &str = "
        SELECT count(*) = 4 FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
        WHERE has_table_privilege(to_regclass('stanchion_totals'), privilege)";
    let rows = session.query(USABLE, &[]).await;
    let rows =
        rows.map_err(|failure| failure.into_store_error("looking for the table of totals"))?;
    Ok(rows[0].get(0))
}

/// Makes the table of totals; false if the role may not, nor use it.
pub(super) async fn ensure_totals(session: &Session) -> Result<bool, StoreError> {
    if has_totals(session).await? {
        return Ok(true);
    }
    let made = match session.batch(CREATE_TOTALS).await {
        Ok(()) => has_totals(session).await?,
        Err(_) if session.is_closed() => return Err(not_made()),
        Err(_) => {
            let ended = session.batch("ROLLBACK").await;
            ended.map_err(|failure| failure.into_store_error("looking for the table of totals"))?;
            false
        }
    };
    if !made {
        warn!(
            "unable to make or use the table stanchion_totals: every start counts messages in the background; \
             grant CREATE on the schema, or make the table beforehand"
        );
    }
    Ok(made)
}

fn not_made() -> StoreError {
    StoreError::Unavailable {
        context: "making the table of totals".to_owned(),
        source: "the connection is lost".into(),
    }
}

async fn is_complete(session: &Session) -> Result<bool, Failure> {
    let has_tables: bool = session.query(COMPLETE, &[&TABLES]).await?[0].get(0);
    Ok(has_tables && session.query(LOCK_ROW, &[]).await?[0].get(0))
}
