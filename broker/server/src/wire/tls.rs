//! TLS after `INFO`, with and without certificates of clients.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream},
    sync::Arc,
    time::Duration,
};

use certs::{
    authority::{Authority, AuthorityParams},
    key::PrivateKey,
    leaf::LeafRequest,
    profile::Profile,
    reload::{ClientTls, ServerTls, TlsFiles},
    settings::TlsSettings,
};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use time::OffsetDateTime;

use super::{PATIENCE, Server, eventually};
use crate::{config::HandshakeFirst, settings::TlsPort};

fn tls_port(tls: Arc<ServerTls>) -> TlsPort {
    TlsPort {
        handle: Arc::new(move || tls.current()),
        timeout: PATIENCE,
        first: HandshakeFirst::Never,
        optional: false,
        verify: false,
        rate_limit: None,
    }
}

/// An authority and the files of what it issued.
struct Pki {
    authority: Authority,
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::generate(&AuthorityParams::default(), now).unwrap();
        Self {
            authority,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn issue(&self, profile: Profile) -> TlsFiles {
        let key = PrivateKey::generate().unwrap();
        let request = LeafRequest {
            profile,
            common_name: profile.to_string(),
            dns_names: Vec::new(),
            ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            uris: Vec::new(),
            lifetime: Duration::from_secs(3600),
            public_key: key.public_key(),
        };
        let issued = self
            .authority
            .issue(&request, OffsetDateTime::now_utc())
            .unwrap();
        let files = TlsFiles::in_dir(self.dir.path(), profile);
        fs::write(&files.cert, issued.chain_pem).unwrap();
        fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
        fs::write(&files.ca, self.authority.bundle_pem()).unwrap();
        files
    }

    fn server(&self, verify: bool) -> (Server, Arc<ServerTls>) {
        let files = self.issue(Profile::Server);
        let settings = if verify {
            files.verifying_server()
        } else {
            files.server()
        };
        let tls = Arc::new(ServerTls::load(settings).unwrap());
        let handle = Arc::clone(&tls);
        let server = Server::with(|config| {
            config.tls = Some(TlsPort {
                verify,
                ..tls_port(handle)
            });
        });
        (server, tls)
    }

    fn known_client(&self) -> Arc<ClientConfig> {
        ClientTls::load(self.issue(Profile::Client).client())
            .unwrap()
            .current()
    }

    fn anonymous_client(&self) -> Arc<ClientConfig> {
        let files = TlsFiles::in_dir(self.dir.path(), Profile::Server);
        let settings = TlsSettings::trusting(files.ca);
        ClientTls::load(settings).unwrap().current()
    }
}

/// Reads `INFO` in clear, then goes on under TLS.
fn upgrade(server: &Server, config: Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let client = server.accept();
    assert!(
        client.info.contains("\"tls_required\":true"),
        "{}",
        client.info
    );
    let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), client.socket)
}

fn expect(stream: &mut impl Read, text: &str) {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(
        got == text.as_bytes(),
        "got {:?}",
        super::shown(&got[..got.len().min(200)])
    );
}

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

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
    let mut slow = upgrade(&server, pki.anonymous_client());
    write!(slow, "{CONNECT}PING\r\n").unwrap();
    expect(&mut slow, "PONG\r\n");
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
