//! The one crypto provider, named wherever a configuration is built: a process-wide default would
//! make the outcome depend on what another crate installed first.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, GetRandomFailed, aws_lc_rs};

/// aws-lc-rs, shared.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// Fills `bytes` from the provider's random generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
    provider().secure_random.fill(bytes)
}
