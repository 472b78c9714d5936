//! HTTP probes, as the kubelet makes them: status and body of a plain GET on loopback.

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Everything after the head.
    pub body: String,
}

/// Asks a port of loopback.
///
/// # Errors
/// When nobody answers in HTTP.
pub async fn get(port: u16, path: &str) -> anyhow::Result<Answer> {
    ask("GET", port, path).await
}

/// Asks a port of loopback to do something, without a body.
///
/// # Errors
/// When nobody answers in HTTP.
pub async fn post(port: u16, path: &str) -> anyhow::Result<Answer> {
    ask("POST", port, path).await
}

async fn ask(method: &str, port: u16, path: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .context("connecting")?;
    // With 1.0 the end of the connection is the end of the body.
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .context("asking")?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .await
        .context("reading the answer")?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("an answer without head")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(Answer {
        status: status.context("an answer without status")?,
        body: body.to_owned(),
    })
}
