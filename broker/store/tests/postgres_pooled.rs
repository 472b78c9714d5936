//! PgBouncer between a store and its database.

#[expect(dead_code, reason = "shared with tests that use the rest")]
mod database;

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::Duration,
};

use broker_store::{
    PostgresConfig, PostgresStore, Store, StoreError,
    conformance::{
        activate,
        batches::{BatchBuilder, CHANNEL},
        postgres_server::hand_over,
        put, run, sequences,
    },
    postgres::{Source, preconditions},
};
use database::Database;
use tokio::time::{Instant, sleep};

/// For a start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A pooler in front of a database. It listens on a socket in a folder of its own.
struct Pooler {
    process: Child,
    folder: tempfile::TempDir,
    source: String,
}

impl Pooler {
    async fn start(database: &Database, settings: &str) -> Self {
        let word = |key: &str| {
            let mut words = database.source.split(' ');
            words
                .find_map(|word| word.strip_prefix(key))
                .unwrap()
                .to_owned()
        };
        let folder = tempfile::Builder::new().prefix("pooler").tempdir().unwrap();
        let path = folder.path().display().to_string();
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {path}\n\
             listen_port = 6432\nauth_type = trust\nauth_file = {path}/users\n{settings}\n",
            word("port=")
        );
        fs::write(folder.path().join("users"), "\"tester\" \"\"\n").unwrap();
        fs::write(folder.path().join("ini"), configuration).unwrap();
        hand_over(folder.path()).unwrap();
        let process = Self::command(&format!("{path}/ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer is there; tests/tools/obtain pgbouncer installs it");
        let source = format!(
            "host={path} port=6432 user=tester dbname={}",
            word("dbname=")
        );
        let pooler = Self {
            process,
            folder,
            source,
        };
        let until = Instant::now() + PATIENCE;
        while let Err(error) = tokio_postgres::connect(&pooler.source, tokio_postgres::NoTls).await
        {
            assert!(Instant::now() < until, "{error}");
            sleep(POLL).await;
        }
        pooler
    }

    /// It does not run as root.
    fn command(configuration: &str) -> Command {
        const PROGRAM: &str = "/usr/sbin/pgbouncer";
        let is_root = fs::metadata("/proc/self")
            .is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let mut command = Command::new(if is_root { "setpriv" } else { PROGRAM });
        if is_root {
            command.args([
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "--",
                PROGRAM,
            ]);
        }
        command.args(["-q", configuration]);
        command
    }

    fn source(&self) -> Source {
        Source::parse(&self.source, &BTreeMap::new()).unwrap()
    }

    fn open(&self) -> Rc<dyn Store> {
        Rc::new(PostgresStore::new(PostgresConfig {
            sources: self.source().into(),
        }))
    }

    /// Lines of `store check` on the pooler.
    async fn findings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        preconditions::check(&self.source(), "test-cluster", &mut |finding| {
            lines.push(finding.to_string());
        })
        .await;
        lines
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended by itself, and there is nothing to do about one that does not end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_pool_that_lends_sessions_for_less_than_a_session_is_refused() {
    run(&Database::new(), async |database: &Database| {
        for settings in [
            "pool_mode = transaction",
            "pool_mode = transaction\ndefault_pool_size = 1",
            "pool_mode = transaction\ndefault_pool_size = 2\nmin_pool_size = 2\nserver_round_robin = 1",
            "pool_mode = transaction\ndefault_pool_size = 3\nmin_pool_size = 3\nserver_round_robin = 1",
            "pool_mode = statement",
        ] {
            let pooler = Pooler::start(database, settings).await;
            let refused = pooler.open().activate().await;
            let Err(StoreError::Config(text)) = refused else {
                panic!("{settings}: {refused:?}");
            };
            assert!(text.contains("pool_mode=session"), "{text}");
            let findings = pooler.findings().await;
            let line = findings.iter().find(|line| line.contains(" pooler "));
            let line = line.unwrap_or_else(|| panic!("{findings:?}"));
            assert!(line.starts_with("FAIL") && line.contains(&text), "{line}");
            assert!(pooler.folder.path().exists());
        }
        assert_eq!(
            database.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
            "0"
        );
    });
}

#[test]
fn a_pool_of_whole_sessions_serves() {
    run(&Database::new(), async |database: &Database| {
        let pooler = Pooler::start(database, "pool_mode = session").await;
        let findings = pooler.findings().await;
        assert!(
            findings.iter().any(|line| line.starts_with("ok   pooler")),
            "{findings:?}"
        );
        let store = pooler.open();
        activate(&store).await;
        put(
            &store,
            BatchBuilder::founding().rows(CHANNEL, 1..=3).build(),
        )
        .await;
        assert_eq!(sequences(&store, CHANNEL).await, [1, 2, 3]);
        store.close().await;
        let again = pooler.open();
        let recovered = activate(&again).await;
        assert_eq!(recovered.channels[0].messages, 3);
    });
}
