//! One client's connection: socket, protocol state, and what waits in either direction. Driven by its
//! task through [`crate::worker`].

use std::{
    fmt, io,
    io::IoSlice,
    net::SocketAddr,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use broker_core::{peer::Peer, session::Session};
use broker_proto::{
    encode::{self, Sink},
    op::{ParseError, ServerError},
};

use crate::{
    output::{ChunkPool, MAX_SLICES, Output},
    timers::Armed,
    transport::Transport,
};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: Arc<Peer>,
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) phase: Phase,
    pub(crate) session: Session,
    pub(crate) output: Output,
    /// The start of an operation whose rest has not arrived; freed when empty.
    pub(crate) tail: Vec<u8>,
    /// Length of that whole operation, once known; else 0.
    pub(crate) needed: usize,
    pub(crate) closing: Option<CloseReason>,
    /// Has output that the pass under way will flush.
    pub(crate) dirty: bool,
    /// The socket took less than it was given; its task waits until it is writable.
    pub(crate) blocked: bool,
    /// The flush under way, while the socket does not take all.
    stall: Option<Stall>,
    /// Consumers that this producer has filled above the soft limit.
    pub(crate) congested: Vec<Arc<Peer>>,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) armed: Armed,
    /// Bytes that the socket has taken.
    taken: u64,
    /// Of the connection's task.
    pub(crate) task: Option<Waker>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `INFO` is on its way; TLS follows. Must be over at the given time.
    Greeting {
        deadline: Instant,
    },
    /// The TLS handshake is under way.
    Handshake {
        deadline: Instant,
    },
    Open,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Instant,
    /// Everything up to here was waiting then.
    until_taken: u64,
}

/// Why a connection ends. The texts are those of the reference's list of closed connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    ClientClosed,
    HandshakeFailure,
    PendingBytes,
    WriteDeadline,
    WriteError,
    ReadError,
    ParseError,
    StaleConnection,
    ProtocolViolation,
    ClientProtocol,
    MaxConnections,
    MaxPayload,
    MaxControlLine,
    NoRespondersRequiresHeaders,
    ServerShutdown,
}

impl CloseReason {
    /// Whether what waits is still sent.
    pub(crate) fn flushes(self) -> bool {
        !matches!(
            self,
            Self::PendingBytes
                | Self::WriteDeadline
                | Self::WriteError
                | Self::ReadError
                | Self::HandshakeFailure
        )
    }
}

impl From<ParseError> for CloseReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::UnknownOperation => Self::ProtocolViolation,
            ParseError::ControlLine => Self::MaxControlLine,
            ParseError::Payload => Self::MaxPayload,
            ParseError::Arguments => Self::ParseError,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientClosed => "Client Closed",
            Self::HandshakeFailure => "TLS Handshake Failure",
            Self::PendingBytes => "Slow Consumer (Pending Bytes)",
            Self::WriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::StaleConnection => "Stale Connection",
            Self::ProtocolViolation => "Protocol Violation",
            Self::ClientProtocol => "Bad Client Protocol Version",
            Self::MaxConnections => "Maximum Connections Exceeded",
            Self::MaxPayload => "Maximum Message Payload Exceeded",
            Self::MaxControlLine => "Maximum Control Line Exceeded",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::ServerShutdown => "Server Shutdown",
        })
    }
}

impl Connection {
    pub(crate) fn new(
        peer: Arc<Peer>,
        address: SocketAddr,
        transport: Transport,
        session: Session,
        phase: Phase,
    ) -> Self {
        Self {
            peer,
            address,
            transport,
            phase,
            session,
            output: Output::default(),
            tail: Vec::new(),
            needed: 0,
            closing: None,
            dirty: false,
            blocked: false,
            stall: None,
            congested: Vec::new(),
            paused_until: None,
            armed: Armed::default(),
            taken: 0,
            task: None,
        }
    }

    /// Ends the connection: its task does the rest. The first reason counts.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if self.closing.is_none() {
            self.closing = Some(reason);
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
        self.time_flush(now);
        self.peer.report(self.output.pending(), self.taken);
    }

    fn write(&mut self, pool: &mut ChunkPool) -> io::Result<()> {
        // During the handshake only TLS itself has something to say.
        let open = !matches!(self.phase, Phase::Handshake { .. });
        while open && !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.output.slices(&mut slices);
            let written = self.transport.try_write_vectored(&slices[..count])?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.taken += written as u64;
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
    fn time_flush(&mut self, now: Instant) {
        if !self.blocked {
            self.stall = None;
        } else if self
            .stall
            .is_none_or(|stall| self.taken >= stall.until_taken)
        {
            let until_taken = self.taken + self.output.pending().max(1) as u64;
            self.stall = Some(Stall {
                since: now,
                until_taken,
            });
        }
    }

    /// Bytes that the socket has taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// When the flush under way must have come to an end.
    pub(crate) fn write_deadline(&self, limit: Duration) -> Option<Instant> {
        self.stall.map(|stall| stall.since + limit)
    }
}
