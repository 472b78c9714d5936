//! Everything in memory: as lasting as the value itself. Activating it again recovers what it holds.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use ahash::RandomState;
use broker_core::durable::{
    Batch, Change, ChannelId, FlushOutcome, RecordedLimits, Recovered, RecoveredChannel,
    RecoveredSubscription, Row, Sequence, StoredMessage, StoredRange, Totals, Trim,
};
use broker_proto::streaming::{ClientInfo, ServerInfo, SubState};
use bytes::Bytes;
use futures_util::future::{self, FutureExt, LocalBoxFuture};

use crate::{Activation, Store, StoreError};

/// A store without medium and without lock. A message shares the memory of the batch it came in.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: RefCell<State>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "MEMORY"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn owner(&self) -> String {
        String::new()
    }

    fn activate(&self) -> LocalBoxFuture<'_, Result<Activation, StoreError>> {
        let recovered = self.state.borrow().recover();
        future::ready(Ok(Activation::Active(recovered))).boxed_local()
    }

    fn flush(&self, _lane: usize, batch: Arc<Batch>) -> LocalBoxFuture<'_, FlushOutcome> {
        let outcome = self.state.borrow_mut().apply(&batch);
        future::ready(outcome).boxed_local()
    }

    fn read(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'_, Result<StoredRange, StoreError>> {
        let state = self.state.borrow();
        let messages = state
            .channels
            .get(&channel)
            .map_or_else(StoredRange::default, |found| {
                found.read(from, max_rows, max_bytes)
            });
        future::ready(Ok(messages)).boxed_local()
    }

    fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> LocalBoxFuture<'_, Result<Option<Sequence>, StoreError>> {
        let state = self.state.borrow();
        let found = state.channels.get(&channel).and_then(|channel| {
            // Timestamps never decrease within a channel: the engine repeats one when the clock goes
            // back.
            let messages = &channel.messages;
            let index = messages.partition_point(|message| message.timestamp < timestamp);
            messages.get(index).map(|message| message.sequence)
        });
        future::ready(Ok(found)).boxed_local()
    }

    fn count(
        &self,
        channel: ChannelId,
        up_to: Sequence,
    ) -> LocalBoxFuture<'_, Result<Totals, StoreError>> {
        let state = self.state.borrow();
        let found = state.channels.get(&channel);
        let messages = found.into_iter().flat_map(|channel| &channel.messages);
        let messages = messages.take_while(|message| message.sequence <= up_to);
        let mut totals = Totals {
            first: up_to.next(),
            last: up_to,
            ..Totals::default()
        };
        for message in messages {
            totals.first = totals.first.min(message.sequence);
            totals.messages += 1;
            totals.bytes += message.data.len() as u64;
        }
        future::ready(Ok(totals)).boxed_local()
    }

    fn deposed(&self) -> LocalBoxFuture<'_, ()> {
        future::pending().boxed_local()
    }

    fn close(&self) -> LocalBoxFuture<'_, ()> {
        future::ready(()).boxed_local()
    }
}

#[derive(Debug, Default)]
struct State {
    server_info: Option<ServerInfo>,
    clients: BTreeMap<String, ClientInfo>,
    channels: HashMap<ChannelId, Channel, RandomState>,
    last_channel_id: u32,
    last_subscription_id: u64,
}

#[derive(Debug, Default)]
struct Channel {
    name: String,
    limits: RecordedLimits,
    /// Ascending by sequence.
    messages: VecDeque<StoredMessage>,
    /// Of the messages held.
    bytes: u64,
    /// Highest ever stored; 0 if none.
    last: Sequence,
    subscriptions: BTreeMap<u64, Subscription>,
}

#[derive(Debug, Default)]
struct Subscription {
    state: SubState,
    pending: Vec<Sequence>,
}

