//! Everything but messages, in one fenced statement a flush.

use broker_core::durable::ChannelId;
use prost::Message;
use tokio_postgres::types::ToSql;

use super::{
    messages::{Fenced, channel_column},
    session::{Failure, Session},
};
use crate::{
    final_state::{FinalState, SubscriptionChange, SubscriptionNumbers},
    records::{encode_sequences, to_column},
};

/// Parts of the statement touch different tables or different rows: no row may be changed twice in
/// one statement. The order of parts is undefined and does not matter.
pub(super) const WRITE: &str = "
    WITH owner AS MATERIALIZED (SELECT 1 FROM StoreLock WHERE id = $1 FOR KEY SHARE),
    info AS (
        INSERT INTO ServerInfo (uniquerow, id, proto, version)
        SELECT 1, $2::text, $3::bytea, 1 WHERE $2::text IS NOT NULL AND EXISTS (SELECT FROM owner)
        ON CONFLICT (uniquerow) DO UPDATE
        SET id = excluded.id, proto = excluded.proto, version = excluded.version),
    clients_put AS (
        INSERT INTO Clients (id, hbinbox, proto)
        SELECT unnest($4::text[]), unnest($5::text[]), unnest($6::bytea[]) WHERE EXISTS (SELECT FROM owner)
        ON CONFLICT (id) DO UPDATE SET hbinbox = excluded.hbinbox, proto = excluded.proto),
    clients_gone AS (
        DELETE FROM Clients WHERE id = ANY ($7::text[]) AND EXISTS (SELECT FROM owner)),
    channels_put AS (
        INSERT INTO Channels AS c (id, name, maxmsgs, maxbytes, maxage, deleted)
        SELECT unnest($8::int4[]), unnest($9::text[]), unnest($10::int4[]), unnest($11::int8[]), unnest($12::int8[]),
               unnest($30::bool[])
        WHERE EXISTS (SELECT FROM owner)
        ON CONFLICT (id) DO UPDATE
        SET name = excluded.name, maxmsgs = excluded.maxmsgs, maxbytes = excluded.maxbytes,
            maxage = excluded.maxage, deleted = c.deleted OR excluded.deleted),
    channels_gone AS (
        UPDATE Channels SET deleted = TRUE WHERE id = ANY ($31::int4[]) AND EXISTS (SELECT FROM owner)),
    subs_put AS (
        INSERT INTO Subscriptions AS s (id, subid, lastsent, proto, deleted)
        SELECT unnest($13::int4[]), unnest($14::int8[]), unnest($15::int8[]), unnest($16::bytea[]), unnest($17::bool[])
        WHERE EXISTS (SELECT FROM owner)
        ON CONFLICT (id, subid) DO UPDATE
        SET lastsent = greatest(s.lastsent, excluded.lastsent), proto = excluded.proto,
            deleted = excluded.deleted),
    subs_sent AS (
        UPDATE Subscriptions s SET lastsent = greatest(s.lastsent, t.lastsent), deleted = s.deleted OR t.deleted
        FROM (SELECT unnest($18::int4[]) AS id, unnest($19::int8[]) AS subid, unnest($20::int8[]) AS lastsent,
                     unnest($21::bool[]) AS deleted) t
        WHERE s.id = t.id AND s.subid = t.subid AND EXISTS (SELECT FROM owner)),
    subs_gone AS (
        DELETE FROM Subscriptions s
        USING (SELECT unnest($22::int4[]) AS id, unnest($23::int8[]) AS subid) t
        WHERE s.id = t.id AND s.subid = t.subid AND EXISTS (SELECT FROM owner)),
    pending_gone AS (
        DELETE FROM SubsPending p
        USING (SELECT unnest($24::int8[]) AS subid, unnest($25::int8[]) AS row) t
        WHERE p.subid = t.subid AND p.row < t.row AND EXISTS (SELECT FROM owner)),
    pending_put AS (
        INSERT INTO SubsPending (subid, row, lastsent, pending)
        SELECT unnest($26::int8[]), unnest($27::int8[]), unnest($28::int8[]), unnest($29::bytea[])
        WHERE EXISTS (SELECT FROM owner)
        ON CONFLICT (subid, row) DO NOTHING)
    SELECT count(*) FROM owner";

/// Above every row number of pending sets: all rows of the subscription go.
const ALL_ROWS: i64 = i64::MAX;

