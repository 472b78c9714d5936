//! Who is let in: by password, token, nkey and certificate, as every library shows them.

use std::fs;

use certs::{profile::Profile, reload::TlsFiles};
use tests::{certificates::Certificates, core_client::Library, nkey::UserKey};

use crate::{Applications, server::Server};

/// The words of a server for everybody who is not let in.
const REFUSED: &str = "authorization violation";

fn flags(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

async fn all_are_refused(mut applications: Applications) {
    for (library, error) in applications.all_fail().await {
        let words = error.to_lowercase().replace('_', " ");
        assert!(words.contains(REFUSED), "{library}: {error}");
    }
}

#[tokio::test]
async fn passwords_let_in_whoever_knows_them() {
    let server = Server::start("authorization { users: [{ user: app, password: pass }] }").await;
    let right = flags(&["--user=app", "--password=pass"]);
    Applications::start("login", &server, &right)
        .all_finish()
        .await;
    all_are_refused(Applications::start(
        "login",
        &server,
        &flags(&["--user=app", "--password=other"]),
    ))
    .await;
}

#[tokio::test]
async fn a_token_lets_in_whoever_knows_it() {
    let server = Server::start("authorization { token: pass }").await;
    Applications::start("login", &server, &flags(&["--token=pass"]))
        .all_finish()
        .await;
    all_are_refused(Applications::start(
        "login",
        &server,
        &flags(&["--token=other"]),
    ))
    .await;
}

#[tokio::test]
async fn an_nkey_lets_in_whoever_has_its_seed() {
    let dir = tempfile::tempdir().unwrap();
    let seed = |name: &str| {
        let key = UserKey::generate().unwrap();
        let file = dir.path().join(name);
        fs::write(&file, key.seed()).unwrap();
        (key, vec![format!("--seed={}", file.display())])
    };
    let (key, right) = seed("right");
    let (_, wrong) = seed("wrong");
    let users = format!("authorization {{ users: [{{ nkey: {} }}] }}", key.public());
    let server = Server::start(&users).await;
    // async-nats would bring another Ed25519, and with it second versions of much of the tree.
    let able = [Library::Go, Library::Node, Library::Python, Library::Java];
    Applications::start_on(&able, "login", &server, &right)
        .all_finish()
        .await;
    all_are_refused(Applications::start_on(&able, "login", &server, &wrong)).await;
}

#[tokio::test]
async fn a_certificate_of_the_authority_is_needed_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(dir.path()).unwrap();
    let TlsFiles { ca, cert, key } = certificates.grant("server", Profile::Server).unwrap();
    let server = Server::start(&format!(
        "tls {{ ca_file: \"{}\", cert_file: \"{}\", key_file: \"{}\", verify: true, timeout: 60 }}",
        ca.display(),
        cert.display(),
        key.display()
    ))
    .await;

    let TlsFiles { ca, cert, key } = certificates.grant("client", Profile::Client).unwrap();
    let trust = vec![format!("--ca={}", ca.display())];
    let own = vec![
        format!("--cert={}", cert.display()),
        format!("--key={}", key.display()),
    ];
    Applications::start("login", &server, &[trust.clone(), own].concat())
        .all_finish()
        .await;
    Applications::start("login", &server, &trust)
        .all_fail()
        .await;
}
