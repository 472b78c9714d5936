//! What a connection's task does when it is woken: deadlines, writing on, reading, and the operations
//! that were read.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use broker_core::{
    router::{MAX_RUN, route},
    session::{Subscribed, Tick},
    subscription::Target,
};
use broker_proto::{
    encode,
    op::{ClientOp, Publication, ServerError},
    parser::{Limits, Step, parse},
    subject,
};
use smallvec::SmallVec;
use tracing::{debug, error};

use crate::{
    connection::{CloseReason, Phase},
    worker::{READ_BYTES, TAIL_ROOM, Worker},
};

/// Reads in a row before others get their turn.
const MAX_READS: usize = 4;

/// Messages with one subject that follow each other directly.
type Run<'a> = SmallVec<[Publication<'a>; MAX_RUN]>;

impl Worker {
    /// Everything there is to do for a connection now. Ready when it has ended.
    pub(crate) fn drive(&mut self, slot: usize, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        self.exchange.now = now;
        let connection = &mut self.exchange.connections[slot];
        assert_eq!(
            connection.peer.id, id,
            "a place is given up by its own task only"
        );
        if connection
            .task
            .as_ref()
            .is_none_or(|known| !known.will_wake(cx.waker()))
        {
            connection.task = Some(cx.waker().clone());
        }
        self.check_deadlines(slot, now);
        self.write_on(slot, now, cx);
        self.advance_phase(slot);
        if self.exchange.connections[slot].closing.is_none() && !self.is_paused(slot, now, cx) {
            self.read_on(slot, cx);
        }
        if self.has_ended(slot) {
            self.release(slot);
            return Poll::Ready(());
        }
        self.arm_timers(slot);
        Poll::Pending
    }

    /// Closing, and nothing left that the socket might take.
    fn has_ended(&mut self, slot: usize) -> bool {
        let connection = &mut self.exchange.connections[slot];
        let Some(reason) = connection.closing else {
            return false;
        };
        if reason.flushes() && !connection.blocked {
            connection.flush(self.exchange.now, &mut self.exchange.pool);
        }
        // A flush that fails gives another reason, but the first one counts.
        !reason.flushes() || !connection.blocked
    }

    fn check_deadlines(&mut self, slot: usize, now: Instant) {
        let shared = Arc::clone(&self.exchange.shared);
        let connection = &mut self.exchange.connections[slot];
        let limit = shared.config.write_deadline;
        if connection.write_deadline(limit).is_some_and(|at| at <= now) {
            if connection.session.is_connected() && connection.closing.is_none() {
                self.exchange.counters.slow_consumers += 1;
                error!(
                    "{} - cid:{id} - Slow Consumer Detected: WriteDeadline of {limit:?} exceeded \
                     with {} total bytes.",
                    connection.address,
                    connection.output.pending(),
                    id = connection.peer.id,
                );
            }
            connection.closing = Some(CloseReason::WriteDeadline);
            return;
        }
        match connection.phase {
            Phase::Greeting { deadline } | Phase::Handshake { deadline } if deadline <= now => {
                connection.close(CloseReason::HandshakeFailure);
            }
            Phase::Open if connection.session.next_tick() <= now => {
                match connection.session.tick(&shared.pings(), now) {
                    Tick::Quiet => {}
                    Tick::Ping => self.reply(slot, encode::PING),
                    Tick::Stale => {
                        self.refuse(
                            slot,
                            Some(ServerError::StaleConnection),
                            CloseReason::StaleConnection,
                        );
                    }
                }
            }
            Phase::Greeting { .. } | Phase::Handshake { .. } | Phase::Open => {}
        }
    }

    /// Writes what waits if the socket has become writable.
    fn write_on(&mut self, slot: usize, now: Instant, cx: &mut Context<'_>) {
        loop {
            let connection = &mut self.exchange.connections[slot];
            if !connection.blocked || connection.transport.poll_write_ready(cx).is_pending() {
                return;
            }
            connection.flush(now, &mut self.exchange.pool);
        }
    }

