//! A child process: its output kept, its end certain.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::patience;

/// Lines of output that a failure shows.
const TAIL_LINES: usize = 40;

/// Killed when dropped, also by a panic; then the end of its output is shown.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error in the file `log`.
    ///
    /// # Errors
    /// When the file cannot be made or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let errors = output.try_clone().context("sharing the log file")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name}: {}", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its number, also after its end.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process that is not on disk or elsewhere, in bytes.
    ///
    /// # Errors
    /// When it runs no more.
    pub fn resident_bytes(&self) -> anyhow::Result<usize> {
        let status = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(status).context("reading the memory of a process")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse::<usize>()? << 10)
    }

    /// Processor time that it has spent so far, on all its threads together. What is measured by it does not depend on
    /// how busy the machine is with other things.
    ///
    /// # Errors
    /// When it runs no more.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        /// Linux counts in this unit on every machine, whatever its clock does (`USER_HZ`).
        const TICK: Duration = Duration::from_millis(10);
        let stat = format!("/proc/{}/stat", self.id());
        let stat = std::fs::read_to_string(stat).context("reading the time of a process")?;
        // The name of the program comes before, and may hold anything.
        let (_, fields) = stat.rsplit_once(") ").context("a strange stat file")?;
        let spent = fields.split(' ').skip(11).take(2).map(str::parse::<u32>);
        let ticks: Vec<u32> = spent.collect::<Result<_, _>>()?;
        Ok(TICK * ticks.iter().sum())
    }

    /// Everything it has written so far.
    pub fn output(&self) -> String {
        // Programs of others may write anything.
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines it has written.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<_> = output.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Fails when the process has ended, with its last lines.
    ///
    /// # Errors
    /// See above.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.tail()),
        }
    }

    /// Waits until its output contains `text`; at once an error when it ends before.
    ///
    /// # Errors
    /// See above, and when the time is over.
    pub async fn writes(&mut self, text: &str, within: Duration) -> anyhow::Result<()> {
        let what = format!("{} writes {text:?}", self.name);
        let ended = patience::until(&what, within, async || {
            if self.output().contains(text) {
                return Ok(None);
            }
            match self.ended() {
                Some(status) => Ok(Some(status)),
                None => bail!("its last lines:\n{}", self.tail()),
            }
        })
        .await?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.tail()),
        }
    }

    /// Waits until it has ended by itself with success.
    ///
    /// # Errors
    /// When it fails or the time is over, with its last lines.
    pub async fn succeeds(&mut self, within: Duration) -> anyhow::Result<()> {
        let what = format!("{} comes to an end", self.name);
        let status = patience::until(&what, within, async || {
            let status = self.ended();
            status.with_context(|| format!("its last lines:\n{}", self.tail()))
        })
        .await?;
        ensure!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            self.tail()
        );
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits for the end.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).with_context(|| format!("stopping {}", self.name))?;
        let what = format!("{} stops", self.name);
        patience::until(&what, within, async || {
            self.ended().context("it is still there")
        })
        .await
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "--- end of the output of {}:\n{}\n---",
                self.name,
                self.tail()
            );
        }
    }
}
