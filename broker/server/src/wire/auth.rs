//! Tokens, users and passwords; who may come without any; what comes before `CONNECT`.

use broker_core::auth::settings::{
    AuthSettings, ConnectionType, GLOBAL_ACCOUNT, Login, Secret, UserSettings,
};

use super::{PATIENCE, Server, VIOLATION};

/// Of "secret", at the lowest cost.
const HASH: &str = "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
/// The same, at a cost that takes about a quarter of a second.
const SLOW_HASH: &str = "$2b$12$abcdefghijklmnopqrstuuT1Iwu6o8Wx7BoOyIMHfgVJq6JO/IJhW";

pub(super) fn user(name: &str, password: &str) -> UserSettings {
    UserSettings {
        account: GLOBAL_ACCOUNT.to_owned(),
        login: Login::Password {
            user: name.to_owned(),
            password: Secret::new(password.to_owned()),
        },
        permissions: None,
        connection_types: Vec::new(),
    }
}

pub(super) fn users(users: impl Into<Vec<UserSettings>>) -> AuthSettings {
    AuthSettings {
        users: users.into(),
        authorization_block: true,
        ..AuthSettings::default()
    }
}

fn token(text: &str) -> AuthSettings {
    AuthSettings {
        token: Some(Secret::new(text.to_owned())),
        ..AuthSettings::default()
    }
}

fn single(name: &str, password: &str) -> AuthSettings {
    AuthSettings {
        single: Some((name.to_owned(), Secret::new(password.to_owned()))),
        ..AuthSettings::default()
    }
}

fn server(auth: AuthSettings) -> Server {
    Server::with(|config| config.auth = auth)
}

