//! A reading thread: ranges, positions and counts, on a connection of its own.

use std::{
    path::Path,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use broker_core::durable::{ChannelId, Sequence, StoredRange, Totals};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::{schema, thread_gone, unavailable};
use crate::{
    StoreError,
    page::{MessageRow, Page},
    records::{from_column, to_column},
};

/// Requests under way; more wait on the caller's side. Far above what an engine asks for at once.
const QUEUE: usize = 1024;

type Request = Box<dyn FnOnce(&Connection) + Send>;

/// Handle of the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    requests: Option<mpsc::SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// `name` is the thread's.
    pub(super) fn start(database: &Path, name: &str) -> Result<Self, StoreError> {
        let connection = schema::open(database)?;
        let (requests, queue) = mpsc::sync_channel::<Request>(QUEUE);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for request in queue {
                    request(&connection);
                }
            })
            .map_err(|error| unavailable("starting the reader of the file store", error))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    pub(super) fn read(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<StoredRange, StoreError>> + use<> {
        self.ask(move |connection| read(connection, channel, from, max_rows, max_bytes))
    }

    pub(super) fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> impl Future<Output = Result<Option<Sequence>, StoreError>> + use<> {
        self.ask(move |connection| sequence_at(connection, channel, timestamp))
    }

    pub(super) fn count(
        &self,
        channel: ChannelId,
        up_to: Sequence,
    ) -> impl Future<Output = Result<Totals, StoreError>> + use<> {
        self.ask(move |connection| count(connection, channel, up_to))
    }

    fn ask<T, Q>(&self, question: Q) -> impl Future<Output = Result<T, StoreError>> + use<T, Q>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request: Request = Box::new(move |connection| {
            // The asker may have lost interest.
            let _ = reply.send(question(connection));
        });
        let sent = match &self.requests {
            Some(requests) => requests.try_send(request).is_ok(),
            None => false,
        };
        async move {
            if !sent {
                return Err(unavailable(
                    "reading from the file store",
                    "too many reads under way",
                ));
            }
            answer
                .await
                .map_err(|_| thread_gone("reader"))?
                .map_err(|error| unavailable("reading from the file store", error))
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where an answer was missed.
            let _ = thread.join();
        }
    }
}

fn read(
    connection: &Connection,
    channel: ChannelId,
    from: Sequence,
    max_rows: usize,
    max_bytes: usize,
) -> rusqlite::Result<StoredRange> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, timestamp, size, data FROM Messages WHERE id = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let limit = i64::try_from(max_rows).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![channel.0, to_column(from.0), limit])?;
    let mut page = Page::default();
    while let Some(row) = rows.next()? {
        // A column of SQLite holds whatever was written into it.
        page.push(MessageRow {
            sequence: row.get(0)?,
            timestamp: row.get_ref(1)?.as_i64().ok(),
            size: row.get_ref(2)?.as_i64().ok(),
            data: row.get_ref(3)?.as_blob().ok(),
        });
        if page.bytes() >= max_bytes {
            break;
        }
    }
    Ok(page.finish())
}

fn count(connection: &Connection, channel: ChannelId, up_to: Sequence) -> rusqlite::Result<Totals> {
    connection
        .prepare_cached(
            "SELECT count(*), min(seq), coalesce(sum(size), 0) FROM Messages WHERE id = ?1 AND seq <= ?2",
        )?
        .query_row(params![channel.0, to_column(up_to.0)], |row| {
            let first: Option<i64> = row.get(1)?;
            Ok(Totals {
                first: first.map_or(up_to.next(), |first| Sequence(from_column(first))),
                last: up_to,
                messages: from_column(row.get(0)?),
                bytes: from_column(row.get(2)?),
            })
        })
}

/// By bisection over sequences: timestamps ascend with them. Gaps are allowed, so a probe looks for
/// the first message at or after it.
fn sequence_at(
    connection: &Connection,
    channel: ChannelId,
    timestamp: i64,
) -> rusqlite::Result<Option<Sequence>> {
    let bounds = connection
        .prepare_cached("SELECT min(seq), max(seq) FROM Messages WHERE id = ?1")?
        .query_row(params![channel.0], |row| {
            Ok(row
                .get::<_, Option<i64>>(0)?
                .zip(row.get::<_, Option<i64>>(1)?))
        })?;
    let Some((mut low, mut high)) = bounds else {
        return Ok(None);
    };
    let mut probe = connection.prepare_cached(
        "SELECT seq, timestamp FROM Messages WHERE id = ?1 AND seq >= ?2 AND seq <= ?3 ORDER BY seq LIMIT 1",
    )?;
    let mut found = None;
    // Every message below `low` is too early; every one above `high` is late enough and behind `found`.
    while low <= high {
        let middle = low + (high - low) / 2;
        let message = probe
            .query_row(params![channel.0, middle, high], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })
            .optional()?;
        match message {
            Some((sequence, at)) if at < timestamp => low = sequence + 1,
            Some((sequence, _)) => {
                found = Some(Sequence(from_column(sequence)));
                high = middle - 1;
            }
            None => high = middle - 1,
        }
    }
    Ok(found)
}
