//! What channels hold, on record in a table of our own, and counted.
//!
//! The table is a memory aid beside the seven that nats-streaming-server knows: it saves the next start from counting,
//! and everything works without it.

use std::collections::BTreeMap;

use broker_core::durable::{ChannelId, Sequence, Totals};

use super::{
    messages::{Fenced, channel_column},
    session::{Failure, Session},
};
use crate::records::{from_column, to_column};

pub(super) const PUT: &str = "
    WITH owner AS MATERIALIZED (SELECT 1 FROM StoreLock WHERE id = $1 FOR KEY SHARE),
    put AS (
        INSERT INTO stanchion_totals (id, first, last, messages, bytes)
        SELECT unnest($2::int4[]), unnest($3::int8[]), unnest($4::int8[]), unnest($5::int8[]), unnest($6::int8[])
        WHERE EXISTS (SELECT FROM owner)
        ON CONFLICT (id) DO UPDATE
        SET first = excluded.first, last = excluded.last, messages = excluded.messages, bytes = excluded.bytes)
    SELECT count(*) FROM owner";

/// Of channels that somebody else has deleted.
pub(super) const FORGET_OTHERS: &str = "
    DELETE FROM stanchion_totals t WHERE NOT EXISTS (SELECT FROM Channels c WHERE c.id = t.id)";

const COUNT: &str = "
    SELECT count(*), min(seq), coalesce(sum(size), 0)::int8 FROM Messages WHERE id = $1 AND seq <= $2";

/// Totals of a batch as columns of equal length.
#[derive(Debug, Default)]
pub(super) struct TotalsColumns {
    channels: Vec<i32>,
    first: Vec<i64>,
    last: Vec<i64>,
    messages: Vec<i64>,
    bytes: Vec<i64>,
}

impl TotalsColumns {
    pub(super) fn of(totals: &BTreeMap<ChannelId, Totals>) -> Self {
        let mut columns = Self::default();
        for (channel, totals) in totals {
            columns.channels.push(channel_column(*channel));
            columns.first.push(to_column(totals.first.0));
            columns.last.push(to_column(totals.last.0));
            columns.messages.push(to_column(totals.messages));
            columns.bytes.push(to_column(totals.bytes));
        }
        columns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Writes all. May be repeated.
    pub(super) async fn write(&self, session: &Session, owner: &str) -> Result<Fenced, Failure> {
        let rows = session
            .query(
                PUT,
                &[
                    &owner,
                    &self.channels,
                    &self.first,
                    &self.last,
                    &self.messages,
                    &self.bytes,
                ],
            )
            .await?;
        Ok(match rows[0].get::<_, i64>(0) {
            0 => Fenced::Deposed,
            _ => Fenced::Done,
        })
    }
}

/// Removes what is on record of channels that are not there any more.
pub(super) async fn forget_others(session: &Session) -> Result<(), Failure> {
    session.execute(FORGET_OTHERS, &[]).await.map(drop)
}

/// Reads every row of the channel up to there.
pub(super) async fn count(
    session: &Session,
    channel: ChannelId,
    up_to: Sequence,
) -> Result<Totals, Failure> {
    let rows = session
        .query_unhurried(COUNT, &[&channel_column(channel), &to_column(up_to.0)])
        .await?;
    let first: Option<i64> = rows[0].get(1);
    Ok(Totals {
        first: first.map_or(up_to.next(), |first| Sequence(from_column(first))),
        last: up_to,
        messages: from_column(rows[0].get(0)),
        bytes: from_column(rows[0].get(2)),
    })
}