#[test]
fn without_users_credentials_are_ignored() {
    let server = Server::start();
    assert!(!server.accept().info.contains("auth_required"));
    server.login(r#""user":"a","pass":"b""#).sync();
    server
        .login(r#""auth_token":"t","nkey":"U","sig":"x""#)
        .sync();
}

#[test]
fn the_right_credentials_are_let_in_and_no_others_plain_and_hashed() {
    const GOOD: &str = r#""user":"me","pass":"secret""#;
    for (auth, good) in [
        (token("secret"), r#""auth_token":"secret""#),
        (token(HASH), r#""auth_token":"secret""#),
        (single("me", "secret"), GOOD),
        (single("me", HASH), GOOD),
        (users([user("me", "secret")]), GOOD),
        (users([user("you", "x"), user("me", HASH)]), GOOD),
    ] {
        let server = server(auth.clone());
        let info = server.accept().info;
        assert!(info.contains("\"auth_required\":true"), "{info}");
        assert!(!info.contains("nonce"), "{info}");
        server.login(good).sync();
        for bad in [
            good.replace("secret", "secreT"),
            good.replace("secret", "secre"),
            good.replace("secret", "secret "),
            good.replace("secret", ""),
            good.replace("secret", HASH),
            good.replace("me", "yo"),
            r#""name":"nothing to show""#.to_owned(),
            r#""user":"","pass":"""#.to_owned(),
        ] {
            if bad != good {
                server.login(&bad).expect_violation();
            }
        }
    }
}

/// Each verb that a parser knows, in the forms that it might take before anybody asks who is there.
const FIRST: [&str; 19] = [
    "PUB a 2\r\nhi\r\n",
    "pub a 2\r\nhi\r\n",
    "PUB a r 0\r\n\r\n",
    "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    "SUB a 1\r\n",
    "SUB a q 1\r\n",
    "UNSUB 1\r\n",
    "PING\r\n",
    "PONG\r\n",
    "INFO {}\r\n",
    "+OK\r\n",
    "-ERR 'x'\r\n",
    "MSG a 1 2\r\nhi\r\n",
    "RMSG $G a 2\r\nhi\r\n",
    "RS+ $G a\r\n",
    "LS+ a\r\n",
    "A+ a\r\n",
    "\r\n",
    " CONNECT {}\r\n",
];

#[test]
fn nothing_but_connect_may_come_first_however_it_is_cut() {
    let server = server(users([user("me", "secret")]));
    let mut listener = server.login(r#""user":"me","pass":"secret""#);
    listener.send("SUB > 1\r\n");
    listener.sync();
    for first in FIRST {
        for split in 0..first.len() {
            let mut client = server.accept();
            client.send(&first[..split]);
            // Refused by then as a rule, so that the rest may find nobody.
            let rest = format!(
                "{}CONNECT {{\"user\":\"me\",\"pass\":\"secret\"}}\r\n",
                &first[split..]
            );
            let _ = std::io::Write::write_all(&mut client.socket, rest.as_bytes());
            client.expect(VIOLATION);
        }
    }
    // None of them was heard by anybody.
    listener.sync();
}

#[test]
fn a_verb_that_only_begins_like_connect_is_unknown() {
    let server = server(users([user("me", "secret")]));
    for first in ["CAT\r\n", "CONNEXION {}\r\n", "C\r\n"] {
        let mut client = server.accept();
        client.send(first);
        client.expect("-ERR 'Unknown Protocol Operation'\r\n");
    }
}

#[test]
fn credentials_cut_anywhere_are_the_same_credentials() {
    let server = server(users([user("me", "secret")]));
    let good = "CONNECT {\"verbose\":false,\"user\":\"me\",\"pass\":\"secret\"}\r\nPING\r\n";
    let bad = good.replace("secret", "public");
    for split in 1..good.len() {
        for (text, answer) in [(good, "PONG\r\n"), (&bad, VIOLATION)] {
            let mut client = server.accept();
            client.send(&text[..split]);
            let _ = std::io::Write::write_all(&mut client.socket, &text.as_bytes()[split..]);
            client.expect(answer);
        }
    }
}

#[test]
fn who_shows_nothing_may_be_the_no_auth_user_with_and_without_connect() {
    let server = Server::with(|config| {
        config.auth = AuthSettings {
            no_auth_user: Some("guest".into()),
            ..users([user("guest", "g"), user("me", "secret")])
        };
    });
    let mut silent = server.accept();
    assert!(!silent.info.contains("auth_required"), "{}", silent.info);
    silent.send("SUB a 1\r\n");
    silent.expect("+OK\r\n");
    let mut bare = server.client();
    bare.send("PUB a 2\r\nhi\r\n");
    bare.sync();
    silent.expect("MSG a 1 2\r\nhi\r\n");
    server.login(r#""user":"me","pass":"secret""#).sync();
    server
        .login(r#""user":"me","pass":"wrong""#)
        .expect_violation();
    server.login(r#""auth_token":"guest""#).expect_violation();
}

#[test]
fn users_come_by_the_ways_they_are_allowed() {
    let by = |types: &[ConnectionType]| UserSettings {
        connection_types: types.to_vec(),
        ..user("me", "secret")
    };
    for (types, welcome) in [
        (&[][..], true),
        (&[ConnectionType::Standard], true),
        (&[ConnectionType::Mqtt, ConnectionType::Standard], true),
        (
            &[ConnectionType::Websocket, ConnectionType::Leafnode],
            false,
        ),
    ] {
        let server = server(users([by(types)]));
        let mut client = server.login(r#""user":"me","pass":"secret""#);
        if welcome {
            client.sync();
        } else {
            client.expect_violation();
        }
    }
}

#[test]
fn a_second_connect_shows_credentials_again() {
    let server = server(users([user("me", "secret"), user("you", "x")]));
    let mut client = server.login(r#""user":"me","pass":"secret""#);
    client.send("SUB a 1\r\n");
    client.send("CONNECT {\"verbose\":false,\"user\":\"you\",\"pass\":\"x\"}\r\nPUB a 0\r\n\r\n");
    // Subscriptions of before have ended, as from nats-server 2.14 on.
    client.sync();
    client.send("CONNECT {\"verbose\":false,\"user\":\"me\",\"pass\":\"x\"}\r\n");
    client.expect_violation();
}

#[test]
fn repeated_and_strange_handshakes_leave_a_connection_as_it_was() {
    let server = server(users([user("me", "secret")]));
    let mut client = server.login(r#""user":"me","pass":"secret""#);
    let connect = "CONNECT {\"verbose\":false,\"user\":\"me\",\"pass\":\"secret\"}\r\n";
    for _ in 0..100 {
        client.send(&format!(
            "INFO {{}}\r\nINFO {{\"max_payload\":1}}\r\n{connect}{connect}"
        ));
        client.send("INFO null\r\n+OK\r\nPONG\r\n");
    }
    client.send("SUB a 1\r\nPUB a 2\r\nhi\r\n");
    client.expect("MSG a 1 2\r\nhi\r\n");
    client.sync();
}

#[test]
fn credentials_of_any_type_and_length_do_no_harm() {
    let server = server(users([user("me", "secret")]));
    let long = "x".repeat(3900);
    for value in [
        "null",
        "1",
        "true",
        "[]",
        "{}",
        "\"\\u0000\"",
        "\"\\ud83d\\ude00\"",
    ] {
        for key in ["user", "pass", "auth_token", "nkey", "sig", "jwt"] {
            let mut client = server.login(&format!("\"{key}\":{value}"));
            let said = {
                let mut said = String::new();
                let _ = std::io::Read::read_to_string(&mut client.socket, &mut said);
                said
            };
            assert!(
                said.is_empty() || said == VIOLATION,
                "{key}: {value}: {said}"
            );
        }
    }
    for key in ["user", "pass", "auth_token", "nkey", "sig"] {
        server
            .login(&format!("\"{key}\":\"{long}\""))
            .expect_violation();
    }
    server.login(r#""user":"me","pass":"secret""#).sync();
}

#[test]
fn slow_passwords_are_checked_beside_everything_else() {
    const LOGINS: u64 = 8;
    let server = Server::with(|config| {
        config.auth = users([user("me", "secret"), user("slow", SLOW_HASH)]);
        config.auth_timeout = PATIENCE * 6;
    });
    let mut healthy = server.login(r#""user":"me","pass":"secret""#);
    healthy.sync();
    let mut waiting: Vec<_> = (0..LOGINS)
        .map(|number| {
            let pass = if number == 0 { "secret" } else { "wrong" };
            server.login(&format!("\"user\":\"slow\",\"pass\":\"{pass}\""))
        })
        .collect();
    for _ in 0..20 {
        healthy.sync();
    }
    // They take turns, and the first are hardly done.
    let open = server.stats().snapshot().counters.connections;
    assert!(open > LOGINS / 2, "{open}");
    for client in &mut waiting {
        client.socket.set_read_timeout(Some(PATIENCE * 6)).unwrap();
    }
    waiting.remove(0).sync();
    for mut client in waiting {
        client.expect_violation();
    }
}
