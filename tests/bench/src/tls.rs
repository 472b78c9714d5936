//! TLS for both sides: an authority and a certificate made for the run, and what clients trust.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::authority::{Authority, AuthorityParams};
use certs::key::PrivateKey;
use certs::leaf::LeafRequest;
use certs::profile::Profile;
use certs::reload::TlsFiles;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A server certificate of 127.0.0.1 in files, and clients that trust its authority.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Makes everything in `dir`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Self> {
        let now = time::OffsetDateTime::now_utc();
        let authority = Authority::generate(&AuthorityParams::default(), now)?;
        let key = PrivateKey::generate()?;
        let request = LeafRequest {
            profile: Profile::Server,
            common_name: "stanchion-bench".to_owned(),
            dns_names: vec!["localhost".to_owned()],
            ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            uris: Vec::new(),
            lifetime: LIFETIME,
            public_key: key.public_key(),
        };
        let issued = authority.issue(&request, now)?;
        let files = TlsFiles::in_dir(dir, Profile::Server);
        fs::write(&files.ca, authority.bundle_pem())?;
        fs::write(&files.cert, issued.chain_pem)?;
        fs::write(&files.key, key.to_pem().as_bytes())?;
        let client = client_config(authority.bundle_pem())?;
        Ok(Self { files, client })
    }

    /// The server's chain and key.
    pub(crate) fn server_files(&self) -> (&PathBuf, &PathBuf) {
        (&self.files.cert, &self.files.key)
    }

    /// A client's end of a new connection to 127.0.0.1.
    ///
    /// # Errors
    /// Never in practice; rustls may refuse a configuration.
    pub(crate) fn connect(&self) -> anyhow::Result<ClientConnection> {
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
        ClientConnection::new(self.client.clone(), name).context("beginning TLS")
    }
}

/// TLS 1.3 alone, and every handshake a full one: resumption would measure the client's luck.
fn client_config(bundle_pem: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle_pem.as_bytes()) {
        roots.add(certificate.context("reading the authority's certificate")?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
