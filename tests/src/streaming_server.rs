//! A streaming server as a process: our broker, or the reference, which takes the same flags.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use broker_store::conformance::postgres_server::PostgresServer;
use certs::reload::TlsFiles;

use crate::process::Process;
use crate::{ports, programs};

/// For a start, with the recovery of everything that a test stores.
const START: Duration = Duration::from_secs(90);
/// For a stop, with everything that is under way.
const STOP: Duration = Duration::from_secs(30);
/// The line after which clients are answered.
const READY: &str = "Streaming Server is ready";

/// Where messages are kept.
#[derive(Debug)]
pub enum Store {
    /// Nowhere but in the process.
    Memory,
    /// In files below the server's directory: SQLite for ours.
    Files,
    /// In PostgreSQL; a `-sc` file that says which.
    Sql {
        /// In the syntax of the reference's `secret.conf`.
        config: PathBuf,
    },
}

impl Store {
    /// PostgreSQL by its source string, written to a file in `dir` as users of the reference have it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sql(dir: &Path, source: &str) -> anyhow::Result<Self> {
        let config = dir.join("secret.conf");
        let text = format!(
            "streaming: {{\n  sql: {{\n    driver: postgres\n    source: \"{source}\"\n  }}\n}}\n"
        );
        std::fs::write(&config, text).context("writing the store's configuration")?;
        Ok(Self::Sql { config })
    }

    /// A fresh database with the tables as the reference's users make them; its configuration is in `dir`.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn sql_of_the_reference(dir: &Path, postgres: &PostgresServer) -> anyhow::Result<Self> {
        let source = Self::database_of_the_reference(postgres)?;
        Self::sql(dir, &source)
    }

    /// A fresh database with the tables as the reference's users make them; its source.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn database_of_the_reference(postgres: &PostgresServer) -> anyhow::Result<String> {
        let source = postgres.create_database()?;
        postgres.run(&source, &Self::tables_of_the_reference()?)?;
        Ok(source)
    }

    /// Statements that make the tables as the reference's users make them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn tables_of_the_reference() -> anyhow::Result<String> {
        let schema = programs::root().join("broker/store/tests/fixtures/reference_schema.sql");
        std::fs::read_to_string(schema).context("reading the reference's tables")
    }
}

/// A server that keeps its ports and its store over restarts.
#[derive(Debug)]
pub struct StreamingServer {
    program: PathBuf,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    log: PathBuf,
    port: u16,
    process: Option<Process>,
    /// Started with the server and alive until this is dropped.
    nats: Option<Nats>,
}

#[derive(Debug)]
struct Nats {
    program: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Nats {
    /// Starts it unless it runs.
    async fn start(&mut self, port: u16) -> anyhow::Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        let process = Process::start("nats-server", &mut command, &self.log)?;
        let process = self.process.insert(process);
        process.writes("Server is ready", START).await
    }
}
/// Streaming cluster ID of every server that the tests start by themselves.
pub const CLUSTER_ID: &str = "test-cluster";

impl StreamingServer {
    /// Our broker, not started yet. Its files are below `dir`.
    ///
    /// # Errors
    /// When it is not built.
    pub fn broker(dir: &Path, store: &Store) -> anyhow::Result<Self> {
        Ok(Self::new(programs::ours("stanchion-broker")?, dir, store))
    }

