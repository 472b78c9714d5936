//! Reads everything back in a handful of set-based queries.

use broker_core::durable::{ChannelId, RecordedLimits, Sequence, Totals};
use tokio_postgres::Row;

use super::{
    messages::channel_id,
    session::{Failure, Session},
};
use crate::{
    StoreError,
    final_state::SubscriptionNumbers,
    records::{
        COUNTED_AT_START, ChannelRow, ClientRow, HeldRow, PendingRow, ServerInfoRow, StoredRows,
        SubscriptionRow, from_column,
    },
};

const COUNTERS: &str = "
    SELECT (SELECT max(id) FROM Channels), (SELECT max(subid) FROM Subscriptions),
           (SELECT max(row) FROM SubsPending)";
const MARKED: &str = "SELECT id, subid FROM Subscriptions WHERE deleted";
const SERVER_INFO: &str = "SELECT id, proto, version FROM ServerInfo WHERE uniquerow = 1";
const CLIENTS: &str = "SELECT id, hbinbox, proto FROM Clients ORDER BY id";
const CHANNELS: &str = "SELECT id, name, maxseq, maxmsgs::int8, maxbytes, maxage FROM Channels WHERE NOT coalesce(deleted, FALSE) ORDER BY id";
const DELETED_CHANNELS: &str = "SELECT id FROM Channels WHERE deleted ORDER BY id";
/// What each channel holds, by probes of the index: its ends, what is on record, and what came behind that if it is
/// little (`$1`). The lower bound of the first probe spares it the index entries of everything removed before.
/// The casts, because sums of integers are wider than a column.
macro_rules! held {
    ($totals:literal) => {
        concat!(
            "SELECT c.id, low.seq, high.seq, high.timestamp, t.first, t.last, t.messages, t.bytes,
                    behind.messages, behind.bytes
             FROM Channels c
             CROSS JOIN LATERAL (
                 SELECT seq, timestamp FROM Messages m WHERE m.id = c.id ORDER BY seq DESC LIMIT 1) high
             LEFT JOIN ",
            $totals,
            " t ON t.id = c.id AND t.last <= high.seq
             CROSS JOIN LATERAL (
                 SELECT seq FROM Messages m WHERE m.id = c.id AND m.seq >= coalesce(t.first, 1)
                 ORDER BY seq LIMIT 1) low
             CROSS JOIN LATERAL (
                 SELECT greatest(t.last, low.seq - 1) AS seq,
                        high.seq - greatest(t.last, low.seq - 1) <= $1 AS is_near) edge
             CROSS JOIN LATERAL (
                 SELECT CASE WHEN edge.is_near THEN count(*) END AS messages,
                        coalesce(sum(size), 0)::int8 AS bytes
                 FROM Messages m WHERE m.id = c.id AND m.seq > edge.seq AND edge.is_near) behind
             WHERE NOT coalesce(c.deleted, FALSE)"
        )
    };
}
const HELD: &str = held!("stanchion_totals");
/// Where that table could not be made.
const HELD_WITHOUT_RECORD: &str = held!(
    "(SELECT 0 AS id, 0::int8 AS first, 0::int8 AS last, 0::int8 AS messages, 0::int8 AS bytes WHERE FALSE)"
);
const SUBSCRIPTIONS: &str = "
    SELECT id, subid, lastsent, proto FROM Subscriptions WHERE NOT coalesce(deleted, FALSE) ORDER BY id, subid";
/// In order: a row acknowledges what an earlier one made pending.
const PENDING: &str =
    "SELECT subid, seq, lastsent, pending, acks FROM SubsPending ORDER BY subid, row";

/// All that [`read`] executes.
pub(super) fn statements(has_totals: bool) -> [&'static str; 9] {
    [
        COUNTERS,
        MARKED,
        SERVER_INFO,
        CLIENTS,
        CHANNELS,
        DELETED_CHANNELS,
        held(has_totals),
        SUBSCRIPTIONS,
        PENDING,
    ]
}

fn held(has_totals: bool) -> &'static str {
    match has_totals {
        true => HELD,
        false => HELD_WITHOUT_RECORD,
    }
}

/// The rows, and the counters that an owner continues.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) rows: StoredRows,
    pub(super) numbers: SubscriptionNumbers,
    /// Highest `SubsPending.row`.
    pub(super) last_pending_row: i64,
    /// Marked as deleted and not gone yet.
    pub(super) deleted_channels: Vec<ChannelId>,
}

