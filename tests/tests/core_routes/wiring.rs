//! Interest and messages between a server and a peer of bytes, the same for every kind of server
//! (core-nats 10.5, items 41 to 44, 49, 52 and 53).

use serde_json::json;

use super::{
    node::{Kind, Node},
    peer::{Manner, Peer, hears, interest, sorted_interest, without_interest},
};

const CLUSTER: &str = "name: c";

#[tokio::test]
async fn interest_is_told_at_the_first_subscription_and_of_queues_at_every_change() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut peer = Peer::join(&node, "PEER").await;
        let (mut client, mut other) = (node.client().await, node.client().await);
        let subscribe = b"SUB a 1\r\nSUB a 1\r\nSUB a 2\r\nSUB w q 3\r\nSUB w q 4\r\nUNSUB 4\r\n";
        client.send(subscribe).await.unwrap();
        client.answers().await.unwrap();
        other.send(b"SUB a 1\r\nSUB end 2\r\n").await.unwrap();
        let said = peer.hears(&["RS+ $G end\r\n"]).await;
        let expected = [
            "RS+ $G a",
            "RS+ $G w q 1",
            "RS+ $G w q 2",
            "RS+ $G w q 1",
            "RS+ $G end",
        ];
        assert_eq!(interest(&said), expected, "{kind:?}");
        drop(client);
        let said = peer.hears(&["RS- "]).await;
        assert_eq!(interest(&said), ["RS- $G w q"], "{kind:?}");
        drop(other);
        let said = peer.hears(&["RS- $G a\r\n", "RS- $G end\r\n"]).await;
        assert_eq!(
            sorted_interest(&said),
            ["RS- $G a", "RS- $G end"],
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn every_newcomer_is_told_of_everything() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut client = node.client().await;
        client
            .send(
                b"SUB a 1\r\nSUB a 2\r\nSUB *.> q 3\r\nSUB *.> q 4\r\nSUB *.> r 5\r\nSUB *.> 6\r\n",
            )
            .await
            .unwrap();
        client.answers().await.unwrap();
        for id in ["ONE", "TWO"] {
            let mut peer = Peer::join(&node, id).await;
            let said = peer.hears(&[]).await;
            let expected = ["RS+ $G *.>", "RS+ $G *.> q 2", "RS+ $G *.> r 1", "RS+ $G a"];
            assert_eq!(sorted_interest(&said), expected, "{kind:?}");
            // Another id, for it may not have been noticed yet that this one is gone.
            drop(peer);
        }
    }
}

#[tokio::test]
async fn one_line_serves_plain_and_queue_interest() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut peer = Peer::join(&node, "PEER").await;
        peer.tells("RS+ $G a\r\nRS+ $G *\r\nRS+ $G a q 1\r\nRS+ $G only q 3\r\nRS+ $G plain.>\r\n")
            .await;
        let mut client = node.client().await;
        for (publish, expected) in [
            ("PUB a 2\r\nhi\r\n", "RMSG $G a | q 2\r\nhi\r\n"),
            ("PUB a b 2\r\nhi\r\n", "RMSG $G a + b q 2\r\nhi\r\n"),
            ("PUB b 2\r\nhi\r\n", "RMSG $G b 2\r\nhi\r\n"),
            ("PUB plain.b c 2\r\nhi\r\n", "RMSG $G plain.b c 2\r\nhi\r\n"),
            ("PUB only 2\r\nhi\r\n", "RMSG $G only | q 2\r\nhi\r\n"),
            (
                "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                "HMSG $G a | q 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            ),
            (
                "HPUB plain.b c 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                "HMSG $G plain.b c 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            ),
        ] {
            client.send(publish.as_bytes()).await.unwrap();
            client.answers().await.unwrap();
            let said = peer.hears(&["hi\r\n"]).await;
            assert_eq!(without_interest(&said), expected, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_s_message_is_for_plain_subscribers_and_one_of_each_queue_that_it_lists() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut peer = Peer::join(&node, "PEER").await;
        let mut client = node.client().await;
        client
            .send(b"SUB b 1\r\nSUB b q 2\r\nSUB b q 3\r\nSUB b r 4\r\nSUB b other 5\r\n")
            .await
            .unwrap();
        client.answers().await.unwrap();
        peer.tells(
            "RMSG $G b 1\r\n1\r\nRMSG $G b | q 1\r\n2\r\nRMSG $G b + in q r 1\r\n3\r\n\
             HMSG $G b in 12 13\r\nNATS/1.0\r\n\r\n4\r\nHMSG $G b | r 12 13\r\nNATS/1.0\r\n\r\n5\r\n\
             RMSG $G b | nobody 1\r\n6\r\n",
        )
        .await;
        let got = hears(&mut client, "MSG b 1 1\r\n6\r\n").await;
        let times = |line: &str| got.matches(line).count();
        assert_eq!(times("MSG b 1 1\r\n"), 3, "{kind:?}: {got}");
        assert_eq!(times("MSG b 1 in 1\r\n3\r\n"), 1, "{kind:?}: {got}");
        let of_group =
            |tail: &str| times(&format!("MSG b 2 {tail}")) + times(&format!("MSG b 3 {tail}"));
        assert_eq!(of_group("1\r\n2\r\n"), 1, "{kind:?}: {got}");
        assert_eq!(of_group("in 1\r\n3\r\n"), 1, "{kind:?}: {got}");
        assert_eq!(of_group(""), 2, "{kind:?}: {got}");
        assert_eq!(times("MSG b 4 in 1\r\n3\r\n"), 1, "{kind:?}: {got}");
        assert_eq!(
            times("HMSG b 4 12 13\r\nNATS/1.0\r\n\r\n5\r\n"),
            1,
            "{kind:?}: {got}"
        );
        assert_eq!(times("MSG b 4 "), 2, "{kind:?}: {got}");
        assert_eq!(times("MSG b 5 "), 0, "{kind:?}: {got}");
        assert_eq!(
            times("HMSG b 1 in 12 13\r\nNATS/1.0\r\n\r\n4\r\n"),
            1,
            "{kind:?}: {got}"
        );
    }
}

