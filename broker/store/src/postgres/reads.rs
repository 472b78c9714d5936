//! Ranges of messages, on a connection of their own so that replays do not stand before flushes.

use std::rc::Rc;

use broker_core::durable::{ChannelId, Sequence, StoredMessage};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;

use super::{
    current::{Renewable, Sources},
    messages::channel_column,
    session::{Session, Verdict},
};
use crate::{
    StoreError,
    records::{from_column, to_column},
};

/// The byte limit is kept in the database: rows behind it are neither detoasted nor sent.
const RANGE: &str = "
    SELECT seq, timestamp, data
    FROM (SELECT seq, timestamp, data, sum(size) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - size AS before
          FROM (SELECT seq, timestamp, size, data FROM Messages WHERE id = $1 AND seq >= $2 ORDER BY seq LIMIT $3) page) sized
    WHERE before = 0 OR before < $4
    ORDER BY seq";

/// By bisection over sequences, in one round trip: timestamps of a channel never decrease, while the
/// index on timestamps knows no channel and a filter would walk the whole channel. Messages below
/// `low` are too early; the first one at or behind `high` is late enough, or there is none.
const SEQUENCE_AT: &str = "
    WITH RECURSIVE span(low, high) AS (
        SELECT min(seq), max(seq) + 1 FROM Messages WHERE id = $1
        UNION ALL
        SELECT CASE WHEN m.timestamp < $2 THEN m.seq + 1 ELSE s.low END,
               CASE WHEN m.timestamp < $2 THEN s.high ELSE (s.low + s.high) / 2 END
        FROM span s CROSS JOIN LATERAL (
            SELECT seq, timestamp FROM Messages WHERE id = $1 AND seq >= (s.low + s.high) / 2
            ORDER BY seq LIMIT 1) m
        WHERE s.low < s.high)
    SELECT seq FROM Messages WHERE id = $1 AND seq >= (SELECT max(low) FROM span) ORDER BY seq LIMIT 1";

/// The reading connection, opened again when it broke.
#[derive(Debug)]
pub(super) struct Reader {
    sources: Sources,
    owner: String,
    connection: Rc<Renewable>,
    /// Held while a new connection is made, so that many reads make one.
    opening: Mutex<()>,
}

impl Reader {
    pub(super) fn new(sources: Sources, owner: String, connection: Rc<Renewable>) -> Self {
        Self {
            sources,
            owner,
            connection,
            opening: Mutex::new(()),
        }
    }

    pub(super) async fn range(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let max_rows = i64::try_from(max_rows).unwrap_or(i64::MAX);
        let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let from = to_column(from.0);
        let rows = self
            .query(
                RANGE,
                &[&channel_column(channel), &from, &max_rows, &max_bytes],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| StoredMessage {
                sequence: Sequence(from_column(row.get(0))),
                timestamp: row.get(1),
                data: Bytes::copy_from_slice(row.get(2)),
            })
            .collect())
    }

    pub(super) async fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> Result<Option<Sequence>, StoreError> {
        let rows = self
            .query(SEQUENCE_AT, &[&channel_column(channel), &timestamp])
            .await?;
        Ok(rows.first().map(|row| Sequence(from_column(row.get(0)))))
    }

    /// A read that breaks its connection is tried once more on a new one.
    async fn query(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let session = self.session().await?;
        let failure = match session.query(sql, parameters).await {
            Ok(rows) => return Ok(rows),
            Err(failure) => failure,
        };
        if failure.verdict() == Verdict::Lost {
            self.connection.forget(&session);
            let session = self.session().await?;
            if let Ok(rows) = session.query(sql, parameters).await {
                return Ok(rows);
            }
        }
        Err(failure.into_store_error("reading messages"))
    }

    async fn session(&self) -> Result<Rc<Session>, StoreError> {
        let _opening = self.opening.lock().await;
        if let Some(session) = self.connection.get() {
            return Ok(session);
        }
        let session = Rc::new(Session::open(&self.sources, &self.owner).await?);
        self.connection.set(Rc::clone(&session));
        Ok(session)
    }
}
