//! The real sidecar beside a broker, without Kubernetes; and how a renewal is seen from outside.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use certs::profile::Profile;
use certs::reload::TlsFiles;
use sidecar::prove::{Identity, served_serial};

use crate::process::Process;
use crate::{patience, ports, probe, programs};

/// For the first certificate.
const START: Duration = Duration::from_secs(60);

/// A sidecar without Kubernetes: its authority is a directory.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    files: TlsFiles,
    admin: u16,
}

impl Sidecar {
    /// Starts one below `dir` that keeps a server certificate for the broker on loopback `port`, and waits for the
    /// first certificate. It renews after two thirds of `lifetime_seconds`.
    ///
    /// # Errors
    /// When it does not come up, with its last lines.
    pub async fn beside_broker(
        dir: &Path,
        authority_dir: &Path,
        lifetime_seconds: u32,
        port: u16,
    ) -> anyhow::Result<Self> {
        let args = [
            "--role=broker".to_owned(),
            "--name=localhost".to_owned(),
            "--name=127.0.0.1".to_owned(),
            format!("--lifetime={lifetime_seconds}s"),
            format!("--prove=127.0.0.1:{port}"),
        ];
        Self::start(dir, authority_dir, Profile::Server, &args).await
    }

    /// Starts one below `dir` that keeps a client certificate with this common name.
    ///
    /// # Errors
    /// When it does not come up, with its last lines.
    pub async fn beside_client(
        dir: &Path,
        authority_dir: &Path,
        common_name: &str,
    ) -> anyhow::Result<Self> {
        let args = [
            "--role=client".to_owned(),
            format!("--common-name={common_name}"),
        ];
        Self::start(dir, authority_dir, Profile::Client, &args).await
    }

    async fn start(
        dir: &Path,
        authority_dir: &Path,
        profile: Profile,
        args: &[String],
    ) -> anyhow::Result<Self> {
        let out = dir.join(profile.to_string());
        let admin = ports::free();
        let mut command = Command::new(programs::ours("stanchion-sidecar")?);
        command
            .args(["run", "--source=local"])
            .arg(format!("--authority-dir={}", authority_dir.display()))
            .arg(format!("--out={profile}={}", out.display()))
            .arg(format!("--admin=127.0.0.1:{admin}"))
            .args(args);
        let log = dir.join(format!("sidecar-{profile}.log"));
        let mut sidecar = Self {
            process: Process::start(&format!("sidecar ({profile})"), &mut command, &log)?,
            files: TlsFiles::in_dir(&out, profile),
            admin,
        };
        patience::until("the first certificate is on disk", START, async || {
            sidecar.process.check_alive()?;
            let answer = probe::get(admin, "/startupz").await?;
            ensure!(answer.status == 200, "not started: {}", answer.body.trim());
            Ok(())
        })
        .await?;
        Ok(sidecar)
    }

    /// What it keeps, always the newest generation.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Port of its probes and metrics on loopback.
    pub fn admin(&self) -> u16 {
        self.admin
    }

    /// Asks for a renewal now.
    ///
    /// # Errors
    /// When it refuses or does not answer.
    pub async fn renew(&self) -> anyhow::Result<()> {
        let answer = probe::post(self.admin, "/rotate").await?;
        ensure!(
            answer.status < 300,
            "the sidecar refused to renew: {}",
            answer.body.trim()
        );
        Ok(())
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
