//! TLS configurations that follow their files. Live servers and clients ask for the current one for
//! every connection; a change on disk is taken over when it is sound, and only then.
//!
//! Files change as the kubelet changes them: all at once, by renaming a symbolic link `..data` in
//! their directory. A watch on a file is blind to that after the first time, so the *directory* is
//! watched, and contents are compared every few seconds besides, for machines whose inotify
//! instances are used up. Modification times are not trusted.

mod files;
mod watch;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::VerifierBuilderError,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    inspect::{CertificateInfo, InspectError},
    key::KeyError,
    pem::PemError,
    profile::Profile,
    provider::provider,
};
use files::{Contents, Digest};

/// The three files of a TLS directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Certificates of the authorities that peers are verified against; several are allowed.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// The files of `dir` by the names that hand-made set-ups gave them: `ca.pem`, and `server.pem`
    /// with `server-key.pem`, or `route...`, or `client...`.
    pub fn in_dir(dir: &Path, profile: Profile) -> Self {
        Self {
            cert: dir.join(format!("{profile}.pem")),
            key: dir.join(format!("{profile}-key.pem")),
            ca: dir.join("ca.pem"),
        }
    }
}

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No; the `ca` file is not read.
    None,
    /// A connection without a certificate from an authority of the `ca` file fails.
    Required,
}

/// Why files were not taken over. Whatever was current stays current.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("reading {path} failed", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} holds no usable certificates", path = path.display())]
    Certificates {
        path: PathBuf,
        #[source]
        source: PemError,
    },
    #[error("{path} holds a certificate that cannot be read", path = path.display())]
    Inspect {
        path: PathBuf,
        #[source]
        source: InspectError,
    },
    #[error("{path} holds no usable private key", path = path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    /// Also what a reader sees in the middle of a change that is not atomic.
    #[error("the certificate in {cert} is not for the key in {key}", cert = cert.display(), key = key.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("the certificate in {path} expired at {not_after}", path = path.display())]
    Expired {
        path: PathBuf,
        not_after: OffsetDateTime,
    },
    #[error("{path} cannot be used for TLS", path = path.display())]
    Tls {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{path} cannot be used to verify peers", path = path.display())]
    Verifier {
        path: PathBuf,
        #[source]
        source: VerifierBuilderError,
    },
}

/// What a look at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The contents differ from what was current before.
    pub changed: bool,
    /// Serial of the leaf that is current now; empty for a client without a certificate.
    pub serial_hex: String,
}

/// The TLS configuration of a server.
pub struct ServerTls {
    files: TlsFiles,
    client_auth: ClientAuth,
    slot: Slot<ServerConfig>,
}

impl ServerTls {
    /// Reads the files; a program does this before it opens a socket.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn load(files: TlsFiles, client_auth: ClientAuth) -> Result<Self, ReloadError> {
        let loaded = files::read_sound(
            || Contents::read_server(&files, client_auth),
            |contents| build_server(contents, &files, client_auth, OffsetDateTime::now_utc()),
        )?;
        Ok(Self {
            files,
            client_auth,
            slot: Slot::new(loaded),
        })
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.slot.current()
    }

    /// The leaf that [`current`](Self::current) shows.
    pub fn leaf(&self) -> CertificateInfo {
        self.slot.leaf().expect("a server has a certificate")
    }

    /// Looks at the files and takes them over if their content has changed.
    ///
    /// # Errors
    /// See [`ReloadError`]; the old configuration stays.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let contents = || Contents::read_server(&self.files, self.client_auth);
        self.slot.reload(contents, |contents| {
            build_server(
                contents,
                &self.files,
                self.client_auth,
                OffsetDateTime::now_utc(),
            )
        })
    }

    /// Calls [`reload`](Self::reload) whenever the files may have changed, until `token` is
    /// cancelled; outcomes are logged. Cancel-safe.
    pub async fn watch(self: Arc<Self>, token: CancellationToken) {
        let paths = match self.client_auth {
            ClientAuth::None => vec![self.files.cert.clone(), self.files.key.clone()],
            ClientAuth::Required => self.files.all(),
        };
        watch::watch(paths, token, move || self.reload()).await;
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("files", &self.files)
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}

/// The TLS configuration of a client, with or without a certificate of its own.
pub struct ClientTls {
    files: ClientFiles,
    slot: Slot<ClientConfig>,
}

#[derive(Clone, Debug)]
enum ClientFiles {
    Certificate(TlsFiles),
    Anonymous { ca: PathBuf },
}

