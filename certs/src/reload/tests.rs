//! Configurations are judged by what they do: handshakes between real rustls peers, in memory.

use std::{fs, net::IpAddr, os::unix::fs::symlink, time::Duration};

use proptest::prelude::*;
use rustls::{
    ClientConnection, ProtocolVersion, RootCertStore, ServerConnection,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

mod keys;
mod settings;
mod tickets;

use super::{files::Contents, *};
use crate::{
    authority::{Authority, AuthorityParams},
    csr::Csr,
    key::PrivateKey,
    leaf::LeafRequest,
    names,
    provider::provider,
};

const NAME: &str = "nats.nats-io.svc";

/// A TLS directory written as the kubelet writes it.
struct Mount {
    dir: tempfile::TempDir,
    generation: u32,
}

impl Mount {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            generation: 0,
        }
    }

    fn swap(&mut self, profile: Profile, chain: &str, key: &PrivateKey, ca: &str) -> TlsFiles {
        self.generation += 1;
        let dir = self.dir.path();
        let name = format!("..{}", self.generation);
        fs::create_dir(dir.join(&name)).unwrap();
        let files = TlsFiles::in_dir(&dir.join(&name), profile);
        fs::write(&files.cert, chain).unwrap();
        fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
        fs::write(&files.ca, ca).unwrap();
        symlink(&name, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        let files = TlsFiles::in_dir(dir, profile);
        for path in [&files.cert, &files.key, &files.ca] {
            if !path.is_symlink() {
                symlink(Path::new("..data").join(path.file_name().unwrap()), path).unwrap();
            }
        }
        files
    }

    fn into_server(
        mut self,
        profile: Profile,
        chain: &str,
        key: &PrivateKey,
        ca: &Authority,
        verify: bool,
    ) -> ServerTls {
        let files = self.swap(profile, chain, key, ca.bundle_pem());
        ServerTls::load(listener(files, verify)).unwrap()
    }

    fn into_client(
        mut self,
        profile: Profile,
        chain: &str,
        key: &PrivateKey,
        ca: &Authority,
    ) -> ClientTls {
        ClientTls::load(self.swap(profile, chain, key, ca.bundle_pem()).client()).unwrap()
    }
}

fn listener(files: TlsFiles, verify: bool) -> TlsSettings {
    if verify {
        files.verifying_server()
    } else {
        files.server()
    }
}

fn authority() -> Authority {
    Authority::generate(&AuthorityParams::default(), OffsetDateTime::now_utc()).unwrap()
}

/// A chain as the issuer makes it: key here, request there. Returns the serial as well.
fn grant(authority: &Authority, profile: Profile, key: &PrivateKey) -> (String, String) {
    let csr = Csr::parse(&Csr::make(key, "ignored").unwrap()).unwrap();
    let request = LeafRequest {
        profile,
        common_name: "nats".to_owned(),
        dns_names: names::server_names("nats", "nats-io", "cluster.local", &[]),
        ip_addresses: vec![IpAddr::from([127, 0, 0, 1])],
        uris: Vec::new(),
        lifetime: Duration::from_secs(600),
        public_key: csr.public_key().clone(),
    };
    let issued = authority
        .issue(&request, OffsetDateTime::now_utc())
        .unwrap();
    (issued.chain_pem, issued.serial_hex)
}

/// Shakes hands, and lets the client read what comes after it, tickets.
fn connect(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok((client, server))
}

/// Shakes hands and gives back the serial that the server showed.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(String, ProtocolVersion), rustls::Error> {
    let (client, _) = connect(client, server, name)?;
    let shown = CertificateInfo::from_der(&client.peer_certificates().unwrap()[0]).unwrap();
    Ok((shown.serial_hex, client.protocol_version().unwrap()))
}

#[test]
fn issued_leaves_shake_hands_by_every_name_handed_out() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, serial) = grant(&ca, Profile::Server, &key);
    let server = Mount::new().into_server(Profile::Server, &chain, &key, &ca, true);
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Client, &key);
    let client = Mount::new().into_client(Profile::Client, &chain, &key, &ca);
    for name in names::server_names("nats", "nats-io", "cluster.local", &[]) {
        let name = name.replace('*', "nats-0");
        let shown = handshake(client.current(), server.current(), &name);
        assert_eq!(
            shown.unwrap_or_else(|error| panic!("{name}: {error}")).0,
            serial
        );
    }
    assert!(handshake(client.current(), server.current(), "127.0.0.1").is_ok());
    assert!(handshake(client.current(), server.current(), "other.svc").is_err());
}

