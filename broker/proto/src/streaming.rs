//! Messages of the NATS Streaming protocol (packages `pb` and `spb`), by prost derive.
//!
//! Field numbers and meanings: streaming protocol of nats-streaming-server 0.25.6. Strings are
//! carried as UTF-8; a client that sends other bytes gets the "invalid ... request" answer of its
//! request, as for any undecodable message.

mod hot;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;
use prost::Message;

pub use hot::{
    AckView, MalformedPubMsg, MsgParts, MsgView, PubMsgView, Stamp, put_msg, put_pub_ack,
    put_renumbered, redelivery_mark,
};

/// Client to `<discover>.<cluster>`, as a NATS request.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConnectRequest {
    /// `^[a-zA-Z0-9_-]+$`.
    #[prost(string, tag = "1")]
    pub client_id: String,
    /// Subject on which this client answers server heartbeats; must not be empty.
    #[prost(string, tag = "2")]
    pub heartbeat_inbox: String,
    /// 0 or absent: old client; 1: sends `conn_id` and pings.
    #[prost(int32, tag = "3")]
    pub protocol: i32,
    /// Opaque unique id of this connection.
    #[prost(bytes = "bytes", tag = "4")]
    pub conn_id: Bytes,
    /// Seconds between client pings; echoed, not interpreted.
    #[prost(int32, tag = "5")]
    pub ping_interval: i32,
    /// Unanswered pings after which the client gives up; echoed, not interpreted.
    #[prost(int32, tag = "6")]
    pub ping_max_out: i32,
}

/// Server to the reply subject of a [`ConnectRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConnectResponse {
    /// The client publishes to `pub_prefix.channel`.
    #[prost(string, tag = "1")]
    pub pub_prefix: String,
    #[prost(string, tag = "2")]
    pub sub_requests: String,
    #[prost(string, tag = "3")]
    pub unsub_requests: String,
    #[prost(string, tag = "4")]
    pub close_requests: String,
    /// Non-empty: refused, all other fields absent.
    #[prost(string, tag = "5")]
    pub error: String,
    /// Clients treat an empty value as "server does not support Close".
    #[prost(string, tag = "6")]
    pub sub_close_requests: String,
    /// Set only if the request had protocol 1 or more, like the two that follow.
    #[prost(string, tag = "7")]
    pub ping_requests: String,
    #[prost(int32, tag = "8")]
    pub ping_interval: i32,
    #[prost(int32, tag = "9")]
    pub ping_max_out: i32,
    /// The server's level: always 1 in a success answer.
    #[prost(int32, tag = "10")]
    pub protocol: i32,
    /// Never set.
    #[prost(string, tag = "100")]
    pub public_key: String,
}

/// Client to the pings subject.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ping {
    #[prost(bytes = "bytes", tag = "1")]
    pub conn_id: Bytes,
}

/// Empty (zero bytes) when the connection is known.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PingResponse {
    #[prost(string, tag = "1")]
    pub error: String,
}

/// Client to the close subject.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CloseRequest {
    #[prost(string, tag = "1")]
    pub client_id: String,
}

/// Empty (zero bytes) on success.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CloseResponse {
    #[prost(string, tag = "1")]
    pub error: String,
}

/// Client to `<pub_prefix>.<channel>`, with the publisher's ack subject as NATS reply.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PubMsg {
    /// Consulted only when `conn_id` is absent.
    #[prost(string, tag = "1")]
    pub client_id: String,
    /// The publisher's token; must not be empty; echoed in [`PubAck`].
    #[prost(string, tag = "2")]
    pub guid: String,
    /// The channel. The NATS subject's suffix is not consulted.
    #[prost(string, tag = "3")]
    pub subject: String,
    /// Copied to [`MsgProto::reply`].
    #[prost(string, tag = "4")]
    pub reply: String,
    #[prost(bytes = "bytes", tag = "5")]
    pub data: Bytes,
    /// When not empty it alone decides whether the sender is valid.
    #[prost(bytes = "bytes", tag = "6")]
    pub conn_id: Bytes,
    /// Ignored by the server.
    #[prost(bytes = "bytes", tag = "10")]
    pub sha256: Bytes,
}

/// Server to the publisher's reply subject.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PubAck {
    #[prost(string, tag = "1")]
    pub guid: String,
    /// Empty: stored and flushed.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// A message as delivered and as stored (there without the two redelivery fields).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MsgProto {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(string, tag = "2")]
    pub subject: String,
    #[prost(string, tag = "3")]
    pub reply: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// Nanoseconds since the Unix epoch, assigned by the server.
    #[prost(int64, tag = "5")]
    pub timestamp: i64,
    /// Set only on redelivery; never stored.
    #[prost(bool, tag = "6")]
    pub redelivered: bool,
    /// 1 on first redelivery, then 2, ...; never stored.
    #[prost(uint32, tag = "7")]
    pub redelivery_count: u32,
    /// Never set.
    #[prost(uint32, tag = "10")]
    pub crc32: u32,
}