impl ClientTls {
    /// A client that shows the certificate of `files`.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn with_certificate(files: TlsFiles) -> Result<Self, ReloadError> {
        Self::load(ClientFiles::Certificate(files))
    }

    /// A client that shows none.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn without_certificate(ca: PathBuf) -> Result<Self, ReloadError> {
        Self::load(ClientFiles::Anonymous { ca })
    }

    fn load(files: ClientFiles) -> Result<Self, ReloadError> {
        let loaded = files::read_sound(
            || files.read(),
            |contents| build_client(contents, &files, OffsetDateTime::now_utc()),
        )?;
        Ok(Self {
            files,
            slot: Slot::new(loaded),
        })
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<ClientConfig> {
        self.slot.current()
    }

    /// The leaf that [`current`](Self::current) shows, if any.
    pub fn leaf(&self) -> Option<CertificateInfo> {
        self.slot.leaf()
    }

    /// As [`ServerTls::reload`].
    ///
    /// # Errors
    /// See [`ReloadError`]; the old configuration stays.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let build =
            |contents: &Contents| build_client(contents, &self.files, OffsetDateTime::now_utc());
        self.slot.reload(|| self.files.read(), build)
    }

    /// As [`ServerTls::watch`].
    pub async fn watch(self: Arc<Self>, token: CancellationToken) {
        let paths = match &self.files {
            ClientFiles::Certificate(files) => files.all(),
            ClientFiles::Anonymous { ca } => vec![ca.clone()],
        };
        watch::watch(paths, token, move || self.reload()).await;
    }
}

impl ClientFiles {
    fn read(&self) -> Result<Contents, ReloadError> {
        match self {
            Self::Certificate(files) => Contents::read_pair_and_ca(files),
            Self::Anonymous { ca } => Contents::read_ca(ca),
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What is current. Readers take the inner lock for the time of a clone; `writing` is held for a whole
/// reload and always taken first, so that of two reloads at once the later look wins.
struct Slot<C> {
    writing: Mutex<()>,
    loaded: RwLock<Loaded<C>>,
}

/// A configuration and what it was made of.
struct Loaded<C> {
    digest: Digest,
    config: Arc<C>,
    leaf: Option<CertificateInfo>,
}

impl<C> Slot<C> {
    fn new(loaded: Loaded<C>) -> Self {
        Self {
            writing: Mutex::new(()),
            loaded: RwLock::new(loaded),
        }
    }

    fn current(&self) -> Arc<C> {
        Arc::clone(
            &self
                .loaded
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .config,
        )
    }

    fn leaf(&self) -> Option<CertificateInfo> {
        self.loaded
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .leaf
            .clone()
    }

    fn reload(
        &self,
        read: impl Fn() -> Result<Contents, ReloadError>,
        build: impl Fn(&Contents) -> Result<Loaded<C>, ReloadError>,
    ) -> Result<Reloaded, ReloadError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = read()?.digest();
        let changed = digest
            != self
                .loaded
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .digest;
        if changed {
            let loaded = files::read_sound(read, build)?;
            *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        let serial_hex = self.leaf().map(|leaf| leaf.serial_hex).unwrap_or_default();
        Ok(Reloaded {
            changed,
            serial_hex,
        })
    }
}

fn build_server(
    contents: &Contents,
    files: &TlsFiles,
    client_auth: ClientAuth,
    now: OffsetDateTime,
) -> Result<Loaded<ServerConfig>, ReloadError> {
    let (chain, key, leaf) = contents.pair(files, now)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|source| tls(&files.cert, source))?;
    let builder = match client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required => {
            let roots = Arc::new(contents.roots(&files.ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|source| ReloadError::Verifier {
                    path: files.ca.clone(),
                    source,
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder
        .with_single_cert(chain, key)
        .map_err(|source| tls(&files.cert, source))?;
    Ok(Loaded {
        digest: contents.digest(),
        config: Arc::new(config),
        leaf: Some(leaf),
    })
}

fn build_client(
    contents: &Contents,
    files: &ClientFiles,
    now: OffsetDateTime,
) -> Result<Loaded<ClientConfig>, ReloadError> {
    let builder = |ca: &Path, roots: RootCertStore| {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|source| tls(ca, source))
            .map(|builder| builder.with_root_certificates(roots))
    };
    let (config, leaf) = match files {
        ClientFiles::Certificate(files) => {
            let (chain, key, leaf) = contents.pair(files, now)?;
            let config = builder(&files.ca, contents.roots(&files.ca)?)?
                .with_client_auth_cert(chain, key)
                .map_err(|source| tls(&files.cert, source))?;
            (config, Some(leaf))
        }
        ClientFiles::Anonymous { ca } => (
            builder(ca, contents.roots(ca)?)?.with_no_client_auth(),
            None,
        ),
    };
    Ok(Loaded {
        digest: contents.digest(),
        config: Arc::new(config),
        leaf,
    })
}

fn tls(path: &Path, source: rustls::Error) -> ReloadError {
    ReloadError::Tls {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
