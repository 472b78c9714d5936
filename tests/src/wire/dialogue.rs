//! A connection whose every frame is kept: for sessions that take turns and may end at any time.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::frames::{self, Frame};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a dialogue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// The server has closed.
    Closed,
    /// An answer that had to come did not.
    Silent,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Dialogue {
    stream: TcpStream,
    unread: Vec<u8>,
    frames: Vec<Frame>,
    pongs: usize,
    state: State,
}

impl Dialogue {
    /// Connects to a port of loopback and reads the greeting.
    ///
    /// # Errors
    /// When nobody listens or nothing comes.
    pub async fn begin(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.context("connecting")?;
        stream.set_nodelay(true)?;
        let mut dialogue = Self {
            stream,
            unread: Vec::new(),
            frames: Vec::new(),
            pongs: 0,
            state: State::Open,
        };
        dialogue.read_while(|it| it.frames.is_empty()).await;
        anyhow::ensure!(dialogue.state == State::Open, "no INFO came");
        Ok(dialogue)
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Sends the pieces one by one. A server that has closed meanwhile does not get the rest.
    pub async fn send<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) {
        for piece in pieces {
            if self.stream.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    /// Says that nothing more will be sent, and reads up to the end.
    pub async fn finish(&mut self) {
        // Fails when the server was faster; what it sent is still there.
        let _ = self.stream.shutdown().await;
        self.read_while(|_| true).await;
    }

    /// Reads until so many `PONG`s have come in all, or the end.
    pub async fn read_to_pong(&mut self, pongs: usize) {
        self.read_while(|it| it.pongs < pongs).await;
    }

    /// Closes at once, so that the port is free again, and gives what was said with how it ended. What is
    /// no whole frame comes last, as a line.
    pub fn end(mut self) -> (Vec<Frame>, State) {
        // Best effort: without it the port is free a minute later.
        let _ = self.stream.set_zero_linger();
        if !self.unread.is_empty() {
            self.frames.push(Frame::Line(self.unread));
        }
        (self.frames, self.state)
    }

    async fn read_while(&mut self, more: impl Fn(&Self) -> bool) {
        while self.state == State::Open && more(self) {
            let read = self.stream.read_buf(&mut self.unread);
            match tokio::time::timeout(PATIENCE, read).await {
                Err(_) => self.state = State::Silent,
                // A reset is an end too: it only says that the server had more to read.
                Ok(Ok(0) | Err(_)) => self.state = State::Closed,
                Ok(Ok(_)) => self.take_frames(),
            }
        }
    }

    fn take_frames(&mut self) {
        let mut taken = 0;
        while let Some((frame, length)) = frames::first(&self.unread[taken..]) {
            taken += length;
            match &frame {
                // The server's own, which comes when it likes.
                Frame::Line(line) if line == b"PING\r\n" => continue,
                Frame::Line(line) if line == b"PONG\r\n" => self.pongs += 1,
                Frame::Line(_) | Frame::Info(_) | Frame::Message(_) => {}
            }
            self.frames.push(frame);
        }
        self.unread.drain(..taken);
    }
}
