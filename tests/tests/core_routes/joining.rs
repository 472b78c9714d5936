//! How a server takes and refuses peers of bytes, the same for every kind of server
//! (core-nats 10.5, items 40, 45, 47, 51 and 52).

use anyhow::ensure;
use serde_json::{Value, json};
use tests::{patience, wire::Wire};

use super::{
    node::{Kind, Node, PATIENCE},
    peer::{Manner, Peer, introduced, introduction},
};

const CLUSTER: &str = "name: c";
/// Time enough to show a password, however busy the machine is.
const LOGIN: &str = "name: c\nauthorization { user: r, password: secret, timeout: 60 }";
const HURRIED: &str = "name: c\nauthorization { user: r, password: secret, timeout: 1 }";

const VIOLATION: &str = "-ERR 'Authorization Violation'\r\n";

fn saying(connect: Value, info: Value) -> Manner {
    Manner { connect, info }
}

fn credentials(user: &str, pass: &str) -> Manner {
    saying(json!({"user": user, "pass": pass}), json!({}))
}

/// What comes before the end of a connection on which something was said at once.
async fn last_words(node: &Node, said: &str) -> String {
    let mut wire = Wire::connect(node.routes).await.unwrap();
    wire.send(said.as_bytes()).await.unwrap();
    wire.last_words().await.unwrap()
}

#[tokio::test]
async fn a_route_begins_with_an_info_of_the_cluster_port() {
    for kind in Kind::ALL {
        for (cluster, is_closed) in [(CLUSTER, false), (LOGIN, true)] {
            let dir = tempfile::tempdir().unwrap();
            let node = Node::start(kind, dir.path(), cluster).await;
            let Wire { info, .. } = Wire::connect(node.routes).await.unwrap();
            assert!(info["proto"].as_i64() >= Some(1), "{kind:?}: {info}");
            assert_eq!(info["host"], "127.0.0.1", "{kind:?}");
            assert_eq!(info["port"], node.routes, "{kind:?}");
            assert_eq!(info["headers"], true, "{kind:?}");
            assert_eq!(info["cluster"], "c", "{kind:?}");
            let own = format!("127.0.0.1:{}", node.port);
            assert_eq!(info["connect_urls"], json!([own]), "{kind:?}");
            assert_eq!(info["auth_required"] == true, is_closed, "{kind:?}: {info}");
        }
    }
}

#[tokio::test]
async fn peers_are_refused_in_the_reference_s_words() {
    let conflict = |name: &str| {
        format!("-ERR 'Rejecting connection, cluster name \"{name}\" does not match \"c\"'\r\n")
    };
    let of_cluster = |name: &str, dynamic: bool| {
        let said = json!({"cluster": name, "cluster_dynamic": dynamic});
        saying(said.clone(), said)
    };
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let own_id = Wire::connect(node.routes).await.unwrap().info["server_id"].clone();
        let own_name = json!({"server_name": format!("s{}", node.port)});
        let itself = saying(json!({"name": own_id}), json!({"server_id": own_id}));
        for (manner, expected) in [
            (of_cluster("d", false), conflict("d")),
            (of_cluster("", false), conflict("")),
            // A configured name does not give way, however large the other one is.
            (of_cluster("zz", true), conflict("zz")),
            (saying(json!({}), json!({"cluster": "d"})), String::new()),
            (
                saying(json!({"lang": "go"}), json!({})),
                "-ERR 'attempted to connect to route port'\r\n".to_owned(),
            ),
            (
                saying(json!({"gateway": "g"}), json!({})),
                "-ERR 'Rejecting connection from gateway \"g\" on the Route port'\r\n".to_owned(),
            ),
            (itself, String::new()),
            (saying(json!({}), own_name), String::new()),
        ] {
            let said = introduction("PEER", &manner).concat();
            let said = last_words(&node, &said).await;
            assert_eq!(said, expected, "{kind:?}: {manner:?}");
        }
        // It has done no harm.
        Peer::join(&node, "PEER").await.hears(&[]).await;
    }
}

