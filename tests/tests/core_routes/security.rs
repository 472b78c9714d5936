//! Who may join a cluster of real servers, and what passes between those that have (core-nats 10.5,
//! items 51 and 52; accounts and permissions of users across servers).

use std::path::Path;

use anyhow::ensure;
use certs::{profile::Profile, reload::TlsFiles};
use futures_util::future::join_all;
use tests::{certificates::Certificates, patience, wire::Wire};

use super::{
    mesh::is_full_mesh,
    node::{Kind, Node, PATIENCE, cluster, meets, routes},
    peer::hears,
};

const NAME: &str = "name: c\n";

/// Nothing that the client of one server publishes comes to that of the other.
async fn are_apart(one: &Node, other: &Node) {
    for (here, there) in [(one, other), (other, one)] {
        let (mut from, mut to) = (here.client().await, there.client().await);
        to.send(b"SUB apart 1\r\n").await.unwrap();
        to.answers().await.unwrap();
        from.send(b"PUB apart 0\r\n\r\n").await.unwrap();
        from.answers().await.unwrap();
        // News of a server that was believed to have joined may come.
        let got = to.answers().await.unwrap();
        assert!(!got.contains("MSG "), "{got}");
    }
}

#[tokio::test]
async fn clusters_of_different_names_stay_apart() {
    let clusters = Kind::PAIRS.map(|kinds| async move {
        for [first, second] in [kinds, [kinds[1], kinds[0]]] {
            let dir = tempfile::tempdir().unwrap();
            let mut seed = Node::start(first, dir.path(), NAME).await;
            let other = routes(&[&seed], "").replace(NAME, "name: d\n");
            let mut other = Node::start(second, dir.path(), &other).await;
            seed.writes("does not match").await;
            are_apart(&seed, &other).await;
            // The one who dials gets over it.
            other.run(&routes(&[&seed], ""), "").await;
            is_full_mesh(&[&seed, &other]).await;
        }
    });
    join_all(clusters).await;
}

/// All call themselves the same, or as is said.
async fn agree_on_a_name(nodes: &[&Node], expected: Option<&str>) {
    let agreed = patience::until("one name", PATIENCE, async || {
        let mut names = Vec::new();
        for node in nodes {
            let info = Wire::connect(node.routes).await?.info;
            names.push(info["cluster"].as_str().unwrap_or_default().to_owned());
        }
        let expected = expected.unwrap_or(&names[0]);
        ensure!(names.iter().all(|name| name == expected), "{names:?}");
        Ok(())
    });
    agreed.await.unwrap();
    is_full_mesh(nodes).await;
}

#[tokio::test]
async fn servers_without_a_name_agree_on_one() {
    let clusters = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let seed = Node::start(kinds[0], dir.path(), "").await;
        let nameless = routes(&[&seed], "").replace(NAME, "");
        let second = Node::start(kinds[1], dir.path(), &nameless).await;
        let third = Node::start(kinds[2], dir.path(), &nameless).await;
        agree_on_a_name(&[&seed, &second, &third], None).await;
    });
    join_all(clusters).await;
}

/// Three of the reference would not do: with a name made up by a third server its servers take on and
/// refuse the configured one in turn.
#[tokio::test]
async fn a_server_without_a_name_takes_the_other_s() {
    let clusters = Kind::PAIRS.map(|kinds| async move {
        for [first, second] in [kinds, [kinds[1], kinds[0]]] {
            let dir = tempfile::tempdir().unwrap();
            let seed = Node::start(first, dir.path(), "").await;
            let named = Node::start(second, dir.path(), &routes(&[&seed], "")).await;
            agree_on_a_name(&[&seed, &named], Some("c")).await;
        }
    });
    join_all(clusters).await;
}

#[tokio::test]
async fn a_server_with_a_wrong_password_stays_outside() {
    let clusters = Kind::PAIRS.map(|kinds| async move {
        for [first, second] in [kinds, [kinds[1], kinds[0]]] {
            let dir = tempfile::tempdir().unwrap();
            let login = "name: c\nauthorization { user: r, password: secret }\n";
            let mut seed = Node::start(first, dir.path(), login).await;
            let mut other = Node::start(second, dir.path(), &routes(&[&seed], "r:wrong@")).await;
            seed.writes("authentication error").await;
            are_apart(&seed, &other).await;
            assert!(!other.log().contains("r:wrong"), "{}", other.log());
            other.run(&routes(&[&seed], "r:secret@"), "").await;
            is_full_mesh(&[&seed, &other]).await;
        }
    });
    join_all(clusters).await;
}

