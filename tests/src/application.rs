//! Applications on the real client libraries: the programs of `tests/clients`, one for each language.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use certs::reload::TlsFiles;
use serde::Deserialize;

use crate::process::Process;
use crate::streaming_server::CLUSTER_ID;
use crate::{patience, programs};

/// A client library.
#[derive(Clone, Copy, Debug)]
pub enum Library {
    /// stan.go.
    Go,
    /// node-nats-streaming.
    Node,
    /// asyncio-nats-streaming.
    Python,
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "go",
            Self::Node => "node",
            Self::Python => "python",
        })
    }
}

impl Library {
    fn command(self) -> anyhow::Result<Command> {
        let source = programs::root()
            .join("tests/clients")
            .join(self.to_string());
        Ok(match self {
            Self::Go => Command::new(programs::obtained("client-go/client")?),
            Self::Node => {
                let mut command = Command::new("node");
                command
                    .env(
                        "STANCHION_NODE_PACKAGES",
                        programs::obtained("client-node/node_modules")?,
                    )
                    .arg(source.join("client.js"));
                command
            }
            Self::Python => {
                let mut command = Command::new(programs::obtained("client-python/bin/python")?);
                command.arg(source.join("client.py"));
                command
            }
        })
    }
}

/// What an application is to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// Publish these many numbers from `first` on, each until it is acknowledged.
    Publish { first: usize, count: usize },
    /// Read these many distinct numbers through a durable.
    Subscribe { durable: String, count: usize },
}

/// Where an application connects, and as whom.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Of a server on loopback.
    pub port: u16,
    pub tls: TlsFiles,
    pub client_id: String,
    pub channel: String,
}

/// A line of its output; which members there are depends on the event.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Event {
    /// `connected`, `reconnected`, `acked`, `received`, `done` or `error`.
    pub event: String,
    /// `acked` and `received`: how many so far.
    pub count: usize,
    /// `done`: acknowledged publishes.
    pub acked: usize,
    /// `done`: deliveries, with repeated ones.
    pub received: usize,
    /// `done`: different numbers among them.
    pub distinct: usize,
    /// `done`: lowest and highest sequence delivered.
    pub first: u64,
    pub last: u64,
    /// `done`: deliveries that were marked as redelivered.
    pub redelivered: usize,
    pub reconnects: usize,
    /// `error`: the library's own words.
    pub error: String,
}

/// A running application.
#[derive(Debug)]
pub struct Application {
    process: Process,
}

impl Application {
    /// Starts one; its output goes to a file in `dir`.
    ///
    /// # Errors
    /// When the library's program is not on this machine.
    pub fn start(
        library: Library,
        connection: &Connection,
        task: &Task,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let Connection {
            port,
            tls,
            client_id,
            channel,
        } = connection;
        let mut command = library.command()?;
        command
            .arg(format!("--url=tls://127.0.0.1:{port}"))
            .arg(format!("--ca={}", tls.ca.display()))
            .arg(format!("--cert={}", tls.cert.display()))
            .arg(format!("--key={}", tls.key.display()))
            .arg(format!("--cluster={CLUSTER_ID}"))
            .arg(format!("--client={client_id}"))
            .arg(format!("--channel={channel}"));
        match task {
            Task::Publish { first, count } => command
                .arg("--mode=publish")
                .arg(format!("--first={first}"))
                .arg(format!("--count={count}")),
            Task::Subscribe { durable, count } => command
                .arg("--mode=subscribe")
                .arg(format!("--durable={durable}"))
                .arg(format!("--count={count}")),
        };
        let name = format!("{library} application {client_id}");
        let log = dir.join(format!("{client_id}.log"));
        Ok(Self {
            process: Process::start(&name, &mut command, &log)?,
        })
    }

    /// What it has said so far.
    pub fn events(&self) -> Vec<Event> {
        let output = self.process.output();
        output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until it has said this, and so many where the event counts.
    ///
    /// # Errors
    /// When it ends before, or the time is over.
    pub async fn says(
        &mut self,
        event: &str,
        count: usize,
        within: Duration,
    ) -> anyhow::Result<()> {
        let what = format!("an application says {event} {count}");
        patience::until(&what, within, async || {
            let said = self
                .events()
                .iter()
                .any(|said| said.event == event && said.count >= count);
            if !said {
                self.process.check_alive()?;
            }
            ensure!(said, "its last lines:\n{}", self.process.tail());
            Ok(())
        })
        .await
    }

    /// Waits until it has done its task; gives back the summary.
    ///
    /// # Errors
    /// When it fails or the time is over.
    pub async fn finishes(&mut self, within: Duration) -> anyhow::Result<Event> {
        self.process.succeeds(within).await?;
        let done = self.events().into_iter().find(|said| said.event == "done");
        done.with_context(|| format!("no summary in its last lines:\n{}", self.process.tail()))
    }
}
