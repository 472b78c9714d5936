//! One database, one server that serves: the broker beside nats-streaming-server with and without fault-tolerance mode,
//! each on NATS of its own, so that only the database is between them.

use std::{path::Path, sync::Arc, time::Duration};

use broker_store::conformance::postgres_server::PostgresServer;
use tests::{
    stan::{Client, Options, SubscribeOptions},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};

const CHANNEL: &str = "orders";
/// For a start, or for a lock to run out, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const READY: &str = "Streaming Server is ready";
/// How nats-streaming-server says that it has the lock, that it has not, and that it has tried.
const ACTIVE: &str = "Server is active";
const STANDS_BY: &str = "Starting in standby mode";
const REFUSED: &str = "unable to get store lock at this time";

/// A broker and a nats-streaming-server on one database.
struct Pair {
    broker: StreamingServer,
    reference: StreamingServer,
    published: u64,
    _postgres: Arc<PostgresServer>,
}

impl Pair {
    fn new(dir: &Path, flags: &[&str]) -> Self {
        let postgres = PostgresServer::shared().unwrap();
        let store = Store::sql_of_the_reference(dir, &postgres).unwrap();
        let folder = |name: &str| {
            let path = dir.join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let broker = StreamingServer::broker(&folder("broker"), &store).unwrap();
        let reference = StreamingServer::reference(&folder("reference"), &store).unwrap();
        Self {
            broker: broker.with_flags(flags.iter().copied()),
            reference: reference.with_flags(flags.iter().copied()),
            published: 0,
            _postgres: postgres,
        }
    }

    /// Publishes a message through the server on this port, which has all that were published before.
    async fn serves(&mut self, port: u16) {
        let url = format!("nats://127.0.0.1:{port}");
        let id = format!("client-{}", self.published);
        let options = Options::new(&url, CLUSTER_ID, &id).ack_wait(PATIENCE);
        let client = Client::connect(options).await.unwrap();
        let number = self.published.to_string();
        client.publish(CHANNEL, number).await.unwrap();
        self.published += 1;
        let from_first = SubscribeOptions::from_first();
        let mut messages = client.subscribe(CHANNEL, from_first).await.unwrap();
        for expected in 1..=self.published {
            let next = tokio::time::timeout(PATIENCE, messages.next());
            let message = next.await.unwrap().unwrap();
            assert_eq!(message.sequence, expected);
            assert_eq!(message.payload, (expected - 1).to_string().as_bytes());
        }
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_broker_waits_for_the_end_of_a_server_that_takes_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(dir.path(), &[]);
    pair.reference.start().await.unwrap();
    pair.serves(pair.reference.port()).await;
    pair.broker.launch().unwrap();
    let owned = "standby: the store is owned by a server that takes no lock";
    pair.broker.writes(owned, PATIENCE).await.unwrap();
    pair.serves(pair.reference.port()).await;
    assert!(!pair.broker.output().contains(READY));
    pair.reference.kill();
    pair.broker.writes(READY, PATIENCE).await.unwrap();
    pair.serves(pair.broker.port()).await;
}

#[tokio::test]
async fn the_broker_and_a_server_in_fault_tolerance_mode_keep_each_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(dir.path(), &["-ft_group", "g"]);
    pair.reference.launch().unwrap();
    pair.reference.writes(ACTIVE, PATIENCE).await.unwrap();
    pair.reference.writes(READY, PATIENCE).await.unwrap();
    pair.broker.launch().unwrap();
    let owned = "standby: the store is owned by";
    pair.broker.writes(owned, PATIENCE).await.unwrap();
    pair.serves(pair.reference.port()).await;
    assert!(!pair.broker.output().contains(READY));

    pair.reference.kill();
    pair.broker.writes(READY, PATIENCE).await.unwrap();
    pair.serves(pair.broker.port()).await;

    // It tries again and again, and its tries change nothing.
    pair.reference.launch().unwrap();
    pair.reference.writes(STANDS_BY, PATIENCE).await.unwrap();
    pair.reference.writes(REFUSED, PATIENCE).await.unwrap();
    pair.serves(pair.broker.port()).await;
    assert!(!pair.reference.output().contains(ACTIVE));

    pair.broker.kill();
    pair.reference.writes(ACTIVE, PATIENCE).await.unwrap();
    pair.reference.writes(READY, PATIENCE).await.unwrap();
    pair.serves(pair.reference.port()).await;

    pair.broker.launch().unwrap();
    pair.broker.writes(owned, PATIENCE).await.unwrap();
    pair.reference.stop().await.unwrap();
    pair.broker.writes(READY, PATIENCE).await.unwrap();
    pair.serves(pair.broker.port()).await;

    pair.reference.launch().unwrap();
    pair.reference.writes(REFUSED, PATIENCE).await.unwrap();
    pair.broker.stop().await.unwrap();
    pair.reference.writes(ACTIVE, PATIENCE).await.unwrap();
}
