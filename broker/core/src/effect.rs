//! What the shell must now do for the streaming engine.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::durable::{Batch, ChannelId, Sequence};

/// Names an internal subscription of the engine. Opaque to the router, which gives it back with
/// every message that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandlerId(pub u64);

/// Names a request of the engine to a client (heartbeat, duplicate probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Names a read from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadId(pub u64);

/// A payload in up to two pieces, so that a redelivery mark can follow a stored message without
/// copying it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    pub body: Bytes,
    pub tail: Bytes,
}

impl Payload {
    /// A payload of one piece.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Self {
            body,
            tail: Bytes::new(),
        }
    }

    /// Bytes of both pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len() + self.tail.len()
    }

    /// No byte at all, which is a legal payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Acknowledgements of one flush. Far the most frequent effect, so that they come together and share
/// their memory.
#[derive(Clone, Debug)]
pub struct PubAcks {
    pub(crate) replies: Bytes,
    pub(crate) acks: Bytes,
    /// In the order of the publications.
    pub(crate) places: Vec<PubAckPlace>,
}

/// Where one of them is in `PubAcks::replies` and in `PubAcks::acks`. A publisher that wants none has
/// an empty subject.
#[derive(Clone, Debug)]
pub(crate) struct PubAckPlace {
    pub(crate) reply: Range<usize>,
    pub(crate) ack: Range<usize>,
}

impl PubAcks {
    /// Reply subjects, each with its payloads; successive ones for the same publisher together.
    pub fn runs(&self) -> impl Iterator<Item = (&[u8], impl Iterator<Item = &[u8]>)> {
        let runs = self.places.chunk_by(|a, b| a.reply == b.reply);
        runs.filter(|run| !run[0].reply.is_empty()).map(|run| {
            let acks = run.iter().map(|place| &self.acks[place.ack.clone()]);
            (&self.replies[run[0].reply.clone()], acks)
        })
    }
}

/// Performed by the shell strictly in the order given. A publish that follows a `Subscribe` may
/// rely on the subscription being in force.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Listen on a subject (wildcards allowed) under this handler.
    Subscribe { subject: Bytes, handler: HandlerId },
    /// Stop listening under this handler.
    Unsubscribe { handler: HandlerId },
    /// Publish to a subject. If `request` is given and nobody is interested, the shell calls
    /// `Engine::no_responders` with it.
    Publish {
        subject: Bytes,
        reply: Bytes,
        payload: Payload,
        request: Option<RequestId>,
    },
    /// Publish acknowledgements to publishers.
    Acknowledge(PubAcks),
    /// Make a batch durable; answered by `Engine::flushed` for this lane. At most one flush of a
    /// lane is under way.
    Flush { lane: usize, batch: Arc<Batch> },
    /// Read messages with sequence >= `from`, ascending; answered by `Engine::loaded`.
    Load {
        load: LoadId,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    },
    /// The smallest sequence whose timestamp is >= `timestamp`; answered by `Engine::found`.
    FindSequence {
        load: LoadId,
        channel: ChannelId,
        timestamp: i64,
    },
    /// What a channel holds up to and including `up_to`; answered by `Engine::counted`. May take long and must not
    /// hold up other reads.
    Count {
        load: LoadId,
        channel: ChannelId,
        up_to: Sequence,
    },
}