#[tokio::test]
async fn a_message_from_one_server_never_goes_to_another() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut one = Peer::join(&node, "ONE").await;
        let mut two = Peer::join(&node, "TWO").await;
        two.tells("RS+ $G a\r\nRS+ $G a q 1\r\n").await;
        one.tells("RS+ $G a\r\nRMSG $G a 6\r\nsecond\r\n").await;
        let mut client = node.client().await;
        client.send(b"SUB a q 1\r\n").await.unwrap();
        client.answers().await.unwrap();
        one.tells("RMSG $G a | q 5\r\nthird\r\n").await;
        hears(&mut client, "third").await;
        client
            .send(b"UNSUB 1\r\nPUB a 5\r\nfirst\r\n")
            .await
            .unwrap();
        let said = two.hears(&["first"]).await;
        assert!(
            !said.contains("second") && !said.contains("third"),
            "{kind:?}: {said}"
        );
        let said = one.hears(&["first"]).await;
        assert!(
            !said.contains("second") && !said.contains("third"),
            "{kind:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_queue_message_that_comes_too_late_is_handed_on_once() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut one = Peer::join(&node, "ONE").await;
        let mut two = Peer::join(&node, "TWO").await;
        two.tells("RS+ $G a q 1\r\n").await;
        // Members were here when it was sent.
        one.tells("RMSG $G a | q 4\r\nlate\r\n").await;
        two.hears(&["RMSG $G a | q 4\r\nlate\r\n"]).await;
        // Not back to where it came from, even if nobody else has members.
        one.tells("RS+ $G a q 1\r\n").await;
        two.tells("RS- $G a q\r\n").await;
        one.tells("RMSG $G a | q 4\r\nlate\r\n").await;
        let said = one.hears(&[]).await;
        assert!(!said.contains("late"), "{kind:?}: {said}");
    }
}

#[tokio::test]
async fn a_queue_message_that_is_handed_on_finds_the_server_with_members() {
    const MESSAGES: usize = 50;
    // The reference loses some if the sender has members itself.
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(Kind::Broker, dir.path(), CLUSTER).await;
    let mut one = Peer::join(&node, "ONE").await;
    let mut two = Peer::join(&node, "TWO").await;
    two.tells("RS+ $G a q 1\r\n").await;
    one.tells("RS+ $G a q 9\r\n").await;
    let late = "RMSG $G a | q 4\r\nlate\r\n".repeat(MESSAGES);
    one.tells(&late).await;
    let said = two.hears(&[&late]).await;
    assert_eq!(said.matches("late").count(), MESSAGES, "{said}");
}

#[tokio::test]
async fn subscriptions_that_end_by_themselves_leave_no_interest_behind() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut peer = Peer::join(&node, "PEER").await;
        let mut client = node.client().await;
        let ends = b"SUB a 1\r\nUNSUB 1 2\r\nSUB w q 2\r\nUNSUB 2 1\r\nSUB b 3\r\nUNSUB 3 9\r\nSUB c 4\r\n";
        client.send(ends).await.unwrap();
        peer.hears(&["RS+ $G c\r\n"]).await;
        // From a peer, from here, and by the end of the client.
        peer.tells("RMSG $G a 1\r\n1\r\nRMSG $G w | q 1\r\n1\r\n")
            .await;
        let said = peer.hears(&["RS- "]).await;
        assert_eq!(interest(&said), ["RS- $G w q"], "{kind:?}");
        client.send(b"PUB a 1\r\n2\r\n").await.unwrap();
        let said = peer.hears(&["RS- "]).await;
        assert_eq!(interest(&said), ["RS- $G a"], "{kind:?}");
        let got = client.answers().await.unwrap();
        assert_eq!(got.matches("MSG a 1 1\r\n").count(), 2, "{kind:?}: {got}");
        drop(client);
        let said = peer.hears(&["RS- $G c\r\n", "RS- $G b\r\n"]).await;
        assert_eq!(sorted_interest(&said), ["RS- $G b", "RS- $G c"], "{kind:?}");
    }
}

