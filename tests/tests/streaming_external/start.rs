//! When the broker starts on external servers, and how it shows.

use std::net::TcpStream;

use anyhow::ensure;
use tests::{patience, ports, probe::get, stan::Options, streaming_server::CLUSTER_ID};

use super::stage::{Broker, Nats, PATIENCE, READY, RELEASES, stream};

#[tokio::test]
async fn n03_without_nats_the_start_fails_and_the_cause_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let port = ports::free();
    let url = format!("nats://127.0.0.1:{port}");
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let output = Broker::run(dir.path(), &["-ns", &url, "-l", log])
        .fails()
        .await;
    let cause =
        format!("no servers available for connection: 127.0.0.1:{port}: Connection refused");
    assert!(output.contains(&cause), "{output}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("[FTL]") && log.contains(&cause), "{log}");
}

#[tokio::test]
async fn n03_what_is_no_nats_server_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let url = format!("nats://127.0.0.1:{}", nats.monitor);
    let output = Broker::run(dir.path(), &["-ns", &url]).fails().await;
    assert!(
        output.contains("not a NATS server") || output.contains("no answer within 2s"),
        "{output}"
    );
}

#[tokio::test]
async fn n04_streaming_works_on_every_release_and_opens_no_port_of_its_own() {
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::started(dir.path(), release, "").await;
        let port = ports::free();
        let flags = ["-p", &port.to_string()];
        let mut broker = Broker::on(&nats, dir.path(), &flags).await;
        stream(nats.options("me")).await.unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(broker.stop().await.success());
        let output = broker.output();
        for line in ["Listening for client connections", "Starting nats-server"] {
            assert!(!output.contains(line), "{output}");
        }
    }
}

#[tokio::test]
async fn n05_urls_are_accepted_as_a_list_and_refused_without_scheme_or_port() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let (nowhere, port) = (ports::free(), nats.port);
    for url in [
        format!("nats://127.0.0.1:{port}"),
        format!("nats://127.0.0.1:{nowhere}, nats://127.0.0.1:{port}"),
        format!("127.0.0.1:{port},localhost:{nowhere}"),
        format!("nats://ignored:ignored@127.0.0.1:{port}"),
    ] {
        let mut broker = Broker::ready(dir.path(), &["-ns", &url]).await;
        assert!(broker.stop().await.success());
    }
    for url in [
        format!("127.0.0.1:{port}"),
        "nats://127.0.0.1".to_owned(),
        "127.0.0.1".to_owned(),
    ] {
        let output = Broker::run(dir.path(), &["-ns", &url]).fails().await;
        assert!(
            output.contains(&format!("malformed url: {url}")),
            "{output}"
        );
    }
}

#[tokio::test]
async fn n09_the_ready_line_comes_when_clients_are_answered_and_not_in_standby() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let store = dir.path().join("store");
    let flags = ["-store", "FILE", "-dir", store.to_str().unwrap()];
    let mut first = Broker::on(&nats, dir.path(), &flags).await;
    // Without a retry: there was somebody to answer from the first moment.
    let request = nats.options("me");
    stream(request).await.unwrap();

    let url = nats.url();
    let mut second = Broker::run(dir.path(), &[&["-ns", &url][..], &flags].concat());
    second.writes("standby").await;
    assert!(!second.output().contains(READY));
    // Nor does the one who waits answer anybody: this meets what the first has stored.
    stream(nats.options("other")).await.unwrap();
    assert!(first.stop().await.success());
    second.writes(READY).await;
    let client = nats.client("third").await;
    client.publish("other", "stored").await.unwrap();
}

/// The embedded server, for once.
#[tokio::test]
async fn n10_any_free_port_is_taken_and_told_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ready(dir.path(), &["-a", "127.0.0.1", "-p", "-1"]).await;
    let output = broker.output();
    let (_, address) = output
        .split_once("Listening for client connections on ")
        .unwrap();
    let url = format!("nats://{}", address.lines().next().unwrap());
    stream(Options::new(&url, CLUSTER_ID, "me").ack_wait(PATIENCE))
        .await
        .unwrap();
}

#[tokio::test]
async fn n15_the_connection_shows_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let _broker = Broker::on(&nats, dir.path(), &["-cid", "mine"]).await;
    let connections = nats.document("/connz").await.unwrap();
    let connections = connections["connections"].as_array().unwrap();
    let names: Vec<_> = connections.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["_NSS-mine-general"]);
}

#[tokio::test]
async fn monitoring_and_metrics_answer_on_our_own_ports() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let (monitor, metrics) = (ports::free(), ports::free());
    let flags = [
        "-m",
        &monitor.to_string(),
        "-metrics_port",
        &metrics.to_string(),
    ];
    let _broker = Broker::on(&nats, dir.path(), &flags).await;
    let client = nats.client("me").await;
    client.publish("orders", "one").await.unwrap();
    let channels = get(monitor, "/streaming/channelsz?channel=orders")
        .await
        .unwrap();
    assert!(channels.body.contains("\"msgs\": 1"), "{}", channels.body);
    let healthy = get(monitor, "/healthz").await.unwrap();
    assert_eq!(healthy.status, 200);
    // The NATS server of this process is there for its documents only, and idle.
    let varz = get(monitor, "/varz").await.unwrap();
    let varz: serde_json::Value = serde_json::from_str(&varz.body).unwrap();
    assert_eq!(
        (&varz["port"], &varz["connections"]),
        (&0.into(), &0.into())
    );
    let figures = get(metrics, "/metrics").await.unwrap();
    let counted = figures.body.lines().find(|line| {
        line.starts_with("nss_chan_msgs_total{") && line.contains("channel=\"orders\"")
    });
    assert!(
        counted.is_some_and(|line| line.ends_with(" 1")),
        "{}",
        figures.body
    );
}

#[tokio::test]
async fn a_reload_takes_over_streaming_and_warns_about_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let file = dir.path().join("stan.conf");
    let config = |rest: &str| format!("{rest}\nstreaming {{ ns: \"{}\" }}", nats.url());
    std::fs::write(&file, config("")).unwrap();
    let flags = ["-c", file.to_str().unwrap()];
    let mut broker = Broker::ready(dir.path(), &flags).await;
    let client = nats.client("me").await;
    client.publish("a", "one").await.unwrap();

    let limited = format!(
        "max_payload: 5000\nstreaming {{ ns: \"{}\", store_limits {{ max_channels: 1 }} }}",
        nats.url()
    );
    std::fs::write(&file, limited).unwrap();
    hang_up(&broker);
    broker.writes("Reloaded server configuration").await;
    let output = broker.output();
    let warning = "max_payload = 5000 has no effect: the NATS server is external";
    assert!(output.contains(warning), "{output}");
    let refused = patience::until("the limit holds", PATIENCE, async || {
        let refused = client.publish("b", "one").await;
        ensure!(refused.is_err());
        Ok(())
    });
    refused.await.unwrap();

    std::fs::write(&file, "streaming { ns: \"nats://127.0.0.1:1\" }").unwrap();
    hang_up(&broker);
    broker
        .writes("config reload not supported for nats_server")
        .await;
    client.publish("a", "two").await.unwrap();
}

fn hang_up(broker: &Broker) {
    let id = i32::try_from(broker.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
}
