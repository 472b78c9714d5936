//! One connection, of a client or of another server: socket, protocol state, and what waits in either
//! direction. Driven by its task through [`crate::worker`].

use std::{
    io,
    io::IoSlice,
    net::SocketAddr,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant, SystemTime},
};

use broker_core::{liveness::Liveness, peer::Peer, session::Session};
use broker_proto::{
    encode::{self, Sink},
    op::ServerError,
};
use tracing::info;

use crate::{
    close_reason::CloseReason,
    output::{ChunkPool, MAX_SLICES, Output},
    routes::Link,
    timers::Armed,
    trace::Tracer,
    transport::Transport,
};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: Arc<Peer>,
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) phase: Phase,
    pub(crate) role: Role,
    pub(crate) liveness: Liveness,
    pub(crate) output: Output,
    /// The start of an operation whose rest has not arrived; freed when empty.
    pub(crate) tail: Vec<u8>,
    /// Length of that whole operation, once known; else 0.
    pub(crate) needed: usize,
    pub(crate) closing: Option<CloseReason>,
    /// `INFO` was given to it.
    pub(crate) greeted: bool,
    /// What a client has to sign; empty if nobody signs.
    pub(crate) nonce: Box<str>,
    /// When a client must have shown who it is; `None` once it has, or if it need not.
    pub(crate) authenticate_by: Option<Instant>,
    /// Its credentials are being checked elsewhere: nothing of it is looked at meanwhile.
    pub(crate) being_judged: bool,
    pub(crate) accepted: SystemTime,
    pub(crate) traffic: Traffic,
    /// Has output that the pass under way will flush.
    pub(crate) dirty: bool,
    /// The socket took less than it was given; its task waits until it is writable.
    pub(crate) blocked: bool,
    /// The flush under way, while the socket does not take all.
    stall: Option<Box<Stall>>,
    /// Consumers that this producer has filled above the soft limit.
    pub(crate) congested: Vec<Arc<Peer>>,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) armed: Armed,
    /// Bytes that the socket has taken.
    taken: u64,
    /// Of the connection's task.
    pub(crate) task: Option<Waker>,
    /// There is one as long as it is traced.
    pub(crate) tracer: Option<Box<Tracer>>,
}

/// Whom the connection is with.
#[derive(Debug)]
pub(crate) enum Role {
    Client(Session),
    /// Another server.
    Route(Box<Link>),
}

/// Messages through one connection; bytes are headers and payloads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) in_msgs: u64,
    pub(crate) in_bytes: u64,
    pub(crate) out_msgs: u64,
    pub(crate) out_bytes: u64,
    /// Times that it was left unread because of others.
    pub(crate) stalls: u64,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was sent yet: if the other end begins a handshake by `until`, TLS comes first, else
    /// `INFO` does.
    Expecting {
        until: Instant,
        deadline: Instant,
    },
    /// `INFO` is on its way; TLS follows. Must be over at the given time.
    Greeting {
        deadline: Instant,
    },
    /// `INFO` was sent; the first byte decides whether TLS follows.
    Undecided,
    /// The TLS handshake is under way.
    Handshake {
        deadline: Instant,
    },
    Open,
}

impl Phase {
    /// Operations may not begin before then.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Expecting { until, deadline } => Some(until.min(deadline)),
            Self::Greeting { deadline } | Self::Handshake { deadline } => Some(deadline),
            Self::Undecided | Self::Open => None,
        }
    }
}

/// A flush that takes more than one write.
#[derive(Clone, Copy, Debug)]
struct Stall {
    begun: Instant,
    /// What the socket had taken before.
    begun_taken: u64,
    /// Everything up to here was waiting then.
    until_taken: u64,
    /// The write deadline counts from here: later than its beginning once it has been granted more time.
    since: Instant,
    /// What the socket had taken by then.
    since_taken: u64,
}

impl Connection {
    pub(crate) fn new(
        peer: Arc<Peer>,
        address: SocketAddr,
        transport: Transport,
        role: Role,
        liveness: Liveness,
        phase: Phase,
    ) -> Self {
        Self {
            peer,
            address,
            transport,
            phase,
            role,
            liveness,
            output: Output::default(),
            tail: Vec::new(),
            needed: 0,
            closing: None,
            greeted: false,
            nonce: Box::default(),
            authenticate_by: None,
            being_judged: false,
            accepted: SystemTime::now(),
            traffic: Traffic::default(),
            dirty: false,
            blocked: false,
            stall: None,
            congested: Vec::new(),
            paused_until: None,
            armed: Armed::default(),
            taken: 0,
            task: None,
            tracer: None,
        }
    }

    /// The client's side of it; `None` for another server.
    pub(crate) fn client(&self) -> Option<&Session> {
        match &self.role {
            Role::Client(session) => Some(session),
            Role::Route(_) => None,
        }
    }

