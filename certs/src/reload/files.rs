//! Contents of the files of a TLS configuration: read together, compared by digest, checked.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{InconsistentKeys, RootCertStore, crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{ReloadError, tls};
use crate::{
    inspect::CertificateInfo,
    key::KeyError,
    pem,
    settings::{PairFiles, TlsSettings},
};

/// SHA-256 over the contents and their lengths.
pub(super) type Digest = [u8; 32];

/// Looks before a pair that does not match is taken for wrong and not for a swap in progress.
const LOOKS: usize = 3;

/// Reads and builds; a mismatch is looked at again, because the swap of a whole directory may fall
/// between the opening of two files.
pub(super) fn read_sound<T>(
    settings: &TlsSettings,
    build: impl Fn(&Contents) -> Result<T, ReloadError>,
) -> Result<T, ReloadError> {
    let mut look = 1;
    loop {
        match build(&Contents::read(settings)?) {
            Err(ReloadError::Mismatch { .. }) if look < LOOKS => look += 1,
            outcome => return outcome,
        }
    }
}

/// Every file that the settings name.
pub(super) fn paths(settings: &TlsSettings) -> Vec<PathBuf> {
    let pairs = settings.pairs.iter();
    pairs
        .flat_map(|pair| [&pair.cert, &pair.key])
        .chain(&settings.ca_file)
        .cloned()
        .collect()
}

/// Bytes as they were read, in the order of the settings.
pub(super) struct Contents {
    pairs: Vec<PairContents>,
    ca: Option<Vec<u8>>,
}

struct PairContents {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    /// Everything that is named is read, needed or not: a path that leads nowhere is a mistake.
    pub(super) fn read(settings: &TlsSettings) -> Result<Self, ReloadError> {
        let pairs = settings.pairs.iter().map(PairContents::read);
        Ok(Self {
            pairs: pairs.collect::<Result<_, _>>()?,
            ca: settings.ca_file.as_deref().map(read).transpose()?,
        })
    }

    /// The number of parts is given by the settings, so lengths are enough to tell them apart.
    pub(super) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        for pair in &self.pairs {
            add(&pair.cert);
            add(&pair.key);
        }
        if let Some(ca) = &self.ca {
            add(ca);
        }
        hash.finalize().into()
    }

    /// Chains with their keys, if they belong together and no leaf is over; and what is in the leaves.
    pub(super) fn pairs(
        &self,
        settings: &TlsSettings,
        provider: &CryptoProvider,
        now: OffsetDateTime,
    ) -> Result<Vec<(Arc<CertifiedKey>, CertificateInfo)>, ReloadError> {
        let both = settings.pairs.iter().zip(&self.pairs);
        both.map(|(files, contents)| contents.check(files, provider, now))
            .collect()
    }

    /// Every certificate of the `ca_file` as a trust anchor, or the system's.
    pub(super) fn roots(&self, settings: &TlsSettings) -> Result<RootCertStore, ReloadError> {
        let mut roots = RootCertStore::empty();
        if let (Some(path), Some(text)) = (&settings.ca_file, &self.ca) {
            for certificate in certificates(path, text)? {
                roots.add(certificate).map_err(|source| tls(path, source))?;
            }
        } else {
            // One odd certificate among a hundred of the system is not the operator's mistake.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            return Err(ReloadError::NoRoots);
        }
        Ok(roots)
    }
}

impl PairContents {
    fn read(files: &PairFiles) -> Result<Self, ReloadError> {
        Ok(Self {
            cert: read(&files.cert)?,
            key: Zeroizing::new(read(&files.key)?),
        })
    }

    fn check(
        &self,
        files: &PairFiles,
        provider: &CryptoProvider,
        now: OffsetDateTime,
    ) -> Result<(Arc<CertifiedKey>, CertificateInfo), ReloadError> {
        let chain = certificates(&files.cert, &self.cert)?;
        let leaf = CertificateInfo::from_der(&chain[0]).map_err(|source| ReloadError::Inspect {
            path: files.cert.clone(),
            source,
        })?;
        let key_error = |source| ReloadError::Key {
            path: files.key.clone(),
            source,
        };
        let der = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| key_error(KeyError::Pem))?;
        let key = provider.key_provider.load_private_key(der);
        let key = key.map_err(|_| key_error(KeyError::Unsupported))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(ReloadError::Mismatch {
                    cert: files.cert.clone(),
                    key: files.key.clone(),
                });
            }
            Err(source) => return Err(tls(&files.cert, source)),
        }
        if leaf.not_after <= now {
            return Err(ReloadError::Expired {
                path: files.cert.clone(),
                not_after: leaf.not_after,
            });
        }
        Ok((Arc::new(pair), leaf))
    }
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, ReloadError> {
    pem::certificates(text).map_err(|source| ReloadError::Certificates {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ReloadError> {
    fs::read(path).map_err(|source| ReloadError::Read {
        path: path.to_owned(),
        source,
    })
}
