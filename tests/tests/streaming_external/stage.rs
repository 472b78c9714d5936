//! NATS servers, our broker on them, and what a client does there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::{
    patience, ports,
    probe::get,
    process::Process,
    programs,
    stan::{Client, Delivery, Options, SubscribeOptions, Subscription},
    streaming_server::CLUSTER_ID,
};

/// For a start, an answer, or an end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The line after which clients are answered.
pub(crate) const READY: &str = "Streaming Server is ready";

pub(crate) const CHANNEL: &str = "orders";

/// Releases of nats-server whose clients we are.
pub(crate) const RELEASES: [&str; 2] = ["nats-server", "nats-server-2.9.24"];

/// A nats-server that keeps its ports when it is started again.
pub(crate) struct Nats {
    program: PathBuf,
    dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) monitor: u16,
    config: String,
    process: Option<Process>,
}

impl Nats {
    /// Not started yet. `config` stands in its file.
    pub(crate) fn plan(dir: &Path, release: &str, config: &str) -> Self {
        let port = ports::free();
        let dir = dir.join(format!("nats-{port}"));
        fs::create_dir_all(&dir).unwrap();
        Self {
            program: programs::tool(release).unwrap(),
            dir,
            port,
            monitor: ports::free(),
            config: config.to_owned(),
            process: None,
        }
    }

    pub(crate) async fn started(dir: &Path, release: &str, config: &str) -> Self {
        let mut nats = Self::plan(dir, release, config);
        nats.start().await;
        nats
    }

    pub(crate) async fn start(&mut self) {
        let file = self.dir.join("nats.conf");
        fs::write(&file, &self.config).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        command
            .args(["-m", &self.monitor.to_string(), "-c"])
            .arg(file);
        let log = self.dir.join("nats.log");
        let mut process = Process::start("nats-server", &mut command, &log).unwrap();
        process.writes("Server is ready", PATIENCE).await.unwrap();
        self.process = Some(process);
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A document of its monitoring.
    pub(crate) async fn document(&self, path: &str) -> anyhow::Result<Value> {
        let answer = get(self.monitor, path).await?;
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// Options of a client of this server.
    pub(crate) fn options(&self, id: &str) -> Options {
        Options::new(&self.url(), CLUSTER_ID, id).ack_wait(PATIENCE)
    }

    pub(crate) async fn client(&self, id: &str) -> Client {
        Client::connect(self.options(id)).await.unwrap()
    }
}

/// Our broker, or the reference, which takes the same flags.
pub(crate) struct Broker {
    process: Process,
}

impl Broker {
    /// Runs it, whatever becomes of it.
    pub(crate) fn run(dir: &Path, flags: &[&str]) -> Self {
        Self::run_program(&programs::ours("stanchion-broker").unwrap(), dir, flags)
    }

    pub(crate) fn run_program(program: &Path, dir: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(flags);
        let log = dir.join(format!("broker-{}.log", ports::free()));
        let process = Process::start("broker", &mut command, &log).unwrap();
        Self { process }
    }

    /// Runs it until it is ready.
    pub(crate) async fn ready(dir: &Path, flags: &[&str]) -> Self {
        let mut broker = Self::run(dir, flags);
        broker.writes(READY).await;
        broker
    }

    /// On an external server.
    pub(crate) async fn on(nats: &Nats, dir: &Path, flags: &[&str]) -> Self {
        let url = nats.url();
        let flags = [&["-ns", &url][..], flags].concat();
        Self::ready(dir, &flags).await
    }

    pub(crate) async fn writes(&mut self, text: &str) {
        self.process.writes(text, PATIENCE).await.unwrap();
    }

    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn check_alive(&mut self) {
        self.process.check_alive().unwrap();
    }

    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.process.stop(PATIENCE).await.unwrap()
    }

    /// Waits until it has ended by itself, which is no success; everything it wrote.
    pub(crate) async fn fails(&mut self) -> String {
        let output = self.ends_with_failure().await;
        assert!(!output.contains(READY), "{output}");
        output
    }

    /// As [`Self::fails`], but it may have been ready before.
    pub(crate) async fn ends_with_failure(&mut self) -> String {
        let ended = patience::until("the broker ends", PATIENCE, async || {
            self.process.ended().context("it runs")
        });
        let status = ended.await.unwrap();
        assert_eq!(status.code(), Some(1), "{}", self.output());
        self.output()
    }
}

/// Publishes, reads what is stored and what comes, acknowledges, comes back to a durable.
pub(crate) async fn stream(options: Options) -> anyhow::Result<()> {
    let client = Client::connect(options).await?;
    client.publish(CHANNEL, "one").await?;
    for expected in [1, 2] {
        let durable = SubscribeOptions::from_first().durable("d");
        let mut orders = client.subscribe(CHANNEL, durable).await?;
        if expected == 2 {
            client.publish(CHANNEL, "two").await?;
        }
        let delivery = next(&mut orders).await?;
        ensure!(delivery.sequence == expected, "{delivery:?}");
        orders.ack(&delivery).await?;
        orders.close().await?;
    }
    Ok(client.close().await?)
}

pub(crate) async fn next(subscription: &mut Subscription) -> anyhow::Result<Delivery> {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    next.context("nothing comes")?.context("closed")
}
