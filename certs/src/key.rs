//! Private keys that print nothing and are zeroed, and the public keys that certificates are for.

use std::fmt;

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use crate::pem;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system's random generator or the crypto library failed.
    #[error("generating a key failed")]
    Generate(#[source] rcgen::Error),
    /// The text holds no private key that could be read. What it holds is not said.
    #[error("not a private key in PEM")]
    Pem,
    /// A key of a kind that is not supported, or a damaged one.
    #[error("unsupported or damaged private key")]
    Unsupported,
}

/// A private key. New ones are ECDSA P-256 in PKCS#8; older kinds and encodings (RSA, PKCS#1, SEC1)
/// are read as well, for authorities and Secrets that were made by hand.
///
/// Not `Clone`: a key has one owner. `Debug` shows nothing of it, drop zeroes what this type owns;
/// the crypto library zeroes its own.
pub struct PrivateKey {
    pair: KeyPair,
    der: PrivateKeyDer<'static>,
}

impl PrivateKey {
    /// A fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// [`KeyError::Generate`].
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate().map_err(KeyError::Generate)?;
        let der = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
        Ok(Self { pair, der })
    }

    /// The first private key of a PEM text.
    ///
    /// # Errors
    /// [`KeyError::Pem`] and [`KeyError::Unsupported`]; neither quotes the input.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::Pem)?;
        match KeyPair::try_from(&der) {
            Ok(pair) => Ok(Self { pair, der }),
            Err(_) => {
                der.zeroize();
                Err(KeyError::Unsupported)
            }
        }
    }

    /// PEM in the encoding that the key came in; PKCS#8 for generated ones.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let label = match &self.der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem::encode(label, self.der.secret_der())
    }

    /// The other half.
    pub fn public_key(&self) -> PublicKey {
        let spki = self.pair.subject_public_key_info();
        PublicKey {
            info: SubjectPublicKeyInfo::from_der(&spki)
                .expect("what the library encodes, it decodes"),
        }
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.pair.zeroize();
        self.der.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").finish_non_exhaustive()
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.pair)
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.pair.sign(message)
    }
}

/// A public key of a kind that certificates are granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    info: SubjectPublicKeyInfo,
}

impl PublicKey {
    /// `der` is a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7). `None` when its kind is unknown.
    pub(crate) fn from_spki(der: &[u8]) -> Option<Self> {
        SubjectPublicKeyInfo::from_der(der)
            .ok()
            .map(|info| Self { info })
    }

    /// DER of the SubjectPublicKeyInfo.
    pub fn to_spki(&self) -> Vec<u8> {
        self.info.subject_public_key_info()
    }

    pub(crate) fn info(&self) -> &SubjectPublicKeyInfo {
        &self.info
    }

    /// RSA keys are used for key encipherment as well, by TLS 1.2 peers that know nothing better.
    pub(crate) fn is_rsa(&self) -> bool {
        *self.info.algorithm() == rcgen::PKCS_RSA_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_round_trips_and_keeps_the_public_key() {
        let key = PrivateKey::generate().unwrap();
        let text = key.to_pem();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let again = PrivateKey::from_pem(&text).unwrap();
        assert_eq!(again.to_pem(), text);
        assert_eq!(again.public_key(), key.public_key());
    }

    #[test]
    fn debug_shows_no_byte_of_the_key() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey { .. }");
        assert_eq!(format!("{key:#?}"), "PrivateKey { .. }");
    }

    #[test]
    fn errors_do_not_quote_the_input() {
        let broken = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!!\n-----END PRIVATE KEY-----\n";
        let error = format!("{:?}", PrivateKey::from_pem(broken).unwrap_err());
        assert!(!error.contains("c2Vj"), "{error}");
        let garbage = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        assert!(matches!(
            PrivateKey::from_pem(garbage),
            Err(KeyError::Unsupported)
        ));
    }
}
