//! Batches for tests.

use broker_core::durable::{
    Batch, Change, ChannelId, ChannelLimits, Row, Sequence, SubscriptionId, Trim,
};
use broker_proto::streaming::{ClientInfo, MsgProto, ServerInfo, SubState};
use bytes::Bytes;
use prost::Message;

/// The channel of tests that need only one.
pub const CHANNEL: ChannelId = ChannelId(1);

/// Name of [`CHANNEL`].
pub const CHANNEL_NAME: &str = "foo.bar";

/// Of the message with sequence 0; each further one is a second younger.
pub const EPOCH: i64 = 1_700_000_000_000_000_000;

/// Nanoseconds between two messages.
pub const STEP: i64 = 1_000_000_000;

pub const UNLIMITED: ChannelLimits = ChannelLimits {
    max_msgs: 0,
    max_bytes: 0,
    max_age_nanos: 0,
    max_subs: 0,
    max_inactivity_nanos: 0,
};

/// A server's record, as its first start writes it.
#[must_use]
pub fn server_info() -> ServerInfo {
    ServerInfo {
        cluster_id: "test-cluster".to_owned(),
        discovery: "_STAN.discover.test-cluster".to_owned(),
        publish: "_STAN.pub.test-cluster".to_owned(),
        node_id: "node".to_owned(),
        ..ServerInfo::default()
    }
}

/// A client with every field set.
#[must_use]
pub fn client(id: &str) -> ClientInfo {
    ClientInfo {
        id: id.to_owned(),
        hb_inbox: format!("_INBOX.{id}"),
        conn_id: Bytes::from_static(b"\x00\xffconnection"),
        protocol: 1,
        ping_interval: 5,
        ping_max_out: 3,
    }
}

/// A subscription of a client.
#[must_use]
pub fn subscription(id: u64) -> SubState {
    SubState {
        id,
        client_id: "me".to_owned(),
        inbox: "_INBOX.deliver".to_owned(),
        ack_inbox: "_INBOX.ack".to_owned(),
        max_in_flight: 16,
        ack_wait_in_secs: 30,
        ..SubState::default()
    }
}

/// An encoded message as the engine would write it.
#[must_use]
pub fn message(sequence: u64, payload: &[u8]) -> Bytes {
    MsgProto {
        sequence,
        subject: CHANNEL_NAME.to_owned(),
        data: Bytes::copy_from_slice(payload),
        timestamp: timestamp(sequence),
        ..MsgProto::default()
    }
    .encode_to_vec()
    .into()
}

/// When the message with this sequence was published.
#[must_use]
pub fn timestamp(sequence: u64) -> i64 {
    EPOCH + STEP * i64::try_from(sequence).unwrap_or(0)
}

/// Builds a batch step by step.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: Batch,
    data: Vec<u8>,
}

impl BatchBuilder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Server info and [`CHANNEL`]: what every store with messages holds.
    #[must_use]
    pub fn founding() -> Self {
        Self::new()
            .change(Change::PutServerInfo(server_info()))
            .create_channel(CHANNEL, CHANNEL_NAME)
    }

    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.batch.changes.push(change);
        self
    }

    #[must_use]
    pub fn create_channel(self, id: ChannelId, name: &str) -> Self {
        self.change(Change::PutChannel {
            id,
            name: name.to_owned(),
            limits: UNLIMITED,
        })
    }

    #[must_use]
    pub fn delete_channel(self, id: ChannelId) -> Self {
        self.change(Change::DeleteChannel { id })
    }

    #[must_use]
    pub fn put_subscription(self, channel: ChannelId, state: SubState) -> Self {
        self.change(Change::PutSubscription { channel, state })
    }

    #[must_use]
    pub fn delete_subscription(self, channel: ChannelId, id: u64) -> Self {
        self.change(Change::DeleteSubscription {
            channel,
            id: SubscriptionId(id),
        })
    }

    #[must_use]
    pub fn pending(self, channel: ChannelId, id: u64, last_sent: u64, pending: &[u64]) -> Self {
        self.change(Change::PutPending {
            channel,
            id: SubscriptionId(id),
            last_sent: Sequence(last_sent),
            pending: pending.iter().copied().map(Sequence).collect(),
        })
    }

    #[must_use]
    pub fn row(mut self, channel: ChannelId, sequence: u64, payload: &[u8]) -> Self {
        let start = self.data.len();
        self.data.extend_from_slice(&message(sequence, payload));
        self.batch.rows.push(Row {
            channel,
            sequence: Sequence(sequence),
            timestamp: timestamp(sequence),
            start,
            end: self.data.len(),
        });
        self
    }

    /// Messages with a payload of their number.
    #[must_use]
    pub fn rows(self, channel: ChannelId, sequences: std::ops::RangeInclusive<u64>) -> Self {
        sequences.fold(self, |builder, sequence| {
            builder.row(channel, sequence, sequence.to_string().as_bytes())
        })
    }

    #[must_use]
    pub fn trim(mut self, channel: ChannelId, from: u64, to: u64) -> Self {
        self.batch.trims.push(Trim {
            channel,
            from: Sequence(from),
            to: Sequence(to),
        });
        self
    }

    #[must_use]
    pub fn build(self) -> Batch {
        Batch {
            data: self.data.into(),
            ..self.batch
        }
    }
}
