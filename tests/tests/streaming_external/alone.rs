//! Whether another server answers for the same cluster id.

use std::{path::Path, time::Duration};

use tests::{patience, ports, programs, stan::Client, stan::Options, streaming_server::CLUSTER_ID};

use super::stage::{Broker, CHANNEL, Nats, PATIENCE, RELEASES, stream};

const DISCOVERED: &str = "discovered another streaming server with cluster ID \"test-cluster\"";

#[tokio::test]
async fn n01_a_second_server_with_the_same_cluster_id_refuses_to_start() {
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::started(dir.path(), release, "").await;
        let mut first = Broker::on(&nats, dir.path(), &[]).await;
        let url = nats.url();
        // More than once: the first keeps nothing of who asked.
        for _ in 0..2 {
            let output = Broker::run(dir.path(), &["-ns", &url]).fails().await;
            assert!(output.contains(DISCOVERED), "{output}");
        }
        first.check_alive();
        stream(nats.options(CLUSTER_ID)).await.unwrap();
    }
}

#[tokio::test]
async fn n01_the_reference_and_the_broker_discover_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let (url, reference) = (nats.url(), programs::tool("nats-streaming-server").unwrap());
    let flags = ["-ns", &url];
    let run_reference = |dir: &Path| Broker::run_program(&reference, dir, &flags);

    let mut first = run_reference(dir.path());
    first.writes("Streaming Server is ready").await;
    let output = Broker::run(dir.path(), &flags).fails().await;
    assert!(output.contains(DISCOVERED), "{output}");
    first.stop().await;

    let _broker = Broker::on(&nats, dir.path(), &[]).await;
    let output = run_reference(dir.path()).fails().await;
    assert!(output.contains(DISCOVERED), "{output}");
}

/// Both embed their NATS servers, which have a route.
#[tokio::test]
async fn n01_the_check_reaches_over_routes() {
    let dir = tempfile::tempdir().unwrap();
    let (first_port, second_port) = (ports::free().to_string(), ports::free().to_string());
    let cluster = format!("nats://127.0.0.1:{}", ports::free());
    let other = format!("nats://127.0.0.1:{}", ports::free());
    let _first = Broker::ready(
        dir.path(),
        &[
            "-a",
            "127.0.0.1",
            "-p",
            &first_port,
            "-cluster",
            &cluster,
            "-cluster_name",
            "c",
        ],
    )
    .await;
    let flags = [
        "-a",
        "127.0.0.1",
        "-p",
        &second_port,
        "-cluster",
        &other,
        "-cluster_name",
        "c",
        "-routes",
        &cluster,
    ];
    let output = Broker::run(dir.path(), &flags).fails().await;
    assert!(output.contains(DISCOVERED), "{output}");
}

#[tokio::test]
async fn n02_two_cluster_ids_on_one_server_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let _one = Broker::on(&nats, dir.path(), &[]).await;
    let _two = Broker::on(&nats, dir.path(), &["-cid", "two"]).await;
    let options = |cluster| Options::new(&nats.url(), cluster, "me").ack_wait(PATIENCE);
    // Sequences begin at 1 in both, which `stream` sees.
    stream(options(CLUSTER_ID)).await.unwrap();
    stream(options("two")).await.unwrap();
}

/// The lock of the store says who serves; the one who waits for it asks nobody.
#[tokio::test]
async fn n01_a_standby_is_not_a_second_server() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let store = dir.path().join("store");
    let url = nats.url();
    let flags = [
        "-ns",
        &url,
        "-store",
        "FILE",
        "-dir",
        store.to_str().unwrap(),
    ];
    let first = Broker::ready(dir.path(), &flags).await;
    let mut second = Broker::run(dir.path(), &flags);
    second.writes("standby").await;
    let client = nats.client("me").await;
    client.publish(CHANNEL, "one").await.unwrap();
    // Killed, so that nothing of it is said to the NATS server but by the end of its connection.
    drop(first);
    second.writes("Streaming Server is ready").await;
    let published = patience::until("an acknowledgement", PATIENCE, async || {
        let sent = Client::publish(&client, CHANNEL, "two");
        tokio::time::timeout(Duration::from_secs(1), sent).await??;
        Ok(())
    });
    published.await.unwrap();
}
