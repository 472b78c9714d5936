//! A worker's switchboard: carries routed messages to connections of this worker, clients and other
//! servers alike, to other workers, and to the services inside the broker.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use broker_core::{
    account::Account,
    effect::HandlerId,
    interest::{Delivery, RouteDelivery},
    peer::{Peer, SOFT_LIMIT},
    router::Outlet,
    subscription::{Subscription, Target},
};
use broker_proto::{
    encode,
    op::Publication,
    route::encode::{self as route, MessagePrefix},
};
use slab::Slab;
use tracing::error;

use crate::{
    close_reason::CloseReason,
    connection::{Connection, Role},
    internal::{Internal, InternalBatch},
    listener::Newcomer,
    mailbox::{Handover, Parcel},
    monitor::details::Traffic,
    output::{ChunkPool, Output},
    settings::{RoutePort, Settings},
    shared::{Request, Shared},
    stats::Counters,
};

/// Output of one connection that is flushed in the middle of a pass, so that a large pass does not
/// walk through the whole cache.
const FLUSH_WITHIN_PASS: usize = 128 << 10;

/// See the module documentation.
pub(crate) struct Exchange {
    /// Index of this worker.
    pub(crate) worker: usize,
    pub(crate) shared: Arc<Shared>,
    /// In force for this worker.
    pub(crate) settings: Arc<Settings>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) pool: ChunkPool,
    pub(crate) counters: Counters,
    /// Clock as read at the start of the pass.
    pub(crate) now: Instant,
    /// Places of connections with output to flush.
    dirty: Vec<usize>,
    /// What the other workers get at the end of the pass.
    outbound: Vec<Outbound>,
    pub(crate) services: Services,
    /// Consumers found above the soft limit since this was last emptied.
    pub(crate) congested: Vec<Arc<Peer>>,
    /// Subscriptions that got their last message since this was last emptied.
    pub(crate) exhausted: Vec<Arc<Subscription>>,
    /// Sent to other servers since this was last emptied.
    pub(crate) forwarded: Traffic,
}

/// The services on worker 0, as this worker reaches them.
#[derive(Default)]
pub(crate) struct Services {
    /// Taken out while the service itself is at work.
    pub(crate) internal: Option<Box<dyn Internal>>,
    /// There is a service, whether or not it is taken out.
    pub(crate) installed: bool,
    /// Something was delivered, so `end_of_pass` is due.
    pub(crate) noted: bool,
    /// Delivered while the service was taken out.
    pub(crate) deferred: InternalBatch,
    pub(crate) subscriptions: HashMap<HandlerId, Arc<Subscription>>,
}

#[derive(Default)]
struct Outbound {
    parcel: Parcel,
    /// Output under way, by connection.
    outputs: HashMap<u64, Outgoing, RandomState>,
}

#[derive(Default)]
struct Outgoing {
    slot: usize,
    output: Output,
    messages: usize,
    payload_bytes: usize,
    replies: Vec<Box<[u8]>>,
    peer: Option<Arc<Peer>>,
}

impl Outgoing {
    fn new(peer: &Arc<Peer>) -> Self {
        Self {
            slot: peer.slot,
            peer: Some(Arc::clone(peer)),
            ..Self::default()
        }
    }
}

/// A message that can be written for any subscriber.
pub(crate) trait Message {
    /// Header block and payload.
    fn body_bytes(&self) -> usize;
    /// Empty if nobody expects an answer.
    fn reply(&self) -> &[u8];
    /// For another server.
    fn write_routed(
        &self,
        prefix: &MessagePrefix,
        queues: &[&[u8]],
        headers: bool,
        output: &mut Output,
        pool: &mut ChunkPool,
    );
    fn write(&self, prefix: &[u8], headers: bool, output: &mut Output, pool: &mut ChunkPool);
    fn hand_to(&self, handler: HandlerId, internal: &mut dyn Internal);
    fn copy_to(&self, handler: HandlerId, batch: &mut InternalBatch);
}

impl Message for Publication<'_> {
    fn body_bytes(&self) -> usize {
        self.body().len()
    }

    fn reply(&self) -> &[u8] {
        self.reply
    }

    fn write_routed(
        &self,
        prefix: &MessagePrefix,
        queues: &[&[u8]],
        headers: bool,
        output: &mut Output,
        pool: &mut ChunkPool,
    ) {
        route::publication(prefix, queues, self, headers, &mut output.writer(pool));
    }

    #[inline]
    fn write(&self, prefix: &[u8], headers: bool, output: &mut Output, pool: &mut ChunkPool) {
        encode::publication(prefix, self, headers, &mut output.writer(pool));
    }

    fn hand_to(&self, handler: HandlerId, internal: &mut dyn Internal) {
        internal.deliver(
            handler,
            self.subject,
            self.reply,
            self.headers(),
            self.payload(),
        );
    }

    fn copy_to(&self, handler: HandlerId, batch: &mut InternalBatch) {
        batch.push(
            handler,
            self.subject,
            self.reply,
            self.headers(),
            [self.payload(), b""],
        );
    }
}

