//! Users who sign a nonce instead of showing a password.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use broker_core::auth::{
    nkey::{self, Kind},
    settings::{AuthSettings, Login, UserSettings},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};

use super::{
    Server,
    auth::{user, users},
};

/// A user's key, from a seed.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn nkey(&self) -> String {
        nkey::encode(Kind::User, self.0.public_key().as_ref().try_into().unwrap())
    }

    fn user(&self) -> UserSettings {
        UserSettings {
            login: Login::Nkey(self.nkey()),
            ..user("", "")
        }
    }

    fn credentials(&self, nonce: &str) -> String {
        let sig = BASE64URL_NOPAD.encode(self.0.sign(nonce.as_bytes()).as_ref());
        format!("\"nkey\":\"{}\",\"sig\":\"{sig}\"", self.nkey())
    }
}

/// What `INFO` gives to sign.
fn nonce(info: &str) -> String {
    let (_, rest) = info.split_once("\"nonce\":\"").expect("a nonce");
    rest.split('"').next().unwrap().to_owned()
}

fn connect(credentials: &str) -> String {
    format!("CONNECT {{\"verbose\":false,{credentials}}}\r\n")
}

fn server(signer: &Signer) -> Server {
    let auth = users([signer.user(), user("me", "secret")]);
    Server::with(|config| config.auth = auth)
}

#[test]
fn who_signs_the_nonce_of_this_connection_is_let_in() {
    let signer = Signer::new(1);
    let server = server(&signer);
    let mut nonces = Vec::new();
    for _ in 0..5 {
        let mut client = server.accept();
        let nonce = nonce(&client.info);
        assert_eq!(BASE64URL_NOPAD.decode(nonce.as_bytes()).unwrap().len(), 11);
        client.send(&connect(&signer.credentials(&nonce)));
        client.sync();
        nonces.push(nonce);
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 5, "{nonces:?}");
    // Passwords go on to work beside keys.
    server.login(r#""user":"me","pass":"secret""#).sync();
}

#[test]
fn signatures_of_others_or_of_other_nonces_or_lengths_are_refused() {
    let (signer, stranger) = (Signer::new(1), Signer::new(2));
    let server = server(&signer);
    let before = nonce(&server.accept().info);
    let attempt = |credentials: &dyn Fn(&str) -> String| {
        let mut client = server.accept();
        let nonce = nonce(&client.info);
        client.send(&connect(&credentials(&nonce)));
        client.expect_violation();
    };
    attempt(&|nonce| stranger.credentials(nonce));
    attempt(&|_| signer.credentials(&before));
    attempt(&|_| signer.credentials(""));
    attempt(&|nonce| {
        let sig = BASE64.encode(stranger.0.sign(nonce.as_bytes()).as_ref());
        format!("\"nkey\":\"{}\",\"sig\":\"{sig}\"", signer.nkey())
    });
    for length in [0, 1, 31, 32, 63, 65, 128, 1000] {
        attempt(&|nonce| {
            let mut bytes = signer.0.sign(nonce.as_bytes()).as_ref().to_vec();
            bytes.resize(length, 0);
            let sig = BASE64URL_NOPAD.encode(&bytes);
            format!("\"nkey\":\"{}\",\"sig\":\"{sig}\"", signer.nkey())
        });
        attempt(&|nonce| {
            let signed = signer.credentials(nonce);
            let nkey = signer.nkey();
            signed.replace(&nkey, &nkey.repeat(1 + length)[..length])
        });
    }
    // A key is no name.
    attempt(&|_| format!("\"user\":\"{}\",\"pass\":\"\"", signer.nkey()));
    attempt(&|_| format!("\"nkey\":\"{}\"", signer.nkey()));
}

#[test]
fn a_second_connect_signs_the_same_nonce() {
    let signer = Signer::new(1);
    let server = server(&signer);
    let mut client = server.accept();
    let nonce = nonce(&client.info);
    for _ in 0..2 {
        client.send(&connect(&signer.credentials(&nonce)));
        client.sync();
    }
    client.send(&connect(&signer.credentials("another")));
    client.expect_violation();
}

#[test]
fn nothing_is_to_be_signed_where_nobody_has_a_key() {
    let server = Server::with(|config| config.auth = users([user("me", "secret")]));
    assert!(!server.accept().info.contains("nonce"));
    assert!(!Server::start().accept().info.contains("nonce"));
}

#[test]
fn a_key_may_stand_for_those_who_show_nothing_too() {
    let signer = Signer::new(1);
    let auth = AuthSettings {
        no_auth_user: Some(signer.nkey()),
        ..users([signer.user(), user("me", "secret")])
    };
    let server = Server::with(|config| config.auth = auth);
    server.accept().sync();
    server.client().sync();
    server.login(r#""user":"me","pass":"x""#).expect_violation();
}
