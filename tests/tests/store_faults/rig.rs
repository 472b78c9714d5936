//! What a round is played on: a PostgreSQL cluster of its own, databases in it, and what can be done to its processes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use broker_store::conformance::postgres_server::PostgresServer;
use rustix::process::{Pid, Signal, kill_process};
use tests::{patience, streaming_server::Store};

use crate::tables;

/// For the database to come back, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that is kept from round to round.
#[derive(Clone, Debug)]
pub(crate) struct Rig {
    pub(crate) postgres: Arc<PostgresServer>,
    data: PathBuf,
}

/// A database of a round.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    rig: Rig,
    /// As an administrator reaches it.
    pub(crate) source: String,
    port: u16,
}

impl Rig {
    /// Blocks for some seconds.
    ///
    /// # Errors
    /// There is no PostgreSQL.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let postgres = Arc::new(PostgresServer::start()?);
        let anywhere = "dbname=postgres";
        // Says when a row was committed.
        postgres.run(anywhere, "ALTER SYSTEM SET track_commit_timestamp = on")?;
        postgres.restart()?;
        let data = postgres.run(anywhere, "SHOW data_directory")?.into();
        Ok(Self { postgres, data })
    }

    /// A fresh database with tables as the reference's users have them, and with witnesses.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) fn database(&self) -> anyhow::Result<Database> {
        let source = Store::database_of_the_reference(&self.postgres)?;
        self.postgres.run(&source, tables::WITNESSES)?;
        let port = source
            .split(' ')
            .find_map(|word| word.strip_prefix("port="));
        let port = port.and_then(|port| port.parse().ok());
        Ok(Database {
            rig: self.clone(),
            port: port.context("a source without a port")?,
            source,
        })
    }

    /// Numbers of the postmaster and its children.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<Pid>> {
        let postmaster = self.postmaster()?;
        let mut all = vec![postmaster];
        for entry in fs::read_dir("/proc").context("listing processes")? {
            let name = entry?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // It may end while we look.
            let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
            if parent == Some(&postmaster.as_raw_nonzero().to_string()) {
                all.extend(Pid::from_raw(number));
            }
        }
        Ok(all)
    }

    fn postmaster(&self) -> anyhow::Result<Pid> {
        let file = self
            .postgres
            .run("dbname=postgres", "SELECT pg_read_file('postmaster.pid')")?;
        let number = file.lines().next().and_then(|line| line.parse().ok());
        number
            .and_then(Pid::from_raw)
            .context("no number of the postmaster")
    }

    /// Ends the postmaster with a signal and starts another one when nothing is left of it.
    ///
    /// # Errors
    /// It does not come back.
    pub(crate) async fn replace_postmaster(
        &self,
        signal: Signal,
        away: Duration,
    ) -> anyhow::Result<()> {
        let processes = self.processes()?;
        kill_process(processes[0], signal).context("ending the postmaster")?;
        patience::until("the database's processes end", PATIENCE, async || {
            let left = processes.iter().filter(|pid| is_running(**pid)).count();
            ensure!(left == 0, "{left} of them are there");
            Ok(())
        })
        .await?;
        tokio::time::sleep(away).await;
        self.forget_dead_postmaster();
        self.launch().await
    }

    /// Where nobody reaps orphans a dead postmaster keeps its number, and the next one takes it for alive. One that
    /// stopped in order has removed these files itself.
    fn forget_dead_postmaster(&self) {
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        let entries = self
            .data
            .parent()
            .and_then(|folder| fs::read_dir(folder).ok());
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(".s.PGSQL.") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// # Errors
    /// It does not start.
    pub(crate) async fn launch(&self) -> anyhow::Result<()> {
        let postgres = Arc::clone(&self.postgres);
        let launched = tokio::task::spawn_blocking(move || postgres.launch());
        Ok(launched.await??)
    }

    /// Stops all processes of the database until the value is dropped.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn freeze(&self) -> anyhow::Result<Frozen> {
        Ok(Frozen::all(self.processes()?))
    }
}

impl Database {
    /// The source for a broker that reaches the database through a port of a proxy, with a name for its sessions.
    pub(crate) fn through(&self, proxy: u16, name: &str) -> String {
        let (direct, proxied) = (format!("port={}", self.port), format!("port={proxy}"));
        format!(
            "{} application_name={name}",
            self.source.replace(&direct, &proxied)
        )
    }

    /// The port that a proxy goes to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs a statement as an administrator.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) async fn run(&self, sql: &str) -> anyhow::Result<String> {
        let (postgres, source, sql) = (
            Arc::clone(&self.rig.postgres),
            self.source.clone(),
            sql.to_owned(),
        );
        let ran = tokio::task::spawn_blocking(move || postgres.run(&source, &sql));
        Ok(ran.await??)
    }
}

/// Processes that are stopped, until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen(Vec<Pid>);

impl Frozen {
    pub(crate) fn all(processes: Vec<Pid>) -> Self {
        for pid in &processes {
            // It may have ended by itself.
            let _ = kill_process(*pid, Signal::STOP);
        }
        Self(processes)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

/// Whether a process exists and is no zombie.
fn is_running(pid: Pid) -> bool {
    let status = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    fs::read_to_string(status.join("status")).is_ok_and(|status| !status.contains("\nState:\tZ"))
}
