//! TLS configurations that follow their files. Live servers and clients ask for the current one for
//! every connection; a change on disk is taken over when it is sound, and only then.
//!
//! Files change as the kubelet changes them: all at once, by renaming a symbolic link `..data` in
//! their directory. A watch on a file is blind to that after the first time, so the *directory* is
//! watched, and contents are compared every few seconds besides, for machines whose inotify
//! instances are used up. Modification times are not trusted.

mod build;
mod choice;
mod files;
mod slot;
mod watch;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, ServerConfig, client::VerifierBuilderError};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    algorithms::{SettingsError, algorithms},
    inspect::{CertificateInfo, InspectError},
    key::KeyError,
    pem::PemError,
    pins,
    profile::Profile,
    settings::{PairFiles, TlsSettings},
};
use slot::Slot;

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

    /// A listener that asks nobody for a certificate; `ca` is not read.
    pub fn server(self) -> TlsSettings {
        TlsSettings {
            pairs: vec![PairFiles {
                cert: self.cert,
                key: self.key,
            }],
            ..TlsSettings::default()
        }
    }

    /// A listener that takes only clients with a certificate of an authority in `ca`.
    pub fn verifying_server(self) -> TlsSettings {
        TlsSettings {
            ca_file: Some(self.ca.clone()),
            verify: true,
            ..self.server()
        }
    }

    /// A client that trusts `ca` and shows the certificate.
    pub fn client(self) -> TlsSettings {
        TlsSettings {
            ca_file: Some(self.ca.clone()),
            ..self.server()
        }
    }
}

/// Why files or settings were not taken over. Whatever was current stays current.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
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
    /// No `ca_file`, and the system has no roots either.
    #[error("the system has no trusted authorities, and no ca_file is set")]
    NoRoots,
    #[error("the trusted authorities cannot be used to verify peers")]
    Verifier(#[source] VerifierBuilderError),
    /// A combination that the TLS library does not take.
    #[error("the TLS settings cannot be used")]
    Config(#[source] rustls::Error),
}

/// What a look at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Contents or settings differ from what was current before.
    pub changed: bool,
    /// Serial of the leaf that is current now, of the first pair; empty for a client without one.
    pub serial_hex: String,
}

/// Why a peer that was verified once is not welcome any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    #[error("the certificate is not pinned")]
    NotPinned,
    #[error("the certificate expired at {not_after}")]
    Expired { not_after: OffsetDateTime },
    #[error("the certificate cannot be read")]
    Unreadable,
}

/// The TLS configuration of a listener.
pub struct ServerTls {
    slot: Slot<ServerConfig>,
}

