//! An application on a real client library that plays one scenario: what it says, and how it ends.

use std::{fmt::Display, path::Path, process::Command, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{patience, process::Process};

/// A running application on a library of `L`.
#[derive(Debug)]
pub struct Player<L> {
    process: Process,
    library: L,
}

impl<L: Copy + Display> Player<L> {
    /// Starts it; its output goes to a file in `dir` whose name begins with `name`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn begin(
        library: L,
        name: &str,
        command: &mut Command,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let log = tempfile::Builder::new()
            .prefix(&format!("{library}-{name}"))
            .suffix(".log")
            .tempfile_in(dir)?;
        let (_, log) = log.keep()?;
        let process = Process::start(&format!("{library} {name}"), command, &log)?;
        Ok(Self { process, library })
    }

    /// Which library it is on.
    pub fn library(&self) -> L {
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
