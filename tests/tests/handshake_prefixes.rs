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
use tests::{certificates::Certificates, patience, ports, process::Process, programs};
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
/// The same where all of them are to be there at once, however long it takes to connect them.
const NEVER: Duration = Duration::from_secs(600);
/// Most that the server does before a healthy client has its answer, as processor time: how long that takes on a busy
/// machine is not for the server to say.
const LONGEST_WORK: Duration = Duration::from_secs(1);
/// For a start, an answer, or a round trip of a healthy client, and for an end that is due.
const PATIENCE: Duration = Duration::from_secs(60);

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
    async fn start(kind: Kind, dir: &Path, timeout: Duration, tls: &str) -> anyhow::Result<Self> {
        let seconds = timeout.as_secs();
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
    most_work: Duration,
}

impl Healthy {
    async fn connect(port: u16, options: ConnectOptions) -> anyhow::Result<Self> {
        let options = options
            .user_and_password("joe".into(), "s3cret".into())
            .max_reconnects(0);
        // It has as little time as the others to show its password.
        let connected = patience::until("a healthy client", PATIENCE, async || {
            let address = format!("nats://localhost:{port}");
            Ok(options.clone().connect(address).await?)
        });
        let client = connected.await?;
        let own = client.subscribe(client.new_inbox()).await?;
        Ok(Self {
            client,
            own,
            most_work: Duration::ZERO,
        })
    }

    /// A message to itself.
    async fn round_trip(&mut self, server: &Server, subject: &str) -> anyhow::Result<()> {
        let before = server.process.processor_time()?;
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
        let work = server.process.processor_time()? - before;
        self.most_work = self.most_work.max(work);
        Ok(())
    }

    fn was_served(&self, kind: Kind) -> anyhow::Result<()> {
        let most = self.most_work;
        println!("{kind:?}: a healthy client waited for {most:?} of work");
        ensure!(
            most < LONGEST_WORK,
            "a healthy client waited for {most:?} of work"
        );
        Ok(())
    }
}

/// Connects, waits for INFO, sends something and stops.
async fn stop_after(port: u16, sent: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut info = Vec::new();
    while !info.ends_with(b"\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut info)).await??;
        ensure!(read > 0, "closed at once");
    }
    ensure!(info.starts_with(b"INFO "), "not INFO");
    stream.write_all(sent).await?;
    Ok(stream)
}

/// What the server still says, and when it closes.
async fn end(mut stream: TcpStream) -> anyhow::Result<(Vec<u8>, Instant)> {
    let mut said = Vec::new();
    let read = tokio::time::timeout(TIMEOUT + PATIENCE, stream.read_to_end(&mut said)).await;
    // A reset is an end too.
    let _ = read.context("the server does not close")?;
    Ok((said, Instant::now()))
}

/// Connections that stop at every prefix of `handshake`, and when each was begun.
async fn stop_everywhere(
    server: &Server,
    handshake: &[u8],
) -> anyhow::Result<Vec<(TcpStream, Instant)>> {
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let began = Instant::now();
        let prefix = &handshake[..number % handshake.len()];
        connections.push((stop_after(server.port, prefix).await?, began));
    }
    Ok(connections)
}

/// While all of them wait, they cost little. The server gives none of them up.
async fn cost_little(
    kind: Kind,
    server: &Server,
    healthy: &mut Healthy,
    handshake: &[u8],
) -> anyhow::Result<()> {
    healthy.round_trip(server, "before").await?;
    let before = server.process.resident_bytes()?;
    let _waiting = stop_everywhere(server, handshake).await?;
    healthy.round_trip(server, "during").await?;
    let each = server.process.resident_bytes()?.saturating_sub(before) / CONNECTIONS;
    println!("{kind:?}: {each} bytes a connection");
    ensure!(
        kind == Kind::Reference || each < BYTES_EACH,
        "{each} bytes a connection"
    );
    healthy.was_served(kind)
}

/// Each is given up when its time is over, and told `farewell`.
async fn are_given_up(
    kind: Kind,
    server: &Server,
    healthy: &mut Healthy,
    handshake: &[u8],
    farewell: &str,
) -> anyhow::Result<()> {
    let connections = stop_everywhere(server, handshake).await?;
    let ends = join_all(connections.into_iter().map(async |(stream, began)| {
        let (said, at) = end(stream).await?;
        anyhow::Ok((said, at - began))
    }));
    tokio::pin!(ends);
    let ends = loop {
        tokio::select! {
            ends = &mut ends => break ends,
            // Cancelled only when the others have ended.
            served = healthy.round_trip(server, "waiting") => served?,
        }
    };
    for (number, end) in ends.into_iter().enumerate() {
        let (said, lived) = end.with_context(|| format!("connection {number}"))?;
        ensure!(
            String::from_utf8_lossy(&said) == farewell,
            "connection {number}: {}",
            said.escape_ascii()
        );
        ensure!(
            lived > TIMEOUT / 2,
            "connection {number} was closed after {lived:?}"
        );
    }
    healthy.round_trip(server, "after").await?;
    healthy.was_served(kind)
}

async fn before_connect(kind: Kind) -> anyhow::Result<()> {
    let handshake = &CONNECT[..CONNECT.len() - 1];
    let farewell = "-ERR 'Authentication Timeout'\r\n";
    let start = async |timeout| {
        let dir = tempfile::tempdir()?;
        let server = Server::start(kind, dir.path(), timeout, "").await?;
        let healthy = Healthy::connect(server.port, ConnectOptions::new()).await?;
        anyhow::Ok((server, healthy, dir))
    };
    let (server, mut healthy, _dir) = start(NEVER).await?;
    cost_little(kind, &server, &mut healthy, handshake).await?;
    let (server, mut healthy, _dir) = start(TIMEOUT).await?;
    are_given_up(kind, &server, &mut healthy, handshake, farewell).await
}

async fn before_tls(kind: Kind) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let certificates = Certificates::new(dir.path())?;
    let files = certificates.grant("localhost", Profile::Server)?;
    // A whole one is answered, and ends in another way.
    let hello = client_hello(files.clone());
    let handshake = &hello[..hello.len() - 1];
    let start = async |timeout: Duration| {
        let tls = format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, timeout: {} }}",
            files.cert,
            files.key,
            timeout.as_secs()
        );
        let server = Server::start(kind, dir.path(), timeout, &tls).await?;
        let options = ConnectOptions::new()
            .require_tls(true)
            .add_root_certificates(files.ca.clone());
        let healthy = Healthy::connect(server.port, options).await?;
        anyhow::Ok((server, healthy))
    };
    let (server, mut healthy) = start(NEVER).await?;
    cost_little(kind, &server, &mut healthy, handshake).await?;
    let (server, mut healthy) = start(TIMEOUT).await?;
    are_given_up(kind, &server, &mut healthy, handshake, "").await
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
    before_connect(Kind::Reference).await.unwrap();
}

#[tokio::test]
async fn clients_that_stop_before_connect_ends_cost_the_broker_little() {
    before_connect(Kind::Broker).await.unwrap();
}

#[tokio::test]
async fn clients_that_stop_within_client_hello_cost_nats_server_little() {
    before_tls(Kind::Reference).await.unwrap();
}

#[tokio::test]
async fn clients_that_stop_within_client_hello_cost_the_broker_little() {
    before_tls(Kind::Broker).await.unwrap();
}
