//! A thousand connections that stop somewhere in the handshake cost little, end in time, and nobody else notices
//! (CVE-2026-33219 and its kind: memory and time before authentication).
//!
//! nats-server goes through the same, without its memory being judged: it shows that the test asks nothing odd.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_nats::{Client, ConnectOptions, Subscriber};
use certs::{profile::Profile, reload::ClientTls};
use futures_util::{StreamExt as _, future::join_all};
use tests::{certificates::Certificates, ports, process::Process, programs};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Half-open connections at a time.
const CONNECTIONS: usize = 1000;
/// Most memory of the server for one of them.
const BYTES_EACH: usize = 16 << 10;
/// When the server gives a client up that does not authenticate, or does not finish the TLS handshake.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than that a busy machine may be.
const LATE: Duration = Duration::from_secs(4);
/// For a start, an answer, or a round trip of a healthy client.
const PATIENCE: Duration = Duration::from_secs(10);

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"user\":\"joe\",\"pass\":\"s3cret\",\
    \"lang\":\"rust\",\"version\":\"1\",\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reference,
    Broker,
}

struct Server {
    process: Process,
    port: u16,
}

impl Server {
    async fn start(kind: Kind, dir: &Path, tls: &str) -> anyhow::Result<Self> {
        let seconds = TIMEOUT.as_secs();
        let file = dir.join("server.conf");
        let config =
            format!("authorization {{ user: joe, password: s3cret, timeout: {seconds} }}\n{tls}\n");
        std::fs::write(&file, config).context("writing the configuration")?;
        let (program, ready) = match kind {
            Kind::Reference => (programs::tool("nats-server")?, "Server is ready"),
            Kind::Broker => (
                programs::ours("stanchion-broker")?,
                "Streaming Server is ready",
            ),
        };
        let port = ports::free();
        let mut command = Command::new(program);
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"])
            .arg(&file);
        let mut process = Process::start("server", &mut command, &dir.join("server.log"))?;
        process.writes(ready, PATIENCE).await?;
        Ok(Self { process, port })
    }
}

/// A client that goes about its business all the while.
struct Healthy {
    client: Client,
    own: Subscriber,
    slowest: Duration,
}

impl Healthy {
    async fn connect(port: u16, options: ConnectOptions) -> anyhow::Result<Self> {
        let options = options
            .user_and_password("joe".into(), "s3cret".into())
            .max_reconnects(0);
        let client = options.connect(format!("nats://localhost:{port}")).await?;
        let own = client.subscribe(client.new_inbox()).await?;
        Ok(Self {
            client,
            own,
            slowest: Duration::ZERO,
        })
    }

    /// A message to itself.
    async fn round_trip(&mut self, subject: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let _ = self.own.unsubscribe().await;
        self.own = self.client.subscribe(subject.to_owned()).await?;
        self.client
            .publish(subject.to_owned(), "hello".into())
            .await?;
        self.client.flush().await?;
        let message = tokio::time::timeout(PATIENCE, self.own.next()).await;
        message
            .context("no message came")?
            .context("the connection has ended")?;
        self.slowest = self.slowest.max(began.elapsed());
        Ok(())
    }
}

/// Connects, waits for INFO, sends something and stops.
async fn stop_after(port: u16, sent: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut info = Vec::new();
    while !info.ends_with(b"\r\n") {
        info.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await??);
    }
    ensure!(info.starts_with(b"INFO "), "not INFO");
    stream.write_all(sent).await?;
    Ok(stream)
}

/// What the server still says, and when it closes.
async fn end(mut stream: TcpStream) -> anyhow::Result<(Vec<u8>, Instant)> {
    let mut said = Vec::new();
    let read = tokio::time::timeout(TIMEOUT + LATE, stream.read_to_end(&mut said)).await;
    // A reset is an end too.
    let _ = read.context("the server does not close")?;
    Ok((said, Instant::now()))
}

