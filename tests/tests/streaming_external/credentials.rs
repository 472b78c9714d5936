//! Who the broker is to an external server.

use std::{fs, path::Path};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tests::nkey::UserKey;

use super::stage::{Broker, Nats, RELEASES};

const PASSWORD: &str = "hunter2pass";

fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("stan.conf");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Comes up on a server that asks for something, by flags alone.
async fn is_let_in(nats: &str, flags: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::started(dir.path(), RELEASES[0], nats).await;
    let mut broker = Broker::on(&nats, dir.path(), flags).await;
    assert!(broker.stop().await.success());
}

#[tokio::test]
async fn n06_user_password_and_token_come_from_the_command_line() {
    let users = format!("authorization {{ user: ivan, password: {PASSWORD} }}");
    is_let_in(&users, &["-user", "ivan", "-pass", PASSWORD]).await;
    let token = format!("authorization {{ token: {PASSWORD} }}");
    is_let_in(&token, &["-auth", PASSWORD]).await;
    // A user whom a certificate or nothing else proves.
    let user = "authorization { users: [ { user: ivan, password: \"\" } ] }";
    is_let_in(user, &["-user", "ivan"]).await;
}

#[tokio::test]
async fn n06_user_password_and_token_come_from_the_streaming_block() {
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let users = format!(
            "authorization {{ users: [ {{ user: other, password: x }}, {{ user: ivan, password: {PASSWORD} }} ] }}"
        );
        for (authorization, block) in [
            (users.as_str(), format!("user: ivan, pass: {PASSWORD}")),
            ("authorization { token: t0ken }", "token: t0ken".to_owned()),
        ] {
            let nats = Nats::started(dir.path(), release, authorization).await;
            let config = file(dir.path(), &format!("streaming {{ {block} }}"));
            let mut broker = Broker::on(&nats, dir.path(), &["-sc", &config]).await;
            // The command line wins.
            let url = nats.url();
            let flags = [
                "-ns", &url, "-sc", &config, "-user", "u", "-pass", "p", "-auth", "t",
            ];
            let output = Broker::run(dir.path(), &flags).fails().await;
            assert!(output.contains("Authorization Violation"), "{output}");
            assert!(broker.stop().await.success());
        }
    }
}

#[tokio::test]
async fn n06_a_url_may_name_the_user_or_a_token() {
    let dir = tempfile::tempdir().unwrap();
    for (authorization, login) in [
        ("user: ivan, password: x", "ivan:x"),
        ("token: t0ken", "t0ken"),
    ] {
        let nats = format!("authorization {{ {authorization} }}");
        let nats = Nats::started(dir.path(), RELEASES[0], &nats).await;
        let url = format!("nats://{login}@127.0.0.1:{}", nats.port);
        let mut broker = Broker::ready(dir.path(), &["-ns", &url]).await;
        assert!(broker.stop().await.success());
    }
}

#[tokio::test]
async fn n06_an_nkey_signs() {
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let (key, other) = (UserKey::generate().unwrap(), UserKey::generate().unwrap());
        let users = format!(
            "authorization {{ users: [ {{ nkey: {} }} ] }}",
            key.public()
        );
        let nats = Nats::started(dir.path(), release, &users).await;
        let seed = dir.path().join("seed");
        let config = file(
            dir.path(),
            &format!(
                "streaming {{ nkey_seed_file: {:?} }}",
                seed.to_str().unwrap()
            ),
        );
        fs::write(&seed, key.seed()).unwrap();
        let mut broker = Broker::on(&nats, dir.path(), &["-sc", &config]).await;
        assert!(broker.stop().await.success());
        fs::write(&seed, other.seed()).unwrap();
        let url = nats.url();
        let output = Broker::run(dir.path(), &["-ns", &url, "-sc", &config])
            .fails()
            .await;
        assert!(output.contains("Authorization Violation"), "{output}");
        assert!(!output.contains(&other.seed()));
    }
}

/// Signed as `nsc` signs; claims are the least that a server wants.
fn jwt(signer: &UserKey, issuer: &str, subject: &str, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer, "name": "test", "sub": subject, "nats": claims,
    });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&body));
    let signature = BASE64URL_NOPAD.encode(&signer.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn n06_a_credentials_file_shows_a_jwt_and_signs() {
    let keys = [(); 3].map(|()| UserKey::generate().unwrap());
    let [operator, account, user] = &keys;
    let (op, acc) = (operator.public_of_operator(), account.public_of_account());
    let of_operator = jwt(
        operator,
        &op,
        &op,
        &json!({ "type": "operator", "version": 2 }),
    );
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 });
    let claims = json!({ "type": "account", "version": 2, "limits": limits });
    let of_account = jwt(operator, &op, &acc, &claims);
    let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let of_user = jwt(account, &acc, &user.public(), &claims);
    let server = format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {acc}: {of_account} }}"
    );
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::started(dir.path(), release, &server).await;
        let creds = dir.path().join("user.creds");
        let write = |seed: &str| {
            let text = format!(
                "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            );
            fs::write(&creds, text).unwrap();
        };
        write(&user.seed());
        let config = format!("streaming {{ credentials: {:?} }}", creds.to_str().unwrap());
        let config = file(dir.path(), &config);
        let mut broker = Broker::on(&nats, dir.path(), &["-sc", &config]).await;
        assert!(broker.stop().await.success());

        // The JWT of one and the key of another.
        write(&account.seed());
        let url = nats.url();
        let output = Broker::run(dir.path(), &["-ns", &url, "-sc", &config])
            .fails()
            .await;
        assert!(output.contains("Authorization Violation"), "{output}");
    }
}

/// Through a start, a loss, attempts in vain because of another password, and a way back.
#[tokio::test]
async fn n08_no_password_shows_in_the_log_whatever_happens() {
    let dir = tempfile::tempdir().unwrap();
    let users = format!("authorization {{ user: ivan, password: {PASSWORD} }}");
    let mut nats = Nats::started(dir.path(), RELEASES[0], &users).await;
    let url = format!("nats://ivan:{PASSWORD}@127.0.0.1:{}", nats.port);
    let flags = ["-ns", &url, "-D", "-V", "-SDV"];
    let mut broker = Broker::ready(dir.path(), &flags).await;
    nats.kill();
    broker.writes("has been disconnected").await;
    broker.writes("Connection refused").await;
    let same_port = nats.port;
    let mut strict = Nats::plan(
        dir.path(),
        RELEASES[0],
        "authorization { user: a, password: b }",
    );
    strict.port = same_port;
    strict.start().await;
    broker.writes("Authorization Violation").await;
    strict.kill();
    nats.start().await;
    broker.writes("reconnected to NATS Server").await;
    assert!(broker.stop().await.success());
    let output = broker.output();
    assert!(!output.contains(PASSWORD), "{output}");
    assert!(
        output.contains(&format!("127.0.0.1:{same_port}")),
        "{output}"
    );
}