    /// For operations of clients, which nobody else has.
    ///
    /// # Panics
    /// It is another server.
    pub(crate) fn session(&mut self) -> &mut Session {
        match &mut self.role {
            Role::Client(session) => session,
            Role::Route(_) => unreachable!("operations of clients come from clients"),
        }
    }

    /// For operations of other servers.
    ///
    /// # Panics
    /// It is a client.
    pub(crate) fn link(&mut self) -> &mut Link {
        match &mut self.role {
            Role::Route(link) => link,
            Role::Client(_) => unreachable!("operations of other servers come from routes"),
        }
    }

    /// How it stands in the log.
    pub(crate) fn label(&self) -> String {
        let kind = match self.role {
            Role::Client(_) => "cid",
            Role::Route(_) => "rid",
        };
        format!("{} - {kind}:{}", self.address, self.peer.id)
    }

    /// Ends the connection: its task does the rest. The first reason counts.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if self.closing.is_none() {
            self.closing = Some(reason);
            self.peer.depart();
            self.wake();
        }
    }

    /// Says why, then ends the connection.
    pub(crate) fn refuse(
        &mut self,
        error: Option<ServerError<'_>>,
        reason: CloseReason,
        pool: &mut ChunkPool,
    ) {
        if let Some(error) = error
            && self.closing.is_none()
        {
            encode::error(&error, &mut self.output.writer(pool));
        }
        self.close(reason);
    }

    /// Lets the connection's task look at it.
    pub(crate) fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// Queues protocol text.
    pub(crate) fn put(&mut self, bytes: &[u8], pool: &mut ChunkPool) {
        self.output.writer(pool).put(bytes);
    }

    /// Writes as much as the socket takes. What remains is written when it is writable again.
    pub(crate) fn flush(&mut self, now: Instant, pool: &mut ChunkPool) {
        let taken_before = self.taken;
        match self.write(pool) {
            Ok(()) => self.blocked = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !self.blocked {
                    self.blocked = true;
                    self.wake();
                }
            }
            Err(_) => {
                self.blocked = false;
                self.output.clear(pool);
                self.close(CloseReason::WriteError);
            }
        }
        self.time_flush(now, taken_before);
        self.peer.report(self.output.pending(), self.taken);
    }

    fn write(&mut self, pool: &mut ChunkPool) -> io::Result<()> {
        // During the handshake only TLS itself has something to say, and before it nobody.
        let open = !matches!(
            self.phase,
            Phase::Handshake { .. } | Phase::Expecting { .. }
        );
        while open && !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.output.slices(&mut slices);
            let written = self.transport.try_write_vectored(&slices[..count])?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.taken += written as u64;
            if self.tracer.is_some() {
                let mut taken = Vec::new();
                for slice in &slices[..count] {
                    taken.extend_from_slice(slice);
                }
                taken.truncate(written);
                self.trace_out(&taken);
            }
            self.output.advance(written, pool);
        }
        self.transport.send_accepted()?;
        if self.transport.has_unsent() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    }

    /// A flush begins when something stays behind, and is over once all that waited then is gone.
    fn time_flush(&mut self, now: Instant, taken_before: u64) {
        let (blocked, taken) = (self.blocked, self.taken);
        let over = self
            .stall
            .take_if(|stall| !blocked || taken >= stall.until_taken);
        if let Some(stall) = over
            && stall.since != stall.begun
            && self.closing.is_none()
        {
            info!(
                "{} - Slow Consumer Recovered: Flush took {:.3}s with {} total bytes.",
                self.label(),
                now.duration_since(stall.begun).as_secs_f64(),
                self.taken - stall.begun_taken,
            );
        }
        if self.blocked && self.stall.is_none() {
            self.stall = Some(Box::new(Stall {
                begun: now,
                begun_taken: taken_before,
                until_taken: self.taken + self.output.pending().max(1) as u64,
                since: now,
                since_taken: taken_before,
            }));
        }
    }

    /// Gives the flush under way as much time again, if the socket has taken anything since it was
    /// given some the last time. Returns whether it has.
    pub(crate) fn retry_flush(&mut self, now: Instant) -> bool {
        match &mut self.stall {
            Some(stall) if stall.since_taken < self.taken => {
                stall.since = now;
                stall.since_taken = self.taken;
                true
            }
            _ => false,
        }
    }

    /// The flush under way has been given more time before.
    pub(crate) fn is_retrying(&self) -> bool {
        let stall = self.stall.as_ref();
        stall.is_some_and(|stall| stall.since != stall.begun)
    }

    /// Bytes that the socket has taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// When the flush under way must have come to an end.
    pub(crate) fn write_deadline(&self, limit: Duration) -> Option<Instant> {
        self.stall.as_ref().map(|stall| stall.since + limit)
    }
}
