//! A store as a few maps. It checks what every store relies on: sequences without holes or
//! repetition, changes for channels that exist, trims that touch no row of their own batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
};

use broker_proto::streaming::{ClientInfo, MsgProto, ServerInfo, SubState};
use bytes::Bytes;
use prost::Message as _;

use crate::durable::{
    Batch, Change, ChannelId, RecordedLimits, Recovered, RecoveredChannel, RecoveredSubscription,
    Sequence, StoredMessage, StoredRange, Totals,
};

#[derive(Clone, Debug, Default)]
pub(super) struct ModelStore {
    server_info: Option<ServerInfo>,
    clients: BTreeMap<String, ClientInfo>,
    channels: BTreeMap<u32, ChannelRecord>,
    /// How many channels of a name were deleted.
    eras: BTreeMap<String, u64>,
    last_subscription_id: u64,
    /// Records that were to be deleted by a batch that was refused: they stay until their channel goes.
    left: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ChannelRecord {
    pub(super) name: String,
    pub(super) limits: RecordedLimits,
    rows: BTreeMap<u64, StoredMessage>,
    /// Payload of every message ever stored, trimmed ones included.
    history: BTreeMap<u64, Bytes>,
    max_sequence: u64,
    /// As written down last.
    pub(super) totals: Option<Totals>,
    subs: BTreeMap<u64, (SubState, Vec<Sequence>)>,
}

impl ModelStore {
    pub(super) fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            self.change(change);
        }
        for trim in &batch.trims {
            let channel = self
                .channels
                .get_mut(&trim.channel.0)
                .expect("trimmed channels exist");
            assert!(trim.from <= trim.to && trim.to.0 <= channel.max_sequence);
            channel
                .rows
                .retain(|sequence, _| *sequence < trim.from.0 || *sequence > trim.to.0);
            let first = channel.rows.keys().next().copied().unwrap_or(u64::MAX);
            assert!(first > trim.to.0, "a trim begins at the first message");
        }
        for row in &batch.rows {
            let channel = self
                .channels
                .get_mut(&row.channel.0)
                .expect("the channel exists");
            assert_eq!(
                row.sequence.0,
                channel.max_sequence + 1,
                "sequences have no hole"
            );
            let data = batch.message(row);
            let message = MsgProto::decode(&data[..]).unwrap();
            assert_eq!(
                (message.sequence, message.timestamp),
                (row.sequence.0, row.timestamp)
            );
            assert_eq!(message.subject, channel.name);
            assert!(!message.redelivered && message.redelivery_count == 0);
            let stored = StoredMessage {
                sequence: row.sequence,
                timestamp: row.timestamp,
                data,
            };
            channel.max_sequence = row.sequence.0;
            channel.history.insert(row.sequence.0, message.data);
            channel.rows.insert(row.sequence.0, stored);
        }
    }

    /// Takes nothing of a batch.
    pub(super) fn refuse(&mut self, batch: &Batch) {
        for change in &batch.changes {
            if let Change::DeleteSubscription { id, .. } = change {
                self.left.insert(id.0);
            }
        }
    }

    fn change(&mut self, change: &Change) {
        match change.clone() {
            Change::PutServerInfo(info) => self.server_info = Some(info),
            Change::PutClient(info) => drop(self.clients.insert(info.id.clone(), info)),
            Change::DeleteClient { id } => drop(self.clients.remove(&id)),
            Change::PutChannel { id, limits, .. } if self.channels.contains_key(&id.0) => {
                self.channels.get_mut(&id.0).unwrap().limits = limits.into();
            }
            Change::PutChannel { id, name, limits } => {
                assert!(
                    self.channel(&name).is_none(),
                    "a name is one channel's at a time"
                );
                let record = ChannelRecord {
                    name,
                    limits: limits.into(),
                    ..ChannelRecord::default()
                };
                assert!(
                    self.channels.insert(id.0, record).is_none(),
                    "a channel is made once"
                );
            }
            Change::DeleteChannel { id } => {
                let gone = self.channels.remove(&id.0).unwrap();
                assert!(
                    gone.subs.keys().all(|id| self.left.contains(id)),
                    "records are deleted before their channel"
                );
                *self.eras.entry(gone.name).or_default() += 1;
            }
            Change::PutSubscription { channel, state } => {
                self.last_subscription_id = self.last_subscription_id.max(state.id);
                let subs = &mut self.channels.get_mut(&channel.0).unwrap().subs;
                let id = state.id;
                subs.entry(id).or_default().0 = state;
            }
            Change::DeleteSubscription { channel, id } => {
                self.channels
                    .get_mut(&channel.0)
                    .unwrap()
                    .subs
                    .remove(&id.0);
            }
            Change::PutTotals { channel, totals } => {
                let channel = self.channels.get_mut(&channel.0).unwrap();
                assert!(
                    totals.last.0 <= channel.max_sequence,
                    "they are of what is durable"
                );
                channel.totals = Some(totals);
            }
            Change::PutPending {
                channel,
                id,
                last_sent,
                pending,
            } => {
                assert!(pending.is_sorted());
                let channel = self.channels.get_mut(&channel.0).unwrap();
                assert!(
                    last_sent.0 <= channel.max_sequence,
                    "only durable messages are sent"
                );
                let sub = channel
                    .subs
                    .get_mut(&id.0)
                    .expect("positions belong to a record");
                sub.0.last_sent = sub.0.last_sent.max(last_sent.0);
                sub.1 = pending;
            }
        }
    }

    pub(super) fn read(&self, channel: ChannelId, from: Sequence, max_rows: usize) -> StoredRange {
        let rows = self.rows(channel, from.0..).take(max_rows);
        let messages: Vec<_> = rows.cloned().collect();
        messages.into()
    }

    /// A message turns into something else.
    pub(super) fn corrupt_row(&mut self, channel: &str, sequence: u64) {
        let mut channels = self.channels.values_mut();
        let channel = channels.find(|record| record.name == channel).unwrap();
        let row = channel.rows.get_mut(&sequence).unwrap();
        let mut data = row.data.to_vec();
        data[1] ^= 1;
        row.data = data.into();
    }

    pub(super) fn find(&self, channel: ChannelId, timestamp: i64) -> Option<Sequence> {
        let mut rows = self.rows(channel, ..);
        rows.find(|message| message.timestamp >= timestamp)
            .map(|message| message.sequence)
    }

    /// What there is of a channel: nothing if it is gone, or not there yet.
    fn rows(
        &self,
        channel: ChannelId,
        range: impl RangeBounds<u64>,
    ) -> impl Iterator<Item = &StoredMessage> {
        let record = self.channels.get(&channel.0);
        let rows = record.map(|record| record.rows.range(range));
        rows.into_iter().flatten().map(|(_, message)| message)
    }

    pub(super) fn count(&self, channel: ChannelId, up_to: Sequence) -> Totals {
        let rows: Vec<_> = self.rows(channel, ..=up_to.0).collect();
        Totals {
            first: rows.first().map_or(up_to.next(), |row| row.sequence),
            last: up_to,
            messages: rows.len() as u64,
            bytes: rows.iter().map(|row| row.data.len() as u64).sum(),
        }
    }

    pub(super) fn recover(&self) -> Recovered {
        Recovered {
            server_info: self.server_info.clone(),
            clients: self.clients.values().cloned().collect(),
            channels: self
                .channels
                .iter()
                .map(|(id, channel)| recovered(*id, channel))
                .collect(),
            last_channel_id: self.channels.keys().next_back().copied().unwrap_or(0),
            last_subscription_id: self.last_subscription_id,
        }
    }

    /// What is stored in a channel: sequence and payload.
    pub(super) fn messages(&self, channel: &str) -> Vec<(u64, Bytes)> {
        let record = self.channel(channel);
        let rows = record
            .map(|record| record.rows.values())
            .into_iter()
            .flatten();
        rows.map(|row| {
            (
                row.sequence.0,
                MsgProto::decode(&row.data[..]).unwrap().data,
            )
        })
        .collect()
    }

    /// First sequence that a channel holds, and the last it ever held; as with one that was emptied if there is none.
    pub(super) fn range(&self, channel: &str) -> (u64, u64) {
        self.channel(channel).map_or((1, 0), |record| {
            let first = record.rows.keys().next().copied();
            let last = record.max_sequence;
            (first.unwrap_or(last + 1), last)
        })
    }

    /// Payloads of all messages a channel ever held, by sequence.
    pub(super) fn history(&self, channel: &str) -> BTreeMap<u64, Bytes> {
        self.channel(channel)
            .map(|record| record.history.clone())
            .unwrap_or_default()
    }

    /// Whether a channel ever held this payload under this sequence.
    pub(super) fn has_held(&self, channel: &str, sequence: u64, data: &Bytes) -> bool {
        let record = self.channel(channel);
        record.is_some_and(|record| record.history.get(&sequence) == Some(data))
    }

    /// Whether a channel ever held this payload; quick for a recent one.
    pub(super) fn has_payload(&self, channel: &str, data: &str) -> bool {
        let record = self.channel(channel);
        record.is_some_and(|record| record.history.values().rev().any(|held| held == data))
    }

    /// How many channels of this name were deleted: another one's sequences begin anew.
    pub(super) fn era(&self, channel: &str) -> u64 {
        self.eras.get(channel).copied().unwrap_or_default()
    }

    pub(super) fn has_client(&self, id: &str) -> bool {
        self.clients.contains_key(id)
    }

    pub(super) fn forget_client(&mut self, id: &str) {
        self.clients.remove(id);
    }

    pub(super) fn forget_server_info(&mut self) {
        self.server_info = None;
    }

    /// Puts a record of a subscription there that no engine of ours wrote.
    pub(super) fn plant(&mut self, channel: &str, state: SubState, pending: &[u64]) {
        self.last_subscription_id = self.last_subscription_id.max(state.id);
        let record = self
            .channels
            .values_mut()
            .find(|record| record.name == channel)
            .unwrap();
        let pending = pending.iter().map(|sequence| Sequence(*sequence)).collect();
        record.subs.insert(state.id, (state, pending));
    }

    /// Rows that another writer put behind ours.
    pub(super) fn plant_row(&mut self, channel: &str, data: &'static str) -> (ChannelId, Sequence) {
        let (id, record) = self
            .channels
            .iter_mut()
            .find(|(_, record)| record.name == channel)
            .unwrap();
        record.max_sequence += 1;
        let sequence = record.max_sequence;
        let message = MsgProto {
            sequence,
            subject: channel.into(),
            data: data.into(),
            timestamp: 1,
            ..MsgProto::default()
        };
        let data = message.encode_to_vec().into();
        record.history.insert(sequence, message.data);
        record.rows.insert(
            sequence,
            StoredMessage {
                sequence: Sequence(sequence),
                timestamp: 1,
                data,
            },
        );
        (ChannelId(*id), Sequence(sequence))
    }

    /// Makes a hole.
    pub(super) fn lose_row(&mut self, channel: &str, sequence: u64) {
        let record = self
            .channels
            .values_mut()
            .find(|record| record.name == channel)
            .unwrap();
        record.rows.remove(&sequence).unwrap();
    }

    pub(super) fn subs(&self, channel: &str) -> Vec<(SubState, Vec<u64>)> {
        let subs = self
            .channel(channel)
            .map(|record| record.subs.values())
            .into_iter()
            .flatten();
        subs.map(|(state, pending)| (state.clone(), pending.iter().map(|one| one.0).collect()))
            .collect()
    }

    pub(super) fn channel(&self, name: &str) -> Option<&ChannelRecord> {
        self.channels.values().find(|channel| channel.name == name)
    }
}

fn recovered(id: u32, channel: &ChannelRecord) -> RecoveredChannel {
    let subscription = |(state, pending): &(SubState, Vec<Sequence>)| RecoveredSubscription {
        state: state.clone(),
        pending: pending.clone(),
    };
    let first = channel.rows.keys().next().copied();
    RecoveredChannel {
        id: ChannelId(id),
        name: channel.name.clone(),
        limits: channel.limits,
        first: Sequence(match (first, channel.max_sequence) {
            (Some(first), _) => first,
            (None, 0) => 0,
            (None, last) => last + 1,
        }),
        last: Sequence(channel.max_sequence),
        messages: channel.rows.len() as u64,
        bytes: channel.rows.values().map(|row| row.data.len() as u64).sum(),
        is_counted: true,
        last_timestamp: channel
            .rows
            .values()
            .next_back()
            .map_or(0, |row| row.timestamp),
        subscriptions: channel.subs.values().map(subscription).collect(),
    }
}
