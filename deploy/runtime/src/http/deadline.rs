//! A stream whose peer must take what it is sent: one that asks and never reads would hold its place
//! for as long as it likes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Fails writing when a flush lasts longer than allowed, however little of it the peer takes by and by.
#[derive(Debug)]
pub(super) struct WriteDeadline<S> {
    stream: S,
    limit: Duration,
    /// Runs while something waits that the peer has not taken.
    running: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteDeadline<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            running: None,
        }
    }

    /// Passes an outcome on, unless time is up. The time runs from the first `Pending` on, and only
    /// the end of the flush stops it.
    fn bounded<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_pending() && self.running.is_none() {
            self.running = Some(Box::pin(sleep(self.limit)));
        }
        let is_up = |running: &mut Pin<Box<Sleep>>| running.as_mut().poll(cx).is_ready();
        if self.running.as_mut().is_some_and(is_up) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bounded(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        let outcome = ready!(self.bounded(outcome, cx));
        self.running = None;
        Poll::Ready(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded(outcome, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, advance},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_reads_ends_the_flush_in_time() {
        let (stream, _peer) = duplex(8);
        let began = Instant::now();
        let written = WriteDeadline::new(stream, LIMIT).write_all(&[0; 9]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_a_byte_now_and_then_wins_no_time() {
        let (stream, mut peer) = duplex(8);
        let sipping = tokio::spawn(async move {
            loop {
                sleep(LIMIT / 4).await;
                peer.read_u8().await.unwrap();
            }
        });
        let began = Instant::now();
        let written = WriteDeadline::new(stream, LIMIT).write_all(&[0; 99]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), LIMIT);
        sipping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn every_flush_has_its_own_time() {
        let (stream, mut peer) = duplex(8);
        let mut stream = WriteDeadline::new(stream, LIMIT);
        for _ in 0..3 {
            let late = async {
                advance(LIMIT * 3 / 4).await;
                peer.read_exact(&mut [0; 12]).await
            };
            let flushed = async {
                stream.write_all(&[0; 12]).await?;
                stream.flush().await
            };
            let (read, flushed) = tokio::join!(late, flushed);
            read.unwrap();
            flushed.unwrap();
        }
    }
}
