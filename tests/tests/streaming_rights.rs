//! Streaming under everything that a configuration may demand of clients: TLS, a password, permissions.
//!
//! Requests, deliveries and acknowledgements of streaming are plain messages, so that rights hold for
//! them as for any other, those to what was stored earlier included.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use broker_proto::streaming::{StartPosition, SubscriptionRequest, SubscriptionResponse};
use certs::profile::Profile;
use futures_util::StreamExt as _;
use prost::Message as _;
use tests::{
    certificates::Certificates,
    ports,
    process::Process,
    programs,
    stan::{Client, Options, PublishError, SubscribeOptions},
};

const CLUSTER: &str = "test-cluster";
/// For a start, or an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// For an answer that must not come. One that is allowed takes a thousandth of it.
const IN_VAIN: Duration = Duration::from_millis(700);

/// The subjects that a streaming client of channel `orders` needs, whatever it does there.
const PERMISSIONS: &str = r#"{
  publish: [ "_STAN.discover.test-cluster", "_STAN.discover.test-cluster.pings",
    "_STAN.pub.test-cluster.orders", "_STAN.sub.test-cluster", "_STAN.unsub.test-cluster",
    "_STAN.subclose.test-cluster", "_STAN.close.test-cluster", "_INBOX.>" ]
  subscribe: { allow: "_INBOX.>", deny: "_INBOX.withheld.>" }
}"#;

struct Broker {
    _process: Process,
    port: u16,
}

impl Broker {
    async fn start(dir: &Path, config: &str) -> anyhow::Result<Self> {
        let file = dir.join("broker.conf");
        fs::write(&file, config)?;
        let port = ports::free();
        let mut command = Command::new(programs::ours("stanchion-broker")?);
        command
            .args([
                "-cluster_id",
                CLUSTER,
                "-a",
                "127.0.0.1",
                "-store",
                "MEMORY",
            ])
            .args(["-p", &port.to_string(), "-c"])
            .arg(&file);
        let mut process = Process::start("broker", &mut command, &dir.join("broker.log"))?;
        process
            .writes("Streaming Server is ready", PATIENCE)
            .await?;
        Ok(Self {
            _process: process,
            port,
        })
    }

    fn options(&self, id: &str) -> Options {
        Options::new(&format!("nats://localhost:{}", self.port), CLUSTER, id).ack_wait(PATIENCE)
    }
}

/// Publishes, reads what is stored and what comes, acknowledges, comes back to a durable.
async fn stream(options: Options) -> anyhow::Result<()> {
    let client = Client::connect(options).await?;
    client.publish("orders", "one").await?;
    for expected in [1, 2] {
        let from_first = SubscribeOptions::from_first().durable("d");
        let mut orders = client.subscribe("orders", from_first).await?;
        if expected == 2 {
            client.publish("orders", "two").await?;
        }
        let next = tokio::time::timeout(PATIENCE, orders.next()).await;
        let delivery = next.context("nothing comes")?.context("closed")?;
        ensure!(delivery.sequence == expected, "{delivery:?}");
        orders.ack(&delivery).await?;
        orders.close().await?;
    }
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn streaming_works_under_tls_alone() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(dir.path()).unwrap();
    let server = certificates.grant("server", Profile::Server).unwrap();
    let client = certificates.grant("client", Profile::Client).unwrap();
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        server.cert, server.key, server.ca
    );
    let broker = Broker::start(dir.path(), &config).await.unwrap();
    let options = broker.options("covered").tls(client);
    stream(options).await.unwrap();
}

#[tokio::test]
async fn streaming_works_for_users_with_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let config = "authorization { user: joe, password: s3cret }";
    let broker = Broker::start(dir.path(), config).await.unwrap();
    stream(broker.options("joe").login("joe", "s3cret"))
        .await
        .unwrap();
}

fn users() -> String {
    format!(
        "authorization {{ users: [\n{{ user: all, password: x }}\n\
         {{ user: orders, password: x, permissions: {PERMISSIONS} }}\n] }}"
    )
}

