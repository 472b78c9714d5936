//! From rows of the seven tables to what an engine recovers, and the text forms inside the rows.
//!
//! Both stores with tables read the same rows in set-based queries and leave their meaning to this
//! file. A row that cannot be read is reported and left where it is; it stops nothing else. Rules: recovery of nats-streaming-server 0.25.6 (`stores/sqlstore.go`, `Recover`), with its
//! unordered reading of pending rows put right.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use broker_core::durable::{
    ChannelId, RecordedLimits, Recovered, RecoveredChannel, RecoveredSubscription, Sequence, Totals,
};
use broker_proto::streaming::{ClientInfo, ServerInfo, SubState};
use prost::Message;
use tracing::warn;

use crate::StoreError;

/// The only layout there is (`ServerInfo.version`).
pub(crate) const SCHEMA_VERSION: i64 = 1;

/// Everything read from the tables, deleted channels and subscriptions left out.
#[derive(Debug, Default)]
pub(crate) struct StoredRows {
    pub(crate) server_info: Option<ServerInfoRow>,
    pub(crate) clients: Vec<ClientRow>,
    pub(crate) channels: Vec<ChannelRow>,
    pub(crate) held: Vec<HeldRow>,
    pub(crate) subscriptions: Vec<SubscriptionRow>,
    /// Ascending by `row` within a subscription.
    pub(crate) pending: Vec<PendingRow>,
    /// Highest `Channels.id`, deleted ones included; 0 if none.
    pub(crate) last_channel_id: u32,
    /// Highest `Subscriptions.subid`, deleted ones included; 0 if none.
    pub(crate) last_subscription_id: u64,
}

#[derive(Debug)]
pub(crate) struct ServerInfoRow {
    pub(crate) id: String,
    pub(crate) proto: Vec<u8>,
    pub(crate) version: i64,
}

#[derive(Debug)]
pub(crate) struct ClientRow {
    pub(crate) id: String,
    pub(crate) heartbeat_inbox: String,
    /// None or empty in databases from before 0.10.0 of the reference.
    pub(crate) proto: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct ChannelRow {
    pub(crate) id: ChannelId,
    pub(crate) name: String,
    pub(crate) limits: RecordedLimits,
    /// Lower bound of the last sequence, written when the last message was removed.
    pub(crate) max_sequence: u64,
}

/// Messages of a channel that are counted at the start where they are not part of what is on record. It bounds what
/// a start costs; more is counted when the engine asks for it.
pub(crate) const COUNTED_AT_START: i64 = 1_000;

/// What is quickly found out about the messages of a channel; absent for a channel without any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldRow {
    pub(crate) channel: ChannelId,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) last_timestamp: i64,
    /// As written down by an owner; not if that tells of messages behind the last one, which then are gone with the
    /// whole channel and another one has its number.
    pub(crate) recorded: Option<Totals>,
    /// Messages and bytes behind what is on record (behind nothing: of all), if they are few.
    pub(crate) behind: Option<(u64, u64)>,
}

impl HeldRow {
    /// Messages, bytes, and whether they are known for sure.
    fn totals(&self) -> (u64, u64, bool) {
        let span = self.last + 1 - self.first;
        let recorded = self.recorded.unwrap_or(Totals {
            first: Sequence(self.first),
            last: Sequence(self.first - 1),
            ..Totals::default()
        });
        if self.first > recorded.last.0
            && let Some((messages, bytes)) = self.behind
        {
            return (messages, bytes, true);
        }
        if self.first == recorded.first.0
            && let Some((messages, bytes)) = self.behind
        {
            return (recorded.messages + messages, recorded.bytes + bytes, true);
        }
        let bytes = u128::from(recorded.bytes) * u128::from(span);
        let average = bytes.checked_div(u128::from(recorded.messages));
        let bytes = u64::try_from(average.unwrap_or(0)).unwrap_or(u64::MAX);
        (span, bytes, false)
    }
}

#[derive(Debug)]
pub(crate) struct SubscriptionRow {
    pub(crate) channel: ChannelId,
    pub(crate) id: u64,
    pub(crate) last_sent: u64,
    pub(crate) proto: Vec<u8>,
}

