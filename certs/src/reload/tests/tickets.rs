//! Who resumes is not verified again, so a ticket is good at one listener, under one configuration.

use rustls::{HandshakeKind, SupportedProtocolVersion, client::Resumption};

use super::{choice::Pairs, *};

/// A client of one version that keeps tickets, unlike ours.
fn resuming(files: &TlsFiles, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let settings = files.clone().client();
    let contents = Contents::read(&settings).unwrap();
    let now = OffsetDateTime::now_utc();
    let pairs = contents.pairs(&settings, &provider(), now).unwrap();
    let pairs = pairs.into_iter().map(|(pair, _)| pair).collect();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(contents.roots(&settings).unwrap())
        .with_client_cert_resolver(Arc::new(Pairs(pairs)));
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// Who the server says is there, and how that came about.
fn met(client: &Arc<ClientConfig>, server: &ServerTls) -> (HandshakeKind, String) {
    let (_, server) = connect(Arc::clone(client), server.current(), NAME).unwrap();
    let peer = &server.peer_certificates().expect("a peer is known")[0];
    let serial = CertificateInfo::from_der(peer).unwrap().serial_hex;
    // A hello retry would be a third kind; the groups of both sides agree.
    (server.handshake_kind().unwrap(), serial)
}

#[test]
fn ticket_is_good_at_its_own_listener_only_and_brings_the_peer_back() {
    let ca = authority();
    let mounted = |profile, mount: &mut Mount| {
        let key = PrivateKey::generate().unwrap();
        let (chain, serial) = grant(&ca, profile, &key);
        (mount.swap(profile, &chain, &key, ca.bundle_pem()), serial)
    };
    let (mut at_server, mut at_client) = (Mount::new(), Mount::new());
    let (files, _) = mounted(Profile::Server, &mut at_server);
    let (client, serial) = mounted(Profile::Client, &mut at_client);
    for version in [&TLS12, &TLS13] {
        let load = || ServerTls::load(files.clone().verifying_server()).unwrap();
        // The same certificate in both.
        let (one, other) = (load(), load());
        let client = resuming(&client, version);
        let full = (HandshakeKind::Full, serial.clone());
        let resumed = (HandshakeKind::Resumed, serial.clone());
        assert_eq!(met(&client, &one), full, "{version:?}");
        assert_eq!(met(&client, &one), resumed, "{version:?}");
        assert_eq!(met(&client, &other), full, "{version:?}");
        assert_eq!(met(&client, &other), resumed, "{version:?}");
        assert_eq!(met(&client, &one), full, "{version:?}");

        // Nothing new to take over is no reason to forget anybody.
        assert!(!one.reload().unwrap().changed);
        assert_eq!(met(&client, &one), resumed, "{version:?}");
        let mut settings = TlsSettings::clone(&one.settings());
        settings.curve_preferences = vec!["X25519".to_owned()];
        assert!(one.replace(settings).unwrap().changed);
        assert_eq!(met(&client, &one), full, "{version:?}");
    }
}

#[test]
fn ticket_is_void_once_its_authority_is_no_longer_trusted() {
    let (old, new) = (authority(), authority());
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&new, Profile::Server, &key);
    let both = format!("{}{}", old.bundle_pem(), new.bundle_pem());
    let mut mount = Mount::new();
    let files = mount.swap(Profile::Server, &chain, &key, &both);
    let server = ServerTls::load(files.verifying_server()).unwrap();
    let (leaf, serial) = grant(&old, Profile::Client, &key);
    let mut at_client = Mount::new();
    let client = at_client.swap(Profile::Client, &leaf, &key, &both);
    let client = resuming(&client, &TLS13);
    assert_eq!(met(&client, &server).1, serial);
    assert_eq!(met(&client, &server).0, HandshakeKind::Resumed);

    mount.swap(Profile::Server, &chain, &key, new.bundle_pem());
    assert!(server.reload().unwrap().changed);
    assert!(connect(client, server.current(), NAME).is_err());
}

#[test]
fn our_own_clients_verify_the_server_every_time() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Route, &key);
    let server = Mount::new().into_server(Profile::Route, &chain, &key, &ca, true);
    let client = Mount::new().into_client(Profile::Route, &chain, &key, &ca);
    for _ in 0..2 {
        assert_eq!(met(&client.current(), &server).0, HandshakeKind::Full);
    }
}
