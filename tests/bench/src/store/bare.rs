//! The floor: the same rows by the same statements over one connection, and nothing between the load and PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use broker_proto::streaming::MsgProto;
use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

use crate::load::store::publish::channel;

/// Rows of a statement, and of a range that is read.
const BATCH: u64 = 1000;
/// Ranges that are asked for at a time.
const RANGES_IN_FLIGHT: usize = 2;

/// Fenced as a writer has to be, without ON CONFLICT, which costs a third.
const INSERT: &str = "
    WITH owner AS MATERIALIZED (SELECT 1 FROM StoreLock WHERE id = $1 FOR KEY SHARE)
    INSERT INTO Messages (id, seq, timestamp, size, data)
    SELECT unnest($2::int4[]), unnest($3::int8[]), unnest($4::int8[]), unnest($5::int4[]), unnest($6::bytea[])
    WHERE EXISTS (SELECT FROM owner)";
const READ: &str =
    "SELECT seq, data FROM Messages WHERE id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq";

/// One connection.
pub(crate) struct Bare {
    runtime: Runtime,
    client: Client,
    insert: Statement,
    owner: String,
}

/// What rows hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Numbered from 1; rows go to them by turns.
    pub(crate) channels: usize,
    pub(crate) payload_bytes: usize,
}