/// Client to an ack inbox; never answered.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ack {
    #[prost(string, tag = "1")]
    pub subject: String,
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
}

/// Where a new subscription begins. Other numbers answer `stan: invalid start position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum StartPosition {
    NewOnly = 0,
    LastReceived = 1,
    TimeDeltaStart = 2,
    SequenceStart = 3,
    First = 4,
}

/// Client to the subscribe subject, as a NATS request.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SubscriptionRequest {
    #[prost(string, tag = "1")]
    pub client_id: String,
    /// The channel, literal.
    #[prost(string, tag = "2")]
    pub subject: String,
    #[prost(string, tag = "3")]
    pub q_group: String,
    /// Where to deliver; not validated.
    #[prost(string, tag = "4")]
    pub inbox: String,
    /// Upper bound of pending messages, 1 or more.
    #[prost(int32, tag = "5")]
    pub max_in_flight: i32,
    /// Seconds before redelivery, 1 or more.
    #[prost(int32, tag = "6")]
    pub ack_wait_in_secs: i32,
    #[prost(string, tag = "7")]
    pub durable_name: String,
    /// Kept as a number so that unknown values can be answered; see [`StartPosition`].
    #[prost(enumeration = "StartPosition", tag = "10")]
    pub start_position: i32,
    #[prost(uint64, tag = "11")]
    pub start_sequence: u64,
    /// Nanoseconds before the server's now; may be negative.
    #[prost(int64, tag = "12")]
    pub start_time_delta: i64,
}

/// Answer to subscribe, unsubscribe and sub-close requests.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SubscriptionResponse {
    /// Set only in the answer to a successful [`SubscriptionRequest`].
    #[prost(string, tag = "2")]
    pub ack_inbox: String,
    #[prost(string, tag = "3")]
    pub error: String,
}

/// Client to the unsubscribe or sub-close subject.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UnsubscribeRequest {
    #[prost(string, tag = "1")]
    pub client_id: String,
    #[prost(string, tag = "2")]
    pub subject: String,
    /// The ack inbox (despite the name); the delivery inbox is accepted as a fallback.
    #[prost(string, tag = "3")]
    pub inbox: String,
    /// Ignored by the server.
    #[prost(string, tag = "4")]
    pub durable_name: String,
}

/// A subscription as persisted (`spb.SubState`).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SubState {
    /// Given by the store's owner, unique over all channels, never reused.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Empty: shadow of a durable queue group.
    #[prost(string, tag = "2")]
    pub client_id: String,
    /// For a durable group the compound `<durable>:<group>`.
    #[prost(string, tag = "3")]
    pub q_group: String,
    #[prost(string, tag = "4")]
    pub inbox: String,
    #[prost(string, tag = "5")]
    pub ack_inbox: String,
    #[prost(int32, tag = "6")]
    pub max_in_flight: i32,
    #[prost(int32, tag = "7")]
    pub ack_wait_in_secs: i32,
    /// Plain durables only; cleared for durable queue members.
    #[prost(string, tag = "8")]
    pub durable_name: String,
    /// Highest sequence sent; when new, the first to send minus one.
    #[prost(uint64, tag = "9")]
    pub last_sent: u64,
    #[prost(bool, tag = "10")]
    pub is_durable: bool,
    /// A plain durable that is offline.
    #[prost(bool, tag = "11")]
    pub is_closed: bool,
}

/// Identity and subjects of a streaming server, persisted at its first start (`spb.ServerInfo`).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServerInfo {
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    #[prost(string, tag = "2")]
    pub discovery: String,
    #[prost(string, tag = "3")]
    pub publish: String,
    #[prost(string, tag = "4")]
    pub subscribe: String,
    #[prost(string, tag = "5")]
    pub unsubscribe: String,
    #[prost(string, tag = "6")]
    pub close: String,
    #[prost(string, tag = "7")]
    pub sub_close: String,
    #[prost(string, tag = "8")]
    pub acks_subs: String,
    #[prost(string, tag = "9")]
    pub node_id: String,
}

/// A registered client (`spb.ClientInfo`).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClientInfo {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub hb_inbox: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub conn_id: Bytes,
    #[prost(int32, tag = "4")]
    pub protocol: i32,
    #[prost(int32, tag = "5")]
    pub ping_interval: i32,
    #[prost(int32, tag = "6")]
    pub ping_max_out: i32,
}

/// Server to server (`spb.CtrlMsg`). Dropped silently where a client message was expected.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CtrlMsg {
    /// 3 FT heartbeat, 4 partitioning; 0 to 2 obsolete.
    #[prost(int32, tag = "1")]
    pub msg_type: i32,
    #[prost(string, tag = "2")]
    pub server_id: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
    #[prost(string, tag = "4")]
    pub ref_id: String,
}