/// `has_totals`: the table of totals is there.
pub(super) async fn read(session: &Session, has_totals: bool) -> Result<Read, StoreError> {
    read_rows(session, has_totals)
        .await
        .map_err(|failure| failure.into_store_error("reading the store back"))
}

async fn read_rows(session: &Session, has_totals: bool) -> Result<Read, Failure> {
    let counters = session.query_unhurried(COUNTERS, &[]).await?;
    let last_channel: Option<i32> = counters[0].get(0);
    let highest = number(&counters[0], 1);
    let server_info = all(session, SERVER_INFO, |row| ServerInfoRow {
        id: text(row, 0),
        proto: row.get::<_, Option<Vec<u8>>>(1).unwrap_or_default(),
        version: row.get::<_, Option<i32>>(2).unwrap_or_default().into(),
    });
    let rows = StoredRows {
        server_info: server_info.await?.into_iter().next(),
        clients: all(session, CLIENTS, client_row).await?,
        channels: all(session, CHANNELS, channel_row).await?,
        held: read_held(session, has_totals).await?,
        subscriptions: all(session, SUBSCRIPTIONS, subscription_row).await?,
        pending: all(session, PENDING, pending_row).await?,
        last_channel_id: last_channel.map_or(0, |id| channel_id(id).0),
        last_subscription_id: highest,
    };
    let marked = all(session, MARKED, |row| {
        (channel_id(row.get(0)), number(row, 1))
    })
    .await?;
    Ok(Read {
        rows,
        numbers: SubscriptionNumbers { highest, marked },
        last_pending_row: counters[0].get::<_, Option<i64>>(2).unwrap_or(0),
        deleted_channels: all(session, DELETED_CHANNELS, |row| channel_id(row.get(0))).await?,
    })
}

async fn all<T>(
    session: &Session,
    sql: &'static str,
    decode: impl Fn(&Row) -> T,
) -> Result<Vec<T>, Failure> {
    let rows = session.query_unhurried(sql, &[]).await?;
    Ok(rows.iter().map(decode).collect())
}

fn client_row(row: &Row) -> ClientRow {
    ClientRow {
        id: row.get(0),
        heartbeat_inbox: text(row, 1),
        proto: row.get(2),
    }
}

fn channel_row(row: &Row) -> ChannelRow {
    ChannelRow {
        id: channel_id(row.get(0)),
        name: row.get(1),
        max_sequence: number(row, 2),
        limits: RecordedLimits {
            max_msgs: number(row, 3),
            max_bytes: number(row, 4),
            max_age_nanos: number(row, 5),
        },
    }
}

async fn read_held(session: &Session, has_totals: bool) -> Result<Vec<HeldRow>, Failure> {
    let statement = held(has_totals);
    let rows = session
        .query_unhurried(statement, &[&COUNTED_AT_START])
        .await?;
    Ok(rows.iter().map(held_row).collect())
}

fn held_row(row: &Row) -> HeldRow {
    let is_recorded = row.get::<_, Option<i64>>(5).is_some();
    let is_counted = row.get::<_, Option<i64>>(8).is_some();
    HeldRow {
        channel: channel_id(row.get(0)),
        first: number(row, 1),
        last: number(row, 2),
        last_timestamp: row.get::<_, Option<i64>>(3).unwrap_or(0),
        recorded: is_recorded.then(|| Totals {
            first: Sequence(number(row, 4)),
            last: Sequence(number(row, 5)),
            messages: number(row, 6),
            bytes: number(row, 7),
        }),
        behind: is_counted.then(|| (number(row, 8), number(row, 9))),
    }
}

fn subscription_row(row: &Row) -> SubscriptionRow {
    SubscriptionRow {
        channel: channel_id(row.get(0)),
        id: number(row, 1),
        last_sent: number(row, 2),
        proto: row.get::<_, Option<Vec<u8>>>(3).unwrap_or_default(),
    }
}

fn pending_row(row: &Row) -> PendingRow {
    PendingRow {
        subscription: number(row, 0),
        sequence: number(row, 1),
        last_sent: number(row, 2),
        pending: row.get(3),
        acks: row.get(4),
    }
}

/// A BIGINT that no constraint keeps from being NULL.
fn number(row: &Row, column: usize) -> u64 {
    from_column(row.get::<_, Option<i64>>(column).unwrap_or(0))
}

fn text(row: &Row, column: usize) -> String {
    row.get::<_, Option<String>>(column).unwrap_or_default()
}
