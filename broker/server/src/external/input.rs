//! What a NATS server has sent and nobody has read yet.

use std::{
    io,
    task::{Context, Poll},
};

use broker_proto::{
    op::ParseError,
    parser::Step,
    upstream::{self, UpstreamOp},
};

use crate::transport::Transport;

/// Input of one pass, as that of a worker.
const PASS_BYTES: usize = 64 << 10;

/// A buffer that grew for a large message is given back when that is over.
const KEPT_BYTES: usize = 1 << 20;

/// Bytes that arrived. Invariant: `filled <= buffer.len()`.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Vec<u8>,
    filled: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            buffer: vec![0; PASS_BYTES],
            filled: 0,
        }
    }
}

impl Input {
    /// Reads what there is, up to one pass. True: the other end has closed, and nothing came. Cancel-safe.
    pub(super) fn fill(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = self.filled;
        while self.filled < self.buffer.len() {
            let read = transport.poll_read(cx, &mut self.buffer[self.filled..]);
            match read {
                Poll::Ready(Ok(read)) if read > 0 => self.filled += read,
                // The last words come first; the end is still there at the next look.
                _ if self.filled > before => break,
                Poll::Ready(outcome) => return Poll::Ready(outcome.map(|_| true)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Hands all complete operations over, in order, and keeps the rest.
    ///
    /// # Errors
    /// The other end does not speak the protocol.
    pub(super) fn take(
        &mut self,
        mut receive: impl FnMut(UpstreamOp<'_>),
    ) -> Result<(), ParseError> {
        let mut taken = 0;
        loop {
            match upstream::parse(&self.buffer[taken..self.filled])? {
                Step::Taken { op, consumed } => {
                    receive(op);
                    taken += consumed;
                }
                Step::Incomplete { needed } => {
                    self.drop_taken(taken, needed);
                    return Ok(());
                }
            }
        }
    }

    /// The same with the first operation alone; `None` if there is none yet.
    ///
    /// # Errors
    /// The other end does not speak the protocol.
    pub(super) fn take_first<R>(
        &mut self,
        receive: impl FnOnce(UpstreamOp<'_>) -> R,
    ) -> Result<Option<R>, ParseError> {
        match upstream::parse(&self.buffer[..self.filled])? {
            Step::Taken { op, consumed } => {
                let result = receive(op);
                self.drop_taken(consumed, 0);
                Ok(Some(result))
            }
            Step::Incomplete { needed } => {
                self.drop_taken(0, needed);
                Ok(None)
            }
        }
    }

    /// Nothing has arrived that was not taken.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Makes room for the rest of an operation of `needed` bytes, or of one whose size is not known yet.
    fn drop_taken(&mut self, taken: usize, needed: usize) {
        self.buffer.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        let room = self.buffer.len();
        if needed > room {
            self.buffer.resize(needed, 0);
        } else if self.filled == room {
            self.buffer.resize(2 * room, 0);
        } else if room > KEPT_BYTES && self.filled <= PASS_BYTES && needed <= PASS_BYTES {
            self.buffer.truncate(PASS_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}