    /// From `INFO` in clear to TLS, and from the handshake to operations.
    fn advance_phase(&mut self, slot: usize) {
        let connection = &mut self.exchange.connections[slot];
        let greeted = connection.output.is_empty() && !connection.blocked;
        match connection.phase {
            Phase::Greeting { deadline } if greeted && connection.closing.is_none() => {
                let Some(tls) = &self.exchange.shared.tls else {
                    return;
                };
                match connection.transport.upgrade((tls)()) {
                    Ok(()) => connection.phase = Phase::Handshake { deadline },
                    Err(error) => {
                        error!("{} - TLS cannot begin: {error}", connection.address);
                        connection.close(CloseReason::HandshakeFailure);
                    }
                }
            }
            Phase::Greeting { .. } | Phase::Handshake { .. } | Phase::Open => {}
        }
    }

    /// Whether this producer should leave its socket unread because of consumers it has filled.
    fn is_paused(&mut self, slot: usize, now: Instant, cx: &mut Context<'_>) -> bool {
        let connection = &mut self.exchange.connections[slot];
        connection.paused_until = None;
        while let Some(consumer) = connection.congested.last() {
            if let Some(until) = consumer.pause(now, cx.waker()) {
                connection.paused_until = Some(until);
                return true;
            }
            connection.congested.pop();
        }
        false
    }

    fn read_on(&mut self, slot: usize, cx: &mut Context<'_>) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        for reads in 1.. {
            let connection = &mut self.exchange.connections[slot];
            if matches!(connection.phase, Phase::Greeting { .. }) {
                break;
            }
            let start = if connection.tail.len() <= TAIL_ROOM {
                connection.tail.len()
            } else {
                0
            };
            let outcome = connection
                .transport
                .poll_read(cx, &mut buffer[start..start + READ_BYTES]);
            if matches!(connection.phase, Phase::Handshake { .. }) {
                self.check_handshake(slot);
            }
            let read = match outcome {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.exchange.connections[slot].close(CloseReason::ClientClosed);
                    break;
                }
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => {
                    self.read_failed(slot, &error);
                    break;
                }
            };
            self.take_in(slot, &mut buffer, start, read);
            let connection = &mut self.exchange.connections[slot];
            connection.congested.append(&mut self.exchange.congested);
            if connection.closing.is_some() {
                break;
            }
            // Behind the pump in the run queue: what this pass produced goes out first.
            if read == READ_BYTES || reads == MAX_READS {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.read_buffer = buffer;
    }

    fn check_handshake(&mut self, slot: usize) {
        let now = self.exchange.now;
        let connection = &mut self.exchange.connections[slot];
        if !connection.transport.is_handshaking() {
            connection.phase = Phase::Open;
            debug!(
                "{} - cid:{} - TLS handshake complete",
                connection.address, connection.peer.id
            );
        }
        // The rest of a handshake message, and whatever had to wait for the handshake.
        connection.flush(now, &mut self.exchange.pool);
    }

    fn read_failed(&mut self, slot: usize, error: &io::Error) {
        let connection = &mut self.exchange.connections[slot];
        let reason = match connection.phase {
            Phase::Open => CloseReason::ReadError,
            Phase::Greeting { .. } | Phase::Handshake { .. } => {
                error!("{} - TLS handshake error: {error}", connection.address);
                CloseReason::HandshakeFailure
            }
        };
        connection.close(reason);
    }

    /// Operates on what was read to `buffer[start..start + read]`, behind what was kept.
    fn take_in(&mut self, slot: usize, buffer: &mut [u8], start: usize, read: usize) {
        let connection = &mut self.exchange.connections[slot];
        let mut from = start;
        if connection.tail.len() <= TAIL_ROOM {
            buffer[..start].copy_from_slice(&connection.tail);
            from = 0;
        } else {
            // A large body: it grows where it is until it is complete, nothing is parsed before.
            let missing = connection.needed - connection.tail.len();
            let part = missing.min(read);
            connection.tail.extend_from_slice(&buffer[..part]);
            if part < missing {
                return;
            }
            let whole = std::mem::take(&mut connection.tail);
            let taken = self.operate_all(slot, &whole);
            debug_assert!(
                taken == whole.len() || self.exchange.connections[slot].closing.is_some(),
                "{taken} of {} bytes were taken",
                whole.len()
            );
            from += part;
        }
        let input = &buffer[from..start + read];
        let taken = self.operate_all(slot, input);
        let connection = &mut self.exchange.connections[slot];
        if taken == input.len() {
            connection.tail = Vec::new();
        } else {
            connection.tail.clear();
            connection.tail.extend_from_slice(&input[taken..]);
        }
    }

