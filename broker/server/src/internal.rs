//! The seam between the NATS core and services inside the broker (the streaming engine): they listen
//! and publish like clients, without a socket or a protocol text between.

use std::any::Any;

use broker_core::effect::HandlerId;

/// A service inside the broker that listens and publishes without a socket. Lives on worker 0.
///
/// `Any` lets the owner of a [`crate::worker::WorkerHandle`] get its own type back.
pub(crate) trait Internal: Any {
    /// One message matched `handler`. Called while the router is at work: must not publish from
    /// here, only take note.
    fn deliver(
        &mut self,
        handler: HandlerId,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    );

    /// The read pass is over: perform what was noted.
    fn end_of_pass(&mut self, bus: &mut dyn Bus);

    /// NATS servers have become connected, or ours has lost one.
    fn servers_changed(&mut self);

    /// Bytes taken in and not yet worked off; producers above the soft limit are left unread until
    /// it falls.
    fn backlog_bytes(&self) -> usize;
}

/// What a service may do.
pub(crate) trait Bus {
    /// Listens on a legal subject, wildcards allowed. A handler has one subject at a time: the new
    /// one takes the place of the old.
    fn subscribe(&mut self, subject: &[u8], handler: HandlerId);

    /// Ends what `subscribe` began. Unknown handlers are ignored.
    fn unsubscribe(&mut self, handler: HandlerId);

    /// Publishes successive messages for one subject, each payload in two pieces. Returns whether
    /// anybody was interested. Connections that got something are flushed at the end of the pass.
    fn publish(&mut self, subject: &[u8], reply: &[u8], payloads: &[[&[u8]; 2]]) -> bool;
}

/// Messages for services, copied: from a worker that does not have them, or delivered while a service
/// is itself at work.
#[derive(Debug, Default)]
pub(crate) struct InternalBatch {
    messages: Vec<Entry>,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    handler: HandlerId,
    subject: usize,
    reply: usize,
    headers: usize,
    payload: usize,
}

impl InternalBatch {
    /// Appends a copy; the payload may come in pieces.
    pub(crate) fn push(
        &mut self,
        handler: HandlerId,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: [&[u8]; 2],
    ) {
        for part in [subject, reply, headers, payload[0], payload[1]] {
            self.data.extend_from_slice(part);
        }
        self.messages.push(Entry {
            handler,
            subject: subject.len(),
            reply: reply.len(),
            headers: headers.len(),
            payload: payload[0].len() + payload[1].len(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of all parts.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Hands every message over, in order.
    pub(crate) fn deliver(&self, internal: &mut dyn Internal) {
        let mut rest = self.data.as_slice();
        let mut take = |length| {
            let (part, behind) = rest.split_at(length);
            rest = behind;
            part
        };
        for entry in &self.messages {
            let (subject, reply) = (take(entry.subject), take(entry.reply));
            let (headers, payload) = (take(entry.headers), take(entry.payload));
            internal.deliver(entry.handler, subject, reply, headers, payload);
        }
    }
}
