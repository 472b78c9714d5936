//! The programs of the demonstration, on loopback and in a temporary directory: an authority, a sidecar
//! for the broker and one for the application, the broker, the webhook.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use certs::reload::TlsFiles;
use tempfile::TempDir;
use tests::{
    patience::until,
    ports,
    process::Process,
    programs,
    rotation::{Sidecar, renewal_at, serial_served_at},
};

use crate::screen;

pub(crate) const CLUSTER_ID: &str = "labs-nats-stan";

/// For each program to be ready.
const START: Duration = Duration::from_secs(30);
/// Of the certificates; the demonstration renews them long before.
const LIFETIME_SECONDS: u32 = 24 * 60 * 60;
/// From the request for a new certificate to the proof that it is served.
const ROTATION: Duration = Duration::from_secs(30);

/// Everything that runs; killed and removed when dropped.
pub(crate) struct Stage {
    pub(crate) port: u16,
    monitor: u16,
    metrics: u16,
    pub(crate) webhook: u16,
    broker_sidecar: Sidecar,
    client_sidecar: Sidecar,
    _programs: Vec<Process>,
    dir: TempDir,
}

impl Stage {
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("making a temporary directory")?;
        let (port, monitor, metrics, webhook) =
            (ports::free(), ports::free(), ports::free(), ports::free());

        screen::step(
            "certificates: an authority, one sidecar beside the broker, one beside the application",
        );
        let authority = dir.path().join("authority");
        let broker_sidecar =
            Sidecar::beside_broker(dir.path(), &authority, LIFETIME_SECONDS, port).await?;
        let client_sidecar =
            Sidecar::beside_client(dir.path(), &authority, "consumer.appnamespace").await?;
        screen::fact(
            "authority",
            &dir.path().join("authority/ca.pem").display().to_string(),
        );

        screen::step("broker: embedded store, TLS with client certificates");
        let began = Instant::now();
        let mut broker = start_broker(dir.path(), broker_sidecar.files(), port, monitor, metrics)?;
        broker.writes("Streaming Server is ready", START).await?;
        screen::fact(
            "ready after",
            &format!("{} ms", began.elapsed().as_millis()),
        );
        screen::fact("clients", &format!("tls://127.0.0.1:{port}"));

        screen::step("webhook: admission over HTTPS, no API server");
        let mut webhook_process = start_webhook(dir.path(), webhook)?;
        until("the webhook listens", START, async || {
            webhook_process.check_alive()?;
            tokio::net::TcpStream::connect(("127.0.0.1", webhook))
                .await
                .context("nobody listens")
        })
        .await?;
        screen::fact("admission", &format!("https://127.0.0.1:{webhook}/mutate"));

        Ok(Self {
            port,
            monitor,
            metrics,
            webhook,
            broker_sidecar,
            client_sidecar,
            _programs: vec![broker, webhook_process],
            dir,
        })
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("authority/ca.pem")
    }

    /// What an application in a pod would find.
    pub(crate) fn client_files(&self) -> &TlsFiles {
        self.client_sidecar.files()
    }

    /// Serial of the certificate that the broker serves now.
    pub(crate) async fn serial(&self) -> anyhow::Result<String> {
        serial_served_at(self.port, self.client_files()).await
    }

    /// Renews both certificates and waits until the broker serves the new one; gives its serial.
    pub(crate) async fn rotate(&self) -> anyhow::Result<String> {
        let before = self.serial().await?;
        self.broker_sidecar.renew().await?;
        self.client_sidecar.renew().await?;
        renewal_at(self.port, self.client_files(), &before, ROTATION).await
    }

    pub(crate) fn print_addresses(&self) {
        let files = self.client_files();
        screen::step("it stays up until Ctrl-C");
        screen::fact(
            "monitoring",
            &format!(
                "http://127.0.0.1:{}/streaming/channelsz?subs=1",
                self.monitor
            ),
        );
        screen::fact(
            "metrics",
            &format!("http://127.0.0.1:{}/metrics", self.metrics),
        );
        screen::fact(
            "sidecar",
            &format!("http://127.0.0.1:{}/metrics", self.broker_sidecar.admin()),
        );
        println!(
            "\n    nats --server tls://127.0.0.1:{} --tlsca {} --tlscert {} --tlskey {} sub '>'\n",
            self.port,
            files.ca.display(),
            files.cert.display(),
            files.key.display(),
        );
    }
}

fn start_broker(
    dir: &Path,
    files: &TlsFiles,
    port: u16,
    monitor: u16,
    metrics: u16,
) -> anyhow::Result<Process> {
    let mut command = Command::new(programs::ours("stanchion-broker")?);
    command
        .args([
            "-cluster_id",
            CLUSTER_ID,
            "-a",
            "127.0.0.1",
            "-store",
            "FILE",
            "-dir",
        ])
        .arg(dir.join("store"))
        .args(["-p", &port.to_string(), "-m", &monitor.to_string()])
        .args([
            "--metrics_port",
            &metrics.to_string(),
            "--tls",
            "--tlsverify",
            "--tlscert",
        ])
        .arg(&files.cert)
        .arg("--tlskey")
        .arg(&files.key)
        .arg("--tlscacert")
        .arg(&files.ca);
    Process::start("broker", &mut command, &dir.join("broker.log"))
}

fn start_webhook(dir: &Path, port: u16) -> anyhow::Result<Process> {
    let mut command = Command::new(programs::ours("stanchion-webhook")?);
    command
        .args([
            "serve",
            "--offline",
            "--roles=admission",
            "--serving-name=127.0.0.1",
        ])
        .arg("--namespaces")
        .arg(programs::root().join("deploy/examples/broker.yaml"))
        .arg("--authority-dir")
        .arg(dir.join("authority"))
        .arg(format!("--listen=127.0.0.1:{port}"))
        .arg(format!("--admin=127.0.0.1:{}", ports::free()));
    Process::start("webhook", &mut command, &dir.join("webhook.log"))
}
