//! Accounts do not meet, and nobody chooses one.

use broker_core::auth::settings::{AuthSettings, UserSettings};

use super::{
    Server,
    auth::{user, users},
    permissions::login,
};

/// Two users each of accounts A and B.
fn server() -> Server {
    let member = |account: &str, name: &str| UserSettings {
        account: account.to_owned(),
        ..user(name, "x")
    };
    let auth = AuthSettings {
        accounts: vec!["A".into(), "B".into()],
        ..users([
            member("A", "a1"),
            member("A", "a2"),
            member("B", "b1"),
            member("B", "b2"),
        ])
    };
    Server::with(|config| config.auth = auth)
}

#[test]
fn messages_stay_in_their_account() {
    let server = server();
    let mut clients = ["a1", "b1", "a2", "b2"].map(|name| login(&server, name));
    for client in &mut clients {
        client.send("SUB > 1\r\nSUB x g 2\r\n");
        client.sync();
    }
    let [a1, b1, a2, b2] = &mut clients;
    a1.send("PUB y 1\r\na\r\n");
    b1.send("PUB y 1\r\nb\r\n");
    for (client, text) in [(a1, "a"), (a2, "a"), (b1, "b"), (b2, "b")] {
        client.expect(&format!("MSG y 1 1\r\n{text}\r\n"));
        client.sync();
    }
}

#[test]
fn the_account_is_told_in_info_after_the_first_pong() {
    let server = server();
    let mut client = server.login(r#""user":"b1","pass":"x","protocol":1"#);
    client.sync();
    let info = client.line();
    assert!(info.contains("\"remote_account\":\"B\""), "{info}");
}

#[test]
fn whoever_names_an_account_is_refused() {
    let server = server();
    for account in ["A", "B", "$SYS", "$G", "new"] {
        for more in ["", ",\"new_account\":true"] {
            let named = format!("\"user\":\"a1\",\"pass\":\"x\",\"account\":\"{account}\"{more}");
            server.login(&named).expect_violation();
        }
    }
    let open = Server::start();
    open.login("\"account\":\"$SYS\"").expect_violation();
    open.login("\"account\":\"\"").sync();
}

#[test]
fn a_second_connect_into_another_account_leaves_subscriptions_behind() {
    let server = server();
    let mut other = login(&server, "a2");
    let mut client = login(&server, "a1");
    client.send("SUB > 1\r\nSUB x g 2\r\n");
    client.send("CONNECT {\"verbose\":false,\"user\":\"b1\",\"pass\":\"x\"}\r\n");
    client.sync();
    other.send("PUB x 0\r\n\r\n");
    other.sync();
    client.sync();
    let mut neighbour = login(&server, "b2");
    client.send("SUB x 1\r\n");
    client.sync();
    neighbour.send("PUB x 0\r\n\r\n");
    client.expect("MSG x 1 0\r\n\r\n");
}
