//! The broker and the reference, asked the same things, answer the same: right requests, wrong ones,
//! and every way to begin, resume, share and end a subscription. Both on the NATS server inside of them, and both on
//! an external one.

use std::time::Duration;

use broker_proto::streaming::{
    ConnectRequest, PubMsg, StartPosition, SubscriptionRequest, UnsubscribeRequest,
};
use bytes::Bytes;
use tests::{
    conversation::{Answer, Conversation, Heard, connect_request, pub_msg, subscription_request},
    patience,
    streaming_server::{Store, StreamingServer},
};

/// No field has this number's wire type: no message decodes from it.
const NONSENSE: &[u8] = b"\xff\xff\xff";

/// For what must happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a streaming server stands on NATS: on the server inside of it, or on nats-server.
const WAYS: [Option<&str>; 2] = [None, Some("nats-server")];

/// Holds the same conversation with both, standing on NATS in every way, and compares the transcripts.
async fn alike(scenario: impl AsyncFn(&mut Conversation) -> anyhow::Result<()>) {
    for way in WAYS {
        println!("on {}", way.unwrap_or("the server inside"));
        alike_on(way, &scenario).await;
    }
}

async fn alike_on(
    nats: Option<&str>,
    scenario: &impl AsyncFn(&mut Conversation) -> anyhow::Result<()>,
) {
    let dir = tempfile::tempdir().unwrap();
    let mut transcripts = Vec::new();
    for name in ["reference", "broker"] {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut server = match name {
            "broker" => StreamingServer::broker(&dir, &Store::Files).unwrap(),
            _ => StreamingServer::reference(&dir, &Store::Files).unwrap(),
        };
        if let Some(release) = nats {
            server = server.on_nats(release).unwrap();
        }
        server.start().await.unwrap();
        let mut talk = Conversation::begin(server.port()).await.unwrap();
        if let Err(error) = scenario(&mut talk).await {
            panic!(
                "{name}: {error:#}; so far:\n{}",
                talk.into_lines().join("\n")
            );
        }
        transcripts.push(talk.into_lines());
    }
    let (reference, broker) = (&transcripts[0], &transcripts[1]);
    let differences: Vec<_> = reference
        .iter()
        .zip(broker)
        .filter(|(expected, got)| expected != got)
        .map(|(expected, got)| format!("reference  {expected}\nbroker     {got}"))
        .collect();
    println!("{}", reference.join("\n"));
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    assert_eq!(reference.len(), broker.len());
}

fn unsubscribe_request(client_id: &str, channel: &str, inbox: &str) -> UnsubscribeRequest {
    UnsubscribeRequest {
        client_id: client_id.to_owned(),
        subject: channel.to_owned(),
        inbox: inbox.to_owned(),
        durable_name: String::new(),
    }
}

/// Publishes the texts and notes that each was acknowledged.
async fn publish_all(talk: &mut Conversation, client_id: &str, channel: &str, texts: &[&str]) {
    for text in texts {
        talk.publish("publish", &pub_msg(client_id, channel, text))
            .await;
    }
}

/// Subscribes, which must succeed.
async fn subscribed(
    talk: &mut Conversation,
    label: &str,
    request: SubscriptionRequest,
) -> anyhow::Result<Heard> {
    let heard = talk.subscribe(label, request).await?;
    heard.ok_or_else(|| anyhow::anyhow!("{label} was refused"))
}

