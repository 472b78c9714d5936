//! The one crypto provider, named wherever a configuration is built: a process-wide default would
//! make the outcome depend on what another crate installed first.

use std::sync::{Arc, OnceLock};

use rustls::{
    CipherSuite, SupportedCipherSuite,
    crypto::{CryptoProvider, GetRandomFailed, aws_lc_rs},
};

/// aws-lc-rs, shared. AES-128 comes first, as in Go: processors have instructions for its SHA-256 but
/// seldom for the SHA-384 of AES-256, which costs a handshake a tenth of its time.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(preference);
        Arc::new(provider)
    }))
}

/// Less is better; among equals the library's order stays.
fn preference(suite: &SupportedCipherSuite) -> u8 {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        _ if suite.tls13().is_some() => 1,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 2,
        _ => 3,
    }
}

/// Fills `bytes` from the provider's random generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
    provider().secure_random.fill(bytes)
}