impl Bare {
    /// # Errors
    /// When the database refuses.
    pub(crate) fn connect(source: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }
            .enable_all()
            .build()
            .context("making a runtime")?;
        let (client, insert, owner) = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(source, NoTls).await?;
            // Its end shows at the next statement.
            tokio::spawn(connection);
            let lock =
                "INSERT INTO StoreLock SELECT 'bench', 0 WHERE NOT EXISTS (SELECT FROM StoreLock)";
            client.batch_execute(lock).await?;
            client.batch_execute("SET jit = off").await?;
            let owner = client.query_one("SELECT id FROM StoreLock LIMIT 1", &[]);
            let owner = owner.await?.try_get(0)?;
            let insert = client.prepare(INSERT).await?;
            Ok::<_, tokio_postgres::Error>((client, insert, owner))
        })?;
        Ok(Self {
            runtime,
            client,
            insert,
            owner,
        })
    }

    /// Writes for `length`, a thousand rows a commit, one commit at a time; how many rows it was.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) fn write_for(
        &self,
        rows: Rows,
        first: u64,
        length: Duration,
    ) -> anyhow::Result<u64> {
        // What a row says of itself does not matter here, and costs time to write.
        let data = message(&channel(0), 1_000_000, nanoseconds(), rows.payload_bytes);
        let (mut written, end) = (0, Instant::now() + length);
        while written == 0 || Instant::now() < end {
            let batch = (first + written)..(first + written + BATCH);
            let places = batch.map(|number| rows.place(number));
            self.write(nanoseconds(), places.map(|place| (place, &data[..])))?;
            written += BATCH;
        }
        Ok(written)
    }

    /// Seconds that each commit of a single row took, one after another for `length`.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) fn commit_for(
        &self,
        rows: Rows,
        first: u64,
        length: Duration,
    ) -> anyhow::Result<Vec<f64>> {
        let data = message(&channel(0), 1_000_000, nanoseconds(), rows.payload_bytes);
        let (mut took, end) = (Vec::new(), Instant::now() + length);
        while took.is_empty() || Instant::now() < end {
            let began = Instant::now();
            let place = rows.place(first + took.len() as u64);
            self.write(nanoseconds(), [(place, &data[..])])?;
            took.push(began.elapsed().as_secs_f64());
        }
        Ok(took)
    }

    /// Fills a channel with messages 1 to `count`, as a server would have stored them.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) fn fill(
        &self,
        number: usize,
        count: u64,
        payload_bytes: usize,
    ) -> anyhow::Result<()> {
        let (name, id) = (channel(number), number as i32 + 1);
        for first in (1..=count).step_by(BATCH as usize) {
            let sequences = first..(first + BATCH).min(count + 1);
            let timestamp = nanoseconds();
            let data: Vec<_> = sequences
                .clone()
                .map(|sequence| message(&name, sequence, timestamp, payload_bytes))
                .collect();
            let places = sequences.map(|sequence| (id, sequence as i64));
            self.write(timestamp, places.zip(data.iter().map(Vec::as_slice)))?;
        }
        Ok(())
    }

    fn write<'a>(
        &self,
        timestamp: i64,
        rows: impl IntoIterator<Item = ((i32, i64), &'a [u8])>,
    ) -> anyhow::Result<()> {
        let (places, data): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let (ids, sequences): (Vec<i32>, Vec<i64>) = places.into_iter().unzip();
        let timestamps = vec![timestamp; data.len()];
        let sizes: Vec<i32> = data.iter().map(|data| data.len() as i32).collect();
        let written = self.runtime.block_on(self.client.execute(
            &self.insert,
            &[&self.owner, &ids, &sequences, &timestamps, &sizes, &data],
        ))?;
        ensure!(
            written == data.len() as u64,
            "{written} rows of {} are written",
            data.len()
        );
        Ok(())
    }

    /// Reads channel 1, which holds `stored` messages, from its beginning for `length`, again when it has come to the
    /// end; how many rows it was.
    ///
    /// # Errors
    /// When the database refuses or a row is missing.
    pub(crate) fn read_for(&self, stored: u64, length: Duration) -> anyhow::Result<u64> {
        let (mut seen, end) = (0, Instant::now() + length);
        while Instant::now() < end {
            seen += self.runtime.block_on(self.read_until(stored, end))?;
        }
        Ok(seen)
    }

    async fn read_until(&self, stored: u64, end: Instant) -> anyhow::Result<u64> {
        // As a broker does for its readers: the planner knows nothing about a table that grows.
        let plan = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan";
        self.client.batch_execute(plan).await?;
        let statement = self.client.prepare(READ).await?;
        let ranges = stream::iter((1..=stored).step_by(BATCH as usize));
        let ranges = ranges.take_while(|_| std::future::ready(Instant::now() < end));
        let rows = ranges.map(|first| {
            let statement = &statement;
            async move {
                let until = (first + BATCH).min(stored + 1);
                let range = [first as i64, until as i64];
                let rows = self
                    .client
                    .query(statement, &[&1, &range[0], &range[1]])
                    .await?;
                Ok::<_, tokio_postgres::Error>((until - first, rows))
            }
        });
        let seen =
            rows.buffered(RANGES_IN_FLIGHT)
                .try_fold(0, |seen, (expected, rows)| async move {
                    // Looked at, as whoever sends them on must.
                    let bytes: usize = rows.iter().map(|row| row.get::<_, &[u8]>(1).len()).sum();
                    std::hint::black_box(bytes);
                    Ok(match rows.len() as u64 == expected {
                        true => seen + expected,
                        false => u64::MAX,
                    })
                });
        let seen = seen.await?;
        ensure!(seen != u64::MAX, "rows are missing");
        Ok(seen)
    }
}

impl Rows {
    /// Channel and sequence of a row, counted from 0.
    fn place(self, number: u64) -> (i32, i64) {
        let channels = self.channels as u64;
        (
            (number % channels) as i32 + 1,
            (number / channels) as i64 + 1,
        )
    }
}

fn message(channel: &str, sequence: u64, timestamp: i64, payload_bytes: usize) -> Vec<u8> {
    let message = MsgProto {
        sequence,
        subject: channel.to_owned(),
        data: vec![b'x'; payload_bytes].into(),
        timestamp,
        ..MsgProto::default()
    };
    message.encode_to_vec()
}

fn nanoseconds() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp_nanos() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_the_same_place() {
        let rows = Rows {
            channels: 3,
            payload_bytes: 1,
        };
        let places: Vec<_> = (0..6).map(|number| rows.place(number)).collect();
        assert_eq!(places, [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]);
    }
}