#[tokio::test]
async fn connect_requests_are_answered_alike() {
    alike(async |talk| {
        talk.connect("today's client", &connect_request("me")).await;
        let old = ConnectRequest {
            protocol: 0,
            conn_id: Bytes::new(),
            ..connect_request("old")
        };
        talk.connect("old client", &old).await;
        for (label, client_id) in [
            ("empty id", ""),
            ("id with a dot", "a.b"),
            ("id with a space", "a b"),
            ("id with a newline", "a\n"),
            ("id outside ASCII", "\u{e9}"),
            ("id with all that is allowed", "aZ09-_"),
        ] {
            talk.connect(label, &connect_request(client_id)).await;
        }
        let inboxless = ConnectRequest {
            heartbeat_inbox: String::new(),
            ..connect_request("inboxless")
        };
        talk.connect("no heartbeat inbox", &inboxless).await;
        talk.connect_bytes("nonsense", NONSENSE).await;
        talk.connect_bytes("nothing", "").await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_client_id_belongs_to_whoever_answers_heartbeats() {
    alike(async |talk| {
        let first = connect_request("me");
        let alive = talk.keep_alive(&first.heartbeat_inbox).await?;
        talk.connect("first", &first).await;
        let second = ConnectRequest {
            heartbeat_inbox: "heartbeats.second".to_owned(),
            conn_id: Bytes::from_static(b"conn-second"),
            ..connect_request("me")
        };
        talk.connect("second, the first lives", &second).await;
        talk.ping("ping of the first", "conn-me").await;
        drop(alive);
        // The end of the task reaches the server a little later.
        patience::until("nobody answers heartbeats", PATIENCE, async || {
            let answer = talk.ask(&first.heartbeat_inbox, "").await;
            anyhow::ensure!(answer == Answer::NobodyListens, "{answer:?}");
            Ok(())
        })
        .await?;
        talk.connect("second, the first is dead", &second).await;
        talk.ping("ping of the replaced", "conn-me").await;
        talk.ping("ping of the second", "conn-second").await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn publishes_are_acknowledged_or_refused_alike() {
    alike(async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        talk.publish("right", &pub_msg("me", "orders", "1")).await;
        let by_id = PubMsg {
            conn_id: Bytes::new(),
            ..pub_msg("me", "orders", "2")
        };
        talk.publish("by client id", &by_id).await;
        let by_connection = PubMsg {
            client_id: "other".to_owned(),
            ..pub_msg("me", "orders", "3")
        };
        talk.publish("by connection id", &by_connection).await;
        talk.publish("unknown", &pub_msg("nobody", "orders", "4"))
            .await;
        let unknown_id = PubMsg {
            conn_id: Bytes::new(),
            ..pub_msg("nobody", "orders", "5")
        };
        talk.publish("unknown client id", &unknown_id).await;
        let guidless = PubMsg {
            guid: String::new(),
            ..pub_msg("me", "orders", "6")
        };
        talk.publish("no guid", &guidless).await;
        for channel in [
            "", ".", "a.", ".a", "a..b", "a.b", "*", "a.*", ">", "a.>", "a*b", "a>b", "a b",
            "a\tb", "a/b", "a\\b", "\u{e9}",
        ] {
            let label = format!("channel {channel:?}");
            talk.publish(&label, &pub_msg("me", channel, "x")).await;
        }
        talk.publish_bytes("nonsense", NONSENSE).await;
        talk.publish_bytes("nothing", "").await;
        let long = "x".repeat(100_000);
        let large = PubMsg {
            guid: "large".to_owned(),
            ..pub_msg("me", "orders", &long)
        };
        talk.publish("large", &large).await;
        let empty = PubMsg {
            guid: "empty".to_owned(),
            ..pub_msg("me", "orders", "")
        };
        talk.publish("empty", &empty).await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn subscription_requests_are_refused_alike() {
    alike(async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        publish_all(talk, "me", "orders", &["1", "2"]).await;
        let right = || subscription_request("me", "orders");
        type Change = fn(&mut SubscriptionRequest);
        let wrong: [(&str, Change); 13] = [
            ("no client", |r| r.client_id.clear()),
            ("unknown client", |r| r.client_id = "nobody".to_owned()),
            ("no ack wait", |r| r.ack_wait_in_secs = 0),
            ("negative ack wait", |r| r.ack_wait_in_secs = -1),
            ("nothing in flight", |r| r.max_in_flight = 0),
            ("start position 5", |r| r.start_position = 5),
            ("start position -1", |r| r.start_position = -1),
            ("no channel", |r| r.subject.clear()),
            ("wildcard", |r| r.subject = "orders.*".to_owned()),
            ("full wildcard", |r| r.subject = ">".to_owned()),
            ("bad channel", |r| r.subject = "a..b".to_owned()),
            ("durable group with a colon", |r| {
                r.durable_name = "a:b".to_owned();
                r.q_group = "g".to_owned();
            }),
            ("several faults", |r| {
                r.client_id.clear();
                r.ack_wait_in_secs = 0;
                r.subject.clear();
            }),
        ];
        for (label, change) in wrong {
            let mut request = right();
            change(&mut request);
            talk.subscribe(label, request).await?;
        }
        talk.subscribe_bytes("nonsense", NONSENSE).await;
        talk.subscribe_bytes("nothing", "").await;
        let durable = || SubscriptionRequest {
            durable_name: "d".to_owned(),
            ..right()
        };
        talk.subscribe("durable", durable()).await?;
        talk.subscribe("the same durable", durable()).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn every_start_position_begins_alike() {
    alike(async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        publish_all(talk, "me", "orders", &["1", "2", "3", "4"]).await;
        let from = |position: StartPosition| SubscriptionRequest {
            start_position: position.into(),
            ..subscription_request("me", "orders")
        };
        let from_sequence = |start_sequence| SubscriptionRequest {
            start_sequence,
            ..from(StartPosition::SequenceStart)
        };
        let from_ago = |ago: Duration| SubscriptionRequest {
            start_time_delta: i64::try_from(ago.as_nanos()).unwrap(),
            ..from(StartPosition::TimeDeltaStart)
        };
        for (label, request, count) in [
            ("first", from(StartPosition::First), 4),
            ("last", from(StartPosition::LastReceived), 1),
            ("new only", from(StartPosition::NewOnly), 0),
            ("sequence 0", from_sequence(0), 4),
            ("sequence 3", from_sequence(3), 2),
            ("sequence 4", from_sequence(4), 1),
            ("an hour ago", from_ago(Duration::from_secs(3600)), 4),
        ] {
            let mut heard = subscribed(talk, label, request).await?;
            talk.hear(label, &mut heard, count).await?;
            let end = unsubscribe_request("me", "orders", &heard.ack_inbox);
            talk.end("unsubscribe", false, &end).await;
        }
        // An empty channel knows neither a first nor a last message.
        for (label, position) in [
            ("first of nothing", StartPosition::First),
            ("last of nothing", StartPosition::LastReceived),
            ("new of nothing", StartPosition::NewOnly),
        ] {
            let request = SubscriptionRequest {
                subject: "empty".to_owned(),
                ..from(position)
            };
            let mut heard = subscribed(talk, label, request).await?;
            talk.hear(label, &mut heard, 0).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_alike() {
    alike(async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        publish_all(talk, "me", "orders", &["1", "2", "3"]).await;
        let request = SubscriptionRequest {
            max_in_flight: 2,
            ack_wait_in_secs: 3,
            ..subscription_request("me", "orders")
        };
        let mut heard = subscribed(talk, "two in flight", request).await?;
        let first = talk.hear("the window is full", &mut heard, 2).await?;
        talk.ack(&heard, &first[0]).await?;
        let third = talk.hear("room for one", &mut heard, 1).await?;
        talk.ack(&heard, &third[0]).await?;
        let again = talk.hear("after the ack wait", &mut heard, 1).await?;
        let again_counted = talk.hear("once more", &mut heard, 1).await?;
        talk.ack(&heard, &again[0]).await?;
        talk.ack(&heard, &again_counted[0]).await?;
        let strange = pub_msg("me", "orders", "4");
        talk.publish("one more", &strange).await;
        talk.hear("goes on", &mut heard, 1).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn durables_keep_their_position_alike() {
    alike(async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        publish_all(talk, "me", "orders", &["1", "2", "3"]).await;
        let durable = || SubscriptionRequest {
            durable_name: "d".to_owned(),
            ..subscription_request("me", "orders")
        };
        let mut heard = subscribed(talk, "durable", durable()).await?;
        let messages = talk.hear("everything", &mut heard, 3).await?;
        talk.ack(&heard, &messages[0]).await?;
        let end = unsubscribe_request("me", "orders", &heard.ack_inbox);
        talk.end("close", true, &end).await;
        talk.end("close again", true, &end).await;
        publish_all(talk, "me", "orders", &["4"]).await;

        let resumed = SubscriptionRequest {
            start_position: StartPosition::NewOnly.into(),
            ..durable()
        };
        let mut heard = subscribed(talk, "resumed, start position ignored", resumed).await?;
        for message in talk.hear("pending and new", &mut heard, 3).await? {
            talk.ack(&heard, &message).await?;
        }
        talk.close("client leaves", "me").await;
        talk.ping("ping after close", "conn-me").await;
        talk.publish("publish after close", &pub_msg("me", "orders", "5"))
            .await;

        talk.connect("client is back", &connect_request("me")).await;
        publish_all(talk, "me", "orders", &["6"]).await;
        let mut heard = subscribed(talk, "resumed by the next connection", durable()).await?;
        talk.hear("only the new one", &mut heard, 1).await?;
        let end = unsubscribe_request("me", "orders", &heard.ack_inbox);
        talk.end("unsubscribe", false, &end).await;
        let mut heard = subscribed(talk, "begins anew", durable()).await?;
        talk.hear("everything again", &mut heard, 5).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn queue_groups_share_alike() {
    alike(async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        talk.connect("connect", &connect_request("you")).await;
        let member = |client_id: &str, channel: &str, durable_name: &str| SubscriptionRequest {
            q_group: "g".to_owned(),
            durable_name: durable_name.to_owned(),
            ..subscription_request(client_id, channel)
        };
        for (channel, durable_name, left_for_third) in [("plain", "", 3), ("lasting", "d", 1)] {
            talk.note(format!("group {durable_name:?}"));
            publish_all(talk, "me", channel, &["a", "b"]).await;
            let mut first = subscribed(talk, "first", member("me", channel, durable_name)).await?;
            for message in talk.hear("alone", &mut first, 2).await? {
                talk.ack(&first, &message).await?;
            }
            let mut second =
                subscribed(talk, "second", member("you", channel, durable_name)).await?;
            talk.hear("nothing is left for the second", &mut second, 0)
                .await?;
            let end = unsubscribe_request("me", channel, &first.ack_inbox);
            talk.end("the first closes", true, &end).await;
            publish_all(talk, "me", channel, &["c"]).await;
            let left = talk.hear("the second is alone", &mut second, 1).await?;
            talk.note(format!("and {} comes unacknowledged", left.len()));
            let end = unsubscribe_request("you", channel, &second.ack_inbox);
            talk.end("the second closes", true, &end).await;
            let last = subscribed(talk, "a third", member("me", channel, durable_name)).await?;
            let mut last = last;
            talk.hear(
                "a group ends with its last member, a durable one does not",
                &mut last,
                left_for_third,
            )
            .await?;
            let end = unsubscribe_request("me", channel, &last.ack_inbox);
            talk.end("unsubscribe", false, &end).await;
            talk.note("next");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn ends_of_subscriptions_and_clients_are_refused_alike() {
    alike(async |talk| {
        talk.connect("connect", &connect_request("me")).await;
        talk.connect("connect", &connect_request("you")).await;
        publish_all(talk, "me", "orders", &["1"]).await;
        let heard = subscribed(talk, "subscribe", subscription_request("me", "orders")).await?;
        for keep in [false, true] {
            talk.note(format!("keep {keep}"));
            let right = unsubscribe_request("me", "orders", &heard.ack_inbox);
            let unknown_channel = UnsubscribeRequest {
                subject: "nowhere".to_owned(),
                ..right.clone()
            };
            let unknown_inbox = UnsubscribeRequest {
                inbox: "nobody".to_owned(),
                ..right.clone()
            };
            let unknown_client = UnsubscribeRequest {
                client_id: "nobody".to_owned(),
                ..right.clone()
            };
            let not_the_owner = UnsubscribeRequest {
                client_id: "you".to_owned(),
                ..right.clone()
            };
            talk.end("unknown channel", keep, &unknown_channel).await;
            talk.end("unknown inbox", keep, &unknown_inbox).await;
            talk.end("unknown client", keep, &unknown_client).await;
            talk.end("somebody else's", keep, &not_the_owner).await;
            talk.end_bytes("nonsense", keep, NONSENSE).await;
            talk.end_bytes("nothing", keep, "").await;
        }
        let by_delivery_inbox = unsubscribe_request("me", "orders", &heard.inbox);
        talk.end("by the delivery inbox", false, &by_delivery_inbox)
            .await;
        talk.close("unknown client", "nobody").await;
        talk.close_bytes("nonsense", NONSENSE).await;
        talk.close_bytes("nothing", "").await;
        talk.ping("known", "conn-me").await;
        talk.ping("unknown", "conn-nobody").await;
        talk.ping_bytes("nonsense", NONSENSE).await;
        talk.ping_bytes("nothing", "").await;
        talk.close("close", "me").await;
        talk.close("close again", "me").await;
        Ok(())
    })
    .await;
}
