//! What a leaf is to say, checked before it is signed.

use std::{net::IpAddr, time::Duration};

use crate::{key::PublicKey, names, profile::Profile};

/// Longest common name (RFC 5280, appendix A.1, `ub-common-name`).
pub const MAX_COMMON_NAME: usize = 64;

/// A leaf that policy has granted: everything in it comes from here, nothing from the requester but
/// the key.
#[derive(Clone, Debug)]
pub struct LeafRequest {
    /// Decides the key usages.
    pub profile: Profile,
    /// One to [`MAX_COMMON_NAME`] characters.
    pub common_name: String,
    /// DNS names, in lower case; a first label `*` is allowed. Server and route leaves need a name or
    /// an address.
    pub dns_names: Vec<String>,
    /// Addresses that clients connect to without a name.
    pub ip_addresses: Vec<IpAddr>,
    /// URIs, such as `spiffe://cluster.local/ns/shop/sa/orders`.
    pub uris: Vec<String>,
    /// From the moment of issuance; cut to the life of the authority.
    pub lifetime: Duration,
    /// From [`Csr::public_key`](crate::csr::Csr::public_key) or
    /// [`PrivateKey::public_key`](crate::key::PrivateKey::public_key).
    pub public_key: PublicKey,
}

/// A request that makes no sensible certificate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeafError {
    #[error("common name {0:?} is empty, longer than 64 characters or has control characters")]
    CommonName(String),
    #[error("{0:?} is not a DNS name")]
    DnsName(String),
    #[error("{0:?} is not a URI")]
    Uri(String),
    #[error("a {0} certificate needs a DNS name or an address")]
    Nameless(Profile),
    #[error("lifetime is below one second")]
    Lifetime,
}

impl LeafRequest {
    /// # Errors
    /// The first rule that is broken, with the value.
    pub fn check(&self) -> Result<(), LeafError> {
        let length = self.common_name.chars().count();
        if length == 0 || length > MAX_COMMON_NAME || self.common_name.contains(char::is_control) {
            return Err(LeafError::CommonName(self.common_name.clone()));
        }
        if let Some(name) = self.dns_names.iter().find(|name| !names::is_dns_name(name)) {
            return Err(LeafError::DnsName(name.clone()));
        }
        if let Some(uri) = self.uris.iter().find(|uri| !is_uri(uri)) {
            return Err(LeafError::Uri(uri.clone()));
        }
        if self.profile.is_server() && self.dns_names.is_empty() && self.ip_addresses.is_empty() {
            return Err(LeafError::Nameless(self.profile));
        }
        if self.lifetime < Duration::from_secs(1) {
            return Err(LeafError::Lifetime);
        }
        Ok(())
    }
}

/// Scheme, `://`, and visible ASCII: enough to keep nonsense out of a certificate.
fn is_uri(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
    })
}
