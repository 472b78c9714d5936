//! Queue groups with members on several servers (core-nats 10.5, item 48).

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use futures_util::future::join_all;
use tests::{patience, wire::Wire};

use super::{
    node::{Kind, Node, PATIENCE, cluster, meets},
    peer::hears,
};

/// Nobody has subscribed to it yet. Members that have gone without a word may be believed in for a while.
fn new_work() -> String {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    format!("work.{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// A client with this many members of the group `q`, whose subscriptions are numbered from 1.
async fn members(node: &Node, work: &str, count: usize) -> Wire {
    let mut client = node.client().await;
    let mut text: String = (1..=count)
        .map(|sid| format!("SUB {work} q {sid}\r\n"))
        .collect();
    let port = node.port;
    text += &format!("SUB ready.{port}.> end\r\nSUB ready.{port} 0\r\n");
    client.send(text.as_bytes()).await.unwrap();
    client.answers().await.unwrap();
    client
}

/// What the members of a node want is known to the server of `from`.
async fn knows(from: &mut Wire, client: &mut Wire, node: &Node) {
    meets(from, client, &format!("ready.{}", node.port)).await;
}

/// The numbers of the messages on `work` in what a client got.
fn numbers(work: &str, got: &str) -> Vec<usize> {
    let of_one = |one: &str| one.split("\r\n").nth(1).unwrap().parse().unwrap();
    let message = format!("MSG {work} ");
    got.split(&message).skip(1).map(of_one).collect()
}

fn numbered(work: &str, numbers: std::ops::Range<usize>) -> String {
    numbers
        .map(|number| format!("PUB {work} 5\r\n{number:05}\r\n"))
        .collect()
}

/// Collects until every number has come to somebody; how many each client got. No number comes twice.
async fn shares(clients: &mut [Wire], work: &str, count: usize) -> Vec<usize> {
    let mut got = vec![String::new(); clients.len()];
    let all = patience::until("every message", PATIENCE, async || {
        for (client, got) in clients.iter_mut().zip(&mut got) {
            *got += &client.answers().await?;
        }
        let come: usize = got.iter().map(|one| numbers(work, one).len()).sum();
        ensure!(come >= count, "{come} of {count} came");
        Ok(())
    });
    all.await.unwrap();
    let mut seen: Vec<_> = got.iter().flat_map(|one| numbers(work, one)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..count).collect::<Vec<_>>());
    got.iter().map(|one| numbers(work, one).len()).collect()
}

#[tokio::test]
async fn members_share_evenly_wherever_they_are_and_whoever_publishes() {
    const MESSAGES: usize = 4000;
    // A member's share must not depend on how many it has beside it.
    const MEMBERS: [usize; 3] = [100, 200, 100];
    let dir = tempfile::tempdir().unwrap();
    let nodes = cluster([Kind::Broker, Kind::Old, Kind::New], dir.path(), "").await;
    for from in &nodes {
        let (work, mut clients) = (new_work(), Vec::new());
        for (node, count) in nodes.iter().zip(MEMBERS) {
            clients.push(members(node, &work, count).await);
        }
        let mut publisher = from.client().await;
        for (client, node) in clients.iter_mut().zip(&nodes) {
            knows(&mut publisher, client, node).await;
        }
        let publish = numbered(&work, 0..MESSAGES);
        publisher.send(publish.as_bytes()).await.unwrap();
        publisher.answers().await.unwrap();
        let shares = shares(&mut clients, &work, MESSAGES).await;
        for (share, members) in shares.iter().zip(MEMBERS) {
            // Over six standard deviations of the number that chance gives.
            let fair = MESSAGES * members / MEMBERS.iter().sum::<usize>();
            let far = share.abs_diff(fair);
            assert!(far <= 200, "{:?} published: {shares:?}", from.kind);
        }
    }
}

/// Members of a remote server end their subscriptions while messages for them are on their way; those
/// come to the third server.
#[tokio::test]
async fn nothing_is_lost_when_the_last_members_of_a_server_leave() {
    const ROUNDS: usize = 10;
    const MESSAGES: usize = 400;
    // Who publishes, whose members leave, whose members stay.
    let clusters = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let nodes = cluster(kinds, dir.path(), "").await;
        let [here, leaving, staying] = &nodes;
        for round in 0..ROUNDS {
            let mut publisher = here.client().await;
            let work = &new_work();
            let mut clients = [
                members(leaving, work, 2).await,
                members(staying, work, 1).await,
            ];
            // The server that is left hands on what comes too late: it must know where to.
            let mut beside = leaving.client().await;
            knows(&mut beside, &mut clients[1], staying).await;
            knows(&mut publisher, &mut clients[1], staying).await;
            knows(&mut publisher, &mut clients[0], leaving).await;
            let (before, after) = (
                numbered(work, 0..MESSAGES / 2),
                numbered(work, MESSAGES / 2..MESSAGES),
            );
            publisher.send(before.as_bytes()).await.unwrap();
            clients[0].send(b"UNSUB 1\r\nUNSUB 2\r\n").await.unwrap();
            publisher.send(after.as_bytes()).await.unwrap();
            publisher.answers().await.unwrap();
            let shares = shares(&mut clients, work, MESSAGES).await;
            assert!(
                shares[1] > MESSAGES / 10,
                "{kinds:?}, round {round}: {shares:?}"
            );
        }
    });
    // Not all at once: messages have to be under way when members leave.
    for cluster in clusters {
        cluster.await;
    }
}