/// Either one pending sequence (`sequence > 0`) or two JSON arrays.
#[derive(Debug, Default)]
pub(crate) struct PendingRow {
    pub(crate) subscription: u64,
    pub(crate) sequence: u64,
    pub(crate) last_sent: u64,
    pub(crate) pending: Option<Vec<u8>>,
    pub(crate) acks: Option<Vec<u8>>,
}

impl StoredRows {
    /// What the rows mean together.
    pub(crate) fn assemble(self) -> Result<Recovered, StoreError> {
        let Some(info) = self.server_info else {
            if self.last_channel_id > 0 {
                return Err(corrupt("no server state recovered but channels present"));
            }
            return Ok(Recovered::default());
        };
        let server_info = info.decode()?;
        let clients = self.clients.into_iter().map(ClientRow::decode).collect();
        let held = self.held.iter().map(|row| (row.channel, *row)).collect();
        let mut sent: HashMap<ChannelId, u64> = HashMap::new();
        for row in &self.subscriptions {
            let highest = sent.entry(row.channel).or_default();
            *highest = row.last_sent.max(*highest);
        }
        let mut subscriptions = decode_subscriptions(self.subscriptions, self.pending);
        let channels = without_duplicates(self.channels, &held)
            .into_iter()
            .map(|mut channel| {
                let sent = sent.get(&channel.id).copied().unwrap_or(0);
                channel.max_sequence = channel.max_sequence.max(sent);
                let subscriptions = subscriptions.remove(&channel.id).unwrap_or_default();
                channel.join(&held, subscriptions)
            })
            .collect();
        Ok(Recovered {
            server_info: Some(server_info),
            clients,
            channels,
            last_channel_id: self.last_channel_id,
            last_subscription_id: self.last_subscription_id,
        })
    }
}

impl ServerInfoRow {
    fn decode(&self) -> Result<ServerInfo, StoreError> {
        if self.version != SCHEMA_VERSION {
            return Err(corrupt(format!(
                "unsupported version of the stored state: {} (supports {SCHEMA_VERSION})",
                self.version
            )));
        }
        let info = ServerInfo::decode(self.proto.as_slice())
            .map_err(|error| corrupt(format!("undecodable server info: {error}")))?;
        if info.cluster_id != self.id {
            return Err(corrupt(format!(
                "server info is of cluster {:?} but its id column says {:?}",
                info.cluster_id, self.id
            )));
        }
        Ok(info)
    }
}

impl ClientRow {
    /// The columns say what is needed most; all that old databases have, and what is left of a damaged record.
    fn decode(self) -> ClientInfo {
        let proto = self.proto.filter(|proto| !proto.is_empty());
        match proto.map(|proto| ClientInfo::decode(proto.as_slice())) {
            Some(Ok(info)) if info.id == self.id => return info,
            Some(_) => warn!(
                client = self.id,
                "the stored record of a client is corrupt: only its heartbeat inbox is known"
            ),
            None => {}
        }
        ClientInfo {
            id: self.id,
            hb_inbox: self.heartbeat_inbox,
            ..ClientInfo::default()
        }
    }
}

impl ChannelRow {
    fn join(
        self,
        held: &HashMap<ChannelId, HeldRow>,
        subscriptions: Vec<RecoveredSubscription>,
    ) -> RecoveredChannel {
        let held = held.get(&self.id);
        let sent = subscriptions.iter().map(|sub| sub.state.last_sent).max();
        // A subscription can have been sent what has been removed since, so it bounds from below.
        let last = held
            .map_or(0, |row| row.last)
            .max(self.max_sequence)
            .max(sent.unwrap_or(0));
        let first = match held {
            Some(row) => row.first,
            None if last > 0 => last + 1,
            None => 0,
        };
        let (messages, bytes, is_counted) = held.map_or((0, 0, true), HeldRow::totals);
        RecoveredChannel {
            id: self.id,
            name: self.name,
            limits: self.limits,
            first: Sequence(first),
            last: Sequence(last),
            messages,
            bytes,
            is_counted,
            last_timestamp: held.map_or(0, |row| row.last_timestamp),
            subscriptions,
        }
    }
}

