//! Answers that wait until what they confirm is durable, on every lane that has a part of it.

use broker_proto::streaming::ConnectResponse;
use bytes::Bytes;
use slab::Slab;

use super::keys::{ClientKey, SubKey};
use crate::durable::ChannelId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TicketId(usize);

/// What to do when the flushes are over.
#[derive(Clone, Debug)]
pub(super) enum Promise {
    /// Answer a connect request of this registration.
    Connect {
        client: ClientKey,
        serial: u64,
        reply: Bytes,
        response: ConnectResponse,
    },
    /// Answer a subscribe request and begin to deliver.
    Subscribe {
        sub: SubKey,
        generation: u32,
        is_resume: bool,
        reply: Bytes,
    },
    /// The subscriptions of a closed client are settled: remove its record, then answer.
    ForgetClient { id: String, reply: Bytes },
    /// Answer a close request. A failed removal is still a success for the client.
    Close { reply: Bytes },
    /// Answer an unsubscribe or sub-close request.
    Unsubscribe { reply: Bytes },
    /// Forget a channel.
    DeleteChannel(ChannelId),
}

#[derive(Debug)]
struct Ticket {
    /// Flushes to wait for.
    remaining: usize,
    /// First failure.
    failure: Option<String>,
    promise: Promise,
}

#[derive(Debug, Default)]
pub(super) struct Tickets {
    open: Slab<Ticket>,
}

impl Tickets {
    /// A ticket to be put into `flushes` drafts, at least one.
    pub(super) fn issue(&mut self, flushes: usize, promise: Promise) -> TicketId {
        assert!(flushes > 0, "a promise waits for something");
        TicketId(self.open.insert(Ticket {
            remaining: flushes,
            failure: None,
            promise,
        }))
    }

    /// One of its flushes is over. Gives the promise after the last one.
    pub(super) fn settle(
        &mut self,
        id: TicketId,
        outcome: Result<(), &str>,
    ) -> Option<(Promise, Result<(), String>)> {
        let ticket = &mut self.open[id.0];
        ticket.remaining -= 1;
        if let Err(reason) = outcome {
            ticket.failure.get_or_insert_with(|| reason.to_owned());
        }
        if ticket.remaining > 0 {
            return None;
        }
        let ticket = self.open.remove(id.0);
        Some((ticket.promise, ticket.failure.map_or(Ok(()), Err)))
    }
}
