//! Clusters of three servers, mixed (core-nats 10.5, items 44, 45, 47, 48 and 55).

use anyhow::ensure;
use tests::{patience, wire::Wire};

use super::node::{Kind, Node, PATIENCE, meets};

const NUMBERED: usize = 50;
/// Tells the ends of numbered messages apart, some of which come late.
static ROUND: AtomicUsize = AtomicUsize::new(0);

/// `from` publishes numbered messages that `to` gets once each, in order.
async fn numbered(from: &mut Wire, to: &mut Wire, subject: &str) {
    let expected: String = (100..100 + NUMBERED)
        .map(|number| format!("MSG {subject}.data 1 3\r\n{number}\r\n"))
        .collect();
    for number in 100..100 + NUMBERED {
        let publish = format!("PUB {subject}.data 3\r\n{number}\r\n");
        from.send(publish.as_bytes()).await.unwrap();
    }
    from.answers().await.unwrap();
    let mut got = String::new();
    let all = patience::until("every message", PATIENCE, async || {
        got += &to.answers().await?;
        ensure!(got.contains(&format!("\r\n{}\r\n", 99 + NUMBERED)), "{got}");
        Ok(())
    });
    all.await.unwrap();
    // Whatever was sent twice comes before the answer to one more ping of both.
    from.answers().await.unwrap();
    got += &to.answers().await.unwrap();
    let probe = format!("MSG {subject}.probe 1 0\r\n\r\n");
    assert_eq!(got.replace(&probe, ""), expected);
}

/// Every server's client hears every other server's once.
async fn is_full_mesh(nodes: &[Node]) {
    for (at, there) in nodes.iter().enumerate() {
        for here in nodes.iter().filter(|one| one.port != there.port) {
            let (mut from, mut to) = (here.client().await, there.client().await);
            let subject = format!("to.{at}.from.{}", here.port);
            let subscribe = format!("SUB {subject}.* 1\r\n");
            to.send(subscribe.as_bytes()).await.unwrap();
            meets(&mut from, &mut to, &format!("{subject}.probe")).await;
            numbered(&mut from, &mut to, &subject).await;
        }
    }
}

fn routes(to: &[&Node], login: &str) -> String {
    let urls: Vec<String> = to
        .iter()
        .map(|node| format!("\"nats-route://{login}127.0.0.1:{}\"", node.routes))
        .collect();
    format!("name: c\nroutes: [{}]\n", urls.join(", "))
}

#[tokio::test]
async fn a_mesh_forms_from_one_seed_whoever_the_seed_is() {
    let kinds = [Kind::Broker, Kind::Old, Kind::New];
    for first in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let seed = Node::start(kinds[first], dir.path(), "name: c").await;
        let config = routes(&[&seed], "");
        let second = Node::start(kinds[(first + 1) % 3], dir.path(), &config).await;
        let third = Node::start(kinds[(first + 2) % 3], dir.path(), &config).await;
        is_full_mesh(&[seed, second, third]).await;
    }
}

#[tokio::test]
async fn a_mesh_forms_from_a_chain_with_a_login() {
    let dir = tempfile::tempdir().unwrap();
    let login = "authorization { user: r, password: secret }\n";
    let start = format!("name: c\n{login}");
    let first = Node::start(Kind::New, dir.path(), &start).await;
    let config = routes(&[&first], "r:secret@") + login;
    let second = Node::start(Kind::Broker, dir.path(), &config).await;
    let config = routes(&[&second], "r:secret@") + login;
    let third = Node::start(Kind::Old, dir.path(), &config).await;
    is_full_mesh(&[first, second, third]).await;
}

#[tokio::test]
async fn each_server_of_a_mixed_mesh_can_be_killed_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let seed = Node::start(Kind::Broker, dir.path(), "name: c").await;
    let second = Node::start(Kind::Old, dir.path(), &routes(&[&seed], "")).await;
    let third = Node::start(Kind::New, dir.path(), &routes(&[&seed, &second], "")).await;
    let mut nodes = [seed, second, third];
    for at in 0..3 {
        nodes[at].restart().await;
        is_full_mesh(&nodes).await;
    }
}

#[tokio::test]
async fn queue_members_share_by_their_number_across_kinds_of_servers() {
    const MEMBERS: usize = 100;
    const MESSAGES: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let seed = Node::start(Kind::Broker, dir.path(), "name: c").await;
    let second = Node::start(Kind::Old, dir.path(), &routes(&[&seed], "")).await;
    let third = Node::start(Kind::New, dir.path(), &routes(&[&seed], "")).await;
    let nodes = [seed, second, third];
    for from in &nodes {
        let mut members = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let mut client = node.client().await;
            let mut text: String = (0..MEMBERS)
                .map(|sid| format!("SUB work q {sid}\r\n"))
                .collect();
            text += &format!("SUB ready.{at} r\r\n");
            client.send(text.as_bytes()).await.unwrap();
            client.answers().await.unwrap();
            members.push(client);
        }
        let mut publisher = from.client().await;
        for (at, member) in members.iter_mut().enumerate() {
            meets(&mut publisher, member, &format!("ready.{at}")).await;
        }
        publisher
            .send("PUB work 0\r\n\r\n".repeat(MESSAGES).as_bytes())
            .await
            .unwrap();
        publisher.answers().await.unwrap();
        let mut shares = [0; 3];
        let all = patience::until("every message", PATIENCE, async || {
            for (member, share) in members.iter_mut().zip(&mut shares) {
                *share += member.answers().await?.matches("MSG work ").count();
            }
            ensure!(shares.iter().sum::<usize>() >= MESSAGES, "{shares:?}");
            Ok(())
        });
        all.await.unwrap();
        assert_eq!(shares.iter().sum::<usize>(), MESSAGES, "{shares:?}");
        let fair = MESSAGES / 3;
        let near = fair * 85 / 100..=fair * 115 / 100;
        assert!(
            shares.iter().all(|share| near.contains(share)),
            "{shares:?}"
        );
    }
}

#[tokio::test]
async fn a_request_is_answered_by_another_server_and_refused_when_nobody_is_there() {
    for kind in [Kind::Old, Kind::New] {
        let dir = tempfile::tempdir().unwrap();
        let ours = Node::start(Kind::Broker, dir.path(), "name: c").await;
        let theirs = Node::start(kind, dir.path(), &routes(&[&ours], "")).await;
        for (here, there) in [(&ours, &theirs), (&theirs, &ours)] {
            let (mut asking, mut answering) = (here.client().await, there.client().await);
            answering
                .send(b"SUB ask 1\r\nSUB ready 2\r\n")
                .await
                .unwrap();
            meets(&mut asking, &mut answering, "ready").await;
            asking
                .send(b"SUB in 1\r\nPUB ask in 1\r\n?\r\n")
                .await
                .unwrap();
            asking.answers().await.unwrap();
            let asked = patience::until("the request", PATIENCE, async || {
                let got = answering.answers().await?;
                ensure!(got.contains("MSG ask 1 in 1\r\n?"), "{got}");
                Ok(())
            });
            asked.await.unwrap();
            answering.send(b"PUB in 1\r\n!\r\n").await.unwrap();
            let answered = patience::until("the answer", PATIENCE, async || {
                let got = asking.answers().await?;
                ensure!(got.contains("MSG in 1 1\r\n!"), "{got}");
                Ok(())
            });
            answered.await.unwrap();
            asking.send(b"PUB nobody in 0\r\n\r\n").await.unwrap();
            let got = asking.answers().await.unwrap();
            assert!(got.contains("NATS/1.0 503"), "{got}");
        }
    }
}