/// A message that a service publishes.
pub(crate) struct ServiceMessage<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) reply: &'a [u8],
    pub(crate) payload: [&'a [u8]; 2],
}

impl Message for ServiceMessage<'_> {
    fn body_bytes(&self) -> usize {
        self.payload[0].len() + self.payload[1].len()
    }

    fn reply(&self) -> &[u8] {
        self.reply
    }

    fn write_routed(
        &self,
        prefix: &MessagePrefix,
        queues: &[&[u8]],
        _headers: bool,
        output: &mut Output,
        pool: &mut ChunkPool,
    ) {
        route::message(
            prefix,
            queues,
            self.reply,
            &self.payload,
            &mut output.writer(pool),
        );
    }

    fn write(&self, prefix: &[u8], _headers: bool, output: &mut Output, pool: &mut ChunkPool) {
        encode::message(prefix, self.reply, &self.payload, &mut output.writer(pool));
    }

    /// Not reached: a service that publishes is at work, so it gets a copy afterwards.
    fn hand_to(&self, handler: HandlerId, internal: &mut dyn Internal) {
        let mut batch = InternalBatch::default();
        self.copy_to(handler, &mut batch);
        batch.deliver(internal);
    }

    fn copy_to(&self, handler: HandlerId, batch: &mut InternalBatch) {
        batch.push(handler, self.subject, self.reply, b"", self.payload);
    }
}

impl Exchange {
    pub(crate) fn new(worker: usize, shared: Arc<Shared>) -> Self {
        let workers = shared.workers.len();
        Self {
            worker,
            settings: shared.settings(),
            shared,
            connections: Slab::new(),
            pool: ChunkPool::new(worker, workers),
            counters: Counters::default(),
            now: Instant::now(),
            dirty: Vec::new(),
            outbound: (0..workers).map(|_| Outbound::default()).collect(),
            services: Services::default(),
            congested: Vec::new(),
            exhausted: Vec::new(),
            forwarded: Traffic::default(),
        }
    }

