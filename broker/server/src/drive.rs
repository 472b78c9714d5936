//! What a connection's task does when it is woken: deadlines, writing on, TLS, reading.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use broker_core::liveness::{PingPolicy, Tick};
use broker_proto::{encode, op::ServerError};
use certs::reload::PeerRefusal;
use tracing::{debug, error};

use crate::{
    admission::greet,
    close_reason::CloseReason,
    connection::{Connection, Phase, Role},
    settings::Settings,
    worker::{READ_BYTES, TAIL_ROOM, Worker},
};

/// Reads in a row before others get their turn.
const MAX_READS: usize = 4;
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

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
        self.advance_phase(slot, cx);
        let connection = &self.exchange.connections[slot];
        let idle = connection.closing.is_some() || connection.being_judged;
        if !idle && !self.is_paused(slot, now, cx) {
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
        let limit = self.exchange.write_deadline(slot);
        let connection = &mut self.exchange.connections[slot];
        if connection.write_deadline(limit).is_some_and(|at| at <= now) {
            self.write_deadline_passed(slot, now);
            return;
        }
        if connection.authenticate_by.is_some_and(|by| by <= now) {
            connection.authenticate_by = None;
            let error = Some(ServerError::AuthenticationTimeout);
            self.refuse(slot, error, CloseReason::AuthenticationTimeout);
            return;
        }
        if let Some(deadline) = connection.phase.deadline() {
            // One that waits for a handshake which need not come goes on by itself.
            let may_go_on =
                matches!(connection.phase, Phase::Expecting { deadline, .. } if deadline > now);
            if deadline <= now && !may_go_on {
                connection.close(CloseReason::HandshakeFailure);
            }
            return;
        }
        if connection.liveness.next_tick() > now {
            return;
        }
        let pings = match &connection.role {
            Role::Client(_) => self.exchange.settings.pings(),
            Role::Route(_) => self.route_pings(),
        };
        self.tick(slot, &pings, now);
    }

    fn tick(&mut self, slot: usize, pings: &PingPolicy, now: Instant) {
        match self.exchange.connections[slot].liveness.tick(pings, now) {
            Tick::Quiet => {}
            Tick::Ping => self.reply(slot, encode::PING),
            Tick::Stale => {
                let error = Some(ServerError::StaleConnection);
                self.refuse(slot, error, CloseReason::StaleConnection);
            }
        }
    }

    /// Ends the connection, unless it may go on because it has taken something. Whoever has not even
    /// said who it is, is not called a slow consumer.
    fn write_deadline_passed(&mut self, slot: usize, now: Instant) {
        let limit = self.exchange.write_deadline(slot);
        let retries = self.exchange.retries_writes(slot);
        let connection = &mut self.exchange.connections[slot];
        let known = connection
            .client()
            .is_none_or(|client| client.is_connected());
        let counts = known && connection.closing.is_none() && connection.phase == Phase::Open;
        let state = match connection.is_retrying() {
            true => "State",
            false => "Detected",
        };
        if !(counts && retries && connection.retry_flush(now)) {
            connection.closing = Some(CloseReason::WriteDeadline);
        }
        if counts {
            error!(
                "{} - Slow Consumer {state}: WriteDeadline of {limit:?} exceeded with {} chunks \
                 of {} total bytes.",
                connection.label(),
                connection.output.chunk_count(),
                connection.output.pending(),
            );
            self.exchange.count_slow(slot);
            // Which shows the count, even if the connection goes on.
            self.schedule_pass();
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

    /// From `INFO` in clear to TLS, or the other way round; the handshake itself is read.
    fn advance_phase(&mut self, slot: usize, cx: &mut Context<'_>) {
        let now = self.exchange.now;
        let connection = &mut self.exchange.connections[slot];
        if connection.closing.is_some() {
            return;
        }
        match connection.phase {
            Phase::Expecting { until, deadline } => {
                let begun = match connection.transport.poll_first_byte(cx) {
                    Poll::Pending if until > now => return,
                    Poll::Ready(Ok(Some(TLS_HANDSHAKE))) => true,
                    // The end, or an error: reading finds out.
                    Poll::Ready(_) | Poll::Pending => false,
                };
                connection.phase = Phase::Greeting { deadline };
                if !begun {
                    let settings = Arc::clone(&self.exchange.settings);
                    greet(connection, &settings, &mut self.exchange.pool);
                    connection.flush(now, &mut self.exchange.pool);
                    if settings.config.tls.as_ref().is_some_and(|tls| tls.optional) {
                        connection.phase = Phase::Undecided;
                        return self.advance_phase(slot, cx);
                    }
                }
                self.begin_handshake(slot);
            }
            Phase::Undecided => match connection.transport.poll_first_byte(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(Some(TLS_HANDSHAKE))) => {
                    let tls = self.exchange.settings.config.tls.as_ref();
                    let deadline = now + tls.map(|tls| tls.timeout).unwrap_or_default();
                    connection.phase = Phase::Greeting { deadline };
                    self.begin_handshake(slot);
                }
                Poll::Ready(_) => connection.phase = Phase::Open,
            },
            Phase::Greeting { .. } => self.begin_handshake(slot),
            Phase::Handshake { .. } | Phase::Open => {}
        }
    }

    /// Once everything in clear has left.
    fn begin_handshake(&mut self, slot: usize) {
        let now = self.exchange.now;
        let connection = &mut self.exchange.connections[slot];
        let Phase::Greeting { deadline } = connection.phase else {
            return;
        };
        let queued = connection.greeted && !connection.output.is_empty();
        if queued || connection.blocked {
            return;
        }
        let begun = match &connection.role {
            Role::Client(_) => {
                let Some(tls) = &self.exchange.settings.config.tls else {
                    connection.phase = Phase::Open;
                    return;
                };
                if !self.exchange.shared.admits_handshake(tls.rate_limit, now) {
                    let error = Some(ServerError::Throttled);
                    return self.refuse(slot, error, CloseReason::MaxConnections);
                }
                connection.transport.upgrade((tls.handle)())
            }
            Role::Route(link) => link.begin_tls(&mut connection.transport),
        };
        match begun {
            Ok(()) => {
                connection.phase = Phase::Handshake { deadline };
                // One who opened the connection speaks first.
                connection.flush(now, &mut self.exchange.pool);
            }
            Err(error) => {
                error!("{} - TLS cannot begin: {error}", connection.label());
                connection.close(CloseReason::HandshakeFailure);
            }
        }
    }

    /// Whether this producer should leave its socket unread because of consumers it has filled.
    fn is_paused(&mut self, slot: usize, now: Instant, cx: &mut Context<'_>) -> bool {
        let connection = &mut self.exchange.connections[slot];
        connection.paused_until = None;
        if !self.exchange.settings.config.stall_producers {
            connection.congested.clear();
        }
        while let Some(consumer) = connection.congested.last() {
            if let Some(until) = consumer.pause(now, cx.waker()) {
                connection.paused_until = Some(until);
                connection.traffic.stalls += 1;
                self.exchange.counters.stalls += 1;
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
            if matches!(
                connection.phase,
                Phase::Expecting { .. } | Phase::Greeting { .. } | Phase::Undecided
            ) {
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
                // It was not let in after all.
                Poll::Ready(Ok(_)) if self.exchange.connections[slot].closing.is_some() => break,
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => {
                    self.read_failed(slot, &error);
                    break;
                }
            };
            self.work_done += 1;
            self.take_parcels();
            self.take_in(slot, &mut buffer, start, read);
            let connection = &mut self.exchange.connections[slot];
            connection.congested.append(&mut self.exchange.congested);
            if connection.closing.is_some() || connection.being_judged {
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
            debug!("{} - TLS handshake complete", connection.label());
            self.opened(slot);
        }
        let connection = &mut self.exchange.connections[slot];
        if matches!(connection.phase, Phase::Open) {
            // Whatever had to wait for the handshake, together with what is read now.
            self.exchange.touched(slot);
            self.schedule_pass();
        } else {
            // The rest of a handshake message.
            connection.flush(now, &mut self.exchange.pool);
        }
    }

    /// TLS is up: time to authenticate counts from now, and who has not been greeted is. Whoever resumed
    /// a session has not been verified again by TLS itself.
    fn opened(&mut self, slot: usize) {
        let settings = Arc::clone(&self.exchange.settings);
        let connection = &mut self.exchange.connections[slot];
        if let Some(refusal) = peer_refusal(connection, &settings) {
            error!("{} - TLS handshake error: {refusal}", connection.label());
            return connection.close(CloseReason::HandshakeFailure);
        }
        if connection.authenticate_by.is_some() {
            let limit = match (&connection.role, &settings.config.cluster) {
                (Role::Route(_), Some(port)) => port.auth_timeout,
                _ => settings.config.auth_timeout,
            };
            connection.authenticate_by = Some(self.exchange.now + limit);
        }
        match connection.role {
            Role::Client(_) if !connection.greeted => {
                greet(connection, &settings, &mut self.exchange.pool);
            }
            Role::Client(_) => {}
            Role::Route(_) => self.route_opened(slot),
        }
    }

    fn read_failed(&mut self, slot: usize, error: &io::Error) {
        let connection = &mut self.exchange.connections[slot];
        let reason = match connection.phase {
            // The end without the word that TLS has for it. Nothing is taken for whole that is not.
            Phase::Open if error.kind() == io::ErrorKind::UnexpectedEof => {
                CloseReason::ClientClosed
            }
            Phase::Open | Phase::Undecided => CloseReason::ReadError,
            Phase::Expecting { .. } | Phase::Greeting { .. } | Phase::Handshake { .. } => {
                error!("{} - TLS handshake error: {error}", connection.label());
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
            let missing = connection.needed.saturating_sub(connection.tail.len());
            if missing == 0 {
                // A long line, of which nobody knows yet where it ends.
                connection
                    .tail
                    .extend_from_slice(&buffer[start..start + read]);
                return self.operate_on_tail(slot);
            }
            // A large body: it grows where it is until it is complete, nothing is parsed before.
            let part = missing.min(read);
            connection.tail.extend_from_slice(&buffer[..part]);
            if part < missing {
                return;
            }
            let whole = std::mem::take(&mut connection.tail);
            let taken = self.operate(slot, &whole);
            debug_assert!(
                taken == whole.len() || self.exchange.connections[slot].closing.is_some(),
                "{taken} of {} bytes were taken",
                whole.len()
            );
            from += part;
        }
        let input = &buffer[from..start + read];
        let taken = self.operate(slot, input);
        let connection = &mut self.exchange.connections[slot];
        if taken == input.len() {
            connection.tail = Vec::new();
        } else {
            connection.tail.clear();
            connection.tail.extend_from_slice(&input[taken..]);
        }
    }

    /// Operates on what was kept, while the connection was being judged or for lack of a line's end.
    pub(crate) fn operate_on_tail(&mut self, slot: usize) {
        let mut input = std::mem::take(&mut self.exchange.connections[slot].tail);
        let taken = self.operate(slot, &input);
        // It is freed when empty, and stays where it is while nothing is whole yet.
        if taken < input.len() {
            input.drain(..taken);
            self.exchange.connections[slot].tail = input;
        }
    }

    /// Carries out all whole operations at the start of the input; returns how many bytes they took.
    fn operate(&mut self, slot: usize, input: &[u8]) -> usize {
        match self.exchange.connections[slot].role {
            Role::Client(_) => self.operate_client(slot, input),
            Role::Route(_) => self.operate_route(slot, input),
        }
    }

    /// Says why, and ends the connection.
    pub(crate) fn refuse(
        &mut self,
        slot: usize,
        error: Option<ServerError<'_>>,
        reason: CloseReason,
    ) {
        let connection = &mut self.exchange.connections[slot];
        if let Some(error) = &error {
            debug!("{} - {error}", connection.label());
        }
        connection.refuse(error, reason, &mut self.exchange.pool);
    }

    /// Queues text for the connection, to be flushed at the end of the pass.
    pub(crate) fn reply(&mut self, slot: usize, text: &[u8]) {
        self.exchange.connections[slot].put(text, &mut self.exchange.pool);
        self.exchange.touched(slot);
        self.schedule_pass();
    }
}

/// Why a client or server may not be here with the certificate that it has shown; `None` if it may, or
/// showed none.
pub(crate) fn peer_refusal(connection: &Connection, settings: &Settings) -> Option<PeerRefusal> {
    let leaf = connection.transport.peer_certificates().first()?;
    match &connection.role {
        Role::Client(_) => (settings.config.tls.as_ref()?.admits)(leaf).err(),
        Role::Route(link) => link.refusal(leaf),
    }
}
