//! The programs of the demonstration, on loopback and in a temporary directory: an authority, a sidecar
//! for the broker and one for the application, the broker, the webhook.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use certs::{profile::Profile, reload::TlsFiles};
use sidecar::prove::{Identity, served_serial};
use tempfile::TempDir;
use tests::{patience::until, ports, probe, process::Process, programs};

use crate::screen;

pub(crate) const CLUSTER_ID: &str = "labs-nats-stan";

/// For each program to be ready.
const START: Duration = Duration::from_secs(30);
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

/// A running sidecar.
struct Sidecar {
    admin: u16,
    files: TlsFiles,
    process: Process,
}

impl Stage {
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("making a temporary directory")?;
        let (port, monitor, metrics, webhook) =
            (ports::free(), ports::free(), ports::free(), ports::free());

        screen::step(
            "certificates: an authority, one sidecar beside the broker, one beside the application",
        );
        let broker_sidecar = Sidecar::start(
            dir.path(),
            Profile::Server,
            &[
                "--role=broker".to_owned(),
                "--name=localhost".to_owned(),
                "--name=127.0.0.1".to_owned(),
                format!("--prove=127.0.0.1:{port}"),
                format!("--broker-monitor=http://127.0.0.1:{monitor}"),
            ],
        )
        .await?;
        let client_sidecar = Sidecar::start(
            dir.path(),
            Profile::Client,
            &[
                "--role=client".to_owned(),
                "--common-name=consumer.appnamespace".to_owned(),
            ],
        )
        .await?;
        screen::fact(
            "authority",
            &dir.path().join("authority/ca.pem").display().to_string(),
        );

        screen::step("broker: embedded store, TLS with client certificates");
        let began = Instant::now();
        let mut broker = start_broker(dir.path(), &broker_sidecar.files, port, monitor, metrics)?;
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
        &self.client_sidecar.files
    }

    /// Serial of the certificate that the broker serves now.
    pub(crate) async fn serial(&self) -> anyhow::Result<String> {
        let own = Identity::Certificate(self.client_sidecar.files.clone());
        Ok(served_serial(&format!("127.0.0.1:{}", self.port), &own).await?)
    }

    /// Renews both certificates and waits until the broker serves the new one; gives its serial.
    pub(crate) async fn rotate(&self) -> anyhow::Result<String> {
        let before = self.serial().await?;
        for sidecar in [&self.broker_sidecar, &self.client_sidecar] {
            let answer = probe::post(sidecar.admin, "/rotate").await?;
            ensure!(
                answer.status < 300,
                "the sidecar refused to rotate: {}",
                answer.body.trim()
            );
        }
        until(
            "the broker serves the renewed certificate",
            ROTATION,
            async || {
                let served = self.serial().await?;
                ensure!(served != before, "still {before}");
                Ok(served)
            },
        )
        .await
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
            &format!("http://127.0.0.1:{}/metrics", self.broker_sidecar.admin),
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

impl Sidecar {
    /// Starts one with the demonstration's authority and waits for its first certificate.
    async fn start(dir: &Path, profile: Profile, args: &[String]) -> anyhow::Result<Self> {
        let out = dir.join(profile.to_string());
        let admin = ports::free();
        let mut command = Command::new(programs::ours("stanchion-sidecar")?);
        command
            .args(["run", "--source=local"])
            .arg(format!(
                "--authority-dir={}",
                dir.join("authority").display()
            ))
            .arg(format!("--out={profile}={}", out.display()))
            .arg(format!("--admin=127.0.0.1:{admin}"))
            .args(args);
        let log = dir.join(format!("sidecar-{profile}.log"));
        let mut sidecar = Self {
            admin,
            files: TlsFiles::in_dir(&out, profile),
            process: Process::start(&format!("sidecar ({profile})"), &mut command, &log)?,
        };
        until("the first certificate is in place", START, async || {
            sidecar.process.check_alive()?;
            let answer = probe::get(admin, "/startupz").await?;
            ensure!(answer.status == 200, "not started: {}", answer.body.trim());
            Ok(())
        })
        .await?;
        Ok(sidecar)
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
