//! What can be said about TLS, however it was said: by flags, in a file, by another program. There is
//! one way from here to a configuration.

use std::path::PathBuf;

/// Of a listener, or of connections that are opened to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The first is the one for clients that name none of the others. May be empty for a client that
    /// shows no certificate.
    pub pairs: Vec<PairFiles>,
    /// Whom to trust; `None`: the roots of the system.
    pub ca_file: Option<PathBuf>,
    /// A listener asks for a certificate, and takes none but of its authorities.
    pub verify: bool,
    pub min_version: MinVersion,
    /// Go's names; empty: all that are safe.
    pub cipher_suites: Vec<String>,
    /// Go's names; empty: our order.
    pub curve_preferences: Vec<String>,
    /// Names of unsafe suites are no error; they are still not offered.
    pub allow_insecure_cipher_suites: bool,
    /// SHA-256 over the SubjectPublicKeyInfo of peers; empty: any.
    pub pinned_certs: Vec<[u8; 32]>,
    /// Outgoing only: the other end's certificate is not checked.
    pub insecure: bool,
}

impl TlsSettings {
    /// Of a client that shows no certificate and trusts the authorities in `ca_file`.
    pub fn trusting(ca_file: PathBuf) -> Self {
        Self {
            ca_file: Some(ca_file),
            ..Self::default()
        }
    }
}

/// A chain, the leaf first, and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}
