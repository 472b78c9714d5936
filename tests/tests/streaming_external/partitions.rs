//! Servers that share a cluster id and divide its channels, the reference among them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tests::{
    ports, programs,
    stan::{Client, PublishError, SubscribeOptions},
};

use super::stage::{Broker, Nats, READY, RELEASES, next};

const CONFLICT: &str = "causes conflict with channels on server";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Broker,
    Reference,
}

use Program::{Broker as Ours, Reference};

/// Every pair with one of ours.
const PAIRS: [[Program; 2]; 3] = [[Ours, Ours], [Ours, Reference], [Reference, Ours]];

/// A configuration that serves these channels only.
fn config(dir: &Path, channels: &[&str]) -> PathBuf {
    let path = dir.join(format!("stan-{}.conf", ports::free()));
    let channels: String = channels
        .iter()
        .map(|name| format!("\"{name}\": {{}}\n"))
        .collect();
    let text = format!(
        "streaming {{ partitioning: true\n store_limits {{ channels {{ {channels} }} }} }}"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Runs it on the NATS server, whatever becomes of it.
fn run(program: Program, nats: &Nats, dir: &Path, channels: &[&str]) -> Broker {
    let program = match program {
        Ours => programs::ours("stanchion-broker"),
        Reference => programs::tool("nats-streaming-server"),
    };
    let (url, config) = (nats.url(), config(dir, channels).display().to_string());
    Broker::run_program(&program.unwrap(), dir, &["-ns", &url, "-sc", &config])
}

async fn ready(program: Program, nats: &Nats, dir: &Path, channels: &[&str]) -> Broker {
    let mut server = run(program, nats, dir, channels);
    server.writes(READY).await;
    server
}

#[tokio::test]
async fn x02_servers_with_lists_of_their_own_serve_one_client_together() {
    for pair in PAIRS {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::started(dir.path(), RELEASES[0], "").await;
        let _one = ready(pair[0], &nats, dir.path(), &["foo"]).await;
        let _other = ready(pair[1], &nats, dir.path(), &["bar.*"]).await;
        let client = nats.client("me").await;
        for channel in ["foo", "bar.baz"] {
            client.publish(channel, channel).await.unwrap();
            let options = SubscribeOptions::from_first().durable("d");
            let mut subscription = client.subscribe(channel, options).await.unwrap();
            let delivery = next(&mut subscription).await.unwrap();
            assert_eq!(
                (delivery.sequence, &*delivery.payload),
                (1, channel.as_bytes())
            );
            subscription.ack(&delivery).await.unwrap();
            subscription.unsubscribe().await.unwrap();
        }
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn x01_a_channel_on_no_list_is_answered_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let _server = ready(Ours, &nats, dir.path(), &["foo"]).await;
    let options = nats.options("me").ack_wait(Duration::from_secs(1));
    let client = Client::connect(options).await.unwrap();
    client.publish("foo", "x").await.unwrap();
    let refused = client.publish("other", "x").await.unwrap_err();
    assert!(matches!(refused, PublishError::Unknown(_)), "{refused}");
}

#[tokio::test]
async fn x03_a_server_with_a_channel_of_another_one_refuses_to_start() {
    for pair in PAIRS {
        for (first, second) in [("foo", "foo"), ("foo.*", "foo.bar"), ("foo.bar", "foo.>")] {
            let dir = tempfile::tempdir().unwrap();
            let nats = Nats::started(dir.path(), RELEASES[0], "").await;
            let mut serving = ready(pair[0], &nats, dir.path(), &["a", first]).await;
            let output = run(pair[1], &nats, dir.path(), &["b", second])
                .fails()
                .await;
            assert!(output.contains(CONFLICT), "{pair:?} {output}");
            serving.check_alive();
        }
    }
}

#[tokio::test]
async fn x13_pings_and_the_replacement_of_durables_work_with_two_servers_that_answer() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let _one = ready(Ours, &nats, dir.path(), &["foo"]).await;
    let _other = ready(Reference, &nats, dir.path(), &["bar"]).await;
    let mut options = nats.options("me");
    options.ping_interval_secs = 1;
    let client = Client::connect(options).await.unwrap();
    // As many pings as make a client give up where they are not answered.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(client.lost(), None);
    for channel in ["foo", "bar"] {
        client.publish(channel, "x").await.unwrap();
        let durable = || SubscribeOptions::from_first().durable("d");
        let first = client.subscribe(channel, durable()).await.unwrap();
        first.close().await.unwrap();
        let mut again = client.subscribe(channel, durable()).await.unwrap();
        assert_eq!(next(&mut again).await.unwrap().sequence, 1);
    }
    // The same client anew: both servers let go of the one that no longer answers.
    drop(client);
    let client = nats.client("me").await;
    for channel in ["foo", "bar"] {
        client.publish(channel, "y").await.unwrap();
    }
}

/// Whoever hears of it first ends, and says so to the other unless that one has ended as well.
#[tokio::test]
async fn x09_a_conflict_that_shows_when_nats_servers_meet_ends_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let route = format!("127.0.0.1:{}", ports::free());
    let start = |channels: &[&str]| {
        let (port, cluster) = (ports::free().to_string(), ports::free());
        let config = config(dir.path(), channels).display().to_string();
        let cluster = format!("nats://127.0.0.1:{cluster}");
        let routes = format!("nats://{route}");
        let mut flags = vec!["-a", "127.0.0.1", "-p", &port, "-sc", &config];
        flags.extend([
            "-cluster_name",
            "c",
            "-cluster",
            &cluster,
            "-routes",
            &routes,
        ]);
        Broker::run(dir.path(), &flags)
    };
    let mut servers = [start(&["foo"]), start(&["foo.*", "foo"])];
    for server in &mut servers {
        server.writes(READY).await;
    }
    let meeting = format!("cluster {{ name: c, listen: \"{route}\" }}");
    let _nats = Nats::started(dir.path(), RELEASES[0], &meeting).await;
    let [one, other] = &mut servers;
    let output = tokio::select! {
        output = one.ends_with_failure() => output,
        output = other.ends_with_failure() => output,
    };
    assert!(output.contains(CONFLICT), "{output}");
}
