//! The servers that are compared, each with one configuration.

use std::{path::Path, process::Command, time::Duration};

use anyhow::Context as _;
use tests::{ports, process::Process, programs};

/// For a start, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Who is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// nats-server.
    Reference,
    /// stanchion-broker.
    Broker,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) process: Process,
}

impl Server {
    /// Starts one; its files are in `dir` and begin with `name`.
    pub(crate) async fn start(
        kind: Kind,
        dir: &Path,
        name: &str,
        config: &str,
    ) -> anyhow::Result<Self> {
        let file = dir.join(format!("{name}.conf"));
        std::fs::write(&file, config).context("writing the configuration")?;
        let port = ports::free();
        let (program, ready) = match kind {
            Kind::Reference => (programs::tool("nats-server")?, "Server is ready"),
            Kind::Broker => (
                programs::ours("stanchion-broker")?,
                "Streaming Server is ready",
            ),
        };
        let mut command = Command::new(program);
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"])
            .arg(&file);
        let mut process = Process::start(name, &mut command, &dir.join(format!("{name}.log")))?;
        process.writes(ready, START).await?;
        Ok(Self { port, process })
    }
}