#[tokio::test]
async fn headers_are_taken_off_for_a_peer_without() {
    let manner = Manner {
        connect: json!({"headers": false}),
        info: json!({"headers": false}),
    };
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), CLUSTER).await;
        let mut peer = Peer::join_in(&node, "PEER", &manner).await;
        peer.tells("RS+ $G a\r\nRS+ $G w q 1\r\n").await;
        let mut client = node.client().await;
        let publish =
            b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHPUB a b 12 12\r\nNATS/1.0\r\n\r\n\r\n\
                        HPUB w 12 14\r\nNATS/1.0\r\n\r\nyo\r\n";
        client.send(publish).await.unwrap();
        client.answers().await.unwrap();
        let said = peer.hears(&["yo\r\n"]).await;
        let expected = "RMSG $G a 2\r\nhi\r\nRMSG $G a b 0\r\n\r\nRMSG $G w | q 2\r\nyo\r\n";
        assert_eq!(without_interest(&said), expected, "{kind:?}");
    }
}

#[tokio::test]
async fn accounts_are_worlds_of_their_own() {
    let accounts = "accounts { A { users: [{ user: a, password: a }] }\n\
                    B { users: [{ user: b, password: b }] } }\nno_auth_user: a";
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start_with(kind, dir.path(), CLUSTER, accounts).await;
        let mut peer = Peer::join(&node, "PEER").await;
        // Nobody knows the last one, which harms nothing.
        peer.tells(
            "RS+ B x\r\nRS+ A y\r\nRS+ NOBODY z\r\nRS- NOBODY other\r\nRMSG NOBODY x 0\r\n\r\n",
        )
        .await;
        let mut client = node.client().await;
        client
            .send(b"SUB a 1\r\nSUB w q 2\r\nPUB x 1\r\nx\r\nPUB z 1\r\nz\r\nPUB y 1\r\ny\r\n")
            .await
            .unwrap();
        client.answers().await.unwrap();
        let said = peer.hears(&["RMSG A y 1\r\ny\r\n"]).await;
        assert_eq!(interest(&said), ["RS+ A a", "RS+ A w q 1"], "{kind:?}");
        assert!(
            !said.contains("RMSG B") && !said.contains("z\r\n"),
            "{kind:?}: {said}"
        );
        peer.tells("RMSG B a 1\r\nb\r\nRMSG $G a 1\r\ng\r\nRMSG A a 1\r\na\r\n")
            .await;
        assert_eq!(
            hears(&mut client, "MSG").await,
            "MSG a 1 1\r\na\r\n",
            "{kind:?}"
        );
        drop(client);
        let said = peer.hears(&["RS- A a\r\n", "RS- A w q\r\n"]).await;
        assert_eq!(sorted_interest(&said), ["RS- A a", "RS- A w q"], "{kind:?}");
    }
}

#[tokio::test]
async fn only_what_is_permitted_passes_in_each_direction() {
    let cluster =
        "name: c\npermissions { import: [\"in.>\", \"both\"], export: [\"out.>\", \"both\"] }";
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(kind, dir.path(), cluster).await;
        let mut peer = Peer::join(&node, "PEER").await;
        peer.tells("RS+ $G in.a\r\nRS+ $G out.a\r\nRS+ $G both\r\n")
            .await;
        let mut client = node.client().await;
        client
            .send(b"SUB out.b 1\r\nSUB in.b 2\r\nSUB both 3\r\nPUB in.a 2\r\nia\r\nPUB out.a 2\r\noa\r\nPUB both 2\r\nbo\r\n")
            .await
            .unwrap();
        client.answers().await.unwrap();
        let said = peer.hears(&["bo\r\n"]).await;
        assert_eq!(
            interest(&said),
            ["RS+ $G in.b", "RS+ $G both"],
            "{kind:?}: {said}"
        );
        assert!(
            said.contains("RMSG $G out.a 2\r\noa\r\n"),
            "{kind:?}: {said}"
        );
        assert!(!said.contains("ia\r\n"), "{kind:?}: {said}");
        peer.tells("RMSG $G out.b 2\r\nob\r\nRMSG $G in.b 2\r\nib\r\nRMSG $G both 2\r\nby\r\n")
            .await;
        let got = hears(&mut client, "by\r\n").await;
        assert!(got.contains("MSG in.b 2 2\r\nib\r\n"), "{kind:?}: {got}");
        // A peer that sends what was not asked for is believed by the reference.
        assert_eq!(got.contains("ob\r\n"), kind != Kind::Broker, "{got}");
    }
}
