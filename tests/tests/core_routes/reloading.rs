//! What a reload of the configuration does to routes that live, the same for every kind of server.

use std::path::Path;

use anyhow::ensure;
use certs::{inspect, profile::Profile, reload::TlsFiles};
use data_encoding::HEXLOWER;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use tests::{certificates::Certificates, patience, wire::Wire};

use super::{
    node::{Kind, Node, PATIENCE, meets},
    peer::{Manner, Peer},
};

fn login(password: &str) -> String {
    format!("name: c\nauthorization {{ user: r, password: {password} }}")
}

fn knowing(password: &str) -> Manner {
    Manner {
        connect: json!({"user": "r", "pass": password}),
        info: json!({}),
    }
}

#[tokio::test]
async fn whoever_came_with_another_password_has_to_show_the_new_one() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::start(kind, dir.path(), &login("one")).await;
        let mut peer = Peer::join_in(&node, "PEER", &knowing("one")).await;
        node.reload(&login("two"), "").await;
        let words = peer.last_words().await.unwrap();
        assert!(
            words.ends_with("-ERR 'Authorization Violation'\r\n"),
            "{kind:?}: {words}"
        );
        let mut peer = Peer::join_in(&node, "PEER", &knowing("two")).await;
        // Something else that changes does not concern it.
        node.reload(&(login("two") + "\nno_advertise: true"), "")
            .await;
        peer.tells("RS+ $G a\r\n").await;
        let mut client = node.client().await;
        client.send(b"PUB a 0\r\n\r\n").await.unwrap();
        peer.hears(&["RMSG $G a 0\r\n"]).await;
    }
}

/// TLS with a certificate, and the pins of those that are let in.
fn tls(files: &TlsFiles, pins: &[&str]) -> String {
    format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", pinned_certs: {pins:?} }}\n",
        files.cert.display(),
        files.key.display(),
        files.ca.display(),
    )
}

/// As `pinned_certs` wants it.
fn pin(certificate: &Path) -> String {
    let leaf = CertificateDer::from_pem_file(certificate).unwrap();
    HEXLOWER.encode(&inspect::spki_sha256(&leaf).unwrap())
}

/// Waits until nobody answers, here or elsewhere.
async fn hears_of_nobody(client: &mut Wire, subject: &str) {
    client.send(b"SUB answer.* 1\r\n").await.unwrap();
    let request = format!("PUB {subject} answer.1 0\r\n\r\n");
    let alone = patience::until("nobody is there", PATIENCE, async || {
        client.send(request.as_bytes()).await?;
        let got = client.answers().await?;
        ensure!(got.contains("NATS/1.0 503"), "{got}");
        Ok(())
    });
    alone.await.unwrap();
}

#[tokio::test]
async fn a_route_falls_when_its_certificate_is_pinned_no_more() {
    // The older one loses all its routes by any reload with TLS.
    for kind in [Kind::New, Kind::Broker] {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(dir.path()).unwrap();
        let [ours, theirs, other] = ["ours", "theirs", "other"]
            .map(|name| certificates.grant(name, Profile::Route).unwrap());
        let (pinned, other) = (pin(&theirs.cert), pin(&other.cert));
        let routes =
            |node: &Node| format!("routes: [\"nats-route://localhost:{}\"]\n", node.routes);
        // One that accepts, then one that dials.
        for dials in [false, true] {
            let there = format!("name: c\n{}", tls(&theirs, &[]));
            let with = |pins: &[&str]| format!("name: c\n{}", tls(&ours, pins));
            let both = with(&[&pinned, &other]);
            let (mut node, peer, more) = if dials {
                let peer = Node::start(Kind::New, dir.path(), &there).await;
                let more = routes(&peer);
                let node = Node::start(kind, dir.path(), &(both + &more)).await;
                (node, peer, more)
            } else {
                let node = Node::start(kind, dir.path(), &both).await;
                let peer = Node::start(Kind::New, dir.path(), &(there + &routes(&node))).await;
                (node, peer, String::new())
            };
            let (mut from, mut to) = (node.client().await, peer.client().await);
            to.send(b"SUB a 1\r\n").await.unwrap();
            meets(&mut from, &mut to, "a").await;
            // One of two pins is enough.
            node.reload(&(with(&[&pinned]) + &more), "").await;
            meets(&mut from, &mut to, "a").await;
            let log = node.log();
            assert!(!log.contains("connection closed"), "{kind:?}: {log}");
            node.reload(&(with(&[&other]) + &more), "").await;
            hears_of_nobody(&mut from, "a").await;
        }
    }
}
