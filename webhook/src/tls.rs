//! The certificate that this program serves: made by itself, renewed by itself, swapped under the open listener.
//!
//! The key never leaves memory. Renewal follows the wall clock in small steps, since one long timer would stand still
//! while a virtual machine is suspended.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use certs::authority::{Authority, AuthorityError};
use certs::key::{KeyError, PrivateKey};
use certs::leaf::LeafRequest;
use certs::profile::Profile;
use certs::validity;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::authorities::Signing;
use crate::metrics::Metrics;

pub(crate) mod slots;

/// How often the clock is compared with the certificate. A second is nothing, and lets short lives be tried out.
const TICK: Duration = Duration::from_secs(1);

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// No key; the random generator failed.
    #[error("no key for the serving certificate")]
    Key(#[from] KeyError),
    /// The authority granted nothing.
    #[error("no serving certificate")]
    Issue(#[from] AuthorityError),
    /// The TLS library refused what was made.
    #[error("the serving certificate cannot be used")]
    Tls(#[from] rustls::Error),
    /// What was made is not PEM.
    #[error("the serving certificate cannot be read back")]
    Pem(#[from] rustls_pki_types::pem::Error),
}

/// What a listener is called, and for how long a certificate of it lives.
#[derive(Debug, Clone)]
pub struct ServingIdentity {
    /// For logs and metrics.
    pub listener: &'static str,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Life of a certificate.
    pub lifetime: Duration,
}

/// The TLS configuration of one listener.
#[derive(Debug)]
pub struct ServingTls {
    identity: ServingIdentity,
    served: RwLock<Served>,
}

#[derive(Debug)]
struct Served {
    config: Arc<ServerConfig>,
    signer: Arc<Authority>,
    renew_at: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl ServingTls {
    /// Makes the first certificate.
    ///
    /// # Errors
    /// See [`ServingError`].
    pub fn new(
        identity: ServingIdentity,
        signer: Arc<Authority>,
        now: OffsetDateTime,
    ) -> Result<Self, ServingError> {
        let served = RwLock::new(make(&identity, signer, now)?);
        Ok(Self { identity, served })
    }

    /// What new connections are served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.config.clone()
    }

    /// End of the served certificate.
    pub fn not_after(&self) -> OffsetDateTime {
        self.served
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .not_after
    }

    /// Renews if it is time, or if `signer` is another authority than before. Says whether it did.
    ///
    /// # Errors
    /// See [`ServingError`]; the old certificate stays in use.
    pub fn keep_fresh(
        &self,
        signer: &Arc<Authority>,
        now: OffsetDateTime,
    ) -> Result<bool, ServingError> {
        let due = {
            let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
            now >= served.renew_at || served.signer.info().serial_hex != signer.info().serial_hex
        };
        if due {
            let made = make(&self.identity, signer.clone(), now)?;
            *self.served.write().unwrap_or_else(PoisonError::into_inner) = made;
        }
        Ok(due)
    }

    /// The authority of the served certificate.
    fn signer(&self) -> Arc<Authority> {
        self.served
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .signer
            .clone()
    }
}

/// Renews until cancelled. A new authority is used only once peers are known to trust it: `trusted` says so.
pub(crate) async fn keep(
    tls: Arc<ServingTls>,
    signing: watch::Receiver<Signing>,
    trusted: impl Fn(&Authority) -> bool,
    metrics: Metrics,
    token: CancellationToken,
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let listener = tls.identity.listener;
    while token.run_until_cancelled(ticks.tick()).await.is_some() {
        let newest = signing.borrow().signer.clone();
        let signer = if trusted(&newest) {
            newest
        } else {
            tls.signer()
        };
        match tls.keep_fresh(&signer, OffsetDateTime::now_utc()) {
            Ok(true) => {
                tracing::info!(listener, not_after = %tls.not_after(), "serving certificate renewed")
            }
            Ok(false) => {}
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(listener, error, "serving certificate not renewed");
            }
        }
        metrics.serving_until(listener, tls.not_after().unix_timestamp());
    }
}

fn make(
    identity: &ServingIdentity,
    signer: Arc<Authority>,
    now: OffsetDateTime,
) -> Result<Served, ServingError> {
    let key = PrivateKey::generate()?;
    let request = LeafRequest {
        profile: Profile::Server,
        common_name: "stanchion-webhook".to_owned(),
        dns_names: identity.dns_names.clone(),
        ip_addresses: identity.ip_addresses.clone(),
        uris: Vec::new(),
        lifetime: identity.lifetime,
        public_key: key.public_key(),
    };
    let issued = signer.issue(&request, now)?;
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.to_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // API servers speak HTTP/1.1 to webhooks.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Served {
        config: Arc::new(config),
        signer,
        renew_at: validity::renew_at(issued.not_before, issued.not_after),
        not_after: issued.not_after,
    })
}

#[cfg(test)]
mod tests {
    use certs::authority::AuthorityParams;

    use super::*;

    fn authority(now: OffsetDateTime) -> Arc<Authority> {
        Arc::new(Authority::generate(&AuthorityParams::default(), now).unwrap())
    }

    fn serving(signer: &Arc<Authority>, now: OffsetDateTime) -> ServingTls {
        let identity = ServingIdentity {
            listener: "admission",
            dns_names: vec!["webhook.system.svc".to_owned()],
            ip_addresses: Vec::new(),
            lifetime: Duration::from_secs(24 * 3600),
        };
        ServingTls::new(identity, signer.clone(), now).unwrap()
    }

    #[test]
    fn a_certificate_is_kept_until_two_thirds_of_its_life() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let signer = authority(now);
        let tls = serving(&signer, now);
        let first = tls.current();
        assert!(
            !tls.keep_fresh(&signer, now + Duration::from_secs(15 * 3600))
                .unwrap()
        );
        assert!(Arc::ptr_eq(&first, &tls.current()));
        assert!(
            tls.keep_fresh(&signer, now + Duration::from_secs(17 * 3600))
                .unwrap()
        );
        assert!(!Arc::ptr_eq(&first, &tls.current()));
    }

    #[test]
    fn another_authority_means_another_certificate() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let tls = serving(&authority(now), now);
        assert!(tls.keep_fresh(&authority(now), now).unwrap());
    }
}
