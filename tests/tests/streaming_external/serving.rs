//! What applications rely on, where it could differ on an external server.

use std::time::{Duration, Instant};

use tests::stan::SubscribeOptions;

use super::stage::{Broker, CHANNEL, Nats, RELEASES, next};

/// Written before a close on one connection, so handled before it, however much there is.
#[tokio::test]
async fn publications_and_acks_before_a_close_count() {
    const MESSAGES: u64 = 2000;

    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::started(dir.path(), release, "").await;
        let _broker = Broker::on(&nats, dir.path(), &[]).await;
        let publisher = nats.client("publisher").await;
        for number in 0..MESSAGES {
            // Nobody waits for the acknowledgement.
            drop(
                publisher
                    .publish_async(CHANNEL, number.to_string())
                    .await
                    .unwrap(),
            );
        }
        publisher.close().await.unwrap();

        let reader = nats.client("reader").await;
        let durable = || {
            SubscribeOptions::from_first()
                .durable("d")
                .max_in_flight(5000)
        };
        let mut orders = reader.subscribe(CHANNEL, durable()).await.unwrap();
        for sequence in 1..=MESSAGES {
            let delivery = next(&mut orders).await.unwrap();
            assert_eq!(delivery.sequence, sequence);
            orders.ack(&delivery).await.unwrap();
        }
        orders.close().await.unwrap();
        reader.close().await.unwrap();

        let reader = nats.client("reader").await;
        let mut orders = reader.subscribe(CHANNEL, durable()).await.unwrap();
        reader.publish(CHANNEL, "last").await.unwrap();
        let delivery = next(&mut orders).await.unwrap();
        assert_eq!(
            (delivery.sequence, delivery.redelivered),
            (MESSAGES + 1, false)
        );
    }
}

/// The server's word that nobody listens is not taken for a sign of life, and not waited beyond.
#[tokio::test]
async fn the_id_of_a_client_that_has_gone_is_free_at_once() {
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::started(dir.path(), release, "").await;
        let _broker = Broker::on(&nats, dir.path(), &["-hbt", "120s"]).await;
        let gone = nats.client("me").await;
        gone.publish(CHANNEL, "one").await.unwrap();
        drop(gone);
        let began = Instant::now();
        let client = nats.client("me").await;
        client.publish(CHANNEL, "two").await.unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn messages_as_large_as_the_server_takes_pass() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], "max_payload: 4MB").await;
    let _broker = Broker::on(&nats, dir.path(), &[]).await;
    let client = nats.client("me").await;
    let options = SubscribeOptions::from_first();
    let mut orders = client.subscribe(CHANNEL, options).await.unwrap();
    for size in [0, 1, 70_000, 1 << 20, 4_000_000] {
        client.publish(CHANNEL, vec![b'x'; size]).await.unwrap();
        let delivery = next(&mut orders).await.unwrap();
        assert_eq!(delivery.payload.len(), size);
        orders.ack(&delivery).await.unwrap();
    }
}
