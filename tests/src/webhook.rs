//! The webhook as a process, registered with a real API server.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

use crate::control_plane::ControlPlane;
use crate::process::Process;
use crate::{patience, ports, probe, programs};

/// For the webhook to fill its cache and to see its caBundle registered.
const START: Duration = Duration::from_secs(90);

/// Name of the entry that `tests/manifests/webhook.yaml` registers.
pub const ENTRY: &str = "pods.stanchion.dev";

/// A running webhook with the roles of admission and issuer.
#[derive(Debug)]
pub struct Webhook {
    process: Process,
    admin: u16,
}

impl Webhook {
    /// Starts it with access to the control plane, registers it and waits until it is ready. Certificates that it issues
    /// live for `lifetime`, such as `24h`.
    ///
    /// # Errors
    /// When it does not come up, with its last lines.
    pub async fn start(plane: &ControlPlane, lifetime: &str) -> anyhow::Result<Self> {
        let (admission, issuer, admin) = (ports::free(), ports::free(), ports::free());
        let url = format!("https://127.0.0.1:{admission}/mutate");
        plane.apply("webhook.yaml", &[("URL", &url)])?;
        let mut command = Command::new(programs::ours("stanchion-webhook")?);
        command
            .arg("serve")
            .arg(format!("--kubeconfig={}", plane.kubeconfig().display()))
            .arg(format!("--listen=127.0.0.1:{admission}"))
            .arg(format!("--issuer-listen=127.0.0.1:{issuer}"))
            .arg(format!("--issuer-url=https://127.0.0.1:{issuer}"))
            .arg(format!("--admin=127.0.0.1:{admin}"))
            .arg(format!("--lifetime={lifetime}"))
            .args([
                "--serving-name=127.0.0.1",
                "--sidecar-image=stanchion-sidecar",
                "--drain-delay=0s",
            ]);
        let process = Process::start("webhook", &mut command, &plane.dir().join("webhook.log"))?;
        let mut webhook = Self { process, admin };
        patience::until("the webhook is ready", START, async || {
            webhook.process.check_alive()?;
            let ready = probe::get(webhook.admin, "/readyz").await?;
            ensure!(
                ready.status == 200,
                "{}\n{}",
                ready.body,
                webhook.process.tail()
            );
            Ok(())
        })
        .await?;
        Ok(webhook)
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// With its last lines.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        self.process.check_alive()
    }
}