#[tokio::test]
async fn streaming_works_with_rights_to_the_own_subjects_only() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), &users()).await.unwrap();
    stream(broker.options("restricted").login("orders", "x"))
        .await
        .unwrap();

    // Another channel is another subject.
    let options = broker
        .options("restricted")
        .login("orders", "x")
        .ack_wait(IN_VAIN);
    let restricted = Client::connect(options).await.unwrap();
    let denied = restricted.publish("audit", "forged").await.unwrap_err();
    assert!(matches!(denied, PublishError::Unknown { .. }), "{denied}");
    let all = Client::connect(broker.options("all").login("all", "x"))
        .await
        .unwrap();
    all.publish("audit", "genuine").await.unwrap();
    let from_first = SubscribeOptions::from_first();
    let mut audit = all.subscribe("audit", from_first).await.unwrap();
    let first = audit.next().await.unwrap();
    assert_eq!((first.sequence, &first.payload[..]), (1, &b"genuine"[..]));
}

#[tokio::test]
async fn nobody_reads_the_streaming_subjects_of_others_without_the_right_to() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), &users()).await.unwrap();
    let spy = Client::connect(broker.options("spy").login("orders", "x"))
        .await
        .unwrap();
    let mut heard = Vec::new();
    for subject in ["_STAN.>", "_STAN.pub.>", ">", "*.pub.test-cluster.audit"] {
        heard.push(spy.nats().subscribe(subject).await.unwrap());
        let group = spy.nats().queue_subscribe(subject, "g".to_owned());
        heard.push(group.await.unwrap());
    }
    spy.nats().flush().await.unwrap();
    stream(broker.options("victim").login("all", "x"))
        .await
        .unwrap();
    // What was heard would have come before the answer to this.
    spy.publish("orders", "mine").await.unwrap();
    for mut subscription in heard {
        let next = tokio::time::timeout(Duration::from_millis(10), subscription.next()).await;
        assert!(!matches!(next, Ok(Some(_))), "{next:?}");
    }
}

#[tokio::test]
async fn what_may_not_be_received_live_is_not_replayed_either() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), &users()).await.unwrap();
    let all = Client::connect(broker.options("all").login("all", "x"))
        .await
        .unwrap();
    for text in ["one", "two"] {
        all.publish("orders", text).await.unwrap();
    }
    let restricted = Client::connect(broker.options("restricted").login("orders", "x"))
        .await
        .unwrap();
    let nats = restricted.nats();
    // Covers the inboxes that are withheld, so that only each delivery shows it.
    let mut inboxes = nats.subscribe("_INBOX.>").await.unwrap();
    for inbox in ["_INBOX.withheld.x", "_INBOX.open.x"] {
        let request = SubscriptionRequest {
            client_id: "restricted".to_owned(),
            subject: "orders".to_owned(),
            inbox: inbox.to_owned(),
            max_in_flight: 10,
            ack_wait_in_secs: 30,
            start_position: StartPosition::First.into(),
            ..SubscriptionRequest::default()
        };
        let answer = nats
            .request("_STAN.sub.test-cluster", request.encode_to_vec().into())
            .await
            .unwrap();
        let answer = SubscriptionResponse::decode(answer.payload).unwrap();
        assert_eq!(answer.error, "");
    }
    all.publish("orders", "three").await.unwrap();
    let mut open = 0;
    while open < 3 {
        let next = tokio::time::timeout(PATIENCE, inboxes.next()).await;
        let subject = next.expect("three to come").unwrap().subject;
        assert!(!subject.starts_with("_INBOX.withheld"), "{subject}");
        open += usize::from(subject.as_str() == "_INBOX.open.x");
    }
    while let Ok(Some(late)) = tokio::time::timeout(IN_VAIN, inboxes.next()).await {
        assert!(
            !late.subject.starts_with("_INBOX.withheld"),
            "{}",
            late.subject
        );
    }
}
