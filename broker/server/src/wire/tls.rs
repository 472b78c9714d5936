//! TLS after `INFO`, with and without certificates of clients.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use certs::{
    profile::Profile,
    reload::{ClientTls, ServerTls, TlsFiles},
};
use rustls::{ClientConnection, StreamOwned};

use super::{
    Server, eventually,
    pki::{CONNECT, Pki, expect, is_served, tls_port, upgrade},
};
use crate::settings::TlsPort;

#[test]
fn clients_with_a_certificate_are_served() {
    let pki = Pki::new();
    let (server, _) = pki.server(true);
    let mut clients: Vec<_> = (0..2)
        .map(|_| upgrade(&server, pki.known_client()))
        .collect();
    for client in &mut clients {
        write!(client, "{CONNECT}SUB a 1\r\nPING\r\n").unwrap();
        expect(client, "PONG\r\n");
    }
    write!(clients[0], "PUB a 2\r\nhi\r\n").unwrap();
    for client in &mut clients {
        expect(client, "MSG a 1 2\r\nhi\r\n");
    }
}

#[test]
fn info_tells_whether_a_certificate_is_wanted() {
    let pki = Pki::new();
    let (asks, _) = pki.server(true);
    let (does_not, _) = pki.server(false);
    assert!(
        asks.accept()
            .info
            .contains("\"tls_required\":true,\"tls_verify\":true")
    );
    assert!(!does_not.accept().info.contains("tls_verify"));
}

#[test]
fn clients_without_a_certificate_are_refused_where_one_is_wanted() {
    let pki = Pki::new();
    let (server, _) = pki.server(true);
    for _ in 0..50 {
        let mut client = upgrade(&server, pki.anonymous_client());
        // The server's word comes after the client's side of the handshake has ended.
        let refused = write!(client, "{CONNECT}PING\r\n").and_then(|()| client.read(&mut [0]));
        assert!(refused.is_err(), "{refused:?}");
    }
    eventually("all closed", || {
        server.stats().snapshot().counters.connections == 0
    });
}

#[test]
fn clients_of_another_authority_are_refused() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let (server, _) = pki.server(true);
    let config = {
        let mut files = stranger.issue(Profile::Client);
        files.ca = TlsFiles::in_dir(pki.dir.path(), Profile::Server).ca;
        ClientTls::load(files.client()).unwrap().current()
    };
    let mut client = upgrade(&server, config);
    let refused = write!(client, "{CONNECT}PING\r\n").and_then(|()| client.read(&mut [0]));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn large_bodies_pass_in_both_directions_at_once() {
    let pki = Pki::new();
    let (server, _) = pki.server(false);
    let mut subscriber = upgrade(&server, pki.anonymous_client());
    write!(subscriber, "{CONNECT}SUB a 1\r\nPING\r\n").unwrap();
    expect(&mut subscriber, "PONG\r\n");
    let mut publisher = upgrade(&server, pki.anonymous_client());
    let bodies: Vec<String> = [1 << 20, 1, 20_000, 1 << 20, 70_000, 1 << 20]
        .map(|size| ('a'..='z').cycle().take(size).collect())
        .into();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            write!(publisher, "{CONNECT}").unwrap();
            for body in &bodies {
                write!(publisher, "PUB a {}\r\n{body}\r\n", body.len()).unwrap();
            }
            write!(publisher, "PING\r\n").unwrap();
            expect(&mut publisher, "PONG\r\n");
        });
        for body in &bodies {
            expect(
                &mut subscriber,
                &format!("MSG a 1 {}\r\n{body}\r\n", body.len()),
            );
        }
    });
}

#[test]
fn an_orderly_end_is_announced_under_tls() {
    let pki = Pki::new();
    let (server, _) = pki.server(false);
    let mut client = upgrade(&server, pki.anonymous_client());
    write!(client, "{CONNECT}NONSENSE\r\n").unwrap();
    let mut rest = String::new();
    // Without a close notification this would be an error.
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "-ERR 'Unknown Protocol Operation'\r\n");
}

#[test]
fn going_on_in_clear_is_refused() {
    let pki = Pki::new();
    let (server, _) = pki.server(false);
    let mut client = server.accept();
    client.send("CONNECT {}\r\nPING\r\n");
    let mut rest = Vec::new();
    match client.socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(
        !super::shown(&rest).contains("PONG"),
        "{}",
        super::shown(&rest)
    );
    eventually("closed", || {
        server.stats().snapshot().counters.connections == 0
    });
}

#[test]
fn who_does_not_begin_a_handshake_is_closed_in_time() {
    let pki = Pki::new();
    let tls = Arc::new(ServerTls::load(pki.issue(Profile::Server).server()).unwrap());
    let server = Server::with(|config| {
        config.tls = Some(TlsPort {
            timeout: Duration::from_millis(100),
            ..tls_port(tls)
        });
    });
    let mut silent = server.accept();
    silent.expect_closed();
    // A busy machine may be too slow for the handshake as well.
    let mut served = None;
    eventually("a handshake in time", || {
        let mut stream = upgrade(&server, pki.anonymous_client());
        served = is_served(&mut stream).then_some(stream);
        served.is_some()
    });
    let mut slow = served.expect("served");
    // The time is for the handshake only.
    eventually("the silent one is gone", || {
        server.stats().snapshot().counters.connections == 1
    });
    write!(slow, "PING\r\n").unwrap();
    expect(&mut slow, "PONG\r\n");
}

#[test]
fn a_renewed_certificate_counts_from_the_next_handshake_on() {
    let pki = Pki::new();
    let (server, tls) = pki.server(false);
    let shown = |stream: &mut StreamOwned<ClientConnection, TcpStream>| {
        write!(stream, "{CONNECT}PING\r\n").unwrap();
        expect(stream, "PONG\r\n");
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let mut old = upgrade(&server, pki.anonymous_client());
    let before = shown(&mut old);
    pki.issue(Profile::Server);
    assert!(tls.reload().unwrap().changed);
    let after = shown(&mut upgrade(&server, pki.anonymous_client()));
    assert_ne!(before, after);
    write!(old, "PING\r\n").unwrap();
    expect(&mut old, "PONG\r\n");
}
