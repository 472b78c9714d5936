//! Encryption at rest, with the reference and the broker by turns over the same tables: clients see
//! plain payloads, the tables hold none, and neither needs the other's cipher to be its own.

use std::{path::Path, time::Duration};

use broker_store::conformance::postgres_server::PostgresServer;
use tests::{
    stan::{Client, Options, SubscribeOptions},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};
use tokio::time::timeout;

const CHANNEL: &str = "secrets";
const PAYLOAD: &str = "a payload that must not be seen, number ";
const KEY_VARIABLE: &str = "NATS_STREAMING_ENCRYPTION_KEY";
/// For a delivery.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes one more message and reads all there are.
async fn publish_and_read(server: &StreamingServer, number: u64) {
    let url = format!("nats://127.0.0.1:{}", server.port());
    let name = format!("application-{number}");
    let client = Client::connect(Options::new(&url, CLUSTER_ID, &name))
        .await
        .unwrap();
    let payload = format!("{PAYLOAD}{number}");
    client.publish(CHANNEL, payload).await.unwrap();
    let options = SubscribeOptions::from_first();
    let mut subscription = client.subscribe(CHANNEL, options).await.unwrap();
    for expected in 1..=number {
        let message = timeout(PATIENCE, subscription.next())
            .await
            .unwrap()
            .unwrap();
        let expected = format!("{PAYLOAD}{expected}");
        assert_eq!(str::from_utf8(&message.payload).unwrap(), expected);
    }
    client.close().await.unwrap();
}

fn encrypted(server: StreamingServer, cipher: &str) -> StreamingServer {
    let mut server = server.with_flags(["-encrypt", "-encryption_cipher", cipher]);
    server.variable(KEY_VARIABLE, "a key that must not be seen either");
    server
}

fn folder(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

#[tokio::test]
async fn either_server_reads_what_the_other_one_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::shared().unwrap();
    let source = Store::database_of_the_reference(&postgres).unwrap();
    let store = Store::sql(dir.path(), &source).unwrap();
    let reference = StreamingServer::reference(&folder(dir.path(), "reference"), &store).unwrap();
    let broker = StreamingServer::broker(&folder(dir.path(), "broker"), &store)
        .unwrap()
        .in_place_of(&reference);
    let mut reference = encrypted(reference, "CHACHA");
    let mut broker = encrypted(broker, "AES");
    for turn in 0..2_u64 {
        for (server, number) in [(&mut reference, 2 * turn + 1), (&mut broker, 2 * turn + 2)] {
            server.start().await.unwrap();
            publish_and_read(server, number).await;
            server.stop().await.unwrap();
        }
    }
    let count = |condition: &str| {
        let sql = format!("SELECT count(*) FROM Messages WHERE {condition}");
        postgres.run(&source, &sql).unwrap().trim().to_owned()
    };
    assert_eq!(count("true"), "4");
    assert_eq!(count("position('payload'::bytea IN data) > 0"), "0");
}

#[tokio::test]
async fn files_of_the_broker_hold_no_payload_and_need_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let place = folder(dir.path(), "broker");
    let mut broker = encrypted(StreamingServer::broker(&place, &Store::Files).unwrap(), "");
    for number in 1..=2 {
        broker.start().await.unwrap();
        publish_and_read(&broker, number).await;
        broker.stop().await.unwrap();
    }
    for file in std::fs::read_dir(place.join("store")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"payload"));
    }
    broker.variable(KEY_VARIABLE, "another");
    let error = broker.start().await.unwrap_err().to_string();
    assert!(error.contains("encryption key does not fit"), "{error}");
}
