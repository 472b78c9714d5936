//! A NATS connection as bytes: what is sent is sent as written, what comes back is read up to the
//! answer to a ping, or up to the end of the connection.

pub mod dialogue;
pub mod frames;

use std::{io::ErrorKind, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// For an answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const PONG: &str = "PONG\r\n";

/// The server's own, which comes when it likes.
const PING: &str = "PING\r\n";

/// A connection without TLS.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// What came behind the last answer.
    unread: Vec<u8>,
    /// The INFO line that the server began with, without its name.
    pub info: serde_json::Value,
}

impl Wire {
    /// Connects to a port of loopback and reads INFO. Nothing is sent.
    ///
    /// # Errors
    /// When nobody listens or something else than INFO comes.
    pub async fn connect(port: u16) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .context("connecting")?;
        stream.set_nodelay(true)?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
            line.push(byte.context("no INFO came")??);
        }
        let json = line.strip_prefix(b"INFO ").context("not an INFO line")?;
        Ok(Self {
            info: serde_json::from_slice(json).context("INFO is no JSON")?,
            unread: Vec::new(),
            stream,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await.context("sending")
    }

    /// Everything up to the PONG of a ping that is sent now, without it and without the server's pings.
    ///
    /// # Errors
    /// When there is no answer, or the server closes.
    pub async fn answers(&mut self) -> anyhow::Result<String> {
        self.send(PING.as_bytes()).await?;
        loop {
            let text = String::from_utf8_lossy(&self.unread);
            if let Some((before, behind)) = text.split_once(PONG) {
                let answers = without_pings(before);
                self.unread = behind.as_bytes().to_vec();
                return Ok(answers);
            }
            ensure!(self.read_some().await?, "the server has closed");
        }
    }

    /// Everything up to the end of the connection. Nothing is sent: bytes that a closed connection gets
    /// make the system throw away what it has received.
    ///
    /// # Errors
    /// When the server does not close.
    pub async fn last_words(&mut self) -> anyhow::Result<String> {
        while self.read_some().await? {}
        let read = std::mem::take(&mut self.unread);
        Ok(without_pings(&String::from_utf8_lossy(&read)))
    }

    /// Whether something came before the end of the connection.
    async fn read_some(&mut self) -> anyhow::Result<bool> {
        let count = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        match count.context("no answer")? {
            // An end too: the server has not read everything, perhaps because it was sent after its last words.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            count => Ok(count.context("reading")? > 0),
        }
    }
}

/// Other lines may end like that.
fn without_pings(text: &str) -> String {
    let lines = text.split_inclusive("\r\n");
    lines.filter(|&line| line != PING).collect()
}
