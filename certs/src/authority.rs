//! The certificate authority: made on first use, or read; it grants leaves.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use crate::{
    inspect::{self, CertificateInfo, InspectError},
    key::{KeyError, PrivateKey},
    leaf::{LeafError, LeafRequest},
    pem::{self, PemError},
    provider, validity,
};

/// File names in the directory of an authority.
pub const CERTIFICATE_FILE: &str = "ca.pem";
/// See [`CERTIFICATE_FILE`]; readable by its owner only.
pub const KEY_FILE: &str = "ca-key.pem";
/// Held while an authority is made, so that two starters do not make two.
const LOCK_FILE: &str = ".lock";

/// How a new authority is made.
#[derive(Clone, Debug)]
pub struct AuthorityParams {
    /// Subject of the authority.
    pub common_name: String,
    /// From now on; five years by default.
    pub lifetime: Duration,
}

impl Default for AuthorityParams {
    fn default() -> Self {
        Self {
            common_name: "stanchion".to_owned(),
            lifetime: Duration::from_secs(5 * 365 * 24 * 60 * 60),
        }
    }
}

/// Why there is no authority, or why it granted nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or the directory; retrying can help if somebody repairs it.
    #[error("{path}: {action} failed", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A certificate without its key: made elsewhere, or half deleted. Nothing is made over it.
    #[error("{path} is missing beside its certificate", path = .0.display())]
    KeyMissing(PathBuf),
    #[error("the key of the authority cannot be used")]
    Key(#[from] KeyError),
    #[error("the certificate of the authority cannot be used")]
    Certificate(#[from] InspectError),
    /// No certificate of the text is for the key.
    #[error("no certificate of the authority matches its key")]
    Mismatch,
    /// The certificate that matches the key may not sign others.
    #[error("the certificate {0:?} is not that of an authority")]
    NotAnAuthority(String),
    /// A new authority has to be made and published; retrying cannot help.
    #[error("the authority expired at {0}")]
    Expired(OffsetDateTime),
    /// The request makes no certificate; its author is at fault.
    #[error("refused to issue")]
    Leaf(#[from] LeafError),
    /// The crypto library or the random generator failed.
    #[error("signing failed")]
    Sign(#[source] rcgen::Error),
    #[error("no random bytes for a serial number")]
    Random,
}

impl From<PemError> for AuthorityError {
    fn from(error: PemError) -> Self {
        Self::Certificate(error.into())
    }
}

/// A granted leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// PEM, leaf first; followed by the authority's certificate when that is an intermediate.
    pub chain_pem: String,
    /// As [`CertificateInfo::serial_hex`].
    pub serial_hex: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// A certificate with its key, and the bundle that peers are to trust.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    info: CertificateInfo,
    self_signed: bool,
    bundle_pem: String,
    issuer: Issuer<'static, PrivateKey>,
}

impl Authority {
    /// Makes an authority that nobody else holds: ECDSA P-256, path length 0.
    ///
    /// # Errors
    /// When the random generator or the crypto library fails.
    pub fn generate(params: &AuthorityParams, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        let key = PrivateKey::generate()?;
        let certificate = self_sign(&key, params, now)?;
        Self::assemble(vec![certificate], key)
    }

    /// Reads an authority. `certificates` may hold several, as during a rotation: the one that matches
    /// the key signs, all of them are the bundle.
    ///
    /// # Errors
    /// [`AuthorityError::Key`], [`Certificate`](AuthorityError::Certificate),
    /// [`Mismatch`](AuthorityError::Mismatch), [`NotAnAuthority`](AuthorityError::NotAnAuthority).
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, AuthorityError> {
        let key = PrivateKey::from_pem(key)?;
        Self::assemble(pem::certificates(certificates.as_bytes())?, key)
    }

    /// Reads `ca.pem` and `ca-key.pem` of `dir`, or makes them if there are none.
    ///
    /// Any number of processes may start at once: one makes the authority, all return the same. A
    /// directory in which both files exist need not be writable.
    ///
    /// # Errors
    /// See [`AuthorityError`]; `KeyMissing` when only the certificate exists.
    pub fn load_or_create(
        dir: &Path,
        params: &AuthorityParams,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        if let Some(authority) = Self::load(dir)? {
            return Ok(authority);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| file_error("creating the directory", dir, source))?;
        let lock_path = dir.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|source| file_error("opening", &lock_path, source))?;
        // Released when the file is closed, also by a crash.
        lock.lock()
            .map_err(|source| file_error("locking", &lock_path, source))?;
        // Whoever waited for the lock finds what its holder has made.
        if let Some(authority) = Self::load(dir)? {
            return Ok(authority);
        }
        let key_path = dir.join(KEY_FILE);
        // A key alone is what a crash between the two files leaves; no certificate of it was ever
        // published, so it is as good as a new one, and better than deleting somebody's key.
        let key = match read_key(&key_path)? {
            Some(key) => key,
            None => {
                let key = PrivateKey::generate()?;
                write_file(&key_path, 0o600, key.to_pem().as_bytes())?;
                key
            }
        };
        let certificate = self_sign(&key, params, now)?;
        // The certificate comes last: whoever sees it finds its key.
        write_file(
            &dir.join(CERTIFICATE_FILE),
            0o644,
            pem::certificate(&certificate).as_bytes(),
        )?;
        Self::assemble(vec![certificate], key)
    }

    fn load(dir: &Path) -> Result<Option<Self>, AuthorityError> {
        let path = dir.join(CERTIFICATE_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file_error("reading", &path, source)),
        };
        let key_path = dir.join(KEY_FILE);
        let key = read_key(&key_path)?.ok_or(AuthorityError::KeyMissing(key_path))?;
        Self::assemble(pem::certificates(&text)?, key).map(Some)
    }

    fn assemble(
        all: Vec<CertificateDer<'static>>,
        key: PrivateKey,
    ) -> Result<Self, AuthorityError> {
        let bundle_pem = all.iter().map(|der| pem::certificate(der)).collect();
        let mut found = None;
        for certificate in all {
            let info = CertificateInfo::from_der(&certificate)?;
            if info.matches_key(&key) {
                found = Some((certificate, info));
                break;
            }
        }
        let (certificate, info) = found.ok_or(AuthorityError::Mismatch)?;
        if !info.is_authority {
            return Err(AuthorityError::NotAnAuthority(info.common_name));
        }
        let self_signed = is_self_signed(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Sign)?;
        Ok(Self {
            certificate,
            info,
            self_signed,
            bundle_pem,
            issuer,
        })
    }

    /// Grants a leaf, valid from five minutes ago until `lifetime` from `now` or until the authority
    /// itself ends, whichever is sooner.
    ///
    /// # Errors
    /// [`AuthorityError::Leaf`] for a senseless request, [`Expired`](AuthorityError::Expired) when the
    /// authority is over, else failures of the crypto library.
    pub fn issue(
        &self,
        request: &LeafRequest,
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        request.check()?;
        if validity::remaining(self.info.not_after, now) < Duration::from_secs(1) {
            return Err(AuthorityError::Expired(self.info.not_after));
        }
        let (not_before, not_after) = validity::window(now, request.lifetime);
        let not_after = not_after.min(self.info.not_after);
        let serial = random_serial()?;
        let mut params = leaf_params(request)?;
        params.not_before = not_before;
        params.not_after = not_after;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let leaf = params
            .signed_by(request.public_key.info(), &self.issuer)
            .map_err(AuthorityError::Sign)?;
        let mut chain_pem = pem::certificate(leaf.der());
        if !self.self_signed {
            chain_pem.push_str(&pem::certificate(&self.certificate));
        }
        Ok(Issued {
            chain_pem,
            serial_hex: inspect::hex(&serial),
            not_before,
            not_after,
        })
    }

    /// What peers are to trust: PEM, one or more certificates.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// The certificate that signs.
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// The key, for whoever stores a new authority (a Secret, another directory).
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.issuer.key().to_pem()
    }
}