/// Final values as columns; arrays of one group have equal length.
#[derive(Debug, Default)]
pub(super) struct ChangeColumns {
    info_id: Option<String>,
    info: Option<Vec<u8>>,
    clients: Vec<String>,
    client_inboxes: Vec<String>,
    client_records: Vec<Vec<u8>>,
    clients_gone: Vec<String>,
    channels: Vec<i32>,
    channel_names: Vec<String>,
    max_msgs: Vec<i32>,
    max_bytes: Vec<i64>,
    max_ages: Vec<i64>,
    channels_deleted: Vec<bool>,
    channels_gone: Vec<i32>,
    put: SubscriptionColumns,
    records: Vec<Vec<u8>>,
    sent: SubscriptionColumns,
    gone_channels: Vec<i32>,
    gone: Vec<i64>,
    stale: Vec<i64>,
    stale_below: Vec<i64>,
    pending: Vec<i64>,
    pending_rows: Vec<i64>,
    pending_last_sent: Vec<i64>,
    pending_sets: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct SubscriptionColumns {
    channels: Vec<i32>,
    ids: Vec<i64>,
    last_sent: Vec<i64>,
    deleted: Vec<bool>,
}

impl SubscriptionColumns {
    fn push(&mut self, id: u64, change: &SubscriptionChange) {
        self.channels.push(channel_column(change.channel));
        self.ids.push(to_column(id));
        self.last_sent.push(to_column(change.last_sent()));
        self.deleted.push(change.deleted);
    }
}

impl ChangeColumns {
    /// `next_row` gives row numbers of pending sets, each higher than all before.
    pub(super) fn of(
        state: &FinalState,
        numbers: &SubscriptionNumbers,
        mut next_row: impl FnMut() -> i64,
    ) -> Self {
        let mut columns = Self {
            info_id: state
                .server_info
                .as_ref()
                .map(|info| info.cluster_id.clone()),
            info: state.server_info.as_ref().map(Message::encode_to_vec),
            ..Self::default()
        };
        for (id, client) in &state.clients {
            let Some(info) = client else {
                columns.clients_gone.push(id.clone());
                continue;
            };
            columns.clients.push(id.clone());
            columns.client_inboxes.push(info.hb_inbox.clone());
            columns.client_records.push(info.encode_to_vec());
        }
        for (id, (name, limits)) in &state.channels {
            columns.channels.push(channel_column(*id));
            columns.channel_names.push(name.clone());
            let max_msgs = i32::try_from(limits.max_msgs).unwrap_or(i32::MAX);
            columns.max_msgs.push(max_msgs);
            columns.max_bytes.push(to_column(limits.max_bytes));
            columns.max_ages.push(to_column(limits.max_age_nanos));
            let is_gone = state.channels_gone.contains(id);
            columns.channels_deleted.push(is_gone);
        }
        let others = state.channels_gone.iter();
        let others = others.filter(|id| !state.channels.contains_key(id));
        columns.channels_gone = others.map(|id| channel_column(*id)).collect();
        let after = numbers.after(state);
        for (id, change) in &state.subscriptions {
            columns.push_subscription(*id, change, &after, &mut next_row);
        }
        for (channel, id) in numbers.purged_by(&after) {
            if !state.subscriptions.contains_key(&id) {
                columns.push_gone(channel, id);
            }
        }
        columns
    }

    fn push_subscription(
        &mut self,
        id: u64,
        change: &SubscriptionChange,
        numbers: &SubscriptionNumbers,
        next_row: &mut impl FnMut() -> i64,
    ) {
        if change.deleted && id != numbers.highest {
            return self.push_gone(change.channel, id);
        }
        match &change.record {
            Some(record) => {
                self.put.push(id, change);
                self.records.push(record.encode_to_vec());
            }
            // A pending row says itself what was sent last.
            None if change.deleted
                || change
                    .pending
                    .as_ref()
                    .is_some_and(|change| change.pending.is_empty()) =>
            {
                self.sent.push(id, change);
            }
            None => {}
        }
        if change.deleted {
            self.stale.push(to_column(id));
            self.stale_below.push(ALL_ROWS);
        }
        if let Some(pending) = &change.pending {
            let row = next_row();
            self.stale.push(to_column(id));
            self.stale_below.push(row);
            if !pending.pending.is_empty() {
                self.pending.push(to_column(id));
                self.pending_rows.push(row);
                self.pending_last_sent.push(to_column(pending.last_sent.0));
                self.pending_sets.push(encode_sequences(&pending.pending));
            }
        }
    }

    fn push_gone(&mut self, channel: ChannelId, id: u64) {
        self.gone_channels.push(channel_column(channel));
        self.gone.push(to_column(id));
        self.stale.push(to_column(id));
        self.stale_below.push(ALL_ROWS);
    }

    /// Writes everything. May be repeated: all values are final ones.
    pub(super) async fn write(&self, session: &Session, owner: &str) -> Result<Fenced, Failure> {
        let parameters: [&(dyn ToSql + Sync); 31] = [
            &owner,
            &self.info_id,
            &self.info,
            &self.clients,
            &self.client_inboxes,
            &self.client_records,
            &self.clients_gone,
            &self.channels,
            &self.channel_names,
            &self.max_msgs,
            &self.max_bytes,
            &self.max_ages,
            &self.put.channels,
            &self.put.ids,
            &self.put.last_sent,
            &self.records,
            &self.put.deleted,
            &self.sent.channels,
            &self.sent.ids,
            &self.sent.last_sent,
            &self.sent.deleted,
            &self.gone_channels,
            &self.gone,
            &self.stale,
            &self.stale_below,
            &self.pending,
            &self.pending_rows,
            &self.pending_last_sent,
            &self.pending_sets,
            &self.channels_deleted,
            &self.channels_gone,
        ];
        let rows = session.query(WRITE, &parameters).await?;
        Ok(if rows[0].get::<_, i64>(0) > 0 {
            Fenced::Done
        } else {
            Fenced::Deposed
        })
    }
}
