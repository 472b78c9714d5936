//! The edges of what a client may do, over the wire, at the broker and at the reference: the largest message, the
//! last channel and subscription that are allowed, the oldest message that is kept, another cluster's name.

use std::time::Duration;

use broker_proto::streaming::{PubMsg, SubscriptionRequest};
use prost::Message as _;
use tests::{
    conversation::{Answer, Conversation, connect_request, pub_msg, subscription_request},
    patience,
    streaming_server::{Store, StreamingServer},
};

/// Messages of one connection to nats-server and to the broker, unless configured otherwise.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// For what must happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds the conversation with both servers, started with these flags.
async fn both(flags: &[&str], talk: impl AsyncFn(&mut Conversation) -> anyhow::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["reference", "broker"] {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let server = match name {
            "broker" => StreamingServer::broker(&dir, &Store::Memory).unwrap(),
            _ => StreamingServer::reference(&dir, &Store::Memory).unwrap(),
        };
        let mut server = server.with_flags(flags.iter().copied());
        server.start().await.unwrap();
        let mut conversation = Conversation::begin(server.port()).await.unwrap();
        if let Err(error) = talk(&mut conversation).await {
            let lines = conversation.into_lines().join("\n");
            panic!("{name}: {error:#}; so far:\n{lines}");
        }
    }
}

/// Fails unless the last line ends so.
fn expect(talk: &mut Conversation, end: &str) -> anyhow::Result<()> {
    let last = talk.lines().last().cloned().unwrap_or_default();
    anyhow::ensure!(last.ends_with(end), "{last:?} does not end with {end:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_as_large_as_the_connection_takes_passes_from_end_to_end() {
    both(&[], async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        let request = subscription_request("me", "orders");
        let mut heard = talk.subscribe("subscribe", request).await?.unwrap();
        let mut message = PubMsg {
            guid: "large".to_owned(),
            ..pub_msg("me", "orders", "")
        };
        // Three bytes for the length of the data, and one for its tag.
        let left = MAX_PAYLOAD_BYTES - message.encoded_len() - 4;
        message.data = vec![b'x'; left].into();
        anyhow::ensure!(message.encoded_len() == MAX_PAYLOAD_BYTES);
        talk.publish("largest", &message).await;
        expect(talk, "ok")?;
        let received = talk.hear("largest", &mut heard, 1).await?;
        anyhow::ensure!(received[0].data == message.data);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn nobody_answers_for_another_cluster() {
    both(&[], async |talk| {
        let request = connect_request("me").encode_to_vec();
        let answer = talk.ask("_STAN.discover.another-cluster", request).await;
        anyhow::ensure!(answer == Answer::NobodyListens, "{answer:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn no_more_channels_and_subscriptions_than_allowed() {
    both(&["-max_channels", "1", "-max_subs", "1"], async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        talk.publish("first channel", &pub_msg("me", "one", "x"))
            .await;
        expect(talk, "ok")?;
        talk.publish("second channel", &pub_msg("me", "two", "x"))
            .await;
        expect(talk, "error \"too many channels\"")?;
        let too_many = "error \"too many subscriptions per channel\", ack inbox absent";
        let durable = SubscriptionRequest {
            durable_name: "d".to_owned(),
            ..subscription_request("me", "one")
        };
        talk.subscribe("first", durable.clone()).await?.unwrap();
        for (q_group, durable_name) in [("", ""), ("", "e"), ("g", ""), ("g", "d")] {
            let request = SubscriptionRequest {
                q_group: q_group.to_owned(),
                durable_name: durable_name.to_owned(),
                ..durable.clone()
            };
            talk.subscribe("one too many", request).await?;
            expect(talk, too_many)?;
        }
        talk.close("close", "me").await;
        talk.connect("again", &connect_request("me")).await;
        talk.subscribe("another", subscription_request("me", "one"))
            .await?;
        expect(talk, too_many)?;
        anyhow::ensure!(talk.subscribe("resumed", durable).await?.is_some());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_oldest_messages_go_first() {
    both(&["-max_msgs", "3"], async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        for number in 1..=5 {
            talk.publish("publish", &pub_msg("me", "orders", &number.to_string()))
                .await;
            expect(talk, "ok")?;
        }
        let request = subscription_request("me", "orders");
        let mut heard = talk.subscribe("subscribe", request).await?.unwrap();
        let received = talk.hear("the last three", &mut heard, 3).await?;
        let sequences: Vec<u64> = received.iter().map(|message| message.sequence).collect();
        anyhow::ensure!(sequences == [3, 4, 5], "{sequences:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn old_messages_go_and_the_sequence_goes_on() {
    both(&["-max_age", "1s"], async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        talk.publish("publish", &pub_msg("me", "orders", "1")).await;
        let mut published = 1;
        // A subscription made when it has gone gets the next message only.
        patience::until("it is gone", PATIENCE, async || {
            let request = subscription_request("me", "orders");
            let mut heard = talk.subscribe("subscribe", request).await?.unwrap();
            let gone = talk.hear("nothing", &mut heard, 0).await;
            let line = talk.lines().last().cloned().unwrap_or_default();
            anyhow::ensure!(gone.is_ok() && line == "nothing:", "{line}");
            talk.publish("publish", &pub_msg("me", "orders", "next"))
                .await;
            published += 1;
            // Another one if the oldest only came so late that it seemed to have gone.
            let received = talk.hear("the next", &mut heard, 1).await?;
            anyhow::ensure!(received[0].sequence == published);
            Ok(())
        })
        .await
    })
    .await;
}
