//! Rows of messages: one fenced statement a flush, and the proof of what happened when its answer
//! was lost.

use std::collections::{BTreeMap, HashMap};

use broker_core::durable::{Batch, ChannelId, Sequence};

use super::session::{Failure, Session};
use crate::{
    final_state::{Removal, removals, surviving_rows},
    records::{from_column, to_column},
};

/// Fence: the row of the owner is locked while its statement runs, so that whoever takes the store
/// over (`SELECT ... FOR UPDATE`) waits for it, and the statement of a deposed owner finds no row.
/// `FOR KEY SHARE`, because the owner's own tick must not wait for flushes.
///
/// `unnest` in the select list, because rows then need no tuple store (+14 %); no `ON CONFLICT`,
/// because it costs a third of the rate.
const INSERT: &str = "
    WITH owner AS MATERIALIZED (SELECT 1 FROM StoreLock WHERE id = $1 FOR KEY SHARE)
    INSERT INTO Messages (id, seq, timestamp, size, data)
    SELECT unnest($2::int4[]), unnest($3::int8[]), unnest($4::int8[]), unnest($5::int4[]), unnest($6::bytea[])
    WHERE EXISTS (SELECT FROM owner)";

/// As `INSERT`, with removals. The lower bound keeps the delete from walking the index entries of
/// everything deleted before.
const INSERT_AND_TRIM: &str = "
    WITH owner AS MATERIALIZED (SELECT 1 FROM StoreLock WHERE id = $1 FOR KEY SHARE),
    trimmed AS (
        DELETE FROM Messages m
        USING (SELECT unnest($7::int4[]) AS id, unnest($8::int8[]) AS low, unnest($9::int8[]) AS high) t
        WHERE m.id = t.id AND m.seq >= t.low AND m.seq <= t.high AND EXISTS (SELECT FROM owner)),
    kept AS (
        UPDATE Channels c SET maxseq = greatest(c.maxseq, t.high)
        FROM (SELECT unnest($10::int4[]) AS id, unnest($11::int8[]) AS high) t
        WHERE c.id = t.id AND EXISTS (SELECT FROM owner)),
    stored AS (
        INSERT INTO Messages (id, seq, timestamp, size, data)
        SELECT unnest($2::int4[]), unnest($3::int8[]), unnest($4::int8[]), unnest($5::int4[]), unnest($6::bytea[])
        WHERE EXISTS (SELECT FROM owner))
    SELECT count(*) FROM owner";

const STORED: &str = "
    SELECT m.id, m.seq, m.data
    FROM (SELECT unnest($1::int4[]) AS id, unnest($2::int8[]) AS seq) t
    JOIN Messages m ON m.id = t.id AND m.seq = t.seq";

const LAST: &str = "
    SELECT t.id, (SELECT max(m.seq) FROM Messages m WHERE m.id = t.id)
    FROM unnest($1::int4[]) AS t(id)";

/// What a writing session executes at every flush with messages.
pub(super) const STATEMENTS: [&str; 2] = [INSERT, INSERT_AND_TRIM];

/// What a fenced statement has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fenced {
    Done,
    /// The lock row is not ours any more; nothing was written.
    Deposed,
}

/// What stands in the table on the sequences of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or some rows: what is missing must be written.
    Missing,
    /// All of it, byte for byte.
    All,
    /// Rows of another writer; the last sequences of their channels.
    Foreign(Vec<(ChannelId, Sequence)>),
}

/// The rows and removals of a batch as columns. Five arrays of equal length make the rows.
#[derive(Debug, Default)]
pub(super) struct MessageColumns<'a> {
    channels: Vec<i32>,
    sequences: Vec<i64>,
    timestamps: Vec<i64>,
    sizes: Vec<i32>,
    data: Vec<&'a [u8]>,
    trims: TrimColumns,
}

#[derive(Debug, Default)]
struct TrimColumns {
    channels: Vec<i32>,
    from: Vec<i64>,
    to: Vec<i64>,
    emptied_channels: Vec<i32>,
    emptied_to: Vec<i64>,
}

