//! Documents about single connections, subscriptions and accounts, after the same traffic: members,
//! order, kinds, and the values that do not differ from run to run.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tests::{patience::until, wire::Wire};

use super::server::{Server, differences};

/// For the server to see that connections have ended, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
server_name: one
server_tags: ["a:b", "c"]
server_metadata: { k: v }
max_subscriptions: 900
accounts {
  A: { users: [{ user: ann, password: "secret-of-ann" }, { user: bob, password: "secret-of-bob" }] }
  B: { users: [{ user: cat, password: "secret-of-cat" }] }
}
"#;

/// Documents whose values are compared too.
const DOCUMENTS: [&str; 15] = [
    "/varz",
    "/connz",
    "/connz?auth=1&subs=1",
    "/connz?auth=1&subs=detail&sort=msgs_to&limit=1",
    "/connz?state=closed&auth=1&subs=detail",
    "/connz?state=any&sort=bytes_from&limit=2",
    "/connz?acc=A&sort=subs",
    "/connz?user=bob&state=any",
    "/connz?state=closed&sort=reason",
    "/connz?offset=9223372036854775807&limit=9223372036854775807",
    "/routez",
    "/subsz?acc=A&subs=1&test=foo.x",
    "/subsz?acc=A&subs=1&test=foo.x&offset=9223372036854775807",
    "/accstatz",
    "/accountz",
];

/// Requests that are answered alike to the last letter.
const REFUSED: [&str; 17] = [
    "/connz?sort=zzz",
    "/connz?sort=stop",
    "/connz?sort=reason&state=any",
    "/connz?offset=x",
    "/connz?limit=99999999999999999999",
    "/connz?offset=-99999999999999999999",
    "/connz?auth=x",
    "/connz?subs=x",
    "/connz?state=zz",
    "/connz?cid=-1",
    "/connz?cid=x",
    "/routez?subs=x",
    "/subsz?test=foo.*",
    "/subsz?test=foo..x",
    "/subsz?subs=detail",
    "/accountz?acc=nope",
    "/accstatz?unused=x",
];

/// Members whose values say the same on both servers after the same traffic.
const VALUES: [&str; 27] = [
    "account",
    "accounts",
    "acc",
    "authorized_user",
    "conns",
    "in_bytes",
    "in_msgs",
    "kind",
    "lang",
    "limit",
    "max",
    "msgs",
    "name",
    "name_tag",
    "num_connections",
    "offset",
    "out_bytes",
    "out_msgs",
    "qgroup",
    "reason",
    "server_name",
    "sid",
    "subject",
    "subscriptions_list",
    "total_conns",
    "type",
    "version",
];

/// The same for the whole server, where other counts include what the server itself does.
const VALUES_OF_THE_SERVER: [&str; 7] = [
    "in_client_msgs",
    "out_client_bytes",
    "out_client_msgs",
    "server_name",
    "stalled_clients",
    "tags",
    "total_connections",
];

/// Values by their place, in lists sorted where the reference has no order.
fn values(names: &[&str], value: &Value, place: &str, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let place = format!("{place}.{name}");
                if names.contains(&name.as_str()) && !value.is_object() {
                    found.insert(place, sorted(value).to_string());
                } else {
                    values(names, value, &place, found);
                }
            }
        }
        Value::Array(_) => {
            let entries = sorted(value);
            for (nr, value) in entries.as_array().into_iter().flatten().enumerate() {
                values(names, value, &format!("{place}[{nr}]"), found);
            }
        }
        _ => {}
    }
}

/// Texts in order, and objects in the order of their sids or accounts if they have them. Numbers of
/// connections are left out: the reference begins where its own internal ones end.
fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Array(entries) = &mut value {
        for object in entries.iter_mut().filter_map(Value::as_object_mut) {
            object.remove("cid");
        }
        entries.sort_by_key(|one| {
            let key = if one.is_object() { &one["sid"] } else { one };
            (key.to_string(), one["acc"].to_string())
        });
    }
    value
}

/// A user's connection; its requests are done when this returns.
async fn connect(server: &Server, user: &str, requests: &str) -> Wire {
    let mut wire = Wire::connect(server.port).await.unwrap();
    let connect = format!(
        "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"secret-of-{user}\",\"name\":\"<{user}>\",\"lang\":\"raw\",\"version\":\"1\"}}\r\n"
    );
    // Apart, because nats-server counts what comes together with CONNECT to no account.
    for part in [connect.as_str(), requests] {
        wire.send(part.as_bytes()).await.unwrap();
        wire.answers().await.unwrap();
    }
    wire
}

/// Three connections that stay and three that end in different ways, one after the other.
async fn traffic(server: &Server) -> Vec<Wire> {
    let requests = "SUB foo.> 1\r\nSUB bar q 2\r\nUNSUB 2 5\r\nSUB foo.* q3 3\r\n";
    let mut ann = connect(server, "ann", requests).await;
    let bob = connect(
        server,
        "bob",
        "PUB foo.x 5\r\nhello\r\nPUB bar rr 3\r\nabc\r\n",
    )
    .await;
    ann.answers().await.unwrap();
    let cat = connect(server, "cat", "SUB foo.x 1\r\n").await;

    let mut nonsense = connect(server, "bob", "PUB foo.y 1\r\nx\r\n").await;
    nonsense.send(b"NONSENSE\r\n").await.unwrap();
    nonsense.last_words().await.unwrap();
    let mut stranger = Wire::connect(server.port).await.unwrap();
    let wrong = b"CONNECT {\"user\":\"ann\",\"pass\":\"wrong\",\"verbose\":false}\r\n";
    stranger.send(wrong).await.unwrap();
    stranger.last_words().await.unwrap();
    drop(connect(server, "cat", "SUB left 9\r\n").await);
    let all_known = async || {
        let closed: Value = serde_json::from_str(&server.get("/connz?state=closed").await.body)?;
        anyhow::ensure!(closed["total"] == 3, "{closed}");
        Ok(())
    };
    until("the ends of three connections", PATIENCE, all_known)
        .await
        .unwrap();
    vec![ann, bob, cat]
}

#[tokio::test]
async fn connections_are_those_that_nats_server_shows() {
    let dir = tempfile::tempdir().unwrap();
    let [reference, broker] = Server::both(dir.path(), CONFIG).await;
    let _open = [traffic(&reference).await, traffic(&broker).await];
    let mut found = Vec::new();
    for path in DOCUMENTS {
        let (expected, got) = (reference.get(path).await, broker.get(path).await);
        assert_eq!(expected.status, 200, "{path}");
        found.extend(differences(path, &expected, &got));
        let names: &[&str] = match path {
            "/varz" => &VALUES_OF_THE_SERVER,
            _ => &VALUES,
        };
        let [mut left, mut right] = [BTreeMap::new(), BTreeMap::new()];
        for (answer, members) in [(&expected, &mut left), (&got, &mut right)] {
            if let Ok(value) = serde_json::from_str::<Value>(&answer.body) {
                values(names, &value, "", members);
            }
        }
        for place in left.keys().chain(right.keys()) {
            let (expected, got) = (left.get(place), right.get(place));
            if expected != got {
                found.push(format!("{path}{place}: {expected:?}, broker {got:?}"));
            }
        }
        let secret = broker.get(path).await.body;
        assert!(!secret.contains("secret-of"), "{path}: {secret}");
    }
    for path in REFUSED {
        let (expected, got) = (reference.get(path).await, broker.get(path).await);
        if expected != got {
            found.push(format!("{path}: {expected:?}, broker {got:?}"));
        }
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
