//! What new settings mean for those who are connected.

use std::io::Write as _;

use broker_core::auth::settings::{AuthSettings, Secret};
use certs::profile::Profile;

use super::{
    Server, VIOLATION,
    auth::{user, users},
    permissions::{login, restricted, rules},
    pki::{CONNECT, Pki, expect, upgrade},
};

fn server(auth: AuthSettings) -> Server {
    Server::with(|config| config.auth = auth)
}

#[test]
fn clients_of_a_removed_user_are_closed_without_a_word() {
    let mut server = server(users([user("me", "x"), user("you", "x")]));
    let (mut me, mut you) = (login(&server, "me"), login(&server, "you"));
    me.sync();
    you.sync();
    server.reload(|config| config.auth = users([user("you", "x")]));
    me.expect_closed();
    you.sync();
    login(&server, "me").expect_violation();
}

#[test]
fn clients_whose_secret_changed_are_told() {
    let mut server = server(users([user("me", "x"), user("you", "x")]));
    let (mut me, mut you) = (login(&server, "me"), login(&server, "you"));
    me.sync();
    you.sync();
    server.reload(|config| config.auth = users([user("me", "y"), user("you", "x")]));
    me.expect_violation();
    you.sync();
    let token = |text: &str| AuthSettings {
        token: Some(Secret::new(text.to_owned())),
        ..AuthSettings::default()
    };
    let mut server = Server::with(|config| config.auth = token("one"));
    let mut client = server.login(r#""auth_token":"one""#);
    client.sync();
    server.reload(|config| config.auth = token("two"));
    client.expect_violation();
    server.login(r#""auth_token":"two""#).sync();
}

#[test]
fn narrowed_rights_end_subscriptions_and_nothing_else() {
    let mut server = server(users([user("me", "x"), user("all", "x")]));
    let (mut me, mut all) = (login(&server, "me"), login(&server, "all"));
    me.send("SUB a 1\r\nSUB b 2\r\n");
    me.sync();
    all.sync();
    server.reload(|config| {
        let narrowed = restricted("me", rules(&["a"], &[]), rules(&["a"], &[]));
        config.auth = users([narrowed, user("all", "x")]);
    });
    me.expect("-ERR 'Permissions Violation for Subscription to \"b\" (sid \"2\")'\r\n");
    all.send("PUB b 0\r\n\r\nPUB a 0\r\n\r\n");
    all.sync();
    me.expect("MSG a 1 0\r\n\r\n");
    me.send("PUB b 0\r\n\r\n");
    me.expect("-ERR 'Permissions Violation for Publish to \"b\"'\r\n");
    // And again the other way round.
    server.reload(|config| config.auth = users([user("me", "x"), user("all", "x")]));
    me.send("SUB b 2\r\nPUB b 0\r\n\r\n");
    me.expect("MSG b 2 0\r\n\r\n");
    me.sync();
}

#[test]
fn a_deny_entry_that_is_new_is_heeded_at_the_next_delivery() {
    let mut server = server(users([user("me", "x"), user("all", "x")]));
    let (mut me, mut all) = (login(&server, "me"), login(&server, "all"));
    me.send("SUB a.> 1\r\n");
    me.sync();
    all.send("PUB a.no 0\r\n\r\n");
    all.sync();
    me.expect("MSG a.no 1 0\r\n\r\n");
    server.reload(|config| {
        let narrowed = restricted("me", rules(&[], &[]), rules(&[], &["a.no"]));
        config.auth = users([narrowed, user("all", "x")]);
    });
    all.send("PUB a.no 0\r\n\r\nPUB a.yes 0\r\n\r\n");
    all.sync();
    me.expect("MSG a.yes 1 0\r\n\r\n");
    me.sync();
}

#[test]
fn whoever_never_said_who_it_is_has_to_go_when_that_is_wanted() {
    let mut server = Server::start();
    let (mut client, mut silent) = (server.client(), server.accept());
    client.sync();
    server.reload(|config| config.auth = users([user("me", "x")]));
    for client in [&mut client, &mut silent] {
        client.expect(VIOLATION);
        client.expect_closed();
    }
    assert!(server.accept().info.contains("\"auth_required\":true"));
    server.reload(|config| config.auth = AuthSettings::default());
    server.client().sync();
}

#[test]
fn a_new_limit_on_payloads_is_told_and_holds_at_once() {
    let mut server = Server::start();
    let mut modern = server.client_with(r#"{"verbose":false,"protocol":1}"#);
    modern.sync();
    modern.line();
    let mut old = server.client();
    old.sync();
    server.reload(|config| config.max_payload = 100);
    let info = modern.line();
    assert!(
        info.starts_with("INFO {") && info.contains("\"max_payload\":100,"),
        "{info}"
    );
    assert!(!info.contains("connect_info"), "{info}");
    old.sync();
    for mut client in [modern, old] {
        client.send("PUB a 101\r\n");
        client.expect("-ERR 'Maximum Payload Violation'\r\n");
        client.expect_closed();
    }
}

#[test]
fn nothing_new_is_nothing_to_tell() {
    let mut server = Server::start();
    let mut client = server.client_with(r#"{"verbose":false,"protocol":1}"#);
    client.sync();
    client.line();
    server.reload(|_| {});
    server.reload(|config| config.write_deadline *= 2);
    client.sync();
}

#[test]
fn connections_beyond_a_lower_limit_are_closed_and_told() {
    let mut server = Server::start();
    let mut clients: Vec<_> = (0..10).map(|_| server.client()).collect();
    for client in &mut clients {
        client.sync();
    }
    server.reload(|config| config.max_connections = Some(4));
    let kept = clients
        .into_iter()
        .filter_map(|mut client| {
            client.send("PING\r\n");
            match client.line().as_str() {
                "PONG\r\n" => Some(client),
                "-ERR 'maximum connections exceeded'\r\n" => None,
                other => panic!("{other}"),
            }
        })
        .count();
    assert_eq!(kept, 4);
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let pki = Pki::new();
    let (mut server, tls) = pki.server(false);
    let certificate = |stream: &mut super::pki::TlsStream| {
        write!(stream, "{CONNECT}PING\r\n").unwrap();
        expect(stream, "PONG\r\n");
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let mut old = upgrade(&server, pki.anonymous_client());
    let before = certificate(&mut old);
    tls.replace(pki.issue(Profile::Server).server()).unwrap();
    server.reload(|_| {});
    let mut new = upgrade(&server, pki.anonymous_client());
    assert_ne!(certificate(&mut new), before);
    write!(old, "SUB a 1\r\nPING\r\n").unwrap();
    expect(&mut old, "PONG\r\n");
    write!(new, "PUB a 2\r\nhi\r\n").unwrap();
    expect(&mut old, "MSG a 1 2\r\nhi\r\n");
}
