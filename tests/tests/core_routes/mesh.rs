//! Clusters of servers of all kinds: how they form, what passes, and what the others notice of one that
//! goes and comes back (core-nats 10.5, items 44 to 47 and 55).

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use futures_util::future::join_all;
use tests::{patience, wire::Wire};

use super::{
    node::{Kind, Node, PATIENCE, cluster, meets, routes},
    peer::hears,
};

const NUMBERED: usize = 50;
/// Tells the ends of numbered messages apart, some of which come late.
static ROUND: AtomicUsize = AtomicUsize::new(0);
const LOGIN: &str = "authorization { user: r, password: secret }\n";

/// `from` publishes numbered messages, which all of `to` have subscribed to and get once each and in
/// order. False if some are missing: a route may still be one that is going to be given up for another.
async fn all_hear(from: &mut Wire, to: &mut [Wire], subject: &str) -> bool {
    let publish: String = (0..NUMBERED)
        .map(|number| format!("PUB {subject} 3\r\n{number:03}\r\n"))
        .collect();
    from.send(publish.as_bytes()).await.unwrap();
    from.answers().await.unwrap();
    // The last one: what was sent before it has come before it.
    let end = format!("{subject}.end.{}", ROUND.fetch_add(1, Ordering::Relaxed));
    for client in to.iter_mut() {
        let mut got = String::new();
        let ended = patience::until(&end, PATIENCE, async || {
            from.send(format!("PUB {end} 0\r\n\r\n").as_bytes()).await?;
            from.answers().await?;
            got += &client.answers().await?;
            ensure!(got.contains(&end), "{got}");
            Ok(())
        });
        ended.await.unwrap();
        let message = format!("MSG {subject} ");
        let numbers: Vec<usize> = got
            .split(&message)
            .skip(1)
            .map(|one| one.split("\r\n").nth(1).unwrap().parse().unwrap())
            .collect();
        let in_order = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(in_order, "twice or not in order: {numbers:?}");
        if numbers.len() < NUMBERED {
            return false;
        }
    }
    true
}

/// What the client of each of the servers publishes comes to the clients of all of them once.
pub(crate) async fn is_full_mesh(nodes: &[&Node]) {
    let mut attempt = 0;
    let formed = patience::until("a full mesh", PATIENCE, async || {
        attempt += 1;
        for (at, here) in nodes.iter().enumerate() {
            let subject = format!("from.{at}.{attempt}");
            let mut from = here.client().await;
            let mut to = Vec::new();
            for there in nodes {
                let mut client = there.client().await;
                let subscribe = format!("SUB {subject}.> 1\r\nSUB {subject} 2\r\n");
                client.send(subscribe.as_bytes()).await?;
                client.answers().await?;
                meets(&mut from, &mut client, &format!("{subject}.probe")).await;
                to.push(client);
            }
            ensure!(
                all_hear(&mut from, &mut to, &subject).await,
                "some are missing"
            );
        }
        Ok(())
    });
    formed.await.unwrap();
}

#[tokio::test]
async fn a_mesh_forms_from_one_seed_whoever_it_is() {
    let meshes = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let nodes = cluster(kinds, dir.path(), "").await;
        is_full_mesh(&nodes.each_ref()).await;
    });
    join_all(meshes).await;
}

#[tokio::test]
async fn a_mesh_forms_from_a_chain_that_asks_for_a_password() {
    let meshes = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let first = Node::start(kinds[0], dir.path(), &format!("name: c\n{LOGIN}")).await;
        let config = routes(&[&first], "r:secret@") + LOGIN;
        let second = Node::start(kinds[1], dir.path(), &config).await;
        let config = routes(&[&second], "r:secret@") + LOGIN;
        let third = Node::start(kinds[2], dir.path(), &config).await;
        is_full_mesh(&[&first, &second, &third]).await;
    });
    join_all(meshes).await;
}

#[tokio::test]
async fn servers_that_dial_each_other_and_themselves_get_no_message_twice() {
    let clusters = Kind::PAIRS.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Node::plan(kinds[0], dir.path());
        let mut second = Node::plan(kinds[1], dir.path());
        let urls = [&first, &second].map(|node| {
            let port = node.routes;
            format!("\"nats-route://127.0.0.1:{port}\", \"nats-route://localhost:{port}\"")
        });
        let config = format!("name: c\nroutes: [{}]", urls.join(", "));
        tokio::join!(first.run(&config, ""), second.run(&config, ""));
        is_full_mesh(&[&first, &second]).await;
    });
    join_all(clusters).await;
}

#[tokio::test]
async fn a_route_of_the_configuration_is_tried_until_the_server_is_there() {
    let clusters = Kind::PAIRS.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let mut late = Node::plan(kinds[1], dir.path());
        let dials = routes(&[&late], "");
        let every = "connect_error_reports: 1";
        let mut first = Node::start_with(kinds[0], dir.path(), &dials, every).await;
        first
            .writes("Error trying to connect to route (attempt 3)")
            .await;
        late.run("name: c", "").await;
        is_full_mesh(&[&first, &late]).await;
    });
    join_all(clusters).await;
}

/// Ours dials, or is dialled; the other one is lost and comes back.
#[tokio::test]
async fn a_server_that_comes_back_is_told_all_that_is_wanted() {
    let clusters = [Kind::Old, Kind::New, Kind::Broker].map(|kind| async move {
        for dials in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let mut ours = Node::plan(Kind::Broker, dir.path());
            let mut other = Node::plan(kind, dir.path());
            let (mine, yours) = match dials {
                true => (routes(&[&other], ""), "name: c".to_owned()),
                false => ("name: c".to_owned(), routes(&[&ours], "")),
            };
            ours.run(&mine, "").await;
            other.run(&yours, "").await;
            let mut stays = ours.client().await;
            let wants = b"SUB plain 1\r\nSUB wild.* 2\r\nSUB work q 3\r\nSUB work q 4\r\n";
            stays.send(wants).await.unwrap();
            for _ in 0..2 {
                let mut from = other.client().await;
                for subject in ["plain", "wild.x", "work"] {
                    meets(&mut from, &mut stays, subject).await;
                }
                other.restart().await;
            }
        }
    });
    join_all(clusters).await;
}