#[test]
fn usages_are_enforced_by_the_peer() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let peer = |profile| {
        let (chain, _) = grant(&ca, profile, &key);
        (
            Mount::new()
                .into_server(profile, &chain, &key, &ca, true)
                .current(),
            Mount::new()
                .into_client(profile, &chain, &key, &ca)
                .current(),
        )
    };
    let [server, route, client] = Profile::ALL.map(peer);
    assert!(handshake(route.1.clone(), route.0.clone(), NAME).is_ok());
    assert!(handshake(client.1.clone(), route.0.clone(), NAME).is_ok());
    assert!(
        handshake(server.1, server.0.clone(), NAME).is_err(),
        "server leaf as client"
    );
    assert!(
        handshake(client.1, client.0, NAME).is_err(),
        "client leaf as server"
    );
    assert!(handshake(route.1, server.0, NAME).is_ok());
}

#[test]
fn strangers_and_anonymous_clients_are_refused_where_certificates_are_required() {
    let (ca, other) = (authority(), authority());
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Server, &key);
    let mut mount = Mount::new();
    let files = mount.swap(Profile::Server, &chain, &key, ca.bundle_pem());
    let strict = ServerTls::load(files.clone().verifying_server())
        .unwrap()
        .current();
    let open = ServerTls::load(files.clone().server()).unwrap().current();
    let anonymous = ClientTls::load(TlsSettings::trusting(files.ca))
        .unwrap()
        .current();
    assert!(handshake(anonymous.clone(), open, NAME).is_ok());
    assert!(handshake(anonymous, strict.clone(), NAME).is_err());

    // Trusts our server, and shows a leaf of an authority that our server does not know.
    let (chain, _) = grant(&other, Profile::Client, &key);
    let stranger = Mount::new()
        .into_client(Profile::Client, &chain, &key, &ca)
        .current();
    assert!(handshake(stranger, strict, NAME).is_err());
}

#[test]
fn both_tls_versions_are_spoken() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Server, &key);
    let server = Mount::new().into_server(Profile::Server, &chain, &key, &ca, false);
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut roots = RootCertStore::empty();
        for der in crate::pem::certificates(ca.bundle_pem().as_bytes()).unwrap() {
            roots.add(der).unwrap();
        }
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (_, spoken) = handshake(Arc::new(client), server.current(), NAME).unwrap();
        assert_eq!(spoken, expected);
    }
}

#[test]
fn several_authorities_in_the_bundle_are_all_trusted() {
    let (old, new) = (authority(), authority());
    let key = PrivateKey::generate().unwrap();
    let bundle = format!("{}{}", old.bundle_pem(), new.bundle_pem());
    let mut mount = Mount::new();
    let (chain, _) = grant(&new, Profile::Server, &key);
    let files = mount.swap(Profile::Server, &chain, &key, &bundle);
    let server = ServerTls::load(files.verifying_server()).unwrap();
    for ca in [&old, &new] {
        let mut mount = Mount::new();
        let (chain, _) = grant(ca, Profile::Client, &key);
        let files = mount.swap(Profile::Client, &chain, &key, &bundle);
        let client = ClientTls::load(files.client()).unwrap();
        handshake(client.current(), server.current(), NAME).unwrap();
    }
}

#[test]
fn mismatched_pair_is_refused_and_the_old_one_stays() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, serial) = grant(&ca, Profile::Server, &key);
    let mut mount = Mount::new();
    let files = mount.swap(Profile::Server, &chain, &key, ca.bundle_pem());
    let server = ServerTls::load(files.clone().server()).unwrap();
    assert!(!server.reload().unwrap().changed);

    let other = PrivateKey::generate().unwrap();
    mount.swap(Profile::Server, &chain, &other, ca.bundle_pem());
    let error = server.reload().unwrap_err();
    assert!(matches!(error, ReloadError::Mismatch { .. }));
    let text = error.to_string();
    assert!(
        text.contains("server.pem") && text.contains("server-key.pem"),
        "{text}"
    );
    assert_eq!(server.leaf().serial_hex, serial);

    let (chain, serial) = grant(&ca, Profile::Server, &other);
    mount.swap(Profile::Server, &chain, &other, ca.bundle_pem());
    let reloaded = server.reload().unwrap();
    assert_eq!(
        reloaded,
        Reloaded {
            changed: true,
            serial_hex: serial.clone()
        }
    );
    let client = ClientTls::load(TlsSettings::trusting(files.ca)).unwrap();
    assert_eq!(
        handshake(client.current(), server.current(), NAME)
            .unwrap()
            .0,
        serial
    );
}

