//! An authority in a directory of this machine. It is read for every issuance, so that replacing it is
//! noticed, and made if there is none.

use std::{path::PathBuf, time::Duration};

use certs::{
    authority::{Authority, AuthorityError, AuthorityParams},
    inspect::CertificateInfo,
    key::PrivateKey,
    leaf::LeafRequest,
    profile::Profile,
};
use time::OffsetDateTime;

use super::{Granted, IssueError, Issuer, Issuing};
use crate::config::Subject;

/// Grants what it is configured to.
#[derive(Clone, Debug)]
pub struct LocalIssuer {
    dir: PathBuf,
    subject: Subject,
    lifetime: Duration,
}

impl LocalIssuer {
    /// `lifetime` counts from issuance.
    pub fn new(dir: PathBuf, subject: Subject, lifetime: Duration) -> Self {
        Self {
            dir,
            subject,
            lifetime,
        }
    }

    fn request(&self, profile: Profile, key: &PrivateKey) -> LeafRequest {
        LeafRequest {
            profile,
            common_name: self.subject.common_name.clone(),
            dns_names: self.subject.dns_names.clone(),
            ip_addresses: self.subject.ip_addresses.clone(),
            uris: Vec::new(),
            lifetime: self.lifetime,
            public_key: key.public_key(),
        }
    }

    fn grant(&self, request: &LeafRequest, now: OffsetDateTime) -> Result<Granted, AuthorityError> {
        let authority = Authority::load_or_create(&self.dir, &AuthorityParams::default(), now)?;
        let issued = authority.issue(request, now)?;
        let bundle_pem = authority.bundle_pem().to_owned();
        Ok(Granted {
            chain_pem: issued.chain_pem,
            bundle_pem,
        })
    }
}

impl Issuer for LocalIssuer {
    fn issue<'a>(&'a self, profile: Profile, key: &'a PrivateKey) -> Issuing<'a> {
        Box::pin(async move {
            let issuer = self.clone();
            let request = self.request(profile, key);
            // Another starter may hold the lock of the directory.
            let granted = tokio::task::spawn_blocking(move || {
                issuer.grant(&request, OffsetDateTime::now_utc())
            });
            granted
                .await
                .map_err(|error| IssueError::Request(error.to_string()))?
                .map_err(|source| IssueError::Authority {
                    dir: self.dir.clone(),
                    source,
                })
        })
    }

    fn still_wanted(&self, leaf: &CertificateInfo) -> bool {
        leaf.common_name == self.subject.common_name
            && leaf.dns_names == self.subject.dns_names
            && leaf.ip_addresses == self.subject.ip_addresses
    }
}
