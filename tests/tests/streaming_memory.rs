//! What clients that come and go, and those who never were one, leave in the broker's memory: nothing that grows.

use std::time::Duration;

use broker_proto::streaming::{PubAck, SubscriptionRequest};
use futures_util::StreamExt as _;
use prost::Message as _;
use tests::{
    conversation::{Conversation, connect_request, pub_msg, subscription_request},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};

/// Rounds after which everything that is made once has been made.
const WARM_UP: usize = 4_000;
/// Rounds that are measured.
const ROUNDS: usize = 4_000;
/// Less than a client and two subscriptions for each round. What it is spent on is the broker's supply of recent
/// messages, which is bounded elsewhere.
const MOST_GROWTH_BYTES: usize = 2 << 20;

/// For one answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(dir: &tempfile::TempDir) -> StreamingServer {
    let mut server = StreamingServer::broker(dir.path(), &Store::Memory)
        .unwrap()
        .with_flags(["-max_msgs", "100"]);
    server.start().await.unwrap();
    server
}

/// A client connects, subscribes twice, publishes and closes.
async fn one_round(talk: &mut Conversation, round: usize) -> anyhow::Result<()> {
    let id = format!("client-{round}");
    talk.connect("connect", &connect_request(&id)).await;
    let plain = subscription_request(&id, "orders");
    let group = SubscriptionRequest {
        q_group: "g".to_owned(),
        ..plain.clone()
    };
    let heard = [
        talk.subscribe("plain", plain).await?,
        talk.subscribe("group", group).await?,
    ];
    anyhow::ensure!(
        heard.iter().all(Option::is_some),
        "a subscription was refused"
    );
    talk.publish("publish", &pub_msg(&id, "orders", "x")).await;
    talk.close("close", &id).await;
    Ok(())
}

#[tokio::test]
async fn clients_that_come_and_go_leave_nothing_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir).await;
    let mut talk = Conversation::begin(server.port()).await.unwrap();
    let mut rounds = 0..WARM_UP + ROUNDS;
    for round in rounds.by_ref().take(WARM_UP) {
        one_round(&mut talk, round).await.unwrap();
    }
    let before = server.resident_bytes().unwrap();
    for round in rounds {
        one_round(&mut talk, round).await.unwrap();
    }
    let growth = server.resident_bytes().unwrap().saturating_sub(before);
    println!("{ROUNDS} clients left {growth} of {before} bytes");
    assert!(growth < MOST_GROWTH_BYTES, "{growth} bytes");
    let lines = talk.into_lines();
    let refused: Vec<_> = lines.iter().filter(|line| line.contains("error")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Publishes from clients that were never there, each under an id and a connection of its own.
async fn publish_unknown(nats: &async_nats::Client, ids: std::ops::Range<usize>) {
    // Answers that are not read are in the server's memory too: never many, however late this side is.
    const AT_ONCE: usize = 100;
    let acks = nats.new_inbox();
    let mut answers = nats.subscribe(acks.clone()).await.unwrap();
    let subject = format!("_STAN.pub.{CLUSTER_ID}.orders");
    for first in ids.step_by(AT_ONCE) {
        for id in first..first + AT_ONCE {
            let message = pub_msg(&format!("unknown-{id}"), "orders", "x").encode_to_vec();
            nats.publish_with_reply(subject.clone(), acks.clone(), message.into())
                .await
                .unwrap();
        }
        nats.flush().await.unwrap();
        for _ in 0..AT_ONCE {
            let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
            let answer = answer.expect("each is answered").unwrap();
            let ack = PubAck::decode(answer.payload).unwrap();
            assert_eq!(ack.error, "stan: invalid publish request");
        }
    }
}

#[tokio::test]
async fn clients_that_never_were_there_leave_nothing_in_memory() {
    const EACH: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir).await;
    let nats = async_nats::connect(format!("nats://127.0.0.1:{}", server.port()))
        .await
        .unwrap();
    publish_unknown(&nats, 0..EACH).await;
    let before = server.resident_bytes().unwrap();
    publish_unknown(&nats, EACH..3 * EACH).await;
    let growth = server.resident_bytes().unwrap().saturating_sub(before);
    println!(
        "{} unknown clients left {growth} of {before} bytes",
        2 * EACH
    );
    assert!(growth < MOST_GROWTH_BYTES, "{growth} bytes");
}