/// A tls block of a cluster where each has to show a certificate.
fn tls(files: &TlsFiles) -> String {
    let TlsFiles { cert, key, ca } = files;
    format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true, timeout: 5 }}\n",
        cert.display(),
        key.display(),
        ca.display()
    )
}

fn authority(dir: &Path, name: &str) -> Certificates {
    Certificates::new(&dir.join(name)).unwrap()
}

/// In a chain the middle one dials and is dialled.
#[tokio::test]
async fn a_mesh_forms_under_tls_whoever_dials() {
    let meshes = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path(), "authority");
        let tls = ["one", "two", "three"]
            .map(|name| tls(&authority.grant(name, Profile::Route).unwrap()));
        let first = Node::start(kinds[0], dir.path(), &format!("{NAME}{}", tls[0])).await;
        let config = routes(&[&first], "") + &tls[1];
        let second = Node::start(kinds[1], dir.path(), &config).await;
        let config = routes(&[&second], "") + &tls[2];
        let third = Node::start(kinds[2], dir.path(), &config).await;
        is_full_mesh(&[&first, &second, &third]).await;
    });
    join_all(meshes).await;
}

#[tokio::test]
async fn a_server_with_a_certificate_of_others_or_for_another_use_stays_outside() {
    let clusters = Kind::PAIRS.map(|kinds| async move {
        for [first, second] in [kinds, [kinds[1], kinds[0]]] {
            let dir = tempfile::tempdir().unwrap();
            let ours = authority(dir.path(), "ours");
            let others = authority(dir.path(), "others");
            let strange = others.grant("strange", Profile::Route).unwrap();
            let one_way = ours.grant("one-way", Profile::Server).unwrap();
            for wrong in [&strange, &one_way] {
                let own = tls(&ours.grant("seed", Profile::Route).unwrap());
                let mut seed = Node::start(first, dir.path(), &format!("{NAME}{own}")).await;
                let config = routes(&[&seed], "") + &tls(wrong);
                let mut other = Node::start(second, dir.path(), &config).await;
                seed.writes("handshake error").await;
                are_apart(&seed, &other).await;
                let right = tls(&ours.grant("right", Profile::Route).unwrap());
                other.run(&(routes(&[&seed], "") + &right), "").await;
                is_full_mesh(&[&seed, &other]).await;
            }
        }
    });
    join_all(clusters).await;
}

/// `from` publishes on each subject and then on `end`; those that `to` got, which has subscribed to all.
async fn passed(from: &mut Wire, to: &mut Wire, subjects: &[&str], end: &str) -> Vec<String> {
    meets(from, to, &format!("{end}.ready")).await;
    let mut text: String = subjects
        .iter()
        .map(|subject| format!("PUB {subject} 0\r\n\r\n"))
        .collect();
    text += &format!("PUB {end} 0\r\n\r\n");
    from.send(text.as_bytes()).await.unwrap();
    from.answers().await.unwrap();
    let got = hears(to, &format!("MSG {end} ")).await;
    let subject = |line: &str| {
        line.strip_prefix("MSG ")?
            .split(' ')
            .next()
            .map(str::to_owned)
    };
    let is_probe = |subject: &String| !subjects.contains(&subject.as_str());
    got.lines()
        .filter_map(subject)
        .filter(|subject| !is_probe(subject))
        .collect()
}