#[test]
fn broken_files_are_named() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Server, &key);
    let mut mount = Mount::new();
    let files = mount.swap(Profile::Server, &chain, &key, "no certificate");
    let load = || {
        ServerTls::load(files.clone().verifying_server())
            .unwrap_err()
            .to_string()
    };
    assert!(load().contains("ca.pem"));
    mount.swap(Profile::Server, "", &key, ca.bundle_pem());
    assert!(load().contains("server.pem"));
    fs::remove_file(files.key.canonicalize().unwrap()).unwrap();
    assert!(load().contains("server-key.pem"));
}

#[test]
fn expired_leaf_is_refused_at_load() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Server, &key);
    let mut mount = Mount::new();
    let files = mount.swap(Profile::Server, &chain, &key, ca.bundle_pem());
    let settings = files.server();
    let contents = Contents::read(&settings).unwrap();
    let end = CertificateInfo::from_pem(&chain).unwrap().not_after;
    let build = |now| build::server(&settings, &contents, now);
    assert!(build(end - Duration::from_secs(1)).is_ok());
    assert!(matches!(build(end), Err(ReloadError::Expired { .. })));
}

#[tokio::test]
async fn swap_of_the_directory_is_seen_by_the_watch() {
    let ca = authority();
    let mut mount = Mount::new();
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Server, &key);
    let files = mount.swap(Profile::Server, &chain, &key, ca.bundle_pem());
    let server = Arc::new(ServerTls::load(files.verifying_server()).unwrap());
    let token = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&server).watch(token.clone()));
    // More than once: a watch on the file itself would see the first swap only.
    for _ in 0..3 {
        let key = PrivateKey::generate().unwrap();
        let (chain, serial) = grant(&ca, Profile::Server, &key);
        mount.swap(Profile::Server, &chain, &key, ca.bundle_pem());
        let seen = async {
            while server.leaf().serial_hex != serial {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen)
            .await
            .expect("swap is seen");
    }
    token.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn files_written_in_place_are_taken_over_once_they_match() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Client, &key);
    let mut mount = Mount::new();
    let files = mount.swap(Profile::Client, &chain, &key, ca.bundle_pem());
    let client = Arc::new(ClientTls::load(files.clone().client()).unwrap());
    let token = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&client).watch(token.clone()));

    let key = PrivateKey::generate().unwrap();
    let (chain, serial) = grant(&ca, Profile::Client, &key);
    fs::write(&files.cert, chain).unwrap();
    fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
    let seen = async {
        while client.leaf().unwrap().serial_hex != serial {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("change is seen");
    token.cancel();
    watching.await.unwrap();
}

#[test]
fn debug_shows_paths_and_no_key() {
    let ca = authority();
    let key = PrivateKey::generate().unwrap();
    let (chain, _) = grant(&ca, Profile::Route, &key);
    let server = Mount::new().into_server(Profile::Route, &chain, &key, &ca, true);
    let shown = format!("{server:?}");
    assert!(shown.contains("route-key.pem"), "{shown}");
    assert!(!shown.to_lowercase().contains("begin"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever names are granted, a peer that trusts the authority accepts each of them, and no other.
    #[test]
    fn granted_names_verify_and_others_do_not(
        granted in proptest::collection::vec("([a-z0-9]([a-z0-9_-]{0,8}[a-z0-9])?[.]){0,4}[a-z]{1,10}", 1..6),
        other in "[a-z]{11,20}",
        lifetime in 10_u64..10_000_000,
    ) {
        prop_assert!(granted.iter().all(|name| names::is_dns_name(name)), "{granted:?}");
        let ca = authority();
        let key = PrivateKey::generate().unwrap();
        let request = LeafRequest {
            profile: Profile::Route,
            common_name: "nats".to_owned(),
            dns_names: granted.clone(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            lifetime: Duration::from_secs(lifetime),
            public_key: key.public_key(),
        };
        let chain = ca.issue(&request, OffsetDateTime::now_utc()).unwrap().chain_pem;
        let server = Mount::new().into_server(Profile::Route, &chain, &key, &ca, true);
        let client = Mount::new().into_client(Profile::Route, &chain, &key, &ca);
        for name in &granted {
            let shown = handshake(client.current(), server.current(), name);
            prop_assert!(shown.is_ok(), "{name}: {shown:?}");
        }
        prop_assert!(handshake(client.current(), server.current(), &other).is_err());
    }
}
