//! What a round is played on: a PostgreSQL cluster of its own, databases in it, and what can be done to its processes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use broker_store::conformance::postgres_server::{PostgresServer, hand_over};
use rustix::process::{Pid, Signal, kill_process};
use tests::{patience, streaming_server::Store};

use crate::{
    disk::{self, SmallDisk, WholeDisk},
    plan::Refusal,
    tables,
};

/// For the database to come back, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A role that is asked for a password, as no other one is.
pub(crate) const KEEPER: &str = "keeper";

/// The tablespace on the small disk.
const SMALL: &str = "small";

/// The source of a database that is always there.
const ANYWHERE: &str = "dbname=postgres";

/// A cluster that is kept from round to round.
#[derive(Clone, Debug)]
pub(crate) struct Rig {
    pub(crate) postgres: Arc<PostgresServer>,
    data: PathBuf,
    /// Where databases can be that are to have no room. None: it may not be mounted.
    small_disk: Option<Arc<SmallDisk>>,
    /// On which all of it is, if it is to lose it.
    whole_disk: Option<Arc<WholeDisk>>,
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
        let mut rig = Self::set_up(PostgresServer::start()?)?;
        if disk::may_mount() {
            let disk = SmallDisk::new()?;
            let tables = disk.tables();
            let tables = tables.display();
            let tablespace = format!("CREATE TABLESPACE {SMALL} LOCATION '{tables}'");
            rig.postgres.run(ANYWHERE, &tablespace)?;
            rig.small_disk = Some(Arc::new(disk));
        }
        Ok(rig)
    }

    /// On a disk of its own, which can be taken from it.
    ///
    /// # Errors
    /// There is no PostgreSQL, or no right to mount.
    pub(crate) fn start_on_disk() -> anyhow::Result<Self> {
        let disk = WholeDisk::new()?;
        let mut rig = Self::set_up(PostgresServer::start_in(disk.path())?)?;
        for bound in ["max_wal_size = '96MB'", "min_wal_size = '48MB'"] {
            let bounded = format!("ALTER SYSTEM SET {bound}");
            rig.postgres.run(ANYWHERE, &bounded)?;
        }
        rig.postgres.restart()?;
        disk.synchronise()?;
        rig.whole_disk = Some(Arc::new(disk));
        Ok(rig)
    }

    fn set_up(postgres: PostgresServer) -> anyhow::Result<Self> {
        // Says when a row was committed.
        postgres.run(ANYWHERE, "ALTER SYSTEM SET track_commit_timestamp = on")?;
        let keeper = format!("CREATE ROLE {KEEPER} SUPERUSER LOGIN");
        postgres.run(ANYWHERE, &keeper)?;
        let data: PathBuf = postgres.run(ANYWHERE, "SHOW data_directory")?.into();
        let rules = data.join("pg_hba.conf");
        let others = fs::read_to_string(&rules).context("reading who may log in")?;
        let asked = format!("host all {KEEPER} all scram-sha-256\n{others}");
        fs::write(&rules, asked).context("writing who may log in")?;
        postgres.restart()?;
        Ok(Self {
            postgres: Arc::new(postgres),
            data,
            small_disk: None,
            whole_disk: None,
        })
    }

    /// # Errors
    /// There is none.
    pub(crate) fn small_disk(&self) -> anyhow::Result<&SmallDisk> {
        let disk = self.small_disk.as_deref();
        disk.context("a small disk takes the right to mount")
    }

    /// # Errors
    /// There is none.
    pub(crate) fn whole_disk(&self) -> anyhow::Result<&WholeDisk> {
        let disk = self.whole_disk.as_deref();
        disk.context("the database is not on a disk of its own")
    }

    /// What can be played here of such a refusal.
    pub(crate) fn playable(&self, refusal: Refusal) -> Refusal {
        match refusal {
            _ if self.small_disk.is_some() => refusal,
            Refusal::DiskFull => Refusal::ReadOnly {
                ends_sessions: false,
            },
            Refusal::Address { .. } => Refusal::Address { by_name: false },
            Refusal::TooManyClients
            | Refusal::ReadOnly { .. }
            | Refusal::InRecovery
            | Refusal::Password { .. } => refusal,
        }
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
        with_children(self.postmaster()?)
    }

    pub(crate) fn postmaster(&self) -> anyhow::Result<Pid> {
        let file = self
            .postgres
            .run(ANYWHERE, "SELECT pg_read_file('postmaster.pid')")?;
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
    pub(crate) fn forget_dead_postmaster(&self) {
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

    /// Starts the server anew as one that follows another one, whatever that is.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn demote(&self) -> anyhow::Result<()> {
        let (postgres, signal) = (Arc::clone(&self.postgres), self.data.join("standby.signal"));
        let demoted = tokio::task::spawn_blocking(move || {
            postgres.stop()?;
            fs::write(&signal, "").context("asking for a standby")?;
            hand_over(&signal)?;
            postgres.launch()?;
            anyhow::Ok(())
        });
        demoted.await?
    }

    /// Lets it write from now on.
    ///
    /// # Errors
    /// It does not become a server of its own.
    pub(crate) async fn promote(&self) -> anyhow::Result<()> {
        let promoted = self.run_anywhere("SELECT pg_promote()").await?;
        ensure!(promoted == "t", "not promoted");
        Ok(())
    }

    /// Has the log of writes take up room until the server gives up.
    ///
    /// # Errors
    /// There is always room.
    pub(crate) async fn exhaust_log(&self) -> anyhow::Result<()> {
        /// Segments of the log that are kept for later use, and some more.
        const SEGMENTS: usize = 50;
        for _ in 0..SEGMENTS {
            // Nothing is to be switched where nothing was written.
            let switch = "SELECT txid_current(); SELECT pg_switch_wal()";
            if self.run_anywhere(switch).await.is_err() {
                return Ok(());
            }
        }
        anyhow::bail!("the log never needs more room")
    }

    /// Starts what may have ended by itself, until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn revive(&self, postmaster: Pid) -> anyhow::Result<()> {
        patience::until("the database answers again", PATIENCE, async || {
            if !is_running(postmaster) {
                self.forget_dead_postmaster();
                return self.launch().await;
            }
            self.run_anywhere("SELECT 1").await.map(drop)
        })
        .await
    }

    async fn run_anywhere(&self, sql: &'static str) -> anyhow::Result<String> {
        let postgres = Arc::clone(&self.postgres);
        let ran = tokio::task::spawn_blocking(move || postgres.run(ANYWHERE, sql));
        Ok(ran.await??)
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
    pub(crate) fn through(&self, host: &str, proxy: u16, name: &str) -> String {
        let (direct, proxied) = (format!("port={}", self.port), format!("port={proxy}"));
        let source = self.source.replace(&direct, &proxied);
        let source = source.replace("host=127.0.0.1", &format!("host={host}"));
        format!("{source} application_name={name}")
    }

    fn name(&self) -> anyhow::Result<&str> {
        let mut words = self.source.split(' ');
        let name = words.find_map(|word| word.strip_prefix("dbname="));
        name.context("a source without a database")
    }

    /// Has all tables on the small disk from now on. Nobody may be at work in it.
    ///
    /// # Errors
    /// There is no such disk.
    pub(crate) async fn move_to_small_disk(&self) -> anyhow::Result<()> {
        self.rig.small_disk()?;
        let moved = format!("ALTER DATABASE {} SET TABLESPACE {SMALL}", self.name()?);
        patience::until("the database is moved", PATIENCE, async || {
            // Sessions that have just ended count for a moment.
            self.run_elsewhere(&moved).await
        })
        .await
    }

    /// Removes it, with all sessions.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        let removal = format!("DROP DATABASE {} WITH (FORCE)", self.name()?);
        self.run_elsewhere(&removal).await
    }

    async fn run_elsewhere(&self, sql: &str) -> anyhow::Result<()> {
        let (postgres, sql) = (Arc::clone(&self.rig.postgres), sql.to_owned());
        let ran = tokio::task::spawn_blocking(move || postgres.run(ANYWHERE, &sql));
        ran.await??;
        Ok(())
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

/// The postmaster and its children.
///
/// # Errors
/// Processes cannot be listed.
pub(crate) fn with_children(postmaster: Pid) -> anyhow::Result<Vec<Pid>> {
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

/// Whether a process exists and is no zombie.
pub(crate) fn is_running(pid: Pid) -> bool {
    let status = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    fs::read_to_string(status.join("status")).is_ok_and(|status| !status.contains("\nState:\tZ"))
}