#[tokio::test]
async fn only_what_the_cluster_permits_passes_between_servers() {
    const SUBJECTS: [&str; 4] = ["in.x", "out.x", "both", "other"];
    let permissions = "permissions { import: [\"in.>\", both], export: [\"out.>\", both] }\n";
    let clusters = Kind::PAIRS.map(|kinds| async move {
        for [first, second] in [kinds, [kinds[1], kinds[0]]] {
            let dir = tempfile::tempdir().unwrap();
            let guarded = format!("{NAME}{permissions}");
            let guarded = Node::start(first, dir.path(), &guarded).await;
            let open = Node::start(second, dir.path(), &routes(&[&guarded], "")).await;
            let (mut inside, mut outside) = (guarded.client().await, open.client().await);
            let mut all: String = SUBJECTS
                .iter()
                .zip(10..)
                .map(|(subject, sid)| format!("SUB {subject} {sid}\r\n"))
                .collect();
            all += "SUB in.end.> 2\r\nSUB out.end.> 3\r\nSUB in.end 4\r\nSUB out.end 5\r\n";
            for client in [&mut inside, &mut outside] {
                client.send(all.as_bytes()).await.unwrap();
                client.answers().await.unwrap();
            }
            let came = passed(&mut outside, &mut inside, &SUBJECTS, "in.end").await;
            assert_eq!(came, ["in.x", "both"], "{first:?} from {second:?}");
            // Own messages have come to both as well.
            outside.answers().await.unwrap();
            let came = passed(&mut inside, &mut outside, &SUBJECTS, "out.end").await;
            assert_eq!(came, ["out.x", "both"], "{first:?} to {second:?}");
        }
    });
    join_all(clusters).await;
}

#[tokio::test]
async fn accounts_are_apart_on_all_servers_and_together_over_all_servers() {
    let accounts = "accounts { A { users: [{ user: a, password: a }] }\n\
                    B { users: [{ user: b, password: b }] } }";
    let meshes = Kind::TRIPLES.map(|kinds| async move {
        let dir = tempfile::tempdir().unwrap();
        let nodes = cluster(kinds, dir.path(), accounts).await;
        let nodes = nodes.each_ref();
        for (at, here) in nodes.into_iter().enumerate() {
            for (to, there) in nodes.into_iter().enumerate() {
                // Nobody has subscribed to it before: members that have gone may be believed in for a while.
                let x = &format!("x.{at}.{to}");
                let subscribe = format!("SUB {x} 1\r\nSUB {x} q 2\r\nSUB end 3\r\nSUB end.> 4\r\n");
                let (mut a, mut b) = (there.client_as("a").await, there.client_as("b").await);
                for client in [&mut a, &mut b] {
                    client.send(subscribe.as_bytes()).await.unwrap();
                    client.answers().await.unwrap();
                }
                let mut from_a = here.client_as("a").await;
                let mut from_b = here.client_as("b").await;
                let came = passed(&mut from_a, &mut a, &[x], "end").await;
                assert_eq!(came, [&**x, x], "{:?} to {:?}", here.kind, there.kind);
                // What leaked before would be counted here, for it would have come earlier.
                let came = passed(&mut from_b, &mut b, &[x], "end").await;
                assert_eq!(came, [&**x, x], "{:?} to {:?}", here.kind, there.kind);
            }
        }
    });
    join_all(meshes).await;
}

#[tokio::test]
async fn a_user_gets_and_gives_no_more_over_routes_than_on_one_server() {
    const SUBJECTS: [&str; 3] = ["open.x", "secret.x", "other.x"];
    let users = "authorization { users: [\n\
        { user: all, password: all }\n\
        { user: limited, password: limited, permissions: {\n\
          publish: { deny: \"secret.>\" }, subscribe: { allow: \">\", deny: \"secret.>\" } } }\n] }";
    let clusters = Kind::PAIRS.map(|kinds| async move {
        for [first, second] in [kinds, [kinds[1], kinds[0]]] {
            let dir = tempfile::tempdir().unwrap();
            let here = Node::start_with(first, dir.path(), NAME, users).await;
            let there = routes(&[&here], "");
            let there = Node::start_with(second, dir.path(), &there, users).await;
            let mut limited = there.client_as("limited").await;
            let mut all = here.client_as("all").await;
            for client in [&mut limited, &mut all] {
                client.send(b"SUB > 1\r\n").await.unwrap();
                client.answers().await.unwrap();
            }
            let came = passed(&mut all, &mut limited, &SUBJECTS, "end").await;
            assert_eq!(came, ["open.x", "other.x"], "{first:?} to {second:?}");
            all.answers().await.unwrap();
            let came = passed(&mut limited, &mut all, &SUBJECTS, "end").await;
            assert_eq!(came, ["open.x", "other.x"], "{second:?} to {first:?}");
        }
    });
    join_all(clusters).await;
}
