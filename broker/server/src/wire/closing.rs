//! Ends of connections: what monitoring calls them, and that nothing is left of them.

use std::{io::Write, time::Duration};

use certs::profile::Profile;

use super::{
    PATIENCE, Server,
    auth::{user, users},
    eventually,
    pki::Pki,
};

#[test]
fn each_end_has_its_reason() {
    for (input, reason) in [
        ("NONSENSE\r\n", "Protocol Violation"),
        ("\r\n", "Protocol Violation"),
        ("CONNECT {\r\n", "Protocol Violation"),
        ("PUB a b c 1\r\n", "Parse Error"),
        ("PUB a 1048577\r\n", "Maximum Message Payload Exceeded"),
        (
            "CONNECT {\"protocol\":7}\r\n",
            "Bad Client Protocol Version",
        ),
        (
            "CONNECT {\"no_responders\":true}\r\n",
            "No Responders Requires Headers",
        ),
        ("-ERR 'bye'\r\n", "Client Closed"),
    ] {
        let server = Server::start();
        let mut client = server.accept();
        client.send(input);
        let mut said = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client.socket, &mut said);
        server.expect_reasons(&[reason]);
    }
    let server = Server::start();
    let mut client = server.accept();
    client.send(&format!("SUB {} 1\r\n", "a".repeat(4096)));
    client.expect("-ERR 'maximum control line exceeded'\r\n");
    server.expect_reasons(&["Maximum Control Line Exceeded"]);
}

#[test]
fn a_client_that_goes_has_closed_itself() {
    let server = Server::start();
    let mut client = server.client();
    client.send("SUB a 1\r\nSUB b 2\r\n");
    client.sync();
    drop(client);
    server.expect_reasons(&["Client Closed"]);
    assert_eq!(server.closed()[0].subscription_count, 2);
}

#[test]
fn whoever_does_not_show_who_it_is_is_told_and_closed_in_time() {
    let mut server = Server::with(|config| {
        config.auth = users([user("me", "secret")]);
        config.auth_timeout = PATIENCE;
    });
    let mut known = server.login(r#""user":"me","pass":"secret""#);
    known.sync();
    server.reload(|config| config.auth_timeout = Duration::from_millis(100));
    let mut silent = server.accept();
    silent.expect("-ERR 'Authentication Timeout'\r\n");
    silent.expect_closed();
    let mut partial = server.accept();
    partial.send("CONNECT {\"user\":");
    partial.expect("-ERR 'Authentication Timeout'\r\n");
    partial.expect_closed();
    server.expect_reasons(&["Authentication Timeout"; 2]);
    known.sync();
}

#[test]
fn nobody_has_to_hurry_where_nobody_has_to_authenticate() {
    let server = Server::with(|config| config.auth_timeout = Duration::from_millis(20));
    let mut silent = server.accept();
    let mut other = server.client_with(r#"{"verbose":false}"#);
    other.sync();
    let _ = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                silent
                    .socket
                    .set_read_timeout(Some(Duration::from_millis(200)))
                    .unwrap();
                std::io::Read::read(&mut silent.socket, &mut [0]).unwrap_err()
            })
            .join()
    });
    silent.sync();
}

#[test]
fn refused_and_failed_beginnings_are_listed_as_what_they_are() {
    let server = Server::with(|config| config.auth = users([user("me", "secret")]));
    server
        .login(r#""user":"me","pass":"wrong""#)
        .expect_violation();
    server.accept().send("PING\r\n");
    server.expect_reasons(&["Authentication Failure"; 2]);

    let full = Server::with(|config| config.max_connections = Some(0));
    full.accept()
        .expect("-ERR 'maximum connections exceeded'\r\n");
    full.expect_reasons(&["Maximum Connections Exceeded"]);

    let pki = Pki::new();
    let (covered, _) = pki.server(false);
    let mut client = covered.accept();
    client.send("PING\r\n");
    covered.expect_reasons(&["TLS Handshake Failure"]);
}

#[test]
fn only_the_latest_ends_are_remembered() {
    const KEPT: usize = 4;
    let server = Server::with(|config| config.max_closed = KEPT);
    for number in 0..20 {
        let mut client = server.login(&format!("\"name\":\"{number}\""));
        client.sync();
        drop(client);
        eventually("closed", || {
            server.stats().snapshot().counters.connections == 0
        });
    }
    let mut names: Vec<_> = server.closed().into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(names, ["16", "17", "18", "19"]);
    let forgetful = Server::with(|config| config.max_closed = 0);
    drop(forgetful.client());
    eventually("closed", || {
        let counters = forgetful.stats().snapshot().counters;
        counters.total_connections == 1 && counters.connections == 0
    });
    assert!(forgetful.closed().is_empty());
}

/// Descriptors of this process, with those of all tests under way.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn thousands_of_failed_beginnings_leave_nothing_behind() {
    const EACH: u64 = 500;
    let pki = Pki::new();
    let settings = pki.issue(Profile::Server).verifying_server();
    let (server, _) = pki.server_with(settings, |config, port| {
        config.auth = users([user("me", "secret")]);
        port.timeout = Duration::from_secs(2);
    });
    let before = descriptors();
    for number in 0..EACH {
        for begin in [
            &b""[..],
            b"PING\r\n",
            &[0x16, 3, 1, 0, 9, 1],
            &[0x16, 3, 1, 0, 1, 0xff],
        ] {
            let mut client = server.accept();
            // Some stay until the time is over, as far as the system lets them.
            let _ = client.socket.write_all(begin);
            if number % 100 == 0 {
                std::mem::forget(client.socket.try_clone());
            }
        }
    }
    eventually("all are gone", || {
        let counters = server.stats().snapshot().counters;
        counters.total_connections == 4 * EACH && counters.connections == 0
    });
    // Other tests of this process have descriptors too, but not thousands.
    assert!(descriptors() < before + EACH as usize);
}
