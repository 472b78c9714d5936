//! Servers that share a cluster id and divide its channels, the reference among them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;
use broker_proto::streaming::{
    Ack, ConnectResponse, Ping, PingResponse, PubMsg, SubscriptionRequest, UnsubscribeRequest,
};
use futures_util::StreamExt as _;
use prost::Message;
use tests::{
    conversation::{Answer, Conversation, connect_request},
    patience, ports, programs,
    stan::{Client, Options, SubscribeOptions},
    streaming_server::CLUSTER_ID,
};

use super::stage::{Broker, Nats, PATIENCE, READY, RELEASES, next};

/// Before it is asked again whether both servers of a route hear a client.
const ROUTE: Duration = Duration::from_secs(2);

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

/// Each has a message of its own with the number 1, so that an acknowledgement would do for both.
#[tokio::test]
async fn x02_an_acknowledgement_counts_on_the_server_of_its_channel_only() {
    for pair in PAIRS {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::started(dir.path(), RELEASES[0], "").await;
        let _one = ready(pair[0], &nats, dir.path(), &["foo"]).await;
        let _other = ready(pair[1], &nats, dir.path(), &["bar"]).await;
        let client = nats.client("me").await;
        let durable = || SubscribeOptions::from_first().durable("d");
        for (channel, is_acked) in [("foo", true), ("bar", false)] {
            client.publish(channel, "x").await.unwrap();
            let mut subscription = client.subscribe(channel, durable()).await.unwrap();
            let delivery = next(&mut subscription).await.unwrap();
            assert_eq!(delivery.sequence, 1);
            if is_acked {
                subscription.ack(&delivery).await.unwrap();
            }
            subscription.close().await.unwrap();
        }
        for (channel, expected) in [("foo", 2), ("bar", 1)] {
            client.publish(channel, "y").await.unwrap();
            let mut again = client.subscribe(channel, durable()).await.unwrap();
            let delivery = next(&mut again).await.unwrap();
            assert_eq!(delivery.sequence, expected, "{pair:?} {channel}");
        }
    }
}

#[tokio::test]
async fn x01_what_is_asked_of_a_channel_on_no_list_is_answered_by_nobody() {
    tokio::join!(
        leaves_channels_alone(Ours),
        leaves_channels_alone(Reference)
    );
}

/// Publishes, subscriptions, their ends and acknowledgements that name a channel of nobody change nothing.
async fn leaves_channels_alone(program: Program) {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let _server = ready(program, &nats, dir.path(), &["foo"]).await;
    let mut talk = Conversation::begin(nats.port).await.unwrap();
    let subjects = registered(&mut talk).await;
    let publish = PubMsg {
        client_id: "raw".to_owned(),
        guid: "guid".to_owned(),
        subject: "other".to_owned(),
        conn_id: "conn-raw".into(),
        ..Default::default()
    };
    let subject = format!("{}.other", subjects.pub_prefix);
    let answer = talk.ask(&subject, publish.encode_to_vec()).await;
    assert_eq!(answer, Answer::NobodyListens, "{program:?}");

    let wanted = SubscriptionRequest {
        client_id: "raw".to_owned(),
        subject: "foo".to_owned(),
        max_in_flight: 1,
        ack_wait_in_secs: 3_600,
        durable_name: "d".to_owned(),
        start_position: 3,
        ..Default::default()
    };
    let opened = talk.subscribe("foo", wanted.clone()).await.unwrap();
    let mut listed = opened.expect("it is on the list");
    let client = nats.client("me").await;
    client.publish("foo", "x").await.unwrap();
    talk.hear("foo", &mut listed, 1).await.unwrap();

    let elsewhere = SubscriptionRequest {
        subject: "other".to_owned(),
        inbox: "inbox".to_owned(),
        ..wanted.clone()
    };
    let end = UnsubscribeRequest {
        client_id: "raw".to_owned(),
        subject: "other".to_owned(),
        inbox: listed.ack_inbox.clone(),
        durable_name: String::new(),
    };
    for (subject, request) in [
        (&subjects.sub_requests, elsewhere.encode_to_vec()),
        (&subjects.unsub_requests, end.encode_to_vec()),
        (&subjects.sub_close_requests, end.encode_to_vec()),
    ] {
        let answer = talk.ask(subject, request).await;
        assert_eq!(answer, Answer::Silence, "{program:?} {subject}");
    }
    let ack = Ack {
        subject: "other".to_owned(),
        sequence: 1,
    };
    let settled = talk.ask(&listed.ack_inbox, ack.encode_to_vec()).await;
    assert_eq!(settled, Answer::Silence, "{program:?}");
    // The subscription is there, and so is its message.
    let end = UnsubscribeRequest {
        subject: "foo".to_owned(),
        ..end
    };
    talk.end("close", true, &end).await;
    let opened = talk.subscribe("foo again", wanted).await.unwrap();
    let mut again = opened.expect("the durable is free again");
    let heard = talk.hear("foo again", &mut again, 1).await.unwrap();
    assert_eq!(heard[0].sequence, 1, "{program:?}");
    client.close().await.unwrap();
}