    /// nats-streaming-server, not started yet. Its files are below `dir`.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub fn reference(dir: &Path, store: &Store) -> anyhow::Result<Self> {
        Ok(Self::new(
            programs::tool("nats-streaming-server")?,
            dir,
            store,
        ))
    }

    /// Stands on a nats-server of its own (`release` is its program) instead of the one inside of it.
    ///
    /// # Errors
    /// When that is not on this machine.
    pub fn on_nats(mut self, release: &str) -> anyhow::Result<Self> {
        let (own, port) = (self.port.to_string(), ports::free());
        let listens = ["-a", "127.0.0.1", "-p", own.as_str()];
        self.flags.retain(|flag| !listens.contains(&flag.as_str()));
        let url = format!("nats://127.0.0.1:{port}");
        self.flags.extend(["-nats_server".to_owned(), url]);
        self.port = port;
        self.nats = Some(Nats {
            program: programs::tool(release)?,
            log: self.log.with_file_name("nats.log"),
            process: None,
        });
        Ok(self)
    }

    fn new(program: PathBuf, dir: &Path, store: &Store) -> Self {
        let port = ports::free();
        let mut flags: Vec<String> = ["-cluster_id", CLUSTER_ID, "-a", "127.0.0.1"]
            .map(str::to_owned)
            .into();
        flags.extend(["-p".to_owned(), port.to_string()]);
        match store {
            Store::Memory => flags.extend(["-store", "MEMORY"].map(str::to_owned)),
            Store::Files => {
                let dir = dir.join("store").display().to_string();
                flags.extend([
                    "-store".to_owned(),
                    "FILE".to_owned(),
                    "-dir".to_owned(),
                    dir,
                ]);
            }
            Store::Sql { config } => {
                let config = config.display().to_string();
                flags.extend([
                    "-store".to_owned(),
                    "SQL".to_owned(),
                    "-sc".to_owned(),
                    config,
                ]);
            }
        }
        Self {
            program,
            flags,
            variables: Vec::new(),
            log: dir.join("server.log"),
            port,
            process: None,
            nats: None,
        }
    }

    /// Clients then need TLS, with a certificate of the same authority.
    pub fn require_tls(&mut self, files: &TlsFiles) {
        self.flags
            .extend(["--tls", "--tlsverify"].map(str::to_owned));
        for (flag, file) in [
            ("--tlscert", &files.cert),
            ("--tlskey", &files.key),
            ("--tlscacert", &files.ca),
        ] {
            self.flags
                .extend([flag.to_owned(), file.display().to_string()]);
        }
    }

    /// Sets a variable of its environment.
    pub fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Further flags, which both programs know.
    #[must_use]
    pub fn with_flags(mut self, flags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// Opens the monitoring port too; which it is.
    pub fn monitor(&mut self) -> u16 {
        let port = ports::free();
        self.flags.extend(["-m".to_owned(), port.to_string()]);
        port
    }

    /// Takes the port of another server, to be started after that has ended: clients do not notice
    /// that it is another one.
    #[must_use]
    pub fn in_place_of(mut self, other: &Self) -> Self {
        let (own, others) = (self.port.to_string(), other.port.to_string());
        for flag in &mut self.flags {
            if *flag == own {
                flag.clone_from(&others);
            }
        }
        self.port = other.port;
        self
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it, again if it was killed, and waits until it answers clients.
    ///
    /// # Errors
    /// When it ends or is not ready in time, with its last lines.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        if let Some(nats) = &mut self.nats {
            nats.start(self.port).await?;
        }
        self.launch()?;
        self.writes(READY, START).await
    }

    /// Starts it, again if it was killed, and does not wait: it may have to stand by.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.kill();
        let mut command = Command::new(&self.program);
        command.args(&self.flags);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        let name = self
            .program
            .file_name()
            .unwrap_or_default()
            .display()
            .to_string();
        self.process = Some(Process::start(&name, &mut command, &self.log)?);
        Ok(())
    }

    /// Waits until it has written this since its start.
    ///
    /// # Errors
    /// When it ends or does not do so in time, with its last lines.
    pub async fn writes(&mut self, text: &str, within: Duration) -> anyhow::Result<()> {
        let process = self.process.as_mut();
        let process = process.context("the server does not run")?;
        process.writes(text, within).await
    }

    /// What it has written since its start.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    /// Fails when it runs no more, with its last lines.
    ///
    /// # Errors
    /// See above.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        let process = self.process.as_mut();
        process.context("the server does not run")?.check_alive()
    }

    /// Memory that it holds, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resident_bytes(&self) -> anyhow::Result<usize> {
        let process = self.process.as_ref();
        process.context("the server does not run")?.resident_bytes()
    }

    /// Asks it to stop and waits until it has; what it holds in memory is then in the store.
    ///
    /// # Errors
    /// When it does not run or does not stop in time.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let mut process = self.process.take().context("the server does not run")?;
        process.stop(STOP).await
    }

    /// Ends it without warning, as a lost machine does.
    pub fn kill(&mut self) {
        self.process = None;
    }
}
