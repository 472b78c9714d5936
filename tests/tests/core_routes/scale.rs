//! Many subscriptions (core-nats 10.5, item 54): they reach another server in seconds, and clients do
//! not notice that they do.

use std::time::Duration;

use anyhow::ensure;
use tests::{patience, wire::Wire};

use super::{
    node::{Kind, Node, PATIENCE, meets},
    peer::{Manner, interest, introduced},
};

const SUBSCRIPTIONS: usize = 100_000;

/// Most that the server may do before it answers a client, as processor time: the machine may be busy with other things,
/// and it is not the server that a client waits for then.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// A client of a server that subscribes to very much, and has done so.
async fn subscriber(node: &Node) -> Wire {
    let mut client = node.client().await;
    let all: String = (0..SUBSCRIPTIONS)
        .map(|number| format!("SUB many.{} {number}\r\n", subject(number)))
        .collect();
    client.send(all.as_bytes()).await.unwrap();
    client.answers().await.unwrap();
    client
}

fn subject(number: usize) -> String {
    format!("{}.{}", number % 100, number)
}

/// The most that a server did before it answered a ping of a client while something went on.
async fn longest_gap<R>(
    node: &Node,
    client: &mut Wire,
    work: impl Future<Output = R>,
) -> (R, Duration) {
    let mut longest = Duration::ZERO;
    let mut work = std::pin::pin!(work);
    loop {
        let asked = node.processor_time();
        let pings = async {
            client.answers().await.unwrap();
            longest = longest.max(node.processor_time() - asked);
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        tokio::select! {
            done = &mut work => return (done, longest.max(node.processor_time() - asked)),
            () = pings => {}
        }
    }
}

#[tokio::test]
async fn a_hundred_thousand_subscriptions_reach_a_newcomer_while_clients_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(Kind::Broker, dir.path(), "name: c").await;
    let client = subscriber(&node).await;
    let mut other = node.client().await;
    let work = async {
        let mut peer = introduced(&node, "PEER", &Manner::default()).await;
        let said = peer.answers().await.unwrap();
        (peer, said)
    };
    let ((mut peer, said), gap) = longest_gap(&node, &mut other, work).await;
    let mut told = interest(&said);
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), SUBSCRIPTIONS);
    assert!(gap < LONGEST_GAP, "a client waited for {gap:?} of work");
    // All of them end at once.
    let work = async {
        drop(client);
        let mut count = 0;
        let gone = patience::until("the end of them", PATIENCE, async || {
            count += interest(&peer.answers().await?).len();
            ensure!(count == SUBSCRIPTIONS, "{count}");
            Ok(())
        });
        gone.await.unwrap();
    };
    let ((), gap) = longest_gap(&node, &mut other, work).await;
    assert!(gap < LONGEST_GAP, "a client waited for {gap:?} of work");
}

#[tokio::test]
async fn a_hundred_thousand_subscriptions_pass_between_servers_while_clients_are_served() {
    for kind in [Kind::New, Kind::Old, Kind::Broker] {
        let dir = tempfile::tempdir().unwrap();
        let ours = Node::start(Kind::Broker, dir.path(), "name: c").await;
        let mut here = subscriber(&ours).await;
        here.send(b"SUB ready.* r\r\n").await.unwrap();
        let mut other = ours.client().await;
        let work = async {
            let routes = format!(
                "name: c\nroutes: [\"nats-route://127.0.0.1:{}\"]",
                ours.routes
            );
            let theirs = Node::start(kind, dir.path(), &routes).await;
            let mut there = theirs.client().await;
            let mut back = subscriber(&theirs).await;
            back.send(b"SUB ready.* r\r\n").await.unwrap();
            // What was asked for last is known, so everything is.
            let from_here = ours.client().await;
            knows_all(&mut there, &mut here, "there").await;
            knows_all(&mut { from_here }, &mut back, "here").await;
            (theirs, there, back)
        };
        let (_held, gap) = longest_gap(&ours, &mut other, work).await;
        assert!(
            gap < LONGEST_GAP,
            "{kind:?}: a client waited for {gap:?} of work"
        );
    }
}

/// The other server's client hears of the last subscription made, and of some of the others.
async fn knows_all(from: &mut Wire, to: &mut Wire, name: &str) {
    meets(from, to, &format!("ready.{name}")).await;
    for number in (0..SUBSCRIPTIONS).step_by(SUBSCRIPTIONS / 50) {
        let subject = format!("many.{}", subject(number));
        let publish = format!("PUB {subject} 1\r\n!\r\n");
        from.send(publish.as_bytes()).await.unwrap();
        from.answers().await.unwrap();
        let arrived = patience::until(&subject, PATIENCE, async || {
            let got = to.answers().await?;
            ensure!(
                got.contains(&format!("MSG {subject} {number} 1\r\n")),
                "{got}"
            );
            Ok(())
        });
        arrived.await.unwrap();
    }
}
