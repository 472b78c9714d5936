//! A database, and the two programs that take turns on it and on one port: clients do not notice who serves them.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use broker_store::conformance::postgres_server::PostgresServer;
use tempfile::TempDir;
use tests::{
    patience,
    process::Process,
    programs,
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};

use crate::{
    plan::{End, Program, Turn},
    tables::{self, Tables},
};

/// `max_age` of the young channel.
pub(crate) const AGE: Duration = Duration::from_secs(4);

/// `max_inactivity` of the idle channel.
pub(crate) const INACTIVITY: Duration = Duration::from_secs(2);

/// `max_bytes` of the small channel.
pub(crate) const SMALL_BYTES: u64 = 3_000;

/// On a busy machine.
const SESSIONS_END: Duration = Duration::from_secs(60);

const OTHER_SESSIONS: &str = "
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";

/// What a shell says of a process that ended by SIGTERM.
const TERMINATED: i32 = 143;

/// Marks of a server's lines that are warnings or worse.
const COMPLAINTS: &[&str] = &["[WRN]", "[ERR]", "[FTL]", "panic"];

/// Rows about subscriptions, for somebody who looks for the cause of a fault.
const SUBSCRIPTIONS: &str = "
    SELECT 'channel ' || id || ', subid ' || subid || ', lastsent ' || lastsent || ', deleted ' || deleted
        || ', ' || encode(proto, 'escape') FROM Subscriptions
    UNION ALL (SELECT 'subid ' || subid || ', row ' || row || ', seq ' || seq || ', lastsent ' || lastsent
        || ', pending ' || coalesce(convert_from(pending, 'UTF8'), '')
        || ', acks ' || coalesce(convert_from(acks, 'UTF8'), '') FROM SubsPending ORDER BY subid, row)";

/// How a server says that it has found the tables in order.
const READY: &str = "Streaming Server is ready";

/// How a server says that it stops.
const ENDS: &str = "STREAM: Shutting down.";

/// What a server warns of without being wrong.
const EXPECTED: &[&str] = &[
    "STREAM: Reached limits for store",
    "was inactive and is deleted",
];

/// What `verify` may take on a busy machine.
const VERIFY: Duration = Duration::from_secs(60);

/// One history's database and servers.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) postgres: Arc<PostgresServer>,
    /// Of the database that the next server gets.
    pub(crate) source: String,
    pub(crate) dir: TempDir,
    reference: StreamingServer,
    broker: StreamingServer,
    serves: Program,
}

impl Rig {
    /// On this database, which loses what it holds and gets the tables as the reference's users make them.
    ///
    /// # Errors
    /// When something is missing on this machine.
    pub(crate) fn new(postgres: Arc<PostgresServer>, source: &str) -> anyhow::Result<Self> {
        postgres.run(source, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")?;
        postgres.run(source, &Store::tables_of_the_reference()?)?;
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("streaming.conf");
        let store = Store::Sql { config };
        for program in [Program::Reference, Program::Broker] {
            std::fs::create_dir(dir.path().join(folder(program)))?;
        }
        let reference =
            StreamingServer::reference(&dir.path().join(folder(Program::Reference)), &store)?;
        let broker = StreamingServer::broker(&dir.path().join(folder(Program::Broker)), &store)?;
        Ok(Self {
            postgres,
            source: source.to_owned(),
            broker: broker.in_place_of(&reference),
            reference,
            dir,
            serves: Program::Reference,
        })
    }

    /// Where clients connect, whoever serves.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.reference.port())
    }

    fn server(&mut self) -> &mut StreamingServer {
        match self.serves {
            Program::Reference => &mut self.reference,
            Program::Broker => &mut self.broker,
        }
    }

    /// Starts the server of a turn, with its limits and options.
    ///
    /// # Errors
    /// When it does not serve.
    pub(crate) async fn start(&mut self, turn: &Turn) -> anyhow::Result<()> {
        let config = self.dir.path().join("streaming.conf");
        std::fs::write(config, configuration(&self.source, turn)).context("the configuration")?;
        self.serves = turn.program;
        self.server().start().await
    }

