//! Monitoring documents of the broker have the members of the reference's, of the same kinds, and the
//! same values where these do not differ from run to run.

use std::collections::BTreeMap;

use broker_store::conformance::postgres_server::PostgresServer;
use serde_json::Value;
use tests::{
    probe,
    stan::{Client, Options, SubscribeOptions},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};

/// Streaming documents: everything in them is compared.
const STREAMING: [&str; 9] = [
    "/streaming/serverz",
    "/streaming/storez",
    "/streaming/clientsz",
    "/streaming/clientsz?subs=1",
    "/streaming/clientsz?client=me&subs=1",
    "/streaming/channelsz",
    "/streaming/channelsz?subs=1",
    "/streaming/channelsz?channel=orders&subs=1",
    "/streaming/channelsz?limit=1&offset=1",
];

/// Documents of the NATS server that the broker has: members that both have are of the same kind.
const NATS: [&str; 1] = ["/varz"];

/// Members whose values differ from run to run: identities, clocks, what a process has
/// open, and who made the program.
const VARYING: [&str; 12] = [
    "server_id",
    "version",
    "go_version",
    "go",
    "now",
    "start_time",
    "uptime",
    "hb_inbox",
    "inbox",
    "ack_inbox",
    "created",
    "open_fds",
];

/// A store with a lock makes what the reference calls fault tolerance, and ours always has one.
const DELIBERATE: (&str, &str) = ("/streaming/serverz", ".state");

/// Members by their path, such as `channels[].name`, with kind or value.
type Members = BTreeMap<String, String>;

fn collect(value: &Value, path: &str, with_values: bool, members: &mut Members) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let with_values = with_values && !VARYING.contains(&key.as_str());
                collect(value, &format!("{path}.{key}"), with_values, members);
            }
        }
        Value::Array(values) if with_values => {
            for (value, nr) in values.iter().zip(0..) {
                collect(value, &format!("{path}[{nr}]"), with_values, members);
            }
        }
        Value::Array(values) => {
            for value in values {
                collect(value, &format!("{path}[]"), with_values, members);
            }
        }
        scalar => {
            let kind = match scalar {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                _ => "string",
            };
            let shown = if with_values {
                scalar.to_string()
            } else {
                kind.to_owned()
            };
            members.insert(path.to_owned(), shown);
        }
    }
}

/// Asks for every document of a server that has two channels, a client, a durable and a queue group.
async fn documents(server: &mut StreamingServer) -> BTreeMap<&'static str, (Members, Members)> {
    let port = server.monitor();
    server.start().await.unwrap();
    let url = format!("nats://127.0.0.1:{}", server.port());
    let client = Client::connect(Options::new(&url, CLUSTER_ID, "me"))
        .await
        .unwrap();
    for channel in ["orders", "orders", "orders", "quiet"] {
        client.publish(channel, "hello").await.unwrap();
    }
    let durable = SubscribeOptions::from_first().durable("d").max_in_flight(2);
    let mut durable = client.subscribe("orders", durable).await.unwrap();
    for _ in 0..2 {
        durable.next().await.unwrap();
    }
    let group = SubscribeOptions::new_only().durable("d").queue_group("g");
    let _group = client.subscribe("orders", group).await.unwrap();

    let mut documents = BTreeMap::new();
    for path in STREAMING.into_iter().chain(NATS) {
        let answer = probe::get(port, path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}");
        let value: Value = serde_json::from_str(&answer.body).unwrap();
        let (mut values, mut kinds) = (Members::new(), Members::new());
        collect(&value, "", true, &mut values);
        collect(&value, "", false, &mut kinds);
        documents.insert(path, (values, kinds));
    }
    client.close().await.unwrap();
    documents
}

#[tokio::test]
async fn documents_are_those_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::shared().unwrap();
    let mut both = Vec::new();
    for name in ["reference", "broker"] {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let store = Store::sql_of_the_reference(&dir, &postgres).unwrap();
        let mut server = match name {
            "broker" => StreamingServer::broker(&dir, &store).unwrap(),
            _ => StreamingServer::reference(&dir, &store).unwrap(),
        };
        both.push(documents(&mut server).await);
    }
    let (reference, broker) = (&both[0], &both[1]);
    let mut differences = Vec::new();
    for path in STREAMING {
        let (expected, got) = (&reference[path].0, &broker[path].0);
        for member in expected.keys().chain(got.keys()) {
            let (expected, got) = (expected.get(member), got.get(member));
            if expected != got && (path, member.as_str()) != DELIBERATE {
                differences.push(format!("{path}{member}: {expected:?}, broker {got:?}"));
            }
        }
    }
    for path in NATS {
        let (expected, got) = (&reference[path].1, &broker[path].1);
        for (member, kind) in got {
            if let Some(expected) = expected.get(member).filter(|expected| *expected != kind) {
                differences.push(format!("{path}{member}: {expected:?}, broker {kind:?}"));
            }
        }
    }
    differences.sort();
    differences.dedup();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}