    /// Carries out all whole operations at the start of the input; returns how many bytes they took.
    fn operate_all(&mut self, slot: usize, input: &[u8]) -> usize {
        let shared = Arc::clone(&self.exchange.shared);
        let mut limits = Limits {
            max_control_line: shared.config.max_control_line,
            max_payload: shared.config.max_payload,
            headers: self.exchange.connections[slot].session.headers,
        };
        let mut run = Run::new();
        let mut at = 0;
        while self.exchange.connections[slot].closing.is_none() {
            let (op, consumed) = match parse(&input[at..], &limits) {
                Ok(Step::Taken { op, consumed }) => (op, consumed),
                Ok(Step::Incomplete { needed }) => {
                    self.exchange.connections[slot].needed = needed;
                    break;
                }
                Err(error) => {
                    self.publish(slot, &mut run);
                    self.refuse(slot, error.reply(), error.into());
                    break;
                }
            };
            at += consumed;
            if let ClientOp::Publish(publication) = op {
                let continues = run
                    .last()
                    .is_none_or(|last| last.subject == publication.subject);
                if !continues || run.len() == MAX_RUN {
                    self.publish(slot, &mut run);
                }
                run.push(publication);
            } else {
                self.publish(slot, &mut run);
                self.operate(slot, &op);
                limits.headers = self.exchange.connections[slot].session.headers;
            }
        }
        self.publish(slot, &mut run);
        // Even if nobody was interested: the counts have changed.
        self.schedule_pass();
        at
    }

    /// Anything but a publication.
    fn operate(&mut self, slot: usize, op: &ClientOp<'_>) {
        let now = self.exchange.now;
        match *op {
            ClientOp::Publish(_) => unreachable!("publications go through runs"),
            ClientOp::Connect(json) => self.connect(slot, json),
            ClientOp::Subscribe {
                subject,
                queue_group,
                sid,
            } => {
                self.subscribe(slot, subject, queue_group, sid);
            }
            ClientOp::Unsubscribe { sid, max } => {
                let session = &mut self.exchange.connections[slot].session;
                session.heard();
                if let Some(ended) = session.unsubscribe(sid, max) {
                    self.remove_subscriptions(&[ended]);
                }
                self.acknowledge(slot);
            }
            ClientOp::Ping => self.answer_ping(slot),
            ClientOp::Pong => self.exchange.connections[slot].session.ponged(now),
            ClientOp::Ignored => {}
            ClientOp::Error(text) => {
                let connection = &mut self.exchange.connections[slot];
                error!(
                    "{} - cid:{} - Client Error {}",
                    connection.address,
                    connection.peer.id,
                    text.escape_ascii()
                );
                connection.close(CloseReason::ClientClosed);
            }
        }
    }

    fn connect(&mut self, slot: usize, json: &[u8]) {
        let pings = self.exchange.shared.pings();
        let now = self.exchange.now;
        let id = self.exchange.connections[slot].peer.id;
        let jitter = self.jitter(id);
        let connection = &mut self.exchange.connections[slot];
        match connection.session.connect(json, &pings, jitter, now) {
            Ok(ended) => {
                connection.peer.set_headers(connection.session.headers);
                self.remove_subscriptions(&ended);
                self.acknowledge(slot);
            }
            Err(refused) => {
                let reason = match refused.reply() {
                    None => CloseReason::ProtocolViolation,
                    Some(ServerError::InvalidClientProtocol) => CloseReason::ClientProtocol,
                    Some(_) => CloseReason::NoRespondersRequiresHeaders,
                };
                self.refuse(slot, refused.reply(), reason);
            }
        }
    }