/// Connections that stop at every prefix of `handshake`; `farewell` is what they are told at the end.
async fn hostile(
    kind: Kind,
    server: &Server,
    healthy: &mut Healthy,
    handshake: &[u8],
    farewell: &str,
) -> anyhow::Result<()> {
    healthy.round_trip("before").await?;
    let before = server.process.resident_bytes()?;
    let began = Instant::now();
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let prefix = &handshake[..number % handshake.len()];
        connections.push(stop_after(server.port, prefix).await?);
    }
    healthy.round_trip("during").await?;
    ensure!(
        began.elapsed() < TIMEOUT,
        "the machine is too busy: the first connections are over already"
    );
    let each = server.process.resident_bytes()?.saturating_sub(before) / CONNECTIONS;
    println!("{kind:?}: {each} bytes a connection");
    ensure!(
        kind == Kind::Reference || each < BYTES_EACH,
        "{each} bytes a connection"
    );

    let all_open = Instant::now();
    let ends = join_all(connections.into_iter().map(end));
    tokio::pin!(ends);
    let ends = loop {
        tokio::select! {
            ends = &mut ends => break ends,
            // Cancelled only when the others have ended.
            served = healthy.round_trip("waiting") => served?,
        }
    };
    for (number, end) in ends.into_iter().enumerate() {
        let (said, at) = end.with_context(|| format!("connection {number}"))?;
        ensure!(
            String::from_utf8_lossy(&said) == farewell,
            "connection {number}: {}",
            said.escape_ascii()
        );
        ensure!(
            at > began + TIMEOUT / 2,
            "connection {number} was closed after {:?}",
            at - began
        );
        ensure!(
            at < all_open + TIMEOUT + LATE,
            "connection {number} was closed after {:?}",
            at - all_open
        );
    }
    healthy.round_trip("after").await?;
    println!(
        "{kind:?}: slowest round trip of a healthy client {:?}",
        healthy.slowest
    );
    ensure!(
        healthy.slowest < Duration::from_secs(2),
        "a healthy client waited {:?}",
        healthy.slowest
    );
    Ok(())
}

async fn before_connect(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(kind, dir.path(), "").await.unwrap();
    let mut healthy = Healthy::connect(server.port, ConnectOptions::new())
        .await
        .unwrap();
    let farewell = "-ERR 'Authentication Timeout'\r\n";
    hostile(
        kind,
        &server,
        &mut healthy,
        &CONNECT[..CONNECT.len() - 1],
        farewell,
    )
    .await
    .unwrap();
}

async fn before_tls(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(dir.path()).unwrap();
    let files = certificates.grant("localhost", Profile::Server).unwrap();
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, timeout: {} }}",
        files.cert,
        files.key,
        TIMEOUT.as_secs()
    );
    let server = Server::start(kind, dir.path(), &tls).await.unwrap();
    let options = ConnectOptions::new()
        .require_tls(true)
        .add_root_certificates(files.ca.clone());
    let mut healthy = Healthy::connect(server.port, options).await.unwrap();
    let hello = client_hello(files);
    // A whole one is answered, and ends in another way.
    hostile(kind, &server, &mut healthy, &hello[..hello.len() - 1], "")
        .await
        .unwrap();
}

/// The first flight of a client.
fn client_hello(files: certs::reload::TlsFiles) -> Vec<u8> {
    let config = ClientTls::load(files.client()).unwrap().current();
    let mut client =
        rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn clients_that_stop_before_connect_ends_cost_nats_server_little() {
    before_connect(Kind::Reference).await;
}

#[tokio::test]
async fn clients_that_stop_before_connect_ends_cost_the_broker_little() {
    before_connect(Kind::Broker).await;
}

#[tokio::test]
async fn clients_that_stop_within_client_hello_cost_nats_server_little() {
    before_tls(Kind::Reference).await;
}

#[tokio::test]
async fn clients_that_stop_within_client_hello_cost_the_broker_little() {
    before_tls(Kind::Broker).await;
}
