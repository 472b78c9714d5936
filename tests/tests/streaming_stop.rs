//! A stop is asked for: what was taken in is kept, and the end comes also where it cannot be kept.

use std::time::Duration;

use broker_store::conformance::postgres_server::PostgresServer;
use tests::{
    stan::{Client, Options},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};

const CHANNEL: &str = "orders";
/// Short: one acknowledgement is waited for in vain.
const IN_VAIN: Duration = Duration::from_secs(2);

fn options(server: &StreamingServer, id: &str) -> Options {
    let url = format!("nats://127.0.0.1:{}", server.port());
    Options::new(&url, CLUSTER_ID, id)
}

async fn publisher(server: &StreamingServer) -> Client {
    Client::connect(options(server, "publisher")).await.unwrap()
}

#[tokio::test]
async fn a_broker_that_is_asked_to_stop_ends_with_success_and_gives_its_store_back() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::shared().unwrap();
    let source = postgres.create_database().unwrap();
    let store = Store::sql(dir.path(), &source).unwrap();
    let mut server = StreamingServer::broker(dir.path(), &store).unwrap();
    server.start().await.unwrap();
    publisher(&server)
        .await
        .publish(CHANNEL, "one")
        .await
        .unwrap();

    let status = server.stop().await.unwrap();

    assert_eq!(status.code(), Some(0));
    let owner = postgres.run(&source, "SELECT id FROM StoreLock").unwrap();
    assert_eq!(owner.trim(), "", "the lock row names nobody");
}

#[tokio::test]
async fn a_broker_whose_database_is_gone_ends_all_the_same_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    // Not the shared one: other tests need theirs alive.
    let postgres = PostgresServer::start().unwrap();
    let store = Store::sql(dir.path(), &postgres.create_database().unwrap()).unwrap();
    let mut server = StreamingServer::broker(dir.path(), &store).unwrap();
    server.start().await.unwrap();
    let publisher = publisher(&server).await;
    publisher.publish(CHANNEL, "one").await.unwrap();
    // Gives up soon, which the other one must not.
    let hopeless = options(&server, "hopeless").ack_wait(IN_VAIN);
    let hopeless = Client::connect(hopeless).await.unwrap();
    postgres.kill().unwrap();
    let unanswered = hopeless.publish_async(CHANNEL, "two").await.unwrap();
    hopeless.nats().flush().await.unwrap();

    let status = server.stop().await.unwrap();

    assert_eq!(status.code(), Some(1));
    assert!(
        unanswered.await.is_err(),
        "nothing durable, nothing acknowledged"
    );
}
