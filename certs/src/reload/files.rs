//! Contents of the files of a TLS configuration: read together, compared by digest, checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{ClientAuth, ReloadError, TlsFiles, tls};
use crate::{
    inspect::CertificateInfo,
    key::{KeyError, PrivateKey},
    pem,
};

/// SHA-256 over the contents and their lengths.
pub(super) type Digest = [u8; 32];

/// Looks before a pair that does not match is taken for wrong and not for a swap in progress.
const LOOKS: usize = 3;

/// Reads and builds; a mismatch is looked at again, because the swap of a whole directory may fall
/// between the opening of two files.
pub(super) fn read_sound<T>(
    read: impl Fn() -> Result<Contents, ReloadError>,
    build: impl Fn(&Contents) -> Result<T, ReloadError>,
) -> Result<T, ReloadError> {
    let mut look = 1;
    loop {
        match build(&read()?) {
            Err(ReloadError::Mismatch { .. }) if look < LOOKS => look += 1,
            outcome => return outcome,
        }
    }
}

/// Bytes as they were read; empty where a file is not part of the configuration.
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    ca: Vec<u8>,
}

impl Contents {
    pub(super) fn read_server(files: &TlsFiles, auth: ClientAuth) -> Result<Self, ReloadError> {
        let ca = match auth {
            ClientAuth::None => Vec::new(),
            ClientAuth::Required => read(&files.ca)?,
        };
        Ok(Self {
            cert: read(&files.cert)?,
            key: Zeroizing::new(read(&files.key)?),
            ca,
        })
    }

    pub(super) fn read_pair_and_ca(files: &TlsFiles) -> Result<Self, ReloadError> {
        Self::read_server(files, ClientAuth::Required)
    }

    pub(super) fn read_ca(ca: &Path) -> Result<Self, ReloadError> {
        Ok(Self {
            cert: Vec::new(),
            key: Zeroizing::default(),
            ca: read(ca)?,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for part in [&self.cert, &*self.key, &self.ca] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Chain, key and leaf, if they belong together and the leaf is not over.
    pub(super) fn pair(
        &self,
        files: &TlsFiles,
        now: OffsetDateTime,
    ) -> Result<
        (
            Vec<CertificateDer<'static>>,
            PrivateKeyDer<'static>,
            CertificateInfo,
        ),
        ReloadError,
    > {
        let chain = certificates(&files.cert, &self.cert)?;
        let leaf = CertificateInfo::from_der(&chain[0]).map_err(|source| ReloadError::Inspect {
            path: files.cert.clone(),
            source,
        })?;
        let key_error = |source| ReloadError::Key {
            path: files.key.clone(),
            source,
        };
        let text = str::from_utf8(&self.key).map_err(|_| key_error(KeyError::Pem))?;
        let key = PrivateKey::from_pem(text).map_err(key_error)?;
        if !leaf.matches_key(&key) {
            return Err(ReloadError::Mismatch {
                cert: files.cert.clone(),
                key: files.key.clone(),
            });
        }
        if leaf.not_after <= now {
            return Err(ReloadError::Expired {
                path: files.cert.clone(),
                not_after: leaf.not_after,
            });
        }
        Ok((chain, key.to_rustls(), leaf))
    }

    /// Every certificate of the `ca` file as a trust anchor.
    pub(super) fn roots(&self, path: &Path) -> Result<RootCertStore, ReloadError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path, &self.ca)? {
            roots.add(certificate).map_err(|source| tls(path, source))?;
        }
        Ok(roots)
    }
}

impl TlsFiles {
    pub(super) fn all(&self) -> Vec<PathBuf> {
        vec![self.cert.clone(), self.key.clone(), self.ca.clone()]
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
