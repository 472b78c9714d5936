//! Reads everything back in set-based queries.

use broker_core::durable::{ChannelId, RecordedLimits, Sequence, Totals};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::unavailable;
use crate::{
    StoreError,
    final_state::SubscriptionNumbers,
    records::{
        COUNTED_AT_START, ChannelRow, ClientRow, HeldRow, PendingRow, ServerInfoRow, StoredRows,
        SubscriptionRow, from_column, to_column,
    },
};

/// The rows, and the counters that a writer continues.
pub(super) struct Read {
    pub(super) rows: StoredRows,
    pub(super) numbers: SubscriptionNumbers,
    /// Highest `SubsPending.row`.
    pub(super) last_pending_row: i64,
    /// Marked as deleted and not gone yet.
    pub(super) deleted_channels: Vec<ChannelId>,
}

pub(super) fn read(connection: &Connection) -> Result<Read, StoreError> {
    read_rows(connection).map_err(|error| unavailable("reading the file store", error))
}

fn read_rows(connection: &Connection) -> rusqlite::Result<Read> {
    let one = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let last_channel_id = one("SELECT coalesce(max(id), 0) FROM Channels")?;
    let highest = one("SELECT coalesce(max(subid), 0) FROM Subscriptions")?;
    let marked = all(
        connection,
        "SELECT id, subid FROM Subscriptions WHERE deleted <> 0",
        |row| Ok((channel_id(row, 0)?, from_column(row.get(1)?))),
    )?;
    let server_info = all(
        connection,
        "SELECT id, proto, version FROM ServerInfo WHERE uniquerow = 1",
        |row| {
            Ok(ServerInfoRow {
                id: row.get(0)?,
                proto: row.get(1)?,
                version: row.get(2)?,
            })
        },
    )?;
    let channels = read_channels(connection)?;
    let rows = StoredRows {
        server_info: server_info.into_iter().next(),
        clients: read_clients(connection)?,
        held: read_held(connection, &channels)?,
        channels,
        subscriptions: read_subscriptions(connection)?,
        pending: read_pending(connection)?,
        last_channel_id: u32::try_from(last_channel_id).unwrap_or(0),
        last_subscription_id: from_column(highest),
    };
    Ok(Read {
        rows,
        numbers: SubscriptionNumbers {
            highest: from_column(highest),
            marked,
        },
        deleted_channels: all(
            connection,
            "SELECT id FROM Channels WHERE deleted <> 0 ORDER BY id",
            |row| channel_id(row, 0),
        )?,
        last_pending_row: one("SELECT coalesce(max(row), 0) FROM SubsPending")?,
    })
}

fn read_clients(connection: &Connection) -> rusqlite::Result<Vec<ClientRow>> {
    all(
        connection,
        "SELECT id, hbinbox, proto FROM Clients ORDER BY id",
        |row| {
            Ok(ClientRow {
                id: row.get(0)?,
                heartbeat_inbox: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
                proto: row.get(2)?,
            })
        },
    )
}

fn read_channels(connection: &Connection) -> rusqlite::Result<Vec<ChannelRow>> {
    all(
        connection,
        "SELECT id, name, maxseq, maxmsgs, maxbytes, maxage FROM Channels WHERE deleted = 0 ORDER BY id",
        |row| {
            Ok(ChannelRow {
                id: channel_id(row, 0)?,
                name: row.get(1)?,
                max_sequence: from_column(row.get(2)?),
                limits: RecordedLimits {
                    max_msgs: from_column(row.get(3)?),
                    max_bytes: from_column(row.get(4)?),
                    max_age_nanos: from_column(row.get(5)?),
                },
            })
        },
    )
}

/// By probes of the primary key.
fn read_held(connection: &Connection, channels: &[ChannelRow]) -> rusqlite::Result<Vec<HeldRow>> {
    let mut newest = connection
        .prepare("SELECT seq, coalesce(timestamp, 0) FROM Messages WHERE id = ?1 AND seq > 0 ORDER BY seq DESC LIMIT 1")?;
    let mut oldest = connection
        .prepare("SELECT seq FROM Messages WHERE id = ?1 AND seq > 0 ORDER BY seq LIMIT 1")?;
    let mut record = connection.prepare(
        "SELECT first, last, messages, bytes FROM stanchion_totals WHERE id = ?1 AND last <= ?2",
    )?;
    let mut count = connection.prepare(
        "SELECT count(*), coalesce(sum(size), 0) FROM Messages WHERE id = ?1 AND seq > ?2",
    )?;
    let mut held = Vec::new();
    for channel in channels.iter().map(|row| row.id) {
        let newest = newest.query_row([channel.0], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((last, last_timestamp)): Option<(i64, i64)> = newest.optional()? else {
            continue;
        };
        let first: i64 = oldest.query_row([channel.0], |row| row.get(0))?;
        let record = record.query_row(params![channel.0, last], totals);
        let recorded = record.optional()?;
        let behind = recorded.map_or(first - 1, |totals| to_column(totals.last.0).max(first - 1));
        let behind = match last - behind <= COUNTED_AT_START {
            true => Some(count.query_row(params![channel.0, behind], |row| {
                Ok((from_column(row.get(0)?), from_column(row.get(1)?)))
            })?),
            false => None,
        };
        held.push(HeldRow {
            channel,
            first: from_column(first),
            last: from_column(last),
            last_timestamp,
            recorded,
            behind,
        });
    }
    Ok(held)
}

fn totals(row: &Row<'_>) -> rusqlite::Result<Totals> {
    Ok(Totals {
        first: Sequence(from_column(row.get(0)?)),
        last: Sequence(from_column(row.get(1)?)),
        messages: from_column(row.get(2)?),
        bytes: from_column(row.get(3)?),
    })
}

fn read_subscriptions(connection: &Connection) -> rusqlite::Result<Vec<SubscriptionRow>> {
    all(
        connection,
        "SELECT id, subid, lastsent, proto FROM Subscriptions WHERE deleted = 0 ORDER BY id, subid",
        |row| {
            Ok(SubscriptionRow {
                channel: channel_id(row, 0)?,
                id: from_column(row.get(1)?),
                last_sent: from_column(row.get(2)?),
                proto: row.get(3)?,
            })
        },
    )
}

fn read_pending(connection: &Connection) -> rusqlite::Result<Vec<PendingRow>> {
    all(
        connection,
        "SELECT subid, seq, lastsent, pending, acks FROM SubsPending ORDER BY subid, row",
        |row| {
            Ok(PendingRow {
                subscription: from_column(row.get(0)?),
                sequence: from_column(row.get(1)?),
                last_sent: from_column(row.get(2)?),
                pending: row.get(3)?,
                acks: row.get(4)?,
            })
        },
    )
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    decode: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], decode)?.collect()
}

fn channel_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ChannelId> {
    row.get(column).map(ChannelId)
}
