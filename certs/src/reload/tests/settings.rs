//! Each setting does what it says.

use rustls::{
    CipherSuite, NamedGroup, SupportedProtocolVersion,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{cipher_suite, kx_group},
    },
};

use super::*;
use crate::{inspect::spki_sha256, settings::MinVersion};

/// An authority, a listener's files and a client's.
struct Pki {
    ca: Authority,
    _mounts: [Mount; 2],
    server: TlsFiles,
    client: TlsFiles,
}

impl Pki {
    fn new() -> Self {
        let ca = authority();
        let mut mounts = [Mount::new(), Mount::new()];
        let mut files = |at: usize, profile| {
            let key = PrivateKey::generate().unwrap();
            let (chain, _) = grant(&ca, profile, &key);
            mounts[at].swap(profile, &chain, &key, ca.bundle_pem())
        };
        let server = files(0, Profile::Server);
        let client = files(1, Profile::Client);
        Self {
            ca,
            _mounts: mounts,
            server,
            client,
        }
    }

    fn listener(&self, change: impl FnOnce(&mut TlsSettings)) -> ServerTls {
        let mut settings = self.server.clone().verifying_server();
        change(&mut settings);
        ServerTls::load(settings).unwrap()
    }

    fn client(&self, change: impl FnOnce(&mut TlsSettings)) -> Arc<ClientConfig> {
        let mut settings = self.client.clone().client();
        change(&mut settings);
        ClientTls::load(settings).unwrap().current()
    }

