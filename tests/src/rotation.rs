//! The real sidecar beside a broker, without Kubernetes; and how a renewal is seen from outside.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use certs::profile::Profile;
use certs::reload::TlsFiles;
use sidecar::prove::{Identity, served_serial};

use crate::process::Process;
use crate::{patience, ports, programs};

/// For the first certificate.
const START: Duration = Duration::from_secs(20);

/// A sidecar that keeps a server certificate for a broker on loopback.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    files: TlsFiles,
}

impl Sidecar {
    /// Starts one below `dir` for the broker on `port`, with the authority of a directory, and waits for the first
    /// certificate. It renews after two thirds of `lifetime_seconds`.
    ///
    /// # Errors
    /// When it does not come up, with its last lines.
    pub async fn start(
        dir: &Path,
        authority_dir: &Path,
        lifetime_seconds: u32,
        port: u16,
    ) -> anyhow::Result<Self> {
        let out = dir.join("server");
        let mut command = Command::new(programs::ours("stanchion-sidecar")?);
        command
            .args(["run", "--role=broker", "--source=local"])
            .args(["--name=localhost", "--name=127.0.0.1"])
            .arg(format!("--authority-dir={}", authority_dir.display()))
            .arg(format!("--out=server={}", out.display()))
            .arg(format!("--lifetime={lifetime_seconds}s"))
            .arg(format!("--prove=127.0.0.1:{port}"))
            .arg(format!("--admin=127.0.0.1:{}", ports::free()));
        let mut sidecar = Self {
            process: Process::start("sidecar", &mut command, &dir.join("sidecar.log"))?,
            files: TlsFiles::in_dir(&out, Profile::Server),
        };
        patience::until("the first certificate is on disk", START, async || {
            sidecar.process.check_alive()?;
            std::fs::metadata(&sidecar.files.cert).context("no certificate yet")
        })
        .await?;
        Ok(sidecar)
    }

    /// What the broker serves, always the newest generation.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }
}

/// Serial number of the certificate that the NATS port at `port` serves now.
///
/// # Errors
/// When nobody serves TLS there.
pub async fn serial_served_at(port: u16, own: &TlsFiles) -> anyhow::Result<String> {
    let own = Identity::Certificate(own.clone());
    Ok(served_serial(&format!("127.0.0.1:{port}"), &own).await?)
}

/// Waits until the NATS port at `port` serves another certificate than `serial`; gives back the new serial.
///
/// # Errors
/// When it does not within the time.
pub async fn renewal_at(
    port: u16,
    own: &TlsFiles,
    serial: &str,
    within: Duration,
) -> anyhow::Result<String> {
    patience::until(
        "the broker serves a renewed certificate",
        within,
        async || {
            let served = serial_served_at(port, own).await?;
            ensure!(served != serial, "still {serial}");
            Ok(served)
        },
    )
    .await
}
