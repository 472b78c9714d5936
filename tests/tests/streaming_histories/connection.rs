//! One NATS connection, so narrow that what was sent and received is known byte by byte: no task reads behind
//! the history's back, and nothing is sent again by itself.

use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tests::wire::frames::{self, Frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A message that came.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) sid: u64,
    /// The last token of its subject, if that is a number.
    pub(crate) number: u64,
    pub(crate) reply: Option<String>,
    pub(crate) body: Bytes,
    /// It says that nobody listens.
    pub(crate) no_responders: bool,
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    unsent: Vec<u8>,
}

const GREETING: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";

impl Connection {
    /// Connects to a server on loopback.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::new(),
            unsent: GREETING.to_vec(),
        })
    }

    /// Will subscribe with the next write.
    pub(crate) fn subscribe(&mut self, subject: &str, sid: u64) {
        let line = format!("SUB {subject} {sid}\r\n");
        self.unsent.extend_from_slice(line.as_bytes());
    }

    /// Will unsubscribe with the next write.
    pub(crate) fn unsubscribe(&mut self, sid: u64) {
        let line = format!("UNSUB {sid}\r\n");
        self.unsent.extend_from_slice(line.as_bytes());
    }

    /// Will publish with the next write.
    pub(crate) fn publish(&mut self, subject: &str, reply: Option<&str>, body: &[u8]) {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let line = format!("PUB {subject} {reply}{}\r\n", body.len());
        self.unsent.extend_from_slice(line.as_bytes());
        self.unsent.extend_from_slice(body);
        self.unsent.extend_from_slice(b"\r\n");
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) async fn write(&mut self) -> anyhow::Result<()> {
        let written = self.stream.write_all(&self.unsent).await;
        self.unsent.clear();
        written.context("writing")
    }

    /// The next message, if one comes before the deadline.
    ///
    /// # Errors
    /// When the connection ends or the server complains.
    pub(crate) async fn next(&mut self, deadline: Instant) -> anyhow::Result<Option<Delivery>> {
        loop {
            if let Some((frame, length)) = frames::first(&self.read) {
                self.read.drain(..length);
                match frame {
                    Frame::Message(message) => return delivery(&message).map(Some),
                    Frame::Info(_) => {}
                    Frame::Line(line) if line == b"PING\r\n" => {
                        self.unsent.extend_from_slice(b"PONG\r\n");
                        self.write().await?;
                    }
                    Frame::Line(line) if line.starts_with(b"-ERR") => {
                        bail!("the server says {}", line.escape_ascii())
                    }
                    Frame::Line(_) => {}
                }
                continue;
            }
            let read = self.stream.read_buf(&mut self.read);
            match tokio::time::timeout_at(deadline.into(), read).await {
                Err(_) => return Ok(None),
                Ok(count) => {
                    if count.context("reading")? == 0 {
                        bail!("the server closed the connection");
                    }
                }
            }
        }
    }
}

fn delivery(message: &frames::Message) -> anyhow::Result<Delivery> {
    let sid = std::str::from_utf8(&message.sid)?.parse()?;
    let subject = message.before_sid.trim_ascii_end();
    let token = subject.rsplit(|&byte| byte == b'.').next();
    let number = token.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
    let headers = message.before_sid.starts_with(b"HMSG");
    let rest = &message.after_sid;
    let end = rest.iter().position(|&byte| byte == b'\n');
    let (line, body) = rest.split_at(end.context("a delivery has a line")? + 1);
    let line = std::str::from_utf8(line)?;
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let sizes = if headers { 2 } else { 1 };
    let reply = (words.len() > sizes).then(|| words[0].to_owned());
    let mut body = Bytes::copy_from_slice(&body[..body.len() - 2]);
    let mut no_responders = false;
    if headers {
        let header_bytes: usize = words[words.len() - 2].parse()?;
        let header = body.split_to(header_bytes);
        no_responders = header.starts_with(b"NATS/1.0 503");
    }
    Ok(Delivery {
        sid,
        number: number.unwrap_or_default(),
        reply,
        body,
        no_responders,
    })
}