    /// A client of our own making, with what a stranger might offer.
    fn offering(
        &self,
        version: &'static SupportedProtocolVersion,
        change: impl FnOnce(&mut CryptoProvider),
    ) -> Arc<ClientConfig> {
        let mut provider = CryptoProvider::clone(&provider());
        change(&mut provider);
        let mut roots = RootCertStore::empty();
        for der in crate::pem::certificates(self.ca.bundle_pem().as_bytes()).unwrap() {
            roots.add(der).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

fn pin_of(files: &TlsFiles) -> [u8; 32] {
    spki_sha256(&der_of(files)).unwrap()
}

fn der_of(files: &TlsFiles) -> Vec<u8> {
    let chain = crate::pem::certificates(&fs::read(&files.cert).unwrap()).unwrap();
    chain[0].to_vec()
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn min_version_shuts_out_what_is_older() {
    let pki = Pki::new();
    let server = pki.listener(|settings| {
        settings.verify = false;
        settings.min_version = MinVersion::Tls13;
    });
    let client = |version| pki.offering(version, |_| {});
    assert!(connect(client(&TLS12), server.current(), NAME).is_err());
    let (_, server) = connect(client(&TLS13), server.current(), NAME).unwrap();
    assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let old = pki.listener(|_| {});
    let new = pki.client(|settings| settings.min_version = MinVersion::Tls13);
    assert!(connect(new, old.current(), NAME).is_ok());
}

#[test]
fn cipher_suites_are_the_named_ones_and_tls13_goes_on_unless_it_is_named() {
    const ONE: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let pki = Pki::new();
    let listener = |suites: &[&str]| {
        let server = pki.listener(|settings| {
            settings.verify = false;
            settings.cipher_suites = names(suites);
        });
        server.current()
    };
    let spoken = |server: &Arc<ServerConfig>, version, suite| {
        let client = pki.offering(version, |provider| {
            if let Some(suite) = suite {
                provider.cipher_suites = vec![suite];
            }
        });
        let (client, _) = connect(client, Arc::clone(server), NAME).ok()?;
        Some(client.negotiated_cipher_suite().unwrap().suite())
    };
    let server = listener(&[ONE, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"]);
    assert_eq!(
        spoken(&server, &TLS12, None),
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
    );
    let other = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    assert_eq!(spoken(&server, &TLS12, Some(other)), None);
    assert!(spoken(&server, &TLS13, None).is_some());

    let server = listener(&[]);
    assert_eq!(
        spoken(&server, &TLS13, None),
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256),
        "whatever clients name first"
    );

    let server = listener(&[ONE, "TLS_AES_128_GCM_SHA256"]);
    assert_eq!(
        spoken(&server, &TLS13, None),
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256)
    );
    let other = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    assert_eq!(spoken(&server, &TLS13, Some(other)), None);
}

#[test]
fn curves_are_the_named_ones_and_by_default_safe_from_quantum_computers() {
    let pki = Pki::new();
    let group = |curves: &[&str], client| {
        let server = pki.listener(|settings| {
            settings.verify = false;
            settings.curve_preferences = names(curves);
        });
        let (client, _) = connect(client, server.current(), NAME).ok()?;
        Some(client.negotiated_key_exchange_group().unwrap().name())
    };
    let only = |group: &'static dyn SupportedKxGroup| {
        pki.offering(&TLS13, move |provider| provider.kx_groups = vec![group])
    };
    assert_eq!(
        group(&[], pki.client(|_| {})),
        Some(NamedGroup::X25519MLKEM768)
    );
    let p384 = ["CurveP384", "CurveP521"];
    assert_eq!(
        group(&p384, pki.client(|_| {})),
        Some(NamedGroup::secp384r1)
    );
    assert_eq!(group(&p384, only(kx_group::X25519)), None);
    assert_eq!(
        group(&p384, only(kx_group::SECP384R1)),
        Some(NamedGroup::secp384r1)
    );
    let preferring = pki.client(|settings| settings.curve_preferences = names(&["CurveP256"]));
    assert_eq!(group(&[], preferring), Some(NamedGroup::secp256r1));
}

#[test]
fn pinned_certificates_are_asked_for_at_both_ends() {
    let pki = Pki::new();
    let (own, other) = (pin_of(&pki.client), [7; 32]);
    let listener = |pins: &[[u8; 32]]| pki.listener(|s| s.pinned_certs = pins.to_vec()).current();
    let client = pki.client(|_| {});
    assert!(connect(client.clone(), listener(&[other, own]), NAME).is_ok());
    assert!(connect(client, listener(&[other]), NAME).is_err());

    let server = listener(&[]);
    let client = |pin, insecure| {
        pki.client(|settings| {
            settings.pinned_certs = vec![pin];
            settings.insecure = insecure;
        })
    };
    for insecure in [false, true] {
        let right = client(pin_of(&pki.server), insecure);
        assert!(connect(right, server.clone(), NAME).is_ok());
        assert!(connect(client(other, insecure), server.clone(), NAME).is_err());
    }
}

#[test]
fn pins_of_a_replacement_are_asked_of_open_connections() {
    let pki = Pki::new();
    let server = pki.listener(|_| {});
    let der = der_of(&pki.client);
    let now = OffsetDateTime::now_utc();
    assert!(server.pins_allow(&der));
    let mut settings = TlsSettings::clone(&server.settings());
    settings.pinned_certs = vec![[7; 32]];
    assert!(server.replace(settings.clone()).unwrap().changed);
    assert!(!server.pins_allow(&der));
    assert_eq!(server.admits(&der, now), Err(PeerRefusal::NotPinned));
    settings.pinned_certs.push(pin_of(&pki.client));
    assert!(server.replace(settings.clone()).unwrap().changed);
    assert!(!server.replace(settings).unwrap().changed);
    assert_eq!(server.admits(&der, now), Ok(()));

    let end = CertificateInfo::from_der(&der).unwrap().not_after;
    let late = server.admits(&der, end + Duration::from_secs(1));
    assert_eq!(late, Err(PeerRefusal::Expired { not_after: end }));
}

#[test]
fn pins_without_verify_and_listeners_without_a_pair_are_refused() {
    let pki = Pki::new();
    let refused = |change: fn(&mut TlsSettings)| {
        let mut settings = pki.server.clone().server();
        change(&mut settings);
        match ServerTls::load(settings) {
            Err(ReloadError::Settings(error)) => Some(error),
            _ => None,
        }
    };
    assert_eq!(
        refused(|settings| settings.pinned_certs = vec![[0; 32]]),
        Some(SettingsError::PinsWithoutVerify)
    );
    assert_eq!(
        refused(|settings| settings.pairs.clear()),
        Some(SettingsError::NoPair)
    );
}

#[test]
fn insecure_client_takes_any_authority_and_name_and_others_do_not() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let server = pki.listener(|settings| settings.verify = false).current();
    for (client, name, taken) in [
        (pki.client(|_| {}), NAME, true),
        (pki.client(|_| {}), "other.name", false),
        (stranger.client(|_| {}), NAME, false),
        (
            stranger.client(|settings| settings.insecure = true),
            "other.name",
            true,
        ),
    ] {
        let outcome = connect(client, server.clone(), name);
        assert_eq!(outcome.is_ok(), taken, "{name}: {:?}", outcome.err());
    }
}

#[test]
fn client_whose_certificate_is_over_is_refused() {
    let pki = Pki::new();
    let server = pki.listener(|_| {});
    let issue = |ago: u64| {
        let key = PrivateKey::generate().unwrap();
        let request = LeafRequest {
            profile: Profile::Client,
            common_name: "late".to_owned(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            lifetime: Duration::from_secs(60),
            public_key: key.public_key(),
        };
        let then = OffsetDateTime::now_utc() - Duration::from_secs(ago);
        let chain = pki.ca.issue(&request, then).unwrap().chain_pem;
        let mut mount = Mount::new();
        let files = mount.swap(Profile::Client, &chain, &key, pki.ca.bundle_pem());
        let settings = files.client();
        let contents = Contents::read(&settings).unwrap();
        Arc::new(build::client(&settings, &contents, then).unwrap().config)
    };
    assert!(connect(issue(0), server.current(), NAME).is_ok());
    let error = connect(issue(3600), server.current(), NAME).unwrap_err();
    assert!(error.to_string().contains("xpired"), "{error}");
}

#[test]
fn pair_is_chosen_by_the_name_that_the_client_asks_for() {
    let pki = Pki::new();
    let first = ServerTls::load(pki.server.clone().server()).unwrap().leaf();
    let key = PrivateKey::generate().unwrap();
    let request = LeafRequest {
        profile: Profile::Server,
        common_name: "second".to_owned(),
        dns_names: vec!["second.example".to_owned(), "*.wild.example".to_owned()],
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        lifetime: Duration::from_secs(600),
        public_key: key.public_key(),
    };
    let issued = pki.ca.issue(&request, OffsetDateTime::now_utc()).unwrap();
    let mut mount = Mount::new();
    let second = mount.swap(Profile::Route, &issued.chain_pem, &key, pki.ca.bundle_pem());
    let server = pki.listener(|settings| {
        settings.verify = false;
        settings.pairs.extend(second.server().pairs);
    });
    let shown = |name| handshake(pki.client(|s| s.insecure = true), server.current(), name);
    for (name, serial) in [
        (NAME, &first.serial_hex),
        ("second.example", &issued.serial_hex),
        ("a.wild.example", &issued.serial_hex),
        ("nobody.example", &first.serial_hex),
        ("127.0.0.1", &first.serial_hex),
    ] {
        assert_eq!(&shown(name).unwrap().0, serial, "{name}");
    }
    assert_eq!(server.not_after(), first.not_after);
}

#[test]
fn replacement_is_taken_whole_or_not_at_all() {
    let pki = Pki::new();
    let server = pki.listener(|_| {});
    let before = (server.settings(), server.current());
    let mut settings = TlsSettings::clone(&before.0);
    settings.min_version = MinVersion::Tls13;
    settings.pairs[0].key = pki.client.key;
    let error = server.replace(settings).unwrap_err();
    assert!(matches!(error, ReloadError::Mismatch { .. }), "{error}");
    assert_eq!(server.settings(), before.0);
    assert!(Arc::ptr_eq(&server.current(), &before.1));
    assert!(!server.reload().unwrap().changed);
}

#[tokio::test]
async fn watch_follows_a_replacement_to_other_files() {
    let pki = Pki::new();
    let server = Arc::new(pki.listener(|_| {}));
    let token = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&server).watch(token.clone()));
    let mut other = Mount::new();
    let mut swap = || {
        let key = PrivateKey::generate().unwrap();
        let (chain, serial) = grant(&pki.ca, Profile::Server, &key);
        let files = other.swap(Profile::Server, &chain, &key, pki.ca.bundle_pem());
        (files, serial)
    };
    server.replace(swap().0.verifying_server()).unwrap();
    let (_, serial) = swap();
    let seen = async {
        while server.leaf().serial_hex != serial {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("swap is seen");
    token.cancel();
    watching.await.unwrap();
}
