//! Peers that say nothing, too little, or nonsense, and clients and other servers beside them.

use futures_util::future::join_all;
use tests::{patience, wire::Wire};

use super::{
    node::{Kind, Node, PATIENCE},
    peer::{Manner, Peer, hears, introduced, introduction},
};

const CLUSTER: &str = "name: c";
const UNKNOWN: &str = "-ERR 'Unknown Protocol Operation'\r\n";

/// A client and a well-behaved peer that are served as they should be.
struct Bystanders {
    client: Wire,
    peer: Peer,
    turns: usize,
}

impl Bystanders {
    async fn at(node: &Node) -> Self {
        let mut peer = Peer::join(node, "BYSTANDER").await;
        peer.tells("RS+ $G to.peer.*\r\n").await;
        let mut client = node.client().await;
        client.send(b"SUB to.client.* 1\r\n").await.unwrap();
        client.answers().await.unwrap();
        let turns = 0;
        Self {
            client,
            peer,
            turns,
        }
    }

    /// A message from each to the other arrives.
    async fn are_served(&mut self) {
        self.turns += 1;
        let turn = self.turns;
        let publish = format!("PUB to.peer.{turn} 0\r\n\r\n");
        self.client.send(publish.as_bytes()).await.unwrap();
        self.peer
            .hears(&[&format!("RMSG $G to.peer.{turn} 0\r\n")])
            .await;
        self.peer
            .tells(&format!("RMSG $G to.client.{turn} 0\r\n\r\n"))
            .await;
        hears(&mut self.client, &format!("MSG to.client.{turn} 1 0\r\n")).await;
    }
}

#[tokio::test]
async fn nonsense_ends_the_route_that_it_comes_by_in_the_reference_s_words() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut bystanders = Bystanders::at(&node).await;
        for (said, expected) in [
            ("FOO\r\n", UNKNOWN),
            ("R\r\n", UNKNOWN),
            ("RS+\r\n", UNKNOWN),
            ("XS+ $G a\r\n", UNKNOWN),
            ("MSG a 1 1\r\nx\r\n", UNKNOWN),
            ("RMSG $G a 1\r\nhello\r\n", UNKNOWN),
            ("RS+ $G\r\n", ""),
            ("RS+ $G a q\r\n", ""),
            ("RS+ $G a q 1 2\r\n", ""),
            ("RMSG $G a\r\n", ""),
            ("RMSG $G a x\r\n", ""),
            ("RMSG $G a -1\r\n", ""),
            ("HMSG $G a 3 2\r\nhi\r\n", ""),
            ("INFO x\r\n", ""),
            ("-ERR 'no'\r\n", ""),
        ] {
            let mut peer = introduced(&node, "PEER", &Manner::default()).await;
            peer.answers().await.unwrap();
            peer.send(said.as_bytes()).await.unwrap();
            let words = peer.last_words().await.unwrap();
            assert!(words.ends_with(expected), "{kind:?}: {said:?}: {words}");
            let errors = words.matches("-ERR").count();
            assert_eq!(
                errors,
                usize::from(!expected.is_empty()),
                "{kind:?}: {said:?}: {words}"
            );
            bystanders.are_served().await;
        }
    }
}

#[tokio::test]
async fn what_is_unusual_but_harmless_goes_by() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut peer = Peer::join(&node, "PEER").await;
        let deep = "a.".repeat(20_000);
        peer.tells(&format!(
            "rs+ $G small\r\nRS+  $G \tblanks \r\nRS- $G never\r\nRS+ NOBODY a\r\nRMSG NOBODY a 1\r\nx\r\n\
             RMSG $G a..b 1\r\nx\r\nRMSG $G a.* 1\r\nx\r\n+OK\r\nRS+ $G {deep}a\r\nRS- $G {deep}a\r\n"
        ))
        .await;
        let mut client = node.client().await;
        client
            .send(b"PUB small 1\r\n1\r\nPUB blanks 1\r\n2\r\n")
            .await
            .unwrap();
        peer.hears(&["RMSG $G small 1\r\n1\r\n", "RMSG $G blanks 1\r\n2\r\n"])
            .await;
    }
}