/// How a server is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Kill,
    Stop,
}

#[tokio::test]
async fn each_server_of_a_mesh_may_be_lost_and_come_back_while_the_others_go_on() {
    let meshes = [
        ([Kind::Broker, Kind::Old, Kind::New], Loss::Kill),
        ([Kind::New, Kind::Broker, Kind::Old], Loss::Stop),
        ([Kind::Broker; 3], Loss::Kill),
    ];
    let meshes = meshes.map(|(kinds, loss)| async move {
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = kinds.map(|kind| Node::plan(kind, dir.path()));
        let [one, two, three] = &nodes;
        // Only the first is in the configuration of all.
        let configs = [
            routes(&[two], ""),
            routes(&[one], ""),
            routes(&[one, three], ""),
        ];
        for (node, config) in nodes.iter_mut().zip(&configs) {
            node.run(config, "").await;
        }
        is_full_mesh(&nodes.each_ref()).await;
        for at in 0..3 {
            let (one, other) = ((at + 1) % 3, (at + 2) % 3);
            let mut from = nodes[one].client().await;
            let mut to = [nodes[one].client().await, nodes[other].client().await];
            for client in &mut to {
                client
                    .send(b"SUB going.on 1\r\nSUB going.on.> 2\r\n")
                    .await
                    .unwrap();
                client.answers().await.unwrap();
                meets(&mut from, client, "going.on.probe").await;
            }
            match loss {
                Loss::Kill => nodes[at].kill(),
                Loss::Stop => nodes[at].stop().await,
            }
            let goes_on = all_hear(&mut from, &mut to, "going.on").await;
            assert!(goes_on, "{kinds:?} without {at}: messages were lost");
            nodes[at].restart().await;
            let goes_on = all_hear(&mut from, &mut to, "going.on").await;
            assert!(goes_on, "{kinds:?} with {at} again: messages were lost");
            is_full_mesh(&nodes.each_ref()).await;
        }
    });
    join_all(meshes).await;
}

#[tokio::test]
async fn a_server_that_is_held_up_gets_later_what_the_others_get_at_once() {
    for kinds in [
        [Kind::Broker, Kind::Old, Kind::New],
        [Kind::New, Kind::Broker, Kind::Broker],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let nodes = cluster(kinds, dir.path(), "").await;
        let nodes = nodes.each_ref();
        is_full_mesh(&nodes).await;
        for (at, held) in nodes.into_iter().enumerate() {
            let mut from = nodes[(at + 1) % 3].client().await;
            let mut to = [nodes[(at + 2) % 3].client().await];
            let mut late = held.client().await;
            for client in to.iter_mut().chain([&mut late]) {
                client.send(b"SUB on 1\r\nSUB on.> 2\r\n").await.unwrap();
                client.answers().await.unwrap();
                meets(&mut from, client, "on.probe").await;
            }
            held.hold();
            assert!(all_hear(&mut from, &mut to, "on").await, "{kinds:?}, {at}");
            held.resume();
            let got = hears(&mut late, &format!("\r\n{:03}\r\n", NUMBERED - 1)).await;
            assert_eq!(got.matches("MSG on 1 3\r\n").count(), NUMBERED, "{got}");
        }
    }
}

#[tokio::test]
async fn a_request_is_answered_by_another_server_and_refused_when_nobody_is_there() {
    let clusters = Kind::PAIRS.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let one = Node::start(kinds[0], dir.path(), "name: c").await;
        let other = Node::start(kinds[1], dir.path(), &routes(&[&one], "")).await;
        for (here, there) in [(&one, &other), (&other, &one)] {
            let (mut asks, mut answers) = (here.client().await, there.client().await);
            answers
                .send(b"SUB ask workers 1\r\nSUB ready 2\r\n")
                .await
                .unwrap();
            meets(&mut asks, &mut answers, "ready").await;
            let request = "SUB in.* 1\r\nHPUB ask in.1 18 19\r\nNATS/1.0\r\nA: b\r\n\r\n?\r\n";
            asks.send(request.as_bytes()).await.unwrap();
            asks.answers().await.unwrap();
            let asked = "HMSG ask 1 in.1 18 19\r\nNATS/1.0\r\nA: b\r\n\r\n?";
            hears(&mut answers, asked).await;
            answers
                .send(b"HPUB in.1 12 13\r\nNATS/1.0\r\n\r\n!\r\n")
                .await
                .unwrap();
            let answer = "HMSG in.1 1 12 13\r\nNATS/1.0\r\n\r\n!\r\n";
            hears(&mut asks, answer).await;
            asks.send(b"PUB nobody in.2 0\r\n\r\n").await.unwrap();
            let got = asks.answers().await.unwrap();
            assert!(got.contains("NATS/1.0 503"), "{kinds:?}: {got}");
            // The one who answered goes: requests are refused as soon as that is known here.
            drop(answers);
            let refused = patience::until("a refusal", PATIENCE, async || {
                asks.send(b"PUB ask in.3 0\r\n\r\n").await?;
                let got = asks.answers().await?;
                ensure!(got.contains("NATS/1.0 503"), "{got}");
                Ok(())
            });
            refused.await.unwrap();
        }
    });
    join_all(clusters).await;
}
