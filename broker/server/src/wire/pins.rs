//! Certificates that have to be one of a list, that are resumed, and that end before their connection.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use certs::{
    inspect,
    key::PrivateKey,
    leaf::LeafRequest,
    profile::Profile,
    reload::{ClientTls, TlsFiles},
    settings::TlsSettings,
};
use rcgen::CertificateParams;
use rustls::{
    ClientConfig, HandshakeKind,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use time::OffsetDateTime;

use super::{
    eventually,
    pki::{CONNECT, Pki, expect, is_served, upgrade},
};

/// A client and what a pin of it looks like.
fn client(pki: &Pki) -> (Arc<ClientConfig>, [u8; 32]) {
    let (client, file) = pki.client_called(&CertificateParams::default());
    let leaf = CertificateDer::from_pem_file(file).unwrap();
    (client, inspect::spki_sha256(&leaf).unwrap())
}

fn pinning(pki: &Pki, pins: &[[u8; 32]]) -> TlsSettings {
    TlsSettings {
        pinned_certs: pins.to_vec(),
        ..pki.issue(Profile::Server).verifying_server()
    }
}

#[test]
fn only_pinned_certificates_are_let_in() {
    let pki = Pki::new();
    let ((known, pin), (stranger, _)) = (client(&pki), client(&pki));
    let (server, _) = pki.server_with(pinning(&pki, &[pin]), |_, _| {});
    assert!(is_served(&mut upgrade(&server, known)));
    assert!(!is_served(&mut upgrade(&server, stranger)));
    server.expect_reasons(&["Client Closed", "TLS Handshake Failure"]);
}

#[test]
fn a_reload_closes_whom_it_no_longer_pins_and_keeps_the_others() {
    let pki = Pki::new();
    let ((one, one_pin), (other, other_pin)) = (client(&pki), client(&pki));
    let (mut server, tls) = pki.server_with(pinning(&pki, &[one_pin, other_pin]), |_, _| {});
    let (mut first, mut second) = (upgrade(&server, one.clone()), upgrade(&server, other));
    assert!(is_served(&mut first) && is_served(&mut second));
    tls.replace(pinning(&pki, &[other_pin])).unwrap();
    server.reload(|_| {});
    assert!(!is_served(&mut first));
    assert!(is_served(&mut second));
    server.expect_reasons(&["TLS Handshake Failure"]);
    assert!(!is_served(&mut upgrade(&server, one)));
}

/// A client that comes back with a ticket, as ours do not.
fn resuming(files: &TlsFiles) -> Arc<ClientConfig> {
    let config = ClientTls::load(files.clone().client()).unwrap().current();
    let mut config = ClientConfig::clone(&config);
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// A certificate for a moment.
fn issue_for(pki: &Pki, lifetime: Duration) -> (TlsFiles, OffsetDateTime) {
    let key = PrivateKey::generate().unwrap();
    let request = LeafRequest {
        profile: Profile::Client,
        common_name: "brief".into(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        lifetime,
        public_key: key.public_key(),
    };
    let now = OffsetDateTime::now_utc();
    let issued = pki.authority.issue(&request, now).unwrap();
    let files = TlsFiles::in_dir(pki.dir.path(), Profile::Client);
    fs::write(&files.cert, &issued.chain_pem).unwrap();
    fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
    (files, issued.not_after)
}

#[test]
fn an_expired_certificate_is_refused_even_with_a_ticket_but_its_connection_stays() {
    let pki = Pki::new();
    // As long as it takes on this machine until both are served.
    let brief = [3, 9, 27].into_iter().find_map(|seconds| {
        let (files, not_after) = issue_for(&pki, Duration::from_secs(seconds));
        let (server, client) = (pki.server(true).0, resuming(&files));
        let mut old = upgrade(&server, client.clone());
        let mut resumed = is_served(&mut old).then(|| upgrade(&server, client.clone()))?;
        is_served(&mut resumed).then_some((server, not_after, client, old, resumed))
    });
    let (mut server, not_after, client, mut old, mut resumed) =
        brief.expect("served before it expires");
    assert_eq!(resumed.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    eventually("expired", || OffsetDateTime::now_utc() > not_after);
    let began = Instant::now();
    let mut late = upgrade(&server, client);
    assert!(!is_served(&mut late), "{:?}", began.elapsed());
    // What is open stays open, also over a reload.
    for stream in [&mut old, &mut resumed] {
        std::io::Write::write_all(stream, CONNECT.as_bytes()).unwrap();
        std::io::Write::write_all(stream, b"PING\r\n").unwrap();
        expect(stream, "PONG\r\n");
    }
    server.reload(|_| {});
    assert!(is_served(&mut old));
    server.expect_reasons(&["TLS Handshake Failure"]);
}
