//! What a sidecar makes of the store lock while a broker and nats-streaming-server own it by turns, with a login that may
//! read the lock's row and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use broker_store::{
    conformance::postgres_server::PostgresServer,
    watch::{Claim, Judge, LockState, Row},
};
use http::Uri;
use sidecar::lock::{DatabaseRows, Rows as _, claim};
use tests::{
    patience::until,
    streaming_server::{Store, StreamingServer},
};
use tokio::task::LocalSet;

/// For a start, or for a lock to run out, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const READY: &str = "Streaming Server is ready";
const STANDBY: &str = "standby: the store is owned by";
/// How nats-streaming-server says that it has the lock, and that it has tried.
const ACTIVE: &str = "Server is active";
const REFUSED: &str = "unable to get store lock at this time";

/// A sidecar's eyes and judgement.
struct Watch {
    rows: DatabaseRows,
    judge: Judge,
    monitor: Uri,
}

impl Watch {
    /// Looks until it is like that, with the broker's own claim or another one.
    async fn becomes(&mut self, expected: LockState, other_claim: Option<Claim>) -> Row {
        let look = async || {
            let row = self.rows.look().await.map_err(anyhow::Error::msg)?;
            let claim = match &other_claim {
                Some(claim) => claim.clone(),
                None => claim::ask(&self.monitor).await?,
            };
            let now = Instant::now();
            let state = self.judge.look(Some(row.clone()), Some(claim), now);
            anyhow::ensure!(state == expected, "{state:?}: {row}");
            Ok(row)
        };
        let what = format!("the lock is {expected:?}");
        until(&what, PATIENCE, look).await.unwrap()
    }
}

/// A database, the broker's store configuration beside it, and who may look.
struct Scene {
    postgres: Arc<PostgresServer>,
    source: String,
    configuration: PathBuf,
}

impl Scene {
    fn new(dir: &Path) -> Self {
        let postgres = PostgresServer::shared().unwrap();
        let source = Store::database_of_the_reference(&postgres).unwrap();
        Self {
            postgres,
            source,
            configuration: dir.join("sidecar.conf"),
        }
    }

    fn run(&self, sql: &str) -> String {
        self.postgres.run(&self.source, sql).unwrap()
    }

    /// From now on the configuration names this role, which may read the lock's row and nothing else.
    fn log_in_as(&self, role: &str) {
        self.run(&format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON StoreLock TO {role}"
        ));
        let source = self.source.replace("user=tester", &format!("user={role}"));
        let text =
            format!("streaming {{ sql {{ driver: \"postgres\", source: \"{source}\" }} }}\n");
        fs::write(&self.configuration, text).unwrap();
    }
}

#[tokio::test]
async fn a_sidecar_sees_who_owns_the_store_by_plain_reads() {
    LocalSet::new().run_until(watch_all()).await;
}

async fn watch_all() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path());
    scene.log_in_as("watcher");
    let store = Store::sql(dir.path(), &scene.source).unwrap();
    let folder = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let broker = StreamingServer::broker(&folder("broker"), &store).unwrap();
    let mut broker = broker.with_flags(["-ft_group", "g"]);
    let reference = StreamingServer::reference(&folder("reference"), &store).unwrap();
    let mut reference = reference.with_flags(["-ft_group", "g"]);
    let mut watch = Watch {
        rows: DatabaseRows::new(scene.configuration.clone()),
        judge: Judge::default(),
        monitor: format!("http://127.0.0.1:{}", broker.monitor())
            .parse()
            .unwrap(),
    };

    reference.launch().unwrap();
    reference.writes(ACTIVE, PATIENCE).await.unwrap();
    broker.launch().unwrap();
    broker.writes(STANDBY, PATIENCE).await.unwrap();
    let of_reference = watch.becomes(LockState::Standby, None).await.owner_id;

    reference.kill();
    broker.writes(READY, PATIENCE).await.unwrap();
    let of_broker = watch.becomes(LockState::Held, None).await.owner_id;
    assert_ne!(of_broker, of_reference);
    reference.launch().unwrap();
    reference.writes(REFUSED, PATIENCE).await.unwrap();
    assert_eq!(
        watch.becomes(LockState::Held, None).await.owner_id,
        of_broker
    );

    // The password changes, so to say: the next connection is made with what the configuration holds by then.
    scene.log_in_as("next_watcher");
    scene.run(
        "ALTER ROLE watcher NOLOGIN;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'watcher'",
    );
    let logins = "SELECT string_agg(DISTINCT usename, ',') FROM pg_stat_activity WHERE usename LIKE '%watcher'";
    // A session that is being ended may answer once more.
    until("the next login is used", PATIENCE, async || {
        watch.rows.look().await.map_err(anyhow::Error::msg)?;
        let logins = scene.run(logins);
        anyhow::ensure!(logins == "next_watcher", "{logins}");
        Ok(())
    })
    .await
    .unwrap();
    watch.becomes(LockState::Held, None).await;

    broker.stop().await.unwrap();
    reference.writes(ACTIVE, PATIENCE).await.unwrap();
    let standby = || Some(Claim::Standby);
    watch.becomes(LockState::Standby, standby()).await;
    reference.kill();
    watch.becomes(LockState::Orphaned, standby()).await;
    reference.launch().unwrap();
    reference.writes(ACTIVE, PATIENCE).await.unwrap();
    watch.becomes(LockState::Standby, standby()).await;
    reference.stop().await.unwrap();
    watch.becomes(LockState::Free, standby()).await;
}
