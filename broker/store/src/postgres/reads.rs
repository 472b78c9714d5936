//! Ranges of messages, on a connection of their own so that replays do not stand before flushes.

use std::{cell::RefCell, collections::HashMap, pin::pin, rc::Rc};

use broker_core::durable::{ChannelId, Sequence, StoredRange};
use futures_util::TryStreamExt as _;
use tokio::sync::Mutex;
use tokio_postgres::Row;

use super::{
    current::{Renewable, Sources},
    messages::channel_column,
    session::{Failure, Session},
    sqlstate::Verdict,
};
use crate::{
    StoreError,
    page::{MessageRow, Page},
    records::{from_column, to_column},
};

const RANGE: &str = "
    SELECT seq, timestamp, size::bigint, data FROM Messages WHERE id = $1 AND seq >= $2 ORDER BY seq LIMIT $3";

/// Rows of the first read of a channel, of whose messages nothing is known yet.
const FIRST_ROWS: usize = 64;

/// Room that is made for an answer beforehand; it grows beyond.
const RESERVED_ROWS: usize = 1_000;
const RESERVED_BYTES: usize = 1 << 20;

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

/// What is asked for; see [`crate::Store::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) channel: ChannelId,
    pub(super) from: Sequence,
    pub(super) max_rows: usize,
    pub(super) max_bytes: usize,
}

/// The reading connection, opened again when it broke.
#[derive(Debug)]
pub(super) struct Reader {
    sources: Sources,
    owner: String,
    connection: Rc<Renewable>,
    /// Bytes of a message of a channel, as the last read has found them.
    sizes: RefCell<HashMap<ChannelId, usize>>,
    /// Held while a new connection is made, so that many reads make one.
    opening: Mutex<()>,
}

impl Reader {
    pub(super) fn new(sources: Sources, owner: String, connection: Rc<Renewable>) -> Self {
        Self {
            sources,
            owner,
            connection,
            sizes: RefCell::default(),
            opening: Mutex::new(()),
        }
    }

    /// How many rows make up `max_bytes` is guessed from the last read of the channel; what
    /// goes beyond is not kept. Gives also whether there may be more behind it.
    pub(super) async fn range(&self, wanted: Wanted) -> Result<(StoredRange, bool), StoreError> {
        let Wanted {
            channel,
            from,
            max_rows,
            max_bytes,
        } = wanted;
        let size = self.sizes.borrow().get(&channel).copied();
        let rows = size
            .map_or(FIRST_ROWS, |size| max_bytes / size + 1)
            .min(max_rows);
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        let (column, from) = (channel_column(channel), to_column(from.0));
        let page = self
            .on_session(async |session: &Session| {
                let stream = session.stream(RANGE, &[&column, &from, &limit]).await?;
                let mut stream = pin!(stream);
                let bytes = size.unwrap_or(0).saturating_mul(rows);
                let mut page =
                    Page::with_capacity(rows.min(RESERVED_ROWS), bytes.min(RESERVED_BYTES));
                while page.bytes() < max_bytes
                    && let Some(row) = stream.try_next().await.map_err(Failure::Database)?
                {
                    page.push(message_row(&row)?);
                }
                Ok(page)
            })
            .await?;
        if page.rows() > 0 {
            let size = page.bytes() / page.rows();
            remember(&mut self.sizes.borrow_mut(), channel, size.max(1));
        }
        let has_more = page.rows() == rows || page.bytes() >= max_bytes;
        Ok((page.finish(), has_more))
    }

    pub(super) async fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> Result<Option<Sequence>, StoreError> {
        let column = channel_column(channel);
        let rows = self
            .on_session(async |session: &Session| {
                session.query(SEQUENCE_AT, &[&column, &timestamp]).await
            })
            .await?;
        Ok(rows.first().map(|row| Sequence(from_column(row.get(0)))))
    }

    /// A read that breaks its connection is tried once more on a new one.
    async fn on_session<T>(
        &self,
        read: impl AsyncFn(&Session) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let session = self.session().await?;
        let failure = match session.in_time(read(&session)).await.flatten() {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        if failure.verdict() == Verdict::Lost {
            self.connection.forget(&session);
            let session = self.session().await?;
            if let Ok(found) = session.in_time(read(&session)).await.flatten() {
                return Ok(found);
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

/// Notes what is known of a channel. Channels come and go: beyond some number it begins anew.
pub(super) fn remember<T>(
    known: &mut HashMap<ChannelId, T>,
    channel: ChannelId,
    fact: T,
) -> Option<T> {
    const MOST: usize = 10_000;
    if known.len() >= MOST && !known.contains_key(&channel) {
        known.clear();
    }
    known.insert(channel, fact)
}

fn message_row(row: &Row) -> Result<MessageRow<'_>, Failure> {
    let read = || {
        Ok(MessageRow {
            sequence: row.try_get(0)?,
            timestamp: row.try_get(1)?,
            size: row.try_get(2)?,
            data: row.try_get(3)?,
        })
    };
    read().map_err(Failure::Database)
}