impl<'a> MessageColumns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let removals = removals(batch);
        let mut columns = Self {
            channels: Vec::with_capacity(batch.rows.len()),
            sequences: Vec::with_capacity(batch.rows.len()),
            timestamps: Vec::with_capacity(batch.rows.len()),
            sizes: Vec::with_capacity(batch.rows.len()),
            data: Vec::with_capacity(batch.rows.len()),
            trims: TrimColumns::of(&removals),
        };
        for row in surviving_rows(batch, &removals) {
            let data = &batch.data[row.start..row.end];
            columns.channels.push(channel_column(row.channel));
            columns.sequences.push(to_column(row.sequence.0));
            columns.timestamps.push(row.timestamp);
            columns
                .sizes
                .push(i32::try_from(data.len()).unwrap_or(i32::MAX));
            columns.data.push(data);
        }
        columns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.trims.channels.is_empty()
    }

    /// Writes everything in one statement. On `Duplicate` nothing was written.
    pub(super) async fn write(&self, session: &Session, owner: &str) -> Result<Fenced, Failure> {
        let is_owner = if self.trims.channels.is_empty() {
            let inserted = session
                .execute(
                    INSERT,
                    &[
                        &owner,
                        &self.channels,
                        &self.sequences,
                        &self.timestamps,
                        &self.sizes,
                        &self.data,
                    ],
                )
                .await?;
            inserted > 0
        } else {
            let trims = &self.trims;
            let rows = session
                .query(
                    INSERT_AND_TRIM,
                    &[
                        &owner,
                        &self.channels,
                        &self.sequences,
                        &self.timestamps,
                        &self.sizes,
                        &self.data,
                        &trims.channels,
                        &trims.from,
                        &trims.to,
                        &trims.emptied_channels,
                        &trims.emptied_to,
                    ],
                )
                .await?;
            rows[0].get::<_, i64>(0) > 0
        };
        Ok(if is_owner {
            Fenced::Done
        } else {
            Fenced::Deposed
        })
    }

    /// Compares the table with the batch, after a write whose outcome is not known.
    pub(super) async fn find(&self, session: &Session) -> Result<Found, Failure> {
        if self.channels.is_empty() {
            return Ok(Found::Missing);
        }
        let rows = session
            .query(STORED, &[&self.channels, &self.sequences])
            .await?;
        let stored: HashMap<(i32, i64), &[u8]> = rows
            .iter()
            .map(|row| ((row.get(0), row.get(1)), row.get(2)))
            .collect();
        let mut missing = false;
        let mut foreign = Vec::new();
        for ((channel, sequence), data) in self.keys().zip(&self.data) {
            match stored.get(&(channel, sequence)) {
                None => missing = true,
                Some(found) if found == data => {}
                Some(_) => foreign.push(channel),
            }
        }
        foreign.dedup();
        if !foreign.is_empty() {
            return Ok(Found::Foreign(last_sequences(session, &foreign).await?));
        }
        Ok(if missing { Found::Missing } else { Found::All })
    }

    fn keys(&self) -> impl Iterator<Item = (i32, i64)> {
        let channels = self.channels.iter().copied();
        channels.zip(self.sequences.iter().copied())
    }
}

impl TrimColumns {
    fn of(removals: &BTreeMap<ChannelId, Removal>) -> Self {
        let mut columns = Self::default();
        for (channel, removal) in removals {
            let (channel, to) = (channel_column(*channel), to_column(removal.to.0));
            columns.channels.push(channel);
            columns.from.push(to_column(removal.from.0));
            columns.to.push(to);
            if removal.may_empty {
                columns.emptied_channels.push(channel);
                columns.emptied_to.push(to);
            }
        }
        columns
    }
}

async fn last_sequences(
    session: &Session,
    channels: &[i32],
) -> Result<Vec<(ChannelId, Sequence)>, Failure> {
    let mut channels = channels.to_vec();
    channels.sort_unstable();
    channels.dedup();
    let rows = session.query(LAST, &[&channels]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let last: Option<i64> = row.get(1);
            (
                channel_id(row.get(0)),
                Sequence(from_column(last.unwrap_or(0))),
            )
        })
        .collect())
}

/// Channel numbers count up from 1; one beyond the column is refused by its own duplicate key.
pub(super) fn channel_column(channel: ChannelId) -> i32 {
    i32::try_from(channel.0).unwrap_or(i32::MAX)
}

pub(super) fn channel_id(column: i32) -> ChannelId {
    ChannelId(u32::try_from(column).unwrap_or(0))
}