    fn subscribe(&mut self, slot: usize, subject: &[u8], queue_group: &[u8], sid: &[u8]) {
        let connection = &mut self.exchange.connections[slot];
        connection.session.heard();
        let target = Target::Connection(Arc::clone(&connection.peer));
        match connection
            .session
            .subscribe(subject, queue_group, sid, target)
        {
            Ok(Subscribed::New(new)) => {
                self.exchange.shared.sublist.change(|list| list.insert(new));
                self.acknowledge(slot);
            }
            Ok(Subscribed::Duplicate) => self.acknowledge(slot),
            Err(refused) => self.report(slot, &refused),
        }
    }

    fn answer_ping(&mut self, slot: usize) {
        let shared = Arc::clone(&self.exchange.shared);
        let connection = &mut self.exchange.connections[slot];
        let first = connection.session.pinged();
        let (id, address) = (connection.peer.id, connection.address);
        let async_info = connection.session.async_info;
        self.reply(slot, encode::PONG);
        if first && async_info {
            let mut info = shared.info(id, address);
            info.connect_info = true;
            info.remote_account = "$G".into();
            self.reply(slot, &info.to_line());
        }
    }

    /// Routes a run and empties it.
    fn publish(&mut self, slot: usize, run: &mut Run<'_>) {
        let Some(first) = run.first() else { return };
        let session = &mut self.exchange.connections[slot].session;
        session.heard();
        let singly = session.verbose || (session.pedantic && !subject::is_literal(first.subject));
        if singly {
            for publication in run.iter() {
                self.publish_singly(slot, publication);
            }
        } else {
            self.route_run(slot, run);
        }
        run.clear();
    }

    /// With everything that has to be said before the message goes out.
    fn publish_singly(&mut self, slot: usize, publication: &Publication<'_>) {
        let session = &self.exchange.connections[slot].session;
        if session.pedantic && !subject::is_literal(publication.subject) {
            self.report(slot, &ServerError::InvalidPublishSubject);
        }
        self.acknowledge(slot);
        self.route_run(slot, std::slice::from_ref(publication));
    }

    fn route_run(&mut self, slot: usize, run: &[Publication<'_>]) {
        let subject = run[0].subject;
        let connection = &self.exchange.connections[slot];
        let muted = (!connection.session.echo).then_some(connection.peer.id);
        let wants_answer = connection.session.no_responders;
        let counters = &mut self.exchange.counters;
        counters.in_msgs += run.len() as u64;
        counters.in_bytes += run.iter().map(|one| one.body().len() as u64).sum::<u64>();
        let interest = self.cache.look_up(subject, &self.exchange.shared.sublist);
        let mut reached = 0;
        if !interest.is_empty() {
            reached = route(&interest, run, muted, &mut self.dice, &mut self.exchange);
            self.exchange.end_exhausted();
        }
        if wants_answer {
            for (index, publication) in run.iter().enumerate() {
                if reached & (1 << index) == 0 && !publication.reply.is_empty() {
                    self.answer_no_responders(slot, subject, publication.reply);
                }
            }
        }
    }

    /// `+OK`, for those who want it.
    fn acknowledge(&mut self, slot: usize) {
        if self.exchange.connections[slot].session.verbose {
            self.reply(slot, encode::OK);
        }
    }

    /// An error that leaves the connection open.
    fn report(&mut self, slot: usize, error: &ServerError<'_>) {
        debug_assert!(!error.closes());
        let mut text = Vec::new();
        encode::error(error, &mut text);
        self.reply(slot, &text);
    }

    fn refuse(&mut self, slot: usize, error: Option<ServerError<'_>>, reason: CloseReason) {
        let connection = &mut self.exchange.connections[slot];
        connection.refuse(error, reason, &mut self.exchange.pool);
    }

    /// Queues text for the connection, to be flushed at the end of the pass.
    fn reply(&mut self, slot: usize, text: &[u8]) {
        self.exchange.connections[slot].put(text, &mut self.exchange.pool);
        self.exchange.touched(slot);
        self.schedule_pass();
    }
}
