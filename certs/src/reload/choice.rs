//! Which of several pairs is shown.

use std::sync::Arc;

use rustls::{
    SignatureScheme,
    client::{ResolvesClientCert, verify_server_name},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::ServerName;

/// Pairs in the order of preference.
#[derive(Debug)]
pub(super) struct Pairs(pub(super) Vec<Arc<CertifiedKey>>);

impl Pairs {
    /// As Go chooses (`crypto/tls`, `getCertificate`): the first pair that has the name and can sign
    /// what the client can check; with none, the first that can sign.
    fn for_name(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<CertifiedKey>> {
        let signs = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(schemes).is_some();
        // Most have one pair, and certificates are not parsed for them.
        if let ([_, _, ..], Some(name)) = (&self.0[..], name)
            && let Ok(name) = ServerName::try_from(name)
        {
            let named = |pair: &&Arc<CertifiedKey>| has_name(pair, &name);
            if let Some(pair) = self.0.iter().filter(named).find(signs) {
                return Some(pair);
            }
        }
        self.0.iter().find(signs)
    }
}

fn has_name(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    pair.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|leaf| verify_server_name(&leaf, name))
        .is_ok()
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.for_name(hello.server_name(), hello.signature_schemes())
            .cloned()
    }
}

impl ResolvesClientCert for Pairs {
    /// The hints are not gone by: an intermediate authority of ours need not be among them.
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.for_name(None, schemes).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}
