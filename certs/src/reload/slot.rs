//! What is current, of a listener or of outgoing connections alike.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use time::OffsetDateTime;

use super::{
    ReloadError, Reloaded,
    files::{self, Contents, Digest},
};
use crate::{inspect::CertificateInfo, settings::TlsSettings};

/// From settings and contents to a configuration and the leaf that it shows.
pub(super) type Build<C> =
    fn(&TlsSettings, &Contents, OffsetDateTime) -> Result<Built<C>, ReloadError>;

/// A new configuration.
pub(super) struct Built<C> {
    pub(super) config: C,
    /// Of the first pair; a client may have none.
    pub(super) leaf: Option<CertificateInfo>,
}

/// Readers take the inner lock for the time of a clone; `writing` is held for a whole reload and always
/// taken first, so that of two reloads at once the later look wins.
pub(super) struct Slot<C> {
    build: Build<C>,
    writing: Mutex<()>,
    loaded: RwLock<Loaded<C>>,
}

/// A configuration and what it was made of.
struct Loaded<C> {
    settings: Arc<TlsSettings>,
    digest: Digest,
    config: Arc<C>,
    leaf: Option<CertificateInfo>,
}

impl<C> Loaded<C> {
    fn read(settings: Arc<TlsSettings>, build: Build<C>) -> Result<Self, ReloadError> {
        let now = OffsetDateTime::now_utc();
        let (digest, built) = files::read_sound(&settings, |contents| {
            Ok((contents.digest(), build(&settings, contents, now)?))
        })?;
        Ok(Self {
            settings,
            digest,
            config: Arc::new(built.config),
            leaf: built.leaf,
        })
    }
}

impl<C> Slot<C> {
    pub(super) fn load(settings: TlsSettings, build: Build<C>) -> Result<Self, ReloadError> {
        let loaded = Loaded::read(Arc::new(settings), build)?;
        Ok(Self {
            build,
            writing: Mutex::new(()),
            loaded: RwLock::new(loaded),
        })
    }

    pub(super) fn current(&self) -> Arc<C> {
        Arc::clone(&self.loaded().config)
    }

    pub(super) fn leaf(&self) -> Option<CertificateInfo> {
        self.loaded().leaf.clone()
    }

    pub(super) fn settings(&self) -> Arc<TlsSettings> {
        Arc::clone(&self.loaded().settings)
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        files::paths(&self.loaded().settings)
    }

    /// Takes the files over if their contents differ.
    pub(super) fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _writing = self.writing();
        let settings = self.settings();
        let changed = Contents::read(&settings)?.digest() != self.loaded().digest;
        if changed {
            self.store(Loaded::read(settings, self.build)?);
        }
        Ok(self.reloaded(changed))
    }

    /// Takes new settings over if they or the contents of their files differ.
    pub(super) fn replace(&self, settings: TlsSettings) -> Result<Reloaded, ReloadError> {
        let _writing = self.writing();
        let loaded = Loaded::read(Arc::new(settings), self.build)?;
        let changed = {
            let old = self.loaded();
            old.settings != loaded.settings || old.digest != loaded.digest
        };
        // Connections that go on with equal settings keep their tickets.
        if changed {
            self.store(loaded);
        }
        Ok(self.reloaded(changed))
    }

    fn reloaded(&self, changed: bool) -> Reloaded {
        let serial_hex = self.leaf().map(|leaf| leaf.serial_hex).unwrap_or_default();
        Reloaded {
            changed,
            serial_hex,
        }
    }

    fn store(&self, loaded: Loaded<C>) {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded(&self) -> RwLockReadGuard<'_, Loaded<C>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner)
    }
}
