//! What the streaming engine asks a store to keep and what a store gives back: types only.
//!
//! A [`Batch`] is one flush. The engine fills it while a previous flush is under way and hands it
//! over whole; it is immutable from then on and shared, because the engine serves live
//! subscriptions out of it while the store writes it.

mod range;

use std::fmt;

use broker_proto::streaming::{ClientInfo, ServerInfo, SubState};
use bytes::Bytes;

pub use range::{CorruptRow, StoredMessage, StoredRange};

/// Number of a channel, unique in a store and never reused (`Channels.id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// Number of a subscription, unique over all channels and never reused (`Subscriptions.subid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

/// Position of a message in its channel, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a channel may hold; 0 means unlimited. Enforced by the engine, recorded by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    pub max_msgs: u64,
    /// Sum of encoded `MsgProto` lengths.
    pub max_bytes: u64,
    pub max_age_nanos: u64,
    /// Subscription records, offline durables included.
    pub max_subs: u64,
    /// How long a channel lives without online subscription and without a new message. Not recorded.
    pub max_inactivity_nanos: u64,
}

/// The part of a channel's limits that a store keeps, because nats-streaming-server goes by it at a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedLimits {
    pub max_msgs: u64,
    pub max_bytes: u64,
    pub max_age_nanos: u64,
}

impl From<ChannelLimits> for RecordedLimits {
    fn from(limits: ChannelLimits) -> Self {
        Self {
            max_msgs: limits.max_msgs,
            max_bytes: limits.max_bytes,
            max_age_nanos: limits.max_age_nanos,
        }
    }
}

/// One message to append. Its encoded `MsgProto` is `batch.data[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub channel: ChannelId,
    /// Ascending by one within a channel, over batches of a lane too.
    pub sequence: Sequence,
    /// Nanoseconds since the Unix epoch, equal to the field inside.
    pub timestamp: i64,
    pub start: usize,
    pub end: usize,
}

/// Remove messages of a channel, both ends included. `from` is the first that exists, known in
/// memory: a delete without a lower bound walks the index entries of everything deleted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    pub channel: ChannelId,
    pub from: Sequence,
    pub to: Sequence,
}

/// What a channel holds up to a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// First message that is there; `last + 1` if there is none.
    pub first: Sequence,
    pub last: Sequence,
    pub messages: u64,
    /// Sum of encoded `MsgProto` lengths.
    pub bytes: u64,
}

/// A change of state other than messages. Every variant carries the whole new value, so applying
/// one twice equals applying it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Written at the first start; recovered values win over recomputed ones.
    PutServerInfo(ServerInfo),
    PutClient(ClientInfo),
    DeleteClient {
        id: String,
    },
    /// Make a channel, or record other limits of one.
    PutChannel {
        id: ChannelId,
        name: String,
        limits: ChannelLimits,
    },
    /// Remove a channel with its messages. Every subscription of it is deleted by the same batch or was
    /// before. Stored as soon as it cannot come back: the messages may go later. Its number is never
    /// given again, its name may be.
    DeleteChannel {
        id: ChannelId,
    },
    /// Insert or replace the record of a subscription.
    PutSubscription {
        channel: ChannelId,
        state: SubState,
    },
    /// Remove a subscription with everything pending on it. Its number is never given again.
    DeleteSubscription {
        channel: ChannelId,
        id: SubscriptionId,
    },
    /// Replace all that is known to be pending on a subscription (sorted, may be empty) and
    /// its last sent position.
    PutPending {
        channel: ChannelId,
        id: SubscriptionId,
        last_sent: Sequence,
        pending: Vec<Sequence>,
    },
    /// What a channel held at some moment when everything before this batch was durable or under way. With it the
    /// next activation need not count; a store may leave it out.
    PutTotals {
        channel: ChannelId,
        totals: Totals,
    },
}

/// One flush of one lane. `changes` become visible before or together with `rows`.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    pub rows: Vec<Row>,
    /// Encoded `MsgProto`s, back to back.
    pub data: Bytes,
    /// Only of messages below a row that is durable already or is in this batch.
    pub trims: Vec<Trim>,
}

impl Batch {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.rows.is_empty() && self.trims.is_empty()
    }

    /// The encoded message of a row of this batch. Shares the batch's memory.
    #[must_use]
    pub fn message(&self, row: &Row) -> Bytes {
        self.data.slice(row.start..row.end)
    }
}

/// How a flush ended. There is no "unknown": the store repeats or proves until it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// All of it is durable.
    Stored,
    /// Another process owns the store. Nothing more may be acknowledged by this activation.
    Deposed,
    /// Rows of another writer stand on sequences of this batch; nothing of the batch was stored.
    /// The engine numbers its messages after the given last sequences and submits again.
    Foreign { last: Vec<(ChannelId, Sequence)> },
    /// Nothing of the batch was stored, and repeating it as it is cannot help (a value the
    /// database refuses, say). The text goes to the publishers concerned.
    Refused { reason: String },
}

/// A subscription read back at recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredSubscription {
    /// `last_sent` is the highest known anywhere, not only in the record.
    pub state: SubState,
    /// Delivered and not acknowledged; ascending.
    pub pending: Vec<Sequence>,
}

/// A channel read back at recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredChannel {
    pub id: ChannelId,
    pub name: String,
    /// As they were in force when the channel was served last.
    pub limits: RecordedLimits,
    /// 0 and 0 if nothing was ever stored; `first == last + 1` if everything has been removed.
    pub first: Sequence,
    pub last: Sequence,
    pub messages: u64,
    /// Sum of encoded `MsgProto` lengths.
    pub bytes: u64,
    /// Whether `messages` and `bytes` are known rather than guessed; `first` and `last` always are.
    pub is_counted: bool,
    /// Of the newest message; 0 if there is none.
    pub last_timestamp: i64,
    pub subscriptions: Vec<RecoveredSubscription>,
}

/// Everything an engine needs to go on where the last one stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// None: nothing was ever stored.
    pub server_info: Option<ServerInfo>,
    pub clients: Vec<ClientInfo>,
    pub channels: Vec<RecoveredChannel>,
    /// Highest number ever given, deleted ones included; 0 if none.
    pub last_channel_id: u32,
    pub last_subscription_id: u64,
}
