//! Certificate requests (PKCS#10, RFC 2986). A request proves possession of a key and nothing else:
//! the names inside are ignored, the grant writes its own.

use rcgen::{CertificateParams, DistinguishedName, DnType};
use rustls_pki_types::pem::SectionKind;
use x509_parser::{
    certification_request::X509CertificationRequest, prelude::FromDer,
    public_key::PublicKey as Parsed,
};

use crate::{
    key::{PrivateKey, PublicKey},
    pem::{self, PemError},
};

/// Longest request that is looked at; one for RSA 4096 without names has about 1.6 KiB.
pub const MAX_PEM_BYTES: usize = 16 * 1024;

/// Why a request is refused. All are the requester's fault; repeating the same bytes cannot help.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// Longer than [`MAX_PEM_BYTES`].
    #[error("certificate request of {0} bytes is longer than {MAX_PEM_BYTES}")]
    TooLong(usize),
    /// Not PEM, or no request in it.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The DER is damaged, or something follows it.
    #[error("malformed certificate request")]
    Malformed,
    /// The requester does not hold the key, or the bytes were changed.
    #[error("the self-signature of the certificate request does not verify")]
    Signature,
    /// Only ECDSA on P-256 or P-384 and RSA of 2048 to 4096 bits are granted.
    #[error("unsupported key in the certificate request: {0}")]
    Key(&'static str),
}

/// A request whose self-signature holds.
#[derive(Clone, Debug)]
pub struct Csr {
    public_key: PublicKey,
}

impl Csr {
    /// Makes a request for `key`, in PEM. The common name is for people who read it.
    ///
    /// # Errors
    /// When signing fails, which needs a failing crypto library.
    pub fn make(key: &PrivateKey, common_name: &str) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.serialize_request(key)?.pem()
    }

    /// Reads a request and checks that its sender holds the key.
    ///
    /// # Errors
    /// See [`CsrError`].
    pub fn parse(text: &str) -> Result<Self, CsrError> {
        if text.len() > MAX_PEM_BYTES {
            return Err(CsrError::TooLong(text.len()));
        }
        let der = pem::section(text.as_bytes(), SectionKind::Csr, "CERTIFICATE REQUEST")?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let spki = &request.certification_request_info.subject_pki;
        match spki.parsed().map_err(|_| CsrError::Malformed)? {
            Parsed::EC(point) if matches!(point.key_size(), 256 | 384) => {}
            Parsed::EC(_) => {
                return Err(CsrError::Key("elliptic curve other than P-256 and P-384"));
            }
            Parsed::RSA(key) if (2048..=4096).contains(&key.key_size()) => {}
            Parsed::RSA(_) => return Err(CsrError::Key("RSA outside 2048 to 4096 bits")),
            _ => return Err(CsrError::Key("neither ECDSA nor RSA")),
        }
        // After the size check: verifying with an oversized key is work an attacker would choose.
        request
            .verify_signature()
            .map_err(|_| CsrError::Signature)?;
        let public_key =
            PublicKey::from_spki(spki.raw).ok_or(CsrError::Key("unknown algorithm identifier"))?;
        Ok(Self { public_key })
    }

    /// The key that the requester holds.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    #[test]
    fn request_carries_the_public_key() {
        let key = PrivateKey::generate().unwrap();
        let csr = Csr::parse(&Csr::make(&key, "nats-0").unwrap()).unwrap();
        assert_eq!(csr.public_key(), &key.public_key());
    }

    #[test]
    fn changed_request_is_refused() {
        let key = PrivateKey::generate().unwrap();
        let text = Csr::make(&key, "original").unwrap();
        let der = pem::section(text.as_bytes(), SectionKind::Csr, "").unwrap();
        let at = der
            .windows(8)
            .position(|window| window == b"original")
            .unwrap();
        let mut forged = der;
        forged[at..at + 8].copy_from_slice(b"impostor");
        let forged = pem::encode("CERTIFICATE REQUEST", &forged);
        assert!(matches!(Csr::parse(&forged), Err(CsrError::Signature)));
    }

    #[test]
    fn other_curves_and_trailing_bytes_are_refused() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let text = CertificateParams::default()
            .serialize_request(&pair)
            .unwrap()
            .pem()
            .unwrap();
        assert!(matches!(Csr::parse(&text), Err(CsrError::Key(_))));

        let key = PrivateKey::generate().unwrap();
        let text = Csr::make(&key, "x").unwrap();
        let mut der = pem::section(text.as_bytes(), SectionKind::Csr, "").unwrap();
        der.push(0);
        let longer = pem::encode("CERTIFICATE REQUEST", &der);
        assert!(matches!(Csr::parse(&longer), Err(CsrError::Malformed)));
        assert!(matches!(Csr::parse("hello"), Err(CsrError::Pem(_))));
        let long = STANDARD.encode(vec![0; MAX_PEM_BYTES]);
        assert!(matches!(Csr::parse(&long), Err(CsrError::TooLong(_))));
    }
}