/// No constraint keeps two live rows from having one name (two unguarded reference servers can make
/// them). The one with more messages is served, the other's rows stay where they are.
fn without_duplicates(
    channels: Vec<ChannelRow>,
    held: &HashMap<ChannelId, HeldRow>,
) -> Vec<ChannelRow> {
    let messages = |channel: &ChannelRow| held.get(&channel.id).map_or(0, |row| row.totals().0);
    let mut by_name: BTreeMap<String, ChannelRow> = BTreeMap::new();
    for channel in channels {
        let Some(other) = by_name.get_mut(&channel.name) else {
            by_name.insert(channel.name.clone(), channel);
            continue;
        };
        let mut unused = channel;
        if messages(&unused) > messages(other) {
            std::mem::swap(&mut unused, other);
        }
        warn!(
            channel = other.name,
            used = other.id.0,
            unused = unused.id.0,
            "two stored channels have the same name"
        );
    }
    let mut kept: Vec<_> = by_name.into_values().collect();
    kept.sort_by_key(|channel| channel.id);
    kept
}

fn decode_subscriptions(
    rows: Vec<SubscriptionRow>,
    pending: Vec<PendingRow>,
) -> HashMap<ChannelId, Vec<RecoveredSubscription>> {
    let mut pending_of: HashMap<u64, Vec<PendingRow>> = HashMap::new();
    for row in pending {
        pending_of.entry(row.subscription).or_default().push(row);
    }
    let mut recovered: HashMap<ChannelId, Vec<RecoveredSubscription>> = HashMap::new();
    for row in rows {
        let state = SubState::decode(row.proto.as_slice());
        let Ok(mut state) = state else {
            warn!(
                subscription = row.id,
                channel = row.channel.0,
                "the stored record of a subscription is corrupt and not used"
            );
            continue;
        };
        state.id = row.id;
        state.last_sent = state.last_sent.max(row.last_sent);
        let rows = pending_of.remove(&row.id).unwrap_or_default();
        let pending = replay(&mut state, &rows);
        recovered
            .entry(row.channel)
            .or_default()
            .push(RecoveredSubscription { state, pending });
    }
    recovered
}

/// Applies pending rows in their order; within a row acknowledgements come first, because a queue
/// message that was acknowledged by one member can come back to it later.
fn replay(state: &mut SubState, rows: &[PendingRow]) -> Vec<Sequence> {
    let mut pending = BTreeSet::new();
    for row in rows {
        state.last_sent = state.last_sent.max(row.last_sent).max(row.sequence);
        if row.sequence > 0 {
            pending.insert(row.sequence);
            continue;
        }
        for acked in decode_sequences(row.acks.as_deref(), state.id) {
            pending.remove(&acked);
        }
        pending.extend(decode_sequences(row.pending.as_deref(), state.id));
    }
    pending.into_iter().map(Sequence).collect()
}

fn decode_sequences(text: Option<&[u8]>, subscription: u64) -> Vec<u64> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Vec::new();
    };
    match serde_json::from_slice::<Option<Vec<u64>>>(text) {
        Ok(sequences) => sequences.unwrap_or_default(),
        Err(error) => {
            warn!(
                subscription,
                "a stored row of pending messages is corrupt and not used: {error}"
            );
            Vec::new()
        }
    }
}

/// JSON array text of sequence numbers, as the reference writes and reads it.
pub(crate) fn encode_sequences(sequences: &[Sequence]) -> Vec<u8> {
    let numbers: Vec<u64> = sequences.iter().map(|sequence| sequence.0).collect();
    serde_json::to_vec(&numbers).expect("numbers are always JSON")
}

/// An unsigned number as a BIGINT column holds it. What does not fit (no real sequence, size or
/// duration) becomes the largest that does.
pub(crate) fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from a BIGINT column; a negative one, which nobody writes, counts as 0.
pub(crate) fn from_column(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(crate) fn corrupt(text: impl Into<String>) -> StoreError {
    StoreError::Corrupt(text.into())
}

#[cfg(test)]
mod tests;
