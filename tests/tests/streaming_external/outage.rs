//! The external server goes away and comes back.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tests::{patience, ports, stan::SubscribeOptions};

use super::stage::{Broker, CHANNEL, Nats, PATIENCE, RELEASES, next};

#[tokio::test]
async fn n16_publishing_and_delivery_go_on_after_a_restart_and_nothing_acknowledged_is_lost() {
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let mut nats = Nats::started(dir.path(), release, "").await;
        let mut broker = Broker::on(&nats, dir.path(), &[]).await;
        let publisher = nats.client("publisher").await;
        let subscriber = nats.client("subscriber").await;
        let options = SubscribeOptions::from_first().ack_wait_secs(1);
        let mut orders = subscriber.subscribe(CHANNEL, options).await.unwrap();
        let mut stored = BTreeSet::new();
        for round in 0..3 {
            for number in 0..50 {
                let text = format!("{round}-{number}");
                let published = patience::until("an acknowledgement", PATIENCE, async || {
                    let sent = publisher.publish(CHANNEL, text.clone());
                    tokio::time::timeout(Duration::from_secs(1), sent).await??;
                    Ok(())
                });
                published.await.unwrap();
                stored.insert(text);
                if number == 25 && round < 2 {
                    nats.kill();
                    nats.start().await;
                }
            }
        }
        let mut delivered = BTreeSet::new();
        while delivered.len() < stored.len() {
            let delivery = next(&mut orders).await.unwrap();
            orders.ack(&delivery).await.unwrap();
            delivered.insert(String::from_utf8(delivery.payload.to_vec()).unwrap());
        }
        assert_eq!(delivered, stored);
        broker.check_alive();
        let output = broker.output();
        assert_eq!(
            output.matches("reconnected to NATS Server").count(),
            2,
            "{output}"
        );
        assert!(broker.stop().await.success());
    }
}

/// What could not be sent must not come in a burst afterwards: one redelivery, not one for each ack wait of
/// the outage.
#[tokio::test]
async fn n16_redeliveries_of_an_outage_do_not_arrive_all_at_once_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let _broker = Broker::on(&nats, dir.path(), &[]).await;
    let client = nats.client("me").await;
    let options = SubscribeOptions::from_first().ack_wait_secs(1);
    let mut orders = client.subscribe(CHANNEL, options).await.unwrap();
    client.publish(CHANNEL, "one").await.unwrap();
    next(&mut orders).await.unwrap();
    nats.kill();
    // As long as several ack waits.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let back = Instant::now();
    nats.start().await;
    assert!(next(&mut orders).await.unwrap().redelivered);
    let mut redeliveries = 1;
    // Less than an ack wait, so that this ends between two.
    let gap = Duration::from_millis(500);
    while let Ok(Some(_)) = tokio::time::timeout(gap, orders.next()).await {
        redeliveries += 1;
    }
    // One each ack wait since, and two whose time had come.
    let due = back.elapsed().as_secs() + 2;
    assert!(redeliveries <= due, "{redeliveries} instead of {due}");
}

#[tokio::test]
async fn another_server_of_the_cluster_takes_over_though_only_one_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let routes = [ports::free(), ports::free()];
    let cluster = |own: u16| {
        format!(
            "cluster {{ name: c, listen: \"127.0.0.1:{own}\", routes: [ \"nats://127.0.0.1:{}\", \"nats://127.0.0.1:{}\" ] }}",
            routes[0], routes[1]
        )
    };
    let mut first = Nats::started(dir.path(), RELEASES[0], &cluster(routes[0])).await;
    let mut broker = Broker::on(&first, dir.path(), &[]).await;
    // Told of while the connection stands.
    let second = Nats::started(dir.path(), RELEASES[0], &cluster(routes[1])).await;
    let joined = patience::until("both servers are told of", PATIENCE, async || {
        let varz = first.document("/varz").await?;
        let urls = varz["connect_urls"].as_array().map_or(0, Vec::len);
        ensure!(urls == 2, "{varz}");
        Ok(())
    });
    joined.await.unwrap();
    let client = second.client("me").await;
    client.publish(CHANNEL, "one").await.unwrap();
    first.kill();
    broker
        .writes(&format!(
            "reconnected to NATS Server at \"127.0.0.1:{}\"",
            second.port
        ))
        .await;
    let published = patience::until("an acknowledgement", PATIENCE, async || {
        let sent = client.publish(CHANNEL, "two");
        tokio::time::timeout(Duration::from_secs(1), sent).await??;
        Ok(())
    });
    published.await.unwrap();
}

#[tokio::test]
async fn a_stop_during_an_outage_does_not_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let mut broker = Broker::on(&nats, dir.path(), &[]).await;
    nats.kill();
    broker.writes("has been disconnected").await;
    // The server never comes back.
    assert!(broker.stop().await.success());
}