    /// The connection got output: it is flushed at the end of the pass, or now if there is much; and
    /// cut if there is too much.
    pub(crate) fn touched(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let pending = connection.output.pending();
        if pending >= FLUSH_WITHIN_PASS && !connection.blocked {
            connection.flush(self.now, &mut self.pool);
        }
        let pending = connection.output.pending();
        if pending > self.settings.config.max_pending && connection.closing.is_none() {
            self.cut(slot);
            return;
        }
        if pending > SOFT_LIMIT {
            connection.peer.report(pending, connection.taken());
            note_congested(&mut self.congested, &connection.peer);
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn cut(&mut self, slot: usize) {
        let limit = self.settings.config.max_pending;
        let connection = &mut self.connections[slot];
        connection.output.clear(&mut self.pool);
        connection.close(CloseReason::PendingBytes);
        error!(
            "{} - Slow Consumer Detected: MaxPending of {limit} Exceeded",
            connection.label()
        );
        self.count_slow(slot);
    }

    /// Within which a flush must come to an end.
    pub(crate) fn write_deadline(&self, slot: usize) -> Duration {
        let of_clients = self.settings.config.write_deadline;
        self.route_port(slot)
            .map_or(of_clients, |port| port.write_deadline)
    }

    /// A flush that has made some way by then goes on.
    pub(crate) fn retries_writes(&self, slot: usize) -> bool {
        let of_clients = self.settings.config.retry_writes;
        self.route_port(slot)
            .map_or(of_clients, |port| port.retry_writes)
    }

    /// The port whose rules hold for a connection with another server; `None` for a client.
    fn route_port(&self, slot: usize) -> Option<&RoutePort> {
        match self.connections[slot].role {
            Role::Client(_) => None,
            Role::Route(_) => self.settings.config.cluster.as_ref(),
        }
    }

    /// A connection does not keep up.
    pub(crate) fn count_slow(&mut self, slot: usize) {
        match self.connections[slot].role {
            Role::Client(_) => self.counters.slow_clients += 1,
            Role::Route(_) => self.counters.slow_routes += 1,
        }
    }

    /// Writes out what this pass produced: what other workers get, then connections of this worker. In
    /// this order whoever sees an answer of this worker finds the messages before it on their way.
    pub(crate) fn flush(&mut self) {
        self.hand_over();
        while let Some(slot) = self.dirty.pop() {
            if let Some(connection) = self.connections.get_mut(slot)
                && connection.dirty
            {
                connection.dirty = false;
                // One that is blocked goes on by itself when its socket is writable.
                if !connection.blocked {
                    connection.flush(self.now, &mut self.pool);
                }
            }
        }
    }

    /// Gives the other workers what this pass has for them so far.
    pub(crate) fn hand_over(&mut self) {
        for worker in 0..self.outbound.len() {
            if worker != self.worker {
                self.send(worker);
            }
        }
    }

    fn send(&mut self, worker: usize) {
        let outbound = &mut self.outbound[worker];
        for (connection, outgoing) in outbound.outputs.drain() {
            let bytes = outgoing.output.pending();
            if let Some(peer) = outgoing.peer {
                peer.hand_over(bytes);
            }
            outbound.parcel.handovers.push(Handover {
                slot: outgoing.slot,
                connection,
                bytes,
                messages: outgoing.messages,
                payload_bytes: outgoing.payload_bytes,
                replies: outgoing.replies,
                chunks: outgoing.output.into_chunks(),
            });
        }
        if outbound.parcel.is_empty() {
            return;
        }
        let mut parcel = std::mem::take(&mut outbound.parcel);
        parcel.chunks = self.pool.homebound(worker);
        self.shared.internal.hand_over(parcel.internal.len());
        self.shared.workers[worker].mailbox.push(parcel);
    }

    /// What other workers sent; connections just accepted and requests are given back.
    pub(crate) fn receive(&mut self, parcel: Parcel) -> (Vec<Newcomer>, Vec<Request>) {
        for chunk in parcel.chunks {
            self.pool.give(chunk);
        }
        for handover in parcel.handovers {
            self.receive_output(handover);
        }
        for subscription in parcel.exhausted {
            self.forget(&subscription);
        }
        if !parcel.internal.is_empty() {
            self.shared.internal.receive(parcel.internal.len());
            if let Some(internal) = self.services.internal.as_deref_mut() {
                parcel.internal.deliver(internal);
                self.services.noted = true;
            }
        }
        (parcel.newcomers, parcel.requests)
    }

    fn receive_output(&mut self, handover: Handover) {
        let receiver = self.connections.get_mut(handover.slot);
        let Some(connection) = receiver.filter(|one| one.peer.id == handover.connection) else {
            handover
                .chunks
                .into_iter()
                .for_each(|chunk| self.pool.give(chunk));
            return;
        };
        connection.peer.receive(handover.bytes);
        if connection.closing.is_some() {
            handover
                .chunks
                .into_iter()
                .for_each(|chunk| self.pool.give(chunk));
            return;
        }
        connection.output.append(handover.chunks, &mut self.pool);
        if let Role::Client(session) = &mut connection.role {
            for reply in &handover.replies {
                session.note_reply(reply, self.now);
            }
        }
        self.count_out(handover.slot, handover.messages, handover.payload_bytes);
        self.touched(handover.slot);
    }

    fn count_out(&mut self, slot: usize, messages: usize, bytes: usize) {
        let (messages, bytes) = (messages as u64, bytes as u64);
        let connection = &mut self.connections[slot];
        connection.traffic.out_msgs += messages;
        connection.traffic.out_bytes += bytes;
        self.counters.out_msgs += messages;
        self.counters.out_bytes += bytes;
        if let Role::Route(_) = connection.role {
            self.counters.route_out_msgs += messages;
            self.counters.route_out_bytes += bytes;
        }
    }

    /// Ends subscriptions of an account that got their last message: nobody finds them any more, and
    /// their sessions forget them.
    pub(crate) fn end_exhausted(&mut self, account: &Account) {
        if self.exhausted.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut self.exhausted);
        self.shared.unsubscribe(account, &ended);
        for subscription in ended {
            match &subscription.target {
                Target::Connection(peer) if peer.worker != self.worker => {
                    let worker = peer.worker;
                    self.outbound[worker].parcel.exhausted.push(subscription);
                }
                Target::Connection(_) | Target::Internal(_) | Target::Route { .. } => {
                    self.forget(&subscription);
                }
            }
        }
    }

    fn forget(&mut self, subscription: &Arc<Subscription>) {
        if let Target::Connection(peer) = &subscription.target
            && let Some(connection) = self.connections.get_mut(peer.slot)
            && connection.peer.id == peer.id
        {
            connection.session().exhausted(subscription);
        }
    }

    /// Writes messages for a connection, wherever it lives. `write` says what one looks like there.
    fn send_to<M: Message>(
        &mut self,
        peer: &Arc<Peer>,
        messages: &[M],
        write: impl Fn(&M, &mut Output, &mut ChunkPool),
    ) {
        if peer.worker == self.worker {
            self.send_here(peer, messages, write);
        } else {
            self.send_elsewhere(peer, messages, write);
        }
    }

    fn send_here<M: Message>(
        &mut self,
        peer: &Peer,
        messages: &[M],
        write: impl Fn(&M, &mut Output, &mut ChunkPool),
    ) {
        let now = self.now;
        let receiver = self.connections.get_mut(peer.slot);
        let Some(connection) =
            receiver.filter(|one| one.peer.id == peer.id && one.closing.is_none())
        else {
            return;
        };
        let mut body_bytes = 0;
        for message in messages {
            body_bytes += message.body_bytes();
            write(message, &mut connection.output, &mut self.pool);
        }
        if peer.notes_replies() {
            let session = connection.session();
            for message in messages {
                session.note_reply(message.reply(), now);
            }
        }
        self.count_out(peer.slot, messages.len(), body_bytes);
        self.touched(peer.slot);
    }

    fn send_elsewhere<M: Message>(
        &mut self,
        peer: &Arc<Peer>,
        messages: &[M],
        write: impl Fn(&M, &mut Output, &mut ChunkPool),
    ) {
        let notes_replies = peer.notes_replies();
        let outgoing = self.outbound[peer.worker]
            .outputs
            .entry(peer.id)
            .or_insert_with(|| Outgoing::new(peer));
        for message in messages {
            outgoing.payload_bytes += message.body_bytes();
            write(message, &mut outgoing.output, &mut self.pool);
            if notes_replies && !message.reply().is_empty() {
                outgoing.replies.push(message.reply().into());
            }
        }
        outgoing.messages += messages.len();
        if peer.waiting_bytes() + outgoing.output.pending() > SOFT_LIMIT {
            note_congested(&mut self.congested, peer);
        }
    }

    fn deliver_inside<M: Message>(&mut self, handler: HandlerId, messages: &[M]) {
        let services = &mut self.services;
        if let Some(internal) = services.internal.as_deref_mut() {
            messages
                .iter()
                .for_each(|message| message.hand_to(handler, internal));
            services.noted = true;
        } else {
            let batch = if self.worker == 0 {
                services.noted = true;
                &mut services.deferred
            } else {
                &mut self.outbound[0].parcel.internal
            };
            messages
                .iter()
                .for_each(|message| message.copy_to(handler, batch));
        }
        note_congested(&mut self.congested, &self.shared.internal);
    }

    /// A connection accepted here that another worker shall have.
    pub(crate) fn pass_on(&mut self, worker: usize, newcomer: Newcomer) {
        self.outbound[worker].parcel.newcomers.push(newcomer);
    }
}

/// Consumers that one pass remembers to wait for. In a large fan-out the first few stand for all.
const MAX_CONGESTED: usize = 16;

fn note_congested(congested: &mut Vec<Arc<Peer>>, peer: &Arc<Peer>) {
    if congested.len() < MAX_CONGESTED && !congested.iter().any(|known| Arc::ptr_eq(known, peer)) {
        congested.push(Arc::clone(peer));
    }
}

impl<M: Message> Outlet<M> for Exchange {
    fn deliver(&mut self, delivery: &Delivery, messages: &[M]) {
        match &delivery.subscription.target {
            Target::Internal(handler) => self.deliver_inside(*handler, messages),
            Target::Connection(peer) => {
                let headers = peer.headers();
                self.send_to(peer, messages, |message, output, pool| {
                    message.write(&delivery.prefix, headers, output, pool);
                });
            }
            Target::Route { .. } => unreachable!("other servers stand in a list of their own"),
        }
    }

    fn forward(&mut self, route: &RouteDelivery, messages: &[M], queues: &[&[u8]]) {
        self.forwarded.msgs += messages.len() as u64;
        let bytes = messages.iter().map(Message::body_bytes);
        self.forwarded.bytes += bytes.sum::<usize>() as u64;
        let headers = route.peer.headers();
        self.send_to(&route.peer, messages, |message, output, pool| {
            message.write_routed(&route.prefix, queues, headers, output, pool);
        });
    }

    fn exhausted(&mut self, subscription: &Arc<Subscription>) {
        self.exhausted.push(Arc::clone(subscription));
    }
}
