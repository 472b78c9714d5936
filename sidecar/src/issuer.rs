//! Obtaining a certificate for a key that stays here: one interface, one file for every way.

mod http;
mod local;

use std::{fmt, future::Future, path::PathBuf, pin::Pin};

use certs::{
    authority::AuthorityError,
    inspect::{CertificateInfo, InspectError},
    key::PrivateKey,
    profile::Profile,
    reload::ReloadError,
};
use time::OffsetDateTime;

pub use http::HttpIssuer;
pub use local::LocalIssuer;

/// A certificate as an issuer grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM, everything that peers are to be verified against.
    pub bundle_pem: String,
}

/// Future of [`Issuer::issue`].
pub type Issuing<'a> = Pin<Box<dyn Future<Output = Result<Granted, IssueError>> + Send + 'a>>;

/// A way to obtain certificates.
pub trait Issuer: fmt::Debug + Send + Sync {
    /// Asks once for a certificate for `key`; retrying is the caller's business. Cancel-safe.
    fn issue<'a>(&'a self, profile: Profile, key: &'a PrivateKey) -> Issuing<'a>;

    /// Whether a certificate from an earlier run still says what would be granted now, as far as
    /// that can be known without asking.
    fn still_wanted(&self, leaf: &CertificateInfo) -> bool;
}

/// Why no certificate was granted.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The directory of the local authority; retried, as somebody may repair it.
    #[error("the authority in {dir} granted nothing", dir = dir.display())]
    Authority {
        dir: PathBuf,
        #[source]
        source: AuthorityError,
    },
    /// The token file is missing, unreadable or empty; the kubelet may not have written it yet.
    #[error("no token in {path}", path = path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The authorities of the issuer's own certificate could not be read.
    #[error("the issuer cannot be verified")]
    Trust(#[source] ReloadError),
    /// No connection, or it broke; retrying helps when the issuer is back.
    #[error("no answer from {host}: {action} failed")]
    Unreachable {
        host: String,
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The whole exchange took too long.
    #[error("no answer from {host} in time")]
    TimedOut { host: String },
    /// The issuer said no. Retrying helps when policy, token or load change.
    #[error("the issuer refused with status {status}: {message}")]
    Refused { status: u16, message: String },
    /// The issuer said yes and sent something else, or a certificate for another key or purpose.
    #[error("the issuer's answer cannot be used: {0}")]
    Answer(String),
    /// A key or a request could not be made.
    #[error("making a certificate request failed: {0}")]
    Request(String),
}

impl IssueError {
    /// Value of the `outcome` label of metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Authority { .. } => "authority",
            Self::Token { .. } => "token",
            Self::Trust(_) => "trust",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timeout",
            Self::Refused { .. } => "refused",
            Self::Answer(_) => "bad_answer",
            Self::Request(_) => "request",
        }
    }
}

impl Granted {
    /// Reads the leaf and checks that it is what was asked for, before anything is written: for this
    /// key, for this purpose, not over.
    ///
    /// # Errors
    /// [`IssueError::Answer`].
    pub fn check(
        &self,
        profile: Profile,
        key: &PrivateKey,
        now: OffsetDateTime,
    ) -> Result<CertificateInfo, IssueError> {
        let unreadable = |error: InspectError| IssueError::Answer(error.to_string());
        let leaf = CertificateInfo::from_pem(&self.chain_pem).map_err(unreadable)?;
        CertificateInfo::from_pem(&self.bundle_pem).map_err(unreadable)?;
        let wrong = |what: &str| Err(IssueError::Answer(what.to_owned()));
        if !leaf.matches_key(key) {
            return wrong("the certificate is for another key");
        }
        if leaf.not_after <= now {
            return wrong("the certificate is expired");
        }
        if (profile.is_server() && !leaf.server_auth) || (profile.is_client() && !leaf.client_auth)
        {
            return wrong("the certificate is for another purpose");
        }
        Ok(leaf)
    }
}
