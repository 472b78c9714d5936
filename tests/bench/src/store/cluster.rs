//! A PostgreSQL of the run's own: a fresh cluster beside the results, every commit on disk before it is answered.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail, ensure};

use crate::server::free_port;

/// Where distributions put the programs, which are not on the search path.
const USUAL_DIRECTORIES: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql"];
/// PostgreSQL refuses to run as root; Debian's package makes this user.
const UNPRIVILEGED_USER: &str = "postgres";
const SUPERUSER: &str = "bench";

/// As a server of two cores would be set up; no checkpoint falls into a pass. The rest are PostgreSQL's defaults, said
/// aloud.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=1GB",
    "max_wal_size=4GB",
    "checkpoint_timeout=30min",
    // Would come now in this pass and now in that.
    "autovacuum=off",
];

/// The tables and indexes as users of nats-streaming-server have them.
const TABLES: &str = include_str!("../../../../broker/store/tests/fixtures/reference_schema.sql");

/// A running PostgreSQL; stopped and deleted when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
}

/// A database with the tables of a store, dropped with the value.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: Rc<Cluster>,
    name: String,
}

impl Cluster {
    /// Makes one below `parent` and starts it; takes some seconds.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub(crate) fn start(parent: &Path) -> anyhow::Result<Self> {
        let programs = programs()?;
        let directory = parent
            .canonicalize()
            .with_context(|| format!("finding {}", parent.display()))?
            .join(format!("postgresql-{}", std::process::id()));
        fs::create_dir_all(&directory).context("making a directory for PostgreSQL")?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let cluster = Self {
            programs,
            directory,
            port: free_port()?,
            databases: AtomicU32::new(0),
        };
        if is_root() {
            let owner = format!("{UNPRIVILEGED_USER}:");
            run(Command::new("chown").arg(owner).arg(&cluster.directory))?;
        }
        let mut make = cluster.program("initdb");
        make.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
        run(make.arg("-D").arg(cluster.data()))?;
        cluster.configure()?;
        cluster.launch()?;
        Ok(cluster)
    }

    fn configure(&self) -> anyhow::Result<()> {
        let path = self.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&path).context("reading PostgreSQL's configuration")?;
        for setting in SETTINGS {
            let (name, value) = setting.split_once('=').context("a setting has a value")?;
            text += &format!("{name} = '{value}'\n");
        }
        text += &format!("port = {}\n", self.port);
        fs::write(&path, text).context("configuring PostgreSQL")
    }

    fn launch(&self) -> anyhow::Result<()> {
        let log = self.directory.join("log");
        let mut start = self.program("pg_ctl");
        start.args(["-w", "-t", "60", "-l"]).arg(&log);
        start.arg("-D").arg(self.data()).arg("start");
        // The server inherits what pg_ctl has: a pipe would stay open as long as it runs.
        start.stdout(Stdio::null()).stderr(Stdio::null());
        let status = start.stdin(Stdio::null()).status();
        if !status.context("running pg_ctl")?.success() {
            let log = fs::read_to_string(&log).unwrap_or_default();
            bail!("PostgreSQL does not start: {log}");
        }
        Ok(())
    }

    /// Of the process whose children all others are.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let path = self.data().join("postmaster.pid");
        let text = fs::read_to_string(path).context("PostgreSQL does not run")?;
        let pid = text.lines().next().and_then(|line| line.parse().ok());
        pid.context("PostgreSQL's process is not named")
    }

    fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        run(command.args(["-U", SUPERUSER, "-d", database, "-c", sql]))
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A program of the server, under a user that may run it.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={UNPRIVILEGED_USER}"));
                command.arg(format!("--regid={UNPRIVILEGED_USER}"));
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.current_dir(&self.directory);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nothing of it is worth keeping, and it may not have been started.
        let mut stop = self.program("pg_ctl");
        stop.args(["-m", "immediate", "-w"])
            .arg("-D")
            .arg(self.data());
        let _ = run(stop.arg("stop"));
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Database {
    /// A fresh one with empty tables, after a checkpoint: what an earlier one left to be written is not charged to this
    /// one.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub(crate) fn create(cluster: &Rc<Cluster>) -> anyhow::Result<Self> {
        let number = cluster.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench{number}");
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        let database = Self {
            cluster: cluster.clone(),
            name,
        };
        database.run(TABLES)?;
        database.run("CHECKPOINT")?;
        Ok(database)
    }

    /// Port at which the server itself listens, without any proxy.
    pub(crate) fn port(&self) -> u16 {
        self.cluster.port
    }

    /// How to reach it over loopback, at this port.
    pub(crate) fn source_at(&self, port: u16) -> String {
        format!(
            "host=127.0.0.1 port={port} user={SUPERUSER} dbname={} sslmode=disable",
            self.name
        )
    }

    pub(crate) fn source(&self) -> String {
        self.source_at(self.cluster.port)
    }

    /// Runs statements; gives what they return, a row a line.
    ///
    /// # Errors
    /// When they fail.
    pub(crate) fn run(&self, sql: &str) -> anyhow::Result<String> {
        self.cluster.psql(&self.name, sql)
    }

    /// Gives `channels` their rows, numbered from 1 in this order.
    ///
    /// # Errors
    /// When there are such rows already.
    pub(crate) fn add_channels(&self, channels: &[String]) -> anyhow::Result<()> {
        let rows = channels.iter().zip(1..);
        let rows: Vec<_> = rows.map(|(name, id)| format!("({id}, '{name}')")).collect();
        let rows = rows.join(", ");
        self.run(&format!("INSERT INTO Channels (id, name) VALUES {rows}"))?;
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Gone with the cluster at the latest.
        let name = &self.name;
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let _ = self.cluster.psql("postgres", &drop);
    }
}

/// What it says that it is.
///
/// # Errors
/// When it is not installed.
pub(crate) fn version() -> anyhow::Result<String> {
    let text = run(Command::new(programs()?.join("postgres")).arg("--version"))?;
    let words = text.split_whitespace();
    let number = words
        .into_iter()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    Ok(format!(
        "PostgreSQL {}",
        number.context("PostgreSQL has no version")?
    ))
}

/// Of the newest version found: what `pg_config` names, else the usual places.
fn programs() -> anyhow::Result<PathBuf> {
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if directory.join("initdb").exists() {
            return Ok(directory);
        }
    }
    let directories = USUAL_DIRECTORIES
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let versions = directories.flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let programs = path.join("bin");
        let is_whole = programs.join("initdb").exists();
        is_whole.then_some((version, programs))
    });
    let newest = versions.max().map(|(_, programs)| programs);
    newest.context("PostgreSQL is missing: run `tests/tools/obtain postgresql`")
}

/// `/proc/self` belongs to the effective user.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {name}"))?;
    ensure!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
