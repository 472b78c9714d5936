//! A channel that nobody uses is deleted, by the broker as by the reference, and its name begins anew.

use std::time::Duration;

use broker_store::conformance::postgres_server::PostgresServer;
use tests::{
    patience, probe,
    stan::{Client, Options, SubscribeOptions},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

async fn deletes_and_begins_anew(server: StreamingServer) {
    let mut server = server.with_flags(["-max_inactivity", "1s"]);
    let monitor = server.monitor();
    server.start().await.unwrap();
    let url = format!("nats://127.0.0.1:{}", server.port());
    let client = Client::connect(Options::new(&url, CLUSTER_ID, "me"))
        .await
        .unwrap();
    let durable = || SubscribeOptions::from_first().durable("d");
    for channel in ["used", "rested"] {
        client.publish(channel, "old").await.unwrap();
    }
    let _kept = client
        .subscribe("used", SubscribeOptions::new_only())
        .await
        .unwrap();
    let deleted = patience::until("only the used channel is left", PATIENCE, async || {
        let page = probe::get(monitor, "/streaming/channelsz").await?;
        let page: serde_json::Value = serde_json::from_str(&page.body)?;
        anyhow::ensure!(page["names"] == serde_json::json!(["used"]), "{page}");
        Ok(())
    });
    deleted.await.unwrap();
    // The subscription first: without one the channel may be deleted again before anybody reads it.
    let mut subscription = client.subscribe("rested", durable()).await.unwrap();
    client.publish("rested", "new").await.unwrap();
    let message = timeout(PATIENCE, subscription.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((message.sequence, &*message.payload), (1, &b"new"[..]));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_reference_deletes_a_channel_that_nobody_uses() {
    let dir = tempfile::tempdir().unwrap();
    let server = StreamingServer::reference(dir.path(), &Store::Files).unwrap();
    deletes_and_begins_anew(server).await;
}

#[tokio::test]
async fn the_broker_deletes_a_channel_that_nobody_uses_from_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let server = StreamingServer::broker(dir.path(), &Store::Files).unwrap();
    deletes_and_begins_anew(server).await;
}

#[tokio::test]
async fn the_broker_deletes_a_channel_that_nobody_uses_from_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::shared().unwrap();
    let store = Store::sql_of_the_reference(dir.path(), &postgres).unwrap();
    let server = StreamingServer::broker(dir.path(), &store).unwrap();
    deletes_and_begins_anew(server).await;
}