/// Registers the client `raw`.
async fn registered(talk: &mut Conversation) -> ConnectResponse {
    talk.connect("connect", &connect_request("raw")).await;
    let discover = format!("_STAN.discover.{CLUSTER_ID}");
    let other = connect_request("another").encode_to_vec();
    let Answer::Payload(answer) = talk.ask(&discover, other).await else {
        panic!("it is not answered");
    };
    ConnectResponse::decode(answer).unwrap()
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
    let client = nats.client("me").await;
    let request = connect_request("raw");
    let discover = format!("_STAN.discover.{CLUSTER_ID}");
    let [subjects, same]: [ConnectResponse; 2] = answers(client.nats(), &discover, &request).await;
    assert_eq!([subjects.error, same.error], ["", ""]);
    assert_eq!(subjects.ping_requests, same.ping_requests);
    let ping = Ping {
        conn_id: request.conn_id,
    };
    let pongs: [PingResponse; 2] = answers(client.nats(), &subjects.ping_requests, &ping).await;
    assert_eq!(pongs.map(|pong| pong.error), ["", ""]);
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

/// What both servers answer to one request.
async fn answers<A: Message + Default>(
    nats: &async_nats::Client,
    subject: &str,
    request: &impl Message,
) -> [A; 2] {
    let inbox = nats.new_inbox();
    let mut heard = nats.subscribe(inbox.clone()).await.unwrap();
    let payload = request.encode_to_vec().into();
    nats.publish_with_reply(subject.to_owned(), inbox, payload)
        .await
        .unwrap();
    let mut answers = [A::default(), A::default()];
    for answer in &mut answers {
        let message = tokio::time::timeout(PATIENCE, heard.next()).await;
        let message = message.expect("both answer").unwrap();
        *answer = A::decode(message.payload).unwrap();
    }
    answers
}

/// Runs one of ours on the NATS server inside of it, which listens for routes at a port of loopback and looks for one
/// at another.
fn run_embedded(dir: &Path, channels: &[&str], cluster: u16, route: u16) -> (Broker, u16) {
    let port = ports::free();
    let config = config(dir, channels).display().to_string();
    let listen = format!("nats://127.0.0.1:{cluster}");
    let routes = format!("nats://127.0.0.1:{route}");
    let port_flag = port.to_string();
    let mut flags = vec!["-a", "127.0.0.1", "-p", &port_flag, "-sc", &config];
    flags.extend(["-cluster_name", "c", "-cluster", &listen]);
    flags.extend(["-routes", &routes]);
    (Broker::run(dir, &flags), port)
}

/// Whoever hears of it first ends, and says so to the other unless that one has ended as well: one at least does, and
/// which of them, nobody can know.
async fn one_ends_at_least(servers: &mut [Broker; 2]) {
    let [one, other] = servers;
    let output = tokio::select! {
        output = one.ends_with_failure() => output,
        output = other.ends_with_failure() => output,
    };
    assert!(output.contains(CONFLICT), "{output}");
}

#[tokio::test]
async fn x09_a_conflict_that_shows_when_nats_servers_meet_ends_one_server_at_least() {
    let dir = tempfile::tempdir().unwrap();
    let route = ports::free();
    let start = |channels: &[&str]| run_embedded(dir.path(), channels, ports::free(), route).0;
    let mut servers = [start(&["foo"]), start(&["foo.*", "foo"])];
    for server in &mut servers {
        server.writes(READY).await;
    }
    let meeting = format!("cluster {{ name: c, listen: \"127.0.0.1:{route}\" }}");
    let _nats = Nats::started(dir.path(), RELEASES[0], &meeting).await;
    one_ends_at_least(&mut servers).await;
}

#[tokio::test]
async fn x09_a_conflict_ends_one_of_two_servers_that_a_route_joins_without_a_third() {
    let dir = tempfile::tempdir().unwrap();
    let ports = [ports::free(), ports::free()];
    let (mut waiting, _) = run_embedded(dir.path(), &["foo.*"], ports[0], ports[1]);
    waiting.writes(READY).await;
    let (coming, _) = run_embedded(dir.path(), &["foo.bar"], ports[1], ports[0]);
    one_ends_at_least(&mut [waiting, coming]).await;
}

#[tokio::test]
async fn x02_servers_that_a_route_joins_without_a_third_serve_one_client_together() {
    let dir = tempfile::tempdir().unwrap();
    let ports = [ports::free(), ports::free()];
    let mut servers = [
        run_embedded(dir.path(), &["foo.*"], ports[0], ports[1]),
        run_embedded(dir.path(), &["bar.*"], ports[1], ports[0]),
    ];
    for (server, _) in &mut servers {
        server.writes(READY).await;
    }
    for (_, port) in &servers {
        serves_the_channels_of_both(*port).await;
    }
}

/// A client of either NATS server reaches the channels of the one inside of it and of the other one.
async fn serves_the_channels_of_both(port: u16) {
    let url = format!("nats://127.0.0.1:{port}");
    let id = format!("client-{port}");
    let client = joined(&url, &id).await;
    for channel in [format!("foo.{port}"), format!("bar.{port}")] {
        client.publish(&channel, "x").await.unwrap();
        let durable = || SubscribeOptions::from_first().durable("d");
        let mut subscription = client.subscribe(&channel, durable()).await.unwrap();
        let delivery = next(&mut subscription).await.unwrap();
        assert_eq!((delivery.sequence, &*delivery.payload), (1, &b"x"[..]));
        subscription.ack(&delivery).await.unwrap();
        subscription.close().await.unwrap();
        client.publish(&channel, "y").await.unwrap();
        let mut again = client.subscribe(&channel, durable()).await.unwrap();
        let delivery = next(&mut again).await.unwrap();
        assert_eq!((delivery.sequence, &*delivery.payload), (2, &b"y"[..]));
        again.unsubscribe().await.unwrap();
    }
    client.close().await.unwrap();
}

/// A client that both servers know: they are ready before the route between them is.
async fn joined(url: &str, id: &str) -> Client {
    let nats = async_nats::connect(url).await.unwrap();
    let discover = format!("_STAN.discover.{CLUSTER_ID}");
    let both = patience::until("both servers hear a client", PATIENCE, async || {
        let inbox = nats.new_inbox();
        let mut heard = nats.subscribe(inbox.clone()).await?;
        // What is no request is answered with an error and registers nobody.
        nats.publish_with_reply(discover.clone(), inbox, "".into())
            .await?;
        for _ in 0..2 {
            let answer = tokio::time::timeout(ROUTE, heard.next()).await;
            ensure!(answer?.is_some_and(|answer| answer.status.is_none()), "one");
        }
        Ok(())
    });
    both.await.unwrap();
    let options = Options::new(url, CLUSTER_ID, id).ack_wait(PATIENCE);
    Client::connect(options).await.unwrap()
}