/// A message for a group that everybody has just left comes to nobody, once; it does not go round.
#[tokio::test]
async fn messages_for_a_group_that_everybody_leaves_do_not_go_round() {
    const MESSAGES: usize = 400;
    let clusters = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let nodes = cluster(kinds, dir.path(), "").await;
        let mut publisher = nodes[0].client().await;
        let work = &new_work();
        let mut clients = [
            members(&nodes[1], work, 1).await,
            members(&nodes[2], work, 1).await,
        ];
        let mut beside = [nodes[2].client().await, nodes[1].client().await];
        for at in 0..2 {
            knows(&mut publisher, &mut clients[at], &nodes[at + 1]).await;
            knows(&mut beside[at], &mut clients[at], &nodes[at + 1]).await;
        }
        publisher
            .send(numbered(work, 0..MESSAGES).as_bytes())
            .await
            .unwrap();
        for client in &mut clients {
            client.send(b"UNSUB 1\r\n").await.unwrap();
        }
        publisher.answers().await.unwrap();
        // Members come again only when nobody is believed to have any.
        let refused = patience::until("a refusal", PATIENCE, async || {
            let request = format!("SUB in 1\r\nPUB {work} in 0\r\n\r\n");
            publisher.send(request.as_bytes()).await?;
            let got = publisher.answers().await?;
            ensure!(got.contains("NATS/1.0 503"), "{got}");
            Ok(())
        });
        refused.await.unwrap();
        // What was still on its way to one of them is there, and then what that one has handed on to the other.
        let mut got: Vec<usize> = Vec::new();
        for hop in 0..2 {
            for (at, client) in clients.iter_mut().enumerate() {
                let end = format!("ready.{}.{hop}", nodes[at + 1].port);
                let from = if hop == 0 {
                    &mut publisher
                } else {
                    &mut beside[at]
                };
                let publish = format!("PUB {end} 0\r\n\r\n");
                from.send(publish.as_bytes()).await.unwrap();
                from.answers().await.unwrap();
                let said = hears(client, &format!("MSG {end} ")).await;
                let requests = format!("MSG {work} 1 in 0");
                got.extend(numbers(work, &said.replace(&requests, "")));
            }
        }
        for (client, node) in clients.iter_mut().zip(&nodes[1..]) {
            let subscribe = format!("SUB {work} q 1\r\n");
            client.send(subscribe.as_bytes()).await.unwrap();
            client.answers().await.unwrap();
            knows(&mut publisher, client, node).await;
        }
        for client in &mut clients {
            let late = client.answers().await.unwrap();
            let message = format!("MSG {work} ");
            assert!(!late.contains(&message), "{kinds:?}: {late}");
        }
        let all = got.len();
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len(), all, "{kinds:?}: some came twice");
    });
    join_all(clusters).await;
}

#[tokio::test]
async fn a_server_that_dies_with_members_takes_nothing_with_it_once_that_is_known() {
    const MESSAGES: usize = 200;
    let clusters = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let [here, mut dying, staying] = cluster(kinds, dir.path(), "").await;
        let mut publisher = here.client().await;
        let work = &new_work();
        let mut clients = [
            members(&dying, work, 9).await,
            members(&staying, work, 1).await,
        ];
        knows(&mut publisher, &mut clients[0], &dying).await;
        knows(&mut publisher, &mut clients[1], &staying).await;
        dying.kill();
        // With nine of ten members there, as many in a row do not come here by chance.
        let stays = &mut clients[1..];
        let mut attempt = 0;
        let known = patience::until("its end is known", PATIENCE, async || {
            attempt += 1;
            let end = format!("ready.{}.{attempt}", staying.port);
            let publish = numbered(work, 0..100) + &format!("PUB {end} 0\r\n\r\n");
            publisher.send(publish.as_bytes()).await?;
            publisher.answers().await?;
            let got = hears(&mut stays[0], &format!("MSG {end} ")).await;
            let count = numbers(work, &got).len();
            ensure!(count == 100, "{count} of 100 came");
            Ok(())
        });
        known.await.unwrap();
        publisher
            .send(numbered(work, 0..MESSAGES).as_bytes())
            .await
            .unwrap();
        shares(stays, work, MESSAGES).await;
    });
    join_all(clusters).await;
}
