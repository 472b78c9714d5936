//! Applications of core NATS on the real client libraries: the `core` programs of `tests/clients`, one for each
//! language, and the scenarios that they play.

use std::{fmt, path::Path, process::Command, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{patience, process::Process, programs};

/// A client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// async-nats.
    Rust,
    /// nats.go.
    Go,
    /// nats.js for Node.
    Node,
    /// nats-py.
    Python,
    /// jnats.
    Java,
}

/// Every library that there is a program for.
pub const LIBRARIES: [Library; 5] = [
    Library::Rust,
    Library::Go,
    Library::Node,
    Library::Python,
    Library::Java,
];

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Node => "node",
            Self::Python => "python",
            Self::Java => "java",
        })
    }
}

impl Library {
    fn command(self) -> anyhow::Result<Command> {
        let source = programs::root()
            .join("tests/clients")
            .join(self.to_string());
        Ok(match self {
            Self::Rust => Command::new(programs::ours("core-client")?),
            Self::Go => Command::new(programs::obtained("client-go/core")?),
            Self::Node => {
                let packages = programs::obtained("client-node/node_modules")?;
                let mut command = Command::new("node");
                command.env("STANCHION_NODE_PACKAGES", packages);
                command.arg(source.join("core.js"));
                command
            }
            Self::Python => {
                let python = programs::obtained("client-python-core/bin/python")?;
                let mut command = Command::new(python);
                command.arg(source.join("core.py"));
                command
            }
            Self::Java => {
                let classes = programs::obtained("client-java/classes")?;
                let packages = programs::obtained("client-java/packages")?;
                let path = format!("{}:{}/*", classes.display(), packages.display());
                let mut command = Command::new("java");
                // Short runs on a shared machine: no compiler threads that outlive them.
                command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
                command.args([&path, "Core"]);
                command
            }
        })
    }
}

/// A running application.
#[derive(Debug)]
pub struct CoreClient {
    process: Process,
    library: Library,
}

impl CoreClient {
    /// Starts one that plays `scenario`. `name` is the first token of its subjects and names the file in `dir` that its
    /// output goes to.
    ///
    /// # Errors
    /// When the library's program is not on this machine.
    pub fn start(
        library: Library,
        scenario: &str,
        url: &str,
        flags: &[String],
        name: &str,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = library.command()?;
        command
            .arg(format!("--scenario={scenario}"))
            .arg(format!("--url={url}"))
            .arg(format!("--prefix={name}"))
            .args(flags);
        let log = tempfile::Builder::new()
            .prefix(&format!("{library}-{scenario}-{name}"))
            .suffix(".log")
            .tempfile_in(dir)?;
        let (_, log) = log.keep()?;
        let process = Process::start(&format!("{library} {scenario} {name}"), &mut command, &log)?;
        Ok(Self { process, library })
    }

    /// Which library it is on.
    pub fn library(&self) -> Library {
        self.library
    }

    /// What it has said so far.
    fn events(&self) -> Vec<Value> {
        let output = self.process.output();
        let lines = output.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Whether it has said this.
    pub fn said(&self, event: &str) -> bool {
        self.events().iter().any(|said| said["event"] == event)
    }

    /// Waits until it has said this.
    ///
    /// # Errors
    /// When it ends before, or the time is over.
    pub async fn says(&mut self, event: &str, within: Duration) -> anyhow::Result<()> {
        let what = format!("the {} application says {event}", self.library);
        patience::until(&what, within, async || {
            ensure!(self.said(event), "its last lines:\n{}", self.process.tail());
            Ok(())
        })
        .await
    }

    /// Waits until it has played its scenario; gives back the summary.
    ///
    /// # Errors
    /// When it fails or the time is over.
    pub async fn finishes(&mut self, within: Duration) -> anyhow::Result<Value> {
        self.process.succeeds(within).await?;
        self.last("done")
    }

    /// Waits until it has ended with an error; gives back what it says about that.
    ///
    /// # Errors
    /// When it does not fail or the time is over.
    pub async fn fails(&mut self, within: Duration) -> anyhow::Result<String> {
        let what = format!("the {} application gives up", self.library);
        let status = patience::until(&what, within, async || {
            let ended = self.process.ended();
            ended.with_context(|| format!("its last lines:\n{}", self.process.tail()))
        });
        ensure!(!status.await?.success(), "it has not failed");
        let error = self.last("error")?;
        Ok(error["error"].as_str().unwrap_or_default().to_owned())
    }

    fn last(&self, event: &str) -> anyhow::Result<Value> {
        let found = self
            .events()
            .into_iter()
            .rfind(|said| said["event"] == event);
        found.with_context(|| format!("no {event} in its last lines:\n{}", self.process.tail()))
    }
}
