//! Streaming clients of a plain nats-server that has a route to our broker, as there are where the
//! streaming server was one of a cluster.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use tests::{
    patience,
    stan::{Client, Delivery, Options, SubscribeOptions, Subscription},
    streaming_server::CLUSTER_ID,
};

use super::node::{Kind, Node, PATIENCE, routes};

const CHANNEL: &str = "orders";

async fn client(node: &Node, id: &str) -> Client {
    let url = format!("nats://127.0.0.1:{}", node.port);
    let options = Options::new(&url, CLUSTER_ID, id).ack_wait(PATIENCE);
    let connected = patience::until("a streaming server", PATIENCE, async || {
        Ok(Client::connect(options.clone()).await?)
    });
    connected.await.unwrap()
}

/// The next message, with its text.
async fn next(subscription: &mut Subscription) -> (Delivery, String) {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    let delivery = next.expect("a message").expect("a connection");
    let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
    (delivery, text)
}

/// Publishes until it is acknowledged: while the broker is away nobody does so.
async fn publish_at_last(client: &Client, text: &str) {
    let published = patience::until("an acknowledgement", PATIENCE, async || {
        let sent = client.publish(CHANNEL, text.to_owned());
        let acknowledged = tokio::time::timeout(Duration::from_secs(2), sent).await;
        Ok(acknowledged.context("none yet")??)
    });
    published.await.unwrap();
}

/// Reads messages from 1 on up to this number and acknowledges all but one. Any may come again meanwhile: its wait for
/// the acknowledgement is short beside what a busy machine needs.
async fn read_but(subscription: &mut Subscription, last: u64, left: u64) {
    let mut expected = 1..=last;
    let mut seen = BTreeSet::new();
    while seen.len() < usize::try_from(last).unwrap() {
        let (delivery, text) = next(subscription).await;
        let sequence = delivery.sequence;
        if seen.insert(sequence) {
            assert_eq!(Some(sequence), expected.next());
            assert!(!delivery.redelivered, "{delivery:?}");
        } else {
            assert!(delivery.redelivered, "{delivery:?}");
        }
        assert_eq!(text, sequence.to_string());
        if sequence != left {
            subscription.ack(&delivery).await.unwrap();
        }
    }
}

async fn streams_over_a_route(kind: Kind, broker_dials: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Node::plan_streaming(dir.path());
    let mut plain = Node::plan(kind, dir.path());
    let configs = match broker_dials {
        true => [routes(&[&plain], ""), "name: c".to_owned()],
        false => ["name: c".to_owned(), routes(&[&broker], "")],
    };
    broker.run(&configs[0], "").await;
    plain.run(&configs[1], "").await;

    let there = client(&plain, "there").await;
    let here = client(&broker, "here").await;
    let options = SubscribeOptions::from_first().durable("d").ack_wait_secs(1);
    let mut orders = there.subscribe(CHANNEL, options).await.unwrap();
    let mut beside = here
        .subscribe(CHANNEL, SubscribeOptions::from_first())
        .await
        .unwrap();
    for number in 1..=10 {
        there.publish(CHANNEL, number.to_string()).await.unwrap();
    }
    read_but(&mut orders, 10, 7).await;
    for number in 1..=10 {
        let (delivery, text) = next(&mut beside).await;
        assert_eq!((delivery.sequence, text), (number, number.to_string()));
        beside.ack(&delivery).await.unwrap();
    }
    let again = patience::until("the one that was left", PATIENCE, async || {
        let (again, _) = next(&mut orders).await;
        ensure!(again.redelivered, "{again:?}");
        orders.ack(&again).await?;
        ensure!(again.sequence == 7, "{again:?}");
        Ok(())
    });
    again.await.unwrap();

    broker.restart().await;
    // The client is known as before, and so is its subscription.
    publish_at_last(&there, "after").await;
    let got = patience::until("the new message", PATIENCE, async || {
        let (delivery, text) = next(&mut orders).await;
        orders.ack(&delivery).await?;
        ensure!(text == "after", "{delivery:?}");
        Ok(delivery)
    });
    assert!(got.await.unwrap().sequence >= 11);
    assert_eq!(there.lost(), None);
    orders.close().await.unwrap();
    there.close().await.unwrap();
}

#[tokio::test]
async fn streaming_goes_through_a_route_to_a_server_of_each_age() {
    tokio::join!(
        streams_over_a_route(Kind::New, true),
        streams_over_a_route(Kind::Old, false),
        streams_over_a_route(Kind::New, false),
    );
}