fn self_sign(
    key: &PrivateKey,
    params: &AuthorityParams,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, AuthorityError> {
    let (not_before, not_after) = validity::window(now, params.lifetime);
    let mut certificate = CertificateParams::default();
    certificate.distinguished_name = DistinguishedName::new();
    certificate
        .distinguished_name
        .push(DnType::CommonName, params.common_name.as_str());
    certificate.not_before = not_before;
    certificate.not_after = not_after;
    certificate.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    certificate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    certificate.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let signed = certificate.self_signed(key).map_err(AuthorityError::Sign)?;
    Ok(signed.der().clone())
}

fn leaf_params(request: &LeafRequest) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, request.common_name.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if request.public_key.is_rsa() {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = request.profile.extended_key_usages();
    params.use_authority_key_identifier_extension = true;
    for name in &request.dns_names {
        let name = name.as_str().try_into().map_err(AuthorityError::Sign)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    for address in &request.ip_addresses {
        params.subject_alt_names.push(SanType::IpAddress(*address));
    }
    for uri in &request.uris {
        let uri = uri.as_str().try_into().map_err(AuthorityError::Sign)?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    Ok(params)
}

/// Sixteen bytes with the sign bit clear and the next one set: positive, never zero, always of the
/// same length, 126 random bits (RFC 5280, section 4.1.2.2 allows 20 bytes).
fn random_serial() -> Result<[u8; 16], AuthorityError> {
    let mut serial = [0; 16];
    provider::random(&mut serial).map_err(|_| AuthorityError::Random)?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

fn is_self_signed(der: &[u8]) -> Result<bool, AuthorityError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| InspectError::Der(error.to_string()))?;
    Ok(certificate.subject() == certificate.issuer())
}

fn read_key(path: &Path) -> Result<Option<PrivateKey>, AuthorityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(PrivateKey::from_pem(&Zeroizing::new(text))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_error("reading", path, source)),
    }
}

/// Writes aside, flushes, renames: the file is there complete or not at all. The caller holds the lock.
fn write_file(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), AuthorityError> {
    let aside = path.with_extension("pem.tmp");
    let write = || -> io::Result<()> {
        // What a crash left has perhaps another mode.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        let dir = path
            .parent()
            .expect("a file in the directory of the authority");
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| file_error("writing", path, source))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> AuthorityError {
    AuthorityError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