impl ServerTls {
    /// Reads the files; a program does this before it opens a socket.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn load(settings: TlsSettings) -> Result<Self, ReloadError> {
        warn_of_dropped(&settings)?;
        Slot::load(settings, build::server).map(|slot| Self { slot })
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.slot.current()
    }

    /// What is in force.
    pub fn settings(&self) -> Arc<TlsSettings> {
        self.slot.settings()
    }

    /// The leaf that [`current`](Self::current) shows clients that name nobody: of the first pair.
    pub fn leaf(&self) -> CertificateInfo {
        self.slot.leaf().expect("a listener has a certificate")
    }

    /// End of the life of [`leaf`](Self::leaf).
    pub fn not_after(&self) -> OffsetDateTime {
        self.leaf().not_after
    }

    /// Whether the pins in force now allow a peer with this leaf; for connections from before a
    /// [`replace`](Self::replace).
    pub fn pins_allow(&self, leaf_der: &[u8]) -> bool {
        pins::allow(&self.slot.settings().pinned_certs, leaf_der)
    }

    /// Whether a peer with this leaf may stay. A resumed session brings back the peer of the first
    /// handshake without verifying it again, and connections outlive certificates, so that this is to be
    /// asked after a handshake that resumed and of connections that are open.
    ///
    /// # Errors
    /// See [`PeerRefusal`].
    pub fn admits(&self, leaf_der: &[u8], now: OffsetDateTime) -> Result<(), PeerRefusal> {
        let leaf = CertificateInfo::from_der(leaf_der).map_err(|_| PeerRefusal::Unreadable)?;
        if leaf.not_after < now {
            return Err(PeerRefusal::Expired {
                not_after: leaf.not_after,
            });
        }
        if self.pins_allow(leaf_der) {
            Ok(())
        } else {
            Err(PeerRefusal::NotPinned)
        }
    }

    /// Looks at the files and takes them over if their content has changed.
    ///
    /// # Errors
    /// See [`ReloadError`]; the old configuration stays.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.slot.reload()
    }

    /// Takes over other settings with the files that they name, all or nothing. Tickets of before are
    /// refused from then on.
    ///
    /// # Errors
    /// See [`ReloadError`]; the old settings and the old configuration stay.
    pub fn replace(&self, settings: TlsSettings) -> Result<Reloaded, ReloadError> {
        warn_of_dropped(&settings)?;
        self.slot.replace(settings)
    }

    /// Calls [`reload`](Self::reload) whenever the files may have changed, until `token` is
    /// cancelled; outcomes are logged. Follows [`replace`](Self::replace). Cancel-safe.
    pub async fn watch(self: Arc<Self>, token: CancellationToken) {
        let this = Arc::clone(&self);
        watch::watch(move || this.slot.paths(), token, move || self.reload()).await;
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("settings", &self.slot.settings())
            .finish_non_exhaustive()
    }
}

/// The TLS configuration of outgoing connections.
pub struct ClientTls {
    slot: Slot<ClientConfig>,
}

impl ClientTls {
    /// As [`ServerTls::load`]; without a pair no certificate is shown.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn load(settings: TlsSettings) -> Result<Self, ReloadError> {
        warn_of_dropped(&settings)?;
        Slot::load(settings, build::client).map(|slot| Self { slot })
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<ClientConfig> {
        self.slot.current()
    }

    /// What is in force.
    pub fn settings(&self) -> Arc<TlsSettings> {
        self.slot.settings()
    }

    /// The leaf that [`current`](Self::current) shows, of the first pair, if any.
    pub fn leaf(&self) -> Option<CertificateInfo> {
        self.slot.leaf()
    }

    /// As [`ServerTls::pins_allow`].
    pub fn pins_allow(&self, leaf_der: &[u8]) -> bool {
        pins::allow(&self.slot.settings().pinned_certs, leaf_der)
    }

    /// As [`ServerTls::reload`].
    ///
    /// # Errors
    /// See [`ReloadError`]; the old configuration stays.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.slot.reload()
    }

    /// As [`ServerTls::replace`].
    ///
    /// # Errors
    /// See [`ReloadError`]; the old settings and the old configuration stay.
    pub fn replace(&self, settings: TlsSettings) -> Result<Reloaded, ReloadError> {
        warn_of_dropped(&settings)?;
        self.slot.replace(settings)
    }

    /// As [`ServerTls::watch`].
    pub async fn watch(self: Arc<Self>, token: CancellationToken) {
        let this = Arc::clone(&self);
        watch::watch(move || this.slot.paths(), token, move || self.reload()).await;
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("settings", &self.slot.settings())
            .finish_non_exhaustive()
    }
}

/// Once for settings, not for every look at their files.
fn warn_of_dropped(settings: &TlsSettings) -> Result<(), SettingsError> {
    let dropped = algorithms(settings)?.dropped;
    if !dropped.is_empty() {
        tracing::warn!(
            names = dropped.join(", "),
            "cipher suites or curves that are not supported are left out"
        );
    }
    Ok(())
}

fn tls(path: &Path, source: rustls::Error) -> ReloadError {
    ReloadError::Tls {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
