//! Certificates for servers and clients of a test, and TLS on top of their sockets.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream},
    path::PathBuf,
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
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use time::OffsetDateTime;

use super::{PATIENCE, Server};
use crate::{
    config::HandshakeFirst,
    settings::{CoreConfig, TlsPort},
};

pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

pub(super) fn tls_port(tls: Arc<ServerTls>) -> TlsPort {
    let judge = Arc::clone(&tls);
    TlsPort {
        handle: Arc::new(move || tls.current()),
        admits: Arc::new(move |leaf| judge.admits(leaf, OffsetDateTime::now_utc())),
        timeout: PATIENCE,
        first: HandshakeFirst::Never,
        optional: false,
        verify: false,
        rate_limit: None,
    }
}

/// An authority and the files of what it issued.
pub(super) struct Pki {
    pub(super) authority: Authority,
    /// Signs what the authority would not.
    liberal: Issuer<'static, KeyPair>,
    pub(super) dir: tempfile::TempDir,
}

impl Pki {
    pub(super) fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::generate(&AuthorityParams::default(), now).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "liberal");
        let key = KeyPair::generate().unwrap();
        let bundle = authority.bundle_pem().to_owned() + &params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), bundle).unwrap();
        Self {
            authority,
            liberal: Issuer::new(params, key),
            dir,
        }
    }

    pub(super) fn issue(&self, profile: Profile) -> TlsFiles {
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
        files
    }

    /// A client whose certificate says whatever it likes, and the file with that.
    pub(super) fn client_called(&self, params: &CertificateParams) -> (Arc<ClientConfig>, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.liberal).unwrap();
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let mut files = TlsFiles::in_dir(&dir, Profile::Client);
        files.ca = self.dir.path().join("ca.pem");
        fs::write(&files.cert, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        let cert = files.cert.clone();
        (ClientTls::load(files.client()).unwrap().current(), cert)
    }

    /// A server whose TLS and other settings may differ from those of [`Self::server`].
    pub(super) fn server_with(
        &self,
        settings: TlsSettings,
        change: impl FnOnce(&mut CoreConfig, &mut TlsPort),
    ) -> (Server, Arc<ServerTls>) {
        let verify = settings.verify;
        let tls = Arc::new(ServerTls::load(settings).unwrap());
        let handle = Arc::clone(&tls);
        let server = Server::with(|config| {
            let mut port = TlsPort {
                verify,
                ..tls_port(handle)
            };
            change(config, &mut port);
            config.tls = Some(port);
        });
        (server, tls)
    }

    pub(super) fn server(&self, verify: bool) -> (Server, Arc<ServerTls>) {
        let files = self.issue(Profile::Server);
        let settings = if verify {
            files.verifying_server()
        } else {
            files.server()
        };
        self.server_with(settings, |_, _| {})
    }

    pub(super) fn known_client(&self) -> Arc<ClientConfig> {
        ClientTls::load(self.issue(Profile::Client).client())
            .unwrap()
            .current()
    }

    pub(super) fn anonymous_client(&self) -> Arc<ClientConfig> {
        let files = TlsFiles::in_dir(self.dir.path(), Profile::Server);
        let settings = TlsSettings::trusting(files.ca);
        ClientTls::load(settings).unwrap().current()
    }
}

/// Reads `INFO` in clear, then goes on under TLS.
pub(super) fn upgrade(server: &Server, config: Arc<ClientConfig>) -> TlsStream {
    let client = server.accept();
    assert!(
        client.info.contains("\"tls_required\":true"),
        "{}",
        client.info
    );
    encrypt(client.socket, config)
}

/// TLS from here on.
pub(super) fn encrypt(socket: TcpStream, config: Arc<ClientConfig>) -> TlsStream {
    let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket)
}

/// One line of what comes.
pub(super) fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Whether the server goes on with this client; it may still end the connection when the client thinks
/// that the handshake is over.
pub(super) fn is_served(stream: &mut TlsStream) -> bool {
    let mut answer = [0; 6];
    let served = write!(stream, "{CONNECT}PING\r\n").and_then(|()| stream.read_exact(&mut answer));
    served.is_ok() && answer == *b"PONG\r\n"
}

pub(super) fn expect(stream: &mut impl Read, text: &str) {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(
        got == text.as_bytes(),
        "got {:?}",
        super::shown(&got[..got.len().min(200)])
    );
}

pub(super) const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
