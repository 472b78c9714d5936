//! What clients learn of the servers of a cluster (core-nats 10.5, item 50), the same for every kind
//! of server.

use anyhow::ensure;
use serde_json::{Value, json};
use tests::{patience, wire::Wire};

use super::{
    node::{Kind, Node, PATIENCE},
    peer::{Manner, Peer, introduction},
};

const THERE: &str = "192.0.2.1:4222";
const ELSEWHERE: &str = "192.0.2.2:4222";

fn reachable_at(urls: &[&str]) -> Manner {
    Manner {
        connect: json!({}),
        info: json!({"connect_urls": urls}),
    }
}

/// Reads `INFO` after `INFO` until it names these servers besides the own one.
async fn learns(client: &mut Wire, node: &Node, others: &[&str]) {
    let mut expected = vec![format!("127.0.0.1:{}", node.port)];
    expected.extend(others.iter().map(|&url| url.to_owned()));
    expected.sort_unstable();
    let learned = patience::until("news of servers", PATIENCE, async || {
        let said = client.answers().await?;
        let last = said
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("INFO "));
        let info: Value = serde_json::from_str(last.unwrap_or("{}"))?;
        let urls: Option<Vec<String>> = serde_json::from_value(info["connect_urls"].clone())?;
        let mut urls = urls.unwrap_or_default();
        urls.sort_unstable();
        ensure!(urls == expected, "{urls:?} instead of {expected:?}");
        Ok(())
    });
    learned.await.unwrap();
}

#[tokio::test]
async fn clients_learn_who_joins_and_leaves() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), "name: c").await;
        let mut client = node.client().await;
        let mut first = Peer::join_in(&node, "FIRST", &reachable_at(&[THERE])).await;
        learns(&mut client, &node, &[THERE]).await;
        let second = Peer::join_in(&node, "SECOND", &reachable_at(&[ELSEWHERE])).await;
        learns(&mut client, &node, &[THERE, ELSEWHERE]).await;
        let told = patience::until("newcomers are told of all", PATIENCE, async || {
            let newcomer = Wire::connect(node.port).await?;
            let known = newcomer.info["connect_urls"].as_array().map(Vec::len);
            ensure!(known == Some(3), "{}", newcomer.info);
            Ok(())
        });
        told.await.unwrap();
        drop(second);
        learns(&mut client, &node, &[THERE]).await;
        // A server may change its mind, which the reference does not listen to.
        if kind == Kind::Broker {
            let [_, news] = introduction("FIRST", &reachable_at(&[ELSEWHERE]));
            first.tells(&news).await;
            learns(&mut client, &node, &[ELSEWHERE]).await;
        }
        drop(first);
        learns(&mut client, &node, &[]).await;
    }
}

#[tokio::test]
async fn clients_that_cannot_take_news_are_not_told() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), "name: c").await;
        let mut of_old = Wire::connect(node.port).await.unwrap();
        of_old
            .send(b"CONNECT {\"verbose\":false,\"protocol\":0}\r\n")
            .await
            .unwrap();
        of_old.answers().await.unwrap();
        let mut witness = node.client().await;
        let _peer = Peer::join_in(&node, "PEER", &reachable_at(&[THERE])).await;
        learns(&mut witness, &node, &[THERE]).await;
        assert_eq!(of_old.answers().await.unwrap(), "", "{kind:?}");
    }
}

#[tokio::test]
async fn nobody_is_told_where_nothing_is_advertised() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), "name: c\nno_advertise: true").await;
        let mut client = node.client().await;
        let mut peer = Peer::join_in(&node, "PEER", &reachable_at(&[THERE])).await;
        assert_eq!(peer.info["connect_urls"], Value::Null, "{kind:?}");
        peer.tells("RS+ $G a\r\n").await;
        // The peer counts: what is published goes there.
        client.send(b"PUB a 0\r\n\r\n").await.unwrap();
        peer.hears(&["RMSG $G a 0"]).await;
        let said = client.answers().await.unwrap();
        assert!(!said.contains("connect_urls"), "{kind:?}: {said}");
        let newcomer = Wire::connect(node.port).await.unwrap();
        assert_eq!(newcomer.info["connect_urls"], Value::Null, "{kind:?}");
    }
}