    /// Ends the server; the lines in which it complains of what it has found.
    ///
    /// # Errors
    /// When it does not stop, or not with success.
    pub(crate) async fn end(&mut self, end: End) -> anyhow::Result<Vec<String>> {
        match end {
            End::Kill => self.server().kill(),
            End::Stop => {
                let status = self.server().stop().await?;
                // The reference ends as if the signal had killed it.
                let expected = status.success() || status.code() == Some(TERMINATED);
                ensure!(expected, "ended with {status}");
            }
        }
        self.sessions_end().await?;
        self.complaints()
    }

    /// What the database was told before its client was killed still happens.
    async fn sessions_end(&self) -> anyhow::Result<()> {
        patience::until("the server's sessions end", SESSIONS_END, async || {
            let sessions = self.postgres.run(&self.source, OTHER_SESSIONS)?;
            ensure!(sessions == "0", "there are {sessions}");
            Ok(())
        })
        .await
    }

    /// Lines of the server that are warnings or worse.
    fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let log = self.dir.path().join(folder(self.serves)).join("server.log");
        let log = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
        let log = String::from_utf8_lossy(&log);
        // The reference complains of what clients do at the same time, and of its own store when that is closed.
        let ends = match self.serves {
            Program::Reference => READY,
            Program::Broker => ENDS,
        };
        let lines = log.lines().take_while(|line| !line.contains(ends));
        let complaints = lines
            .filter(|line| COMPLAINTS.iter().any(|mark| line.contains(mark)))
            .filter(|line| !EXPECTED.iter().any(|text| line.contains(text)))
            .map(|line| format!("{:?} complains: {line}", self.serves));
        Ok(complaints.collect())
    }

    /// Everything in the tables.
    ///
    /// # Errors
    /// The database does not answer, or holds what makes no sense.
    pub(crate) fn tables(&self) -> anyhow::Result<Tables> {
        tables::read(&self.postgres, &self.source)
    }

    /// Rows about subscriptions as text.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) fn describe(&self) -> anyhow::Result<String> {
        Ok(self.postgres.run(&self.source, SUBSCRIPTIONS)?)
    }

    /// Changes the tables behind the servers' backs.
    ///
    /// # Errors
    /// The statements fail.
    pub(crate) fn tamper(&self, sql: &str) -> anyhow::Result<()> {
        self.postgres.run(&self.source, sql)?;
        Ok(())
    }

    /// What `store verify` has to say when something is wrong.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub(crate) async fn verify(&self) -> anyhow::Result<Option<String>> {
        let mut command = std::process::Command::new(programs::ours("stanchion-broker")?);
        command.args([
            "store",
            "verify",
            "-store",
            "SQL",
            "-cluster_id",
            CLUSTER_ID,
        ]);
        command.env("STANCHION_SQL_SOURCE", &self.source);
        let log: PathBuf = self.dir.path().join("verify.log");
        let mut verify = Process::start("store verify", &mut command, &log)?;
        let ended = verify.succeeds(VERIFY).await;
        Ok(ended.err().map(|_| verify.output()))
    }
}

fn folder(program: Program) -> &'static str {
    match program {
        Program::Reference => "reference",
        Program::Broker => "broker",
    }
}

/// In the reference's syntax, which both read.
fn configuration(source: &str, turn: &Turn) -> String {
    let mut text =
        format!("streaming: {{\n  sql: {{\n    driver: postgres\n    source: \"{source}\"\n");
    if turn.program == Program::Reference {
        if turn.bulk > 0 {
            let _ = writeln!(text, "    bulk_insert_limit: {}", turn.bulk);
        }
        let _ = writeln!(text, "    no_caching: {}", turn.uncached);
    }
    let (age, inactivity) = (AGE.as_secs(), INACTIVITY.as_secs());
    let few = turn.few;
    let _ = write!(
        text,
        "  }}
  store_limits: {{
    channels: {{
      few: {{
        max_msgs: {few}
      }}
      small: {{
        max_bytes: {SMALL_BYTES}
      }}
      young: {{
        max_age: \"{age}s\"
      }}
      idle: {{
        max_inactivity: \"{inactivity}s\"
      }}
    }}
  }}
}}
"
    );
    text
}