#[tokio::test]
async fn a_line_without_end_is_not_kept_for_ever() {
    // Only bounded for clients before.
    for kind in [Kind::New, Kind::Broker] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut bystanders = Bystanders::at(&node).await;
        let mut peer = Peer::join(&node, "PEER").await;
        let endless = format!("RS+ $G {}", "a".repeat(70_000));
        peer.send(endless.as_bytes()).await.unwrap();
        let words = peer.last_words().await.unwrap();
        let expected = "-ERR 'maximum control line exceeded'\r\n";
        assert!(words.ends_with(expected), "{kind:?}: {words}");
        bystanders.are_served().await;
    }
}

#[tokio::test]
async fn a_peer_may_stop_at_any_byte_of_its_introduction() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(Kind::Broker, dir.path(), CLUSTER).await;
    let mut bystanders = Bystanders::at(&node).await;
    let text = introduction("PEER", &Manner::default()).concat();
    // All at once, so that those who wait are many; half of them go, the others are shown out.
    let prefixes = join_all((0..text.len()).map(async |end| {
        let mut wire = Wire::connect(node.routes).await.unwrap();
        wire.send(&text.as_bytes()[..end]).await.unwrap();
        wire
    }));
    let (gone, waiting): (Vec<_>, Vec<_>) = prefixes
        .await
        .into_iter()
        .enumerate()
        .partition(|(end, _)| end % 2 == 0);
    drop(gone);
    bystanders.are_served().await;
    let shown_out = join_all(waiting.into_iter().map(async |(end, mut wire)| {
        let words = wire.last_words().await.unwrap();
        assert_eq!(
            words, "-ERR 'Authentication Timeout'\r\n",
            "after {end} bytes"
        );
    }));
    shown_out.await;
    bystanders.are_served().await;
    // A whole one is welcome still.
    let mut peer = Peer::join(&node, "PEER").await;
    peer.hears(&["RS+ $G to.client.*\r\n"]).await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_given_up() {
    let pings = "ping_interval: \"1s\"\nping_max: 1";
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        // Before, routes were pinged as clients are.
        let cluster = match kind {
            Kind::Old => CLUSTER.to_owned(),
            Kind::New | Kind::Broker => format!("{CLUSTER}\n{pings}"),
        };
        let node = Node::start_with(kind, dir.path(), &cluster, pings).await;
        // A busy machine may take so long to join it that it is given up before.
        let mut deaf = introduced(&node, "DEAF", &Manner::default()).await;
        let words = deaf.last_words().await.unwrap();
        assert!(
            words.ends_with("-ERR 'Stale Connection'\r\n"),
            "{kind:?}: {words}"
        );
        // It does not answer pings either, so it has to be quick.
        let served = patience::until("a client is served", PATIENCE, async || {
            let mut client = Wire::connect(node.port).await?;
            client.send(b"CONNECT {\"verbose\":false}\r\n").await?;
            client.answers().await
        });
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_harms_nobody_else() {
    const BODY_BYTES: usize = 500_000;
    const MESSAGES: usize = 100;
    let cluster = format!("{CLUSTER}\nwrite_deadline: \"1s\"");
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(Kind::Broker, dir.path(), &cluster).await;
    let mut bystanders = Bystanders::at(&node).await;
    let mut stuck = Peer::join(&node, "STUCK").await;
    stuck.tells("RS+ $G to.stuck\r\n").await;
    let mut publisher = node.client().await;
    let publish = format!(
        "PUB to.stuck {BODY_BYTES}\r\n{}\r\n",
        "x".repeat(BODY_BYTES)
    );
    for _ in 0..MESSAGES {
        publisher.send(publish.as_bytes()).await.unwrap();
        bystanders.are_served().await;
    }
    publisher.answers().await.unwrap();
    // It has been given more time once, then not any more.
    let given_up = patience::until("it is given up", PATIENCE, async || {
        bystanders.are_served().await;
        let log = node.log();
        anyhow::ensure!(log.contains("Slow Consumer State: WriteDeadline"), "{log}");
        Ok(())
    });
    given_up.await.unwrap();
    Peer::join_again(&node, "STUCK")
        .await
        .hears(&["RS+ $G to.client.*\r\n"])
        .await;
    bystanders.are_served().await;
}