impl State {
    fn apply(&mut self, batch: &Batch) -> FlushOutcome {
        for change in &batch.changes {
            self.change(change);
        }
        for row in &batch.rows {
            let channel = self.channels.entry(row.channel).or_default();
            channel.append(row, batch.message(row));
        }
        for trim in &batch.trims {
            if let Some(channel) = self.channels.get_mut(&trim.channel) {
                channel.trim(trim);
            }
        }
        FlushOutcome::Stored
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::PutServerInfo(info) => self.server_info = Some(info.clone()),
            Change::PutClient(info) => {
                self.clients.insert(info.id.clone(), info.clone());
            }
            Change::DeleteClient { id } => {
                self.clients.remove(id);
            }
            Change::PutChannel { id, name, limits } => {
                self.last_channel_id = self.last_channel_id.max(id.0);
                let channel = self.channels.entry(*id).or_default();
                channel.name.clone_from(name);
                channel.limits = (*limits).into();
            }
            Change::DeleteChannel { id } => {
                self.channels.remove(id);
            }
            Change::PutSubscription { channel, state } => {
                self.last_subscription_id = self.last_subscription_id.max(state.id);
                let subscription = self.subscription(*channel, state.id);
                let last_sent = subscription.state.last_sent.max(state.last_sent);
                subscription.state = SubState {
                    last_sent,
                    ..state.clone()
                };
            }
            // The figures of this store are always right.
            Change::PutTotals { .. } => {}
            Change::DeleteSubscription { channel, id } => {
                if let Some(channel) = self.channels.get_mut(channel) {
                    channel.subscriptions.remove(&id.0);
                }
            }
            Change::PutPending {
                channel,
                id,
                last_sent,
                pending,
            } => {
                let channel = self.channels.get_mut(channel);
                let found = channel.and_then(|channel| channel.subscriptions.get_mut(&id.0));
                if let Some(subscription) = found {
                    subscription.state.last_sent = subscription.state.last_sent.max(last_sent.0);
                    subscription.pending.clone_from(pending);
                }
            }
        }
    }

    fn subscription(&mut self, channel: ChannelId, id: u64) -> &mut Subscription {
        let channel = self.channels.entry(channel).or_default();
        channel.subscriptions.entry(id).or_default()
    }

    fn recover(&self) -> Recovered {
        if self.server_info.is_none() {
            return Recovered::default();
        }
        let channels = self.channels.iter();
        let mut channels: Vec<_> = channels.map(|(id, channel)| channel.recover(*id)).collect();
        channels.sort_by_key(|channel| channel.id);
        Recovered {
            server_info: self.server_info.clone(),
            clients: self.clients.values().cloned().collect(),
            channels,
            last_channel_id: self.last_channel_id,
            last_subscription_id: self.last_subscription_id,
        }
    }
}

impl Channel {
    /// A row at or below the last was stored before: a repeated batch changes nothing.
    fn append(&mut self, row: &Row, data: Bytes) {
        if row.sequence <= self.last {
            return;
        }
        self.last = row.sequence;
        self.bytes += data.len() as u64;
        self.messages.push_back(StoredMessage {
            sequence: row.sequence,
            timestamp: row.timestamp,
            data,
        });
    }

    fn trim(&mut self, trim: &Trim) {
        while let Some(first) = self.messages.front()
            && first.sequence <= trim.to
        {
            self.bytes -= first.data.len() as u64;
            self.messages.pop_front();
        }
    }

    fn read(&self, from: Sequence, max_rows: usize, max_bytes: usize) -> StoredRange {
        let begin = self
            .messages
            .partition_point(|message| message.sequence < from);
        let mut bytes = 0;
        let messages = self
            .messages
            .range(begin..)
            .take(max_rows)
            .take_while(|message| {
                let room = bytes < max_bytes || bytes == 0;
                bytes += message.data.len();
                room
            })
            .cloned();
        StoredRange::from(messages.collect::<Vec<_>>())
    }

    fn recover(&self, id: ChannelId) -> RecoveredChannel {
        let subscriptions = self.subscriptions.values();
        let subscriptions: Vec<_> = subscriptions
            .map(|subscription| RecoveredSubscription {
                state: subscription.state.clone(),
                pending: subscription.pending.clone(),
            })
            .collect();
        let sent = subscriptions.iter().map(|sub| sub.state.last_sent).max();
        let last = self.last.max(Sequence(sent.unwrap_or(0)));
        let first = match self.messages.front() {
            Some(message) => message.sequence,
            None if last > Sequence(0) => last.next(),
            None => Sequence(0),
        };
        RecoveredChannel {
            id,
            name: self.name.clone(),
            limits: self.limits,
            first,
            last,
            messages: self.messages.len() as u64,
            bytes: self.bytes,
            is_counted: true,
            last_timestamp: self.messages.back().map_or(0, |message| message.timestamp),
            subscriptions,
        }
    }
}