#[tokio::test]
async fn whoever_does_not_begin_with_connect_is_refused() {
    // Before pools of routes anything went.
    for kind in [Kind::New, Kind::Broker] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let [_, info] = introduction("PEER", &Manner::default());
        for said in ["PING\r\n", "RS+ $G a\r\n", "GET / HTTP/1.1\r\n\r\n", &info] {
            assert_eq!(last_words(&node, said).await, VIOLATION, "{kind:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_peer_has_to_know_the_password_of_the_cluster() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), LOGIN).await;
        for manner in [
            credentials("r", "wrong"),
            credentials("x", "secret"),
            credentials("", ""),
            Manner::default(),
        ] {
            let said = introduction("PEER", &manner).concat();
            assert_eq!(last_words(&node, &said).await, VIOLATION, "{kind:?}");
        }
        for said in ["PING\r\n", "RS+ $G a\r\n"] {
            assert_eq!(last_words(&node, said).await, VIOLATION, "{kind:?}");
        }
        let mut peer = Peer::join_in(&node, "PEER", &credentials("r", "secret")).await;
        let mut client = node.client().await;
        client.send(b"SUB a 1\r\n").await.unwrap();
        peer.hears(&["RS+ $G a\r\n"]).await;

        let node = Node::start(kind, dir.path(), HURRIED).await;
        let late = last_words(&node, "").await;
        assert_eq!(late, "-ERR 'Authentication Timeout'\r\n", "{kind:?}");
    }
}

#[tokio::test]
async fn a_second_route_of_the_same_server_is_closed_and_the_first_stays() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut first = Peer::join(&node, "PEER").await;
        first.tells("RS+ $G a\r\n").await;
        let mut second = introduced(&node, "PEER", &Manner::default()).await;
        assert_eq!(second.last_words().await.unwrap(), "", "{kind:?}");
        let mut client = node.client().await;
        client.send(b"PUB a 2\r\nhi\r\n").await.unwrap();
        let said = first.hears(&["RMSG $G a 2\r\nhi\r\n"]).await;
        assert_eq!(said.matches("RMSG").count(), 1, "{kind:?}: {said}");
        // Once it is gone it may come again.
        drop(first);
        Peer::join_again(&node, "PEER").await;
    }
}

#[tokio::test]
async fn peers_are_told_of_newcomers_and_where_they_are() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut witness = Peer::join(&node, "WITNESS").await;
        // The port is one of nobody, or it would be dialled.
        let seen = saying(json!({}), json!({"port": 9}));
        let elsewhere = saying(json!({}), json!({"ip": "nats-route://192.0.2.1:9/"}));
        for (id, manner, ip) in [
            ("SEEN", seen, "nats-route://127.0.0.1:9/"),
            ("ELSEWHERE", elsewhere, "nats-route://192.0.2.1:9/"),
        ] {
            let newcomer = Peer::join_in(&node, id, &manner).await;
            let said = witness.hears(&[id]).await;
            let info = said.lines().find_map(|line| line.strip_prefix("INFO "));
            let info: Value = serde_json::from_str(info.unwrap()).unwrap();
            assert_eq!(info["server_id"], id, "{kind:?}: {said}");
            assert_eq!(info["ip"], ip, "{kind:?}: {said}");
            assert_eq!(info["cluster"], "c", "{kind:?}: {said}");
            drop(newcomer);
        }
    }
}

#[tokio::test]
async fn a_name_that_was_made_up_gives_way() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), "").await;
        let Wire { info, .. } = Wire::connect(node.routes).await.unwrap();
        assert_eq!(info["cluster_dynamic"], true, "{kind:?}: {info}");
        // A larger one that was made up as well, then a configured one.
        for (name, dynamic) in [("~", true), ("c", false)] {
            let said = json!({"cluster": name, "cluster_dynamic": dynamic});
            let manner = saying(said.clone(), said);
            let agreed = patience::until("they agree", PATIENCE, async || {
                let mut peer = introduced(&node, "PEER", &manner).await;
                ensure!(peer.info["cluster"] == name, "{}", peer.info);
                peer.answers().await
            });
            agreed.await.unwrap();
        }
        // The reference would go on to the next name that was made up and is larger.
        if kind == Kind::Broker {
            let larger = json!({"cluster": "~", "cluster_dynamic": true});
            let said = introduction("OTHER", &saying(larger.clone(), larger)).concat();
            let said = last_words(&node, &said).await;
            let expected =
                "-ERR 'Rejecting connection, cluster name \"~\" does not match \"c\"'\r\n";
            assert_eq!(said, expected);
        }
    }
}
