//! Monitoring over TLS.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
};

use certs::{
    authority::{Authority, AuthorityParams},
    key::PrivateKey,
    leaf::LeafRequest,
    profile::Profile,
    reload::{ClientTls, TlsFiles},
};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

use super::*;

/// A server's certificate, its key and its authority, in the folder.
fn certificate(dir: &std::path::Path) -> TlsFiles {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::generate(&AuthorityParams::default(), now).unwrap();
    let key = PrivateKey::generate().unwrap();
    let request = LeafRequest {
        profile: Profile::Server,
        common_name: "server".to_owned(),
        dns_names: Vec::new(),
        ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        uris: Vec::new(),
        lifetime: Duration::from_secs(3600),
        public_key: key.public_key(),
    };
    let issued = authority.issue(&request, now).unwrap();
    let files = TlsFiles::in_dir(dir, Profile::Server);
    fs::write(&files.cert, issued.chain_pem).unwrap();
    fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
    fs::write(&files.ca, authority.bundle_pem()).unwrap();
    files
}

#[tokio::test]
async fn https_wants_no_certificate_even_where_clients_have_to_show_one() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate(dir.path());
    let ca = files.ca.clone();
    let tls = https(&files.verifying_server()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let server = tokio::spawn(sample_monitor().serve_tls(listener, tls, token.clone()));

    let config = ClientTls::load(TlsSettings::trusting(ca))
        .unwrap()
        .current();
    let answer = spawn_blocking(move || {
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let connection = ClientConnection::new(config, name).unwrap();
        let socket = std::net::TcpStream::connect(address).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        write!(stream, "GET /healthz HTTP/1.0\r\nhost: t\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let answer = answer.await.unwrap();
    assert!(answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    token.cancel();
    server.await.unwrap();
}
