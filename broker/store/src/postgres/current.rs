//! The source that counts now: it can be replaced while connections made with the former one are at work.
//!
//! Connections of the new source are made beside the old ones, which go when those are there and nothing is under way on
//! them. As long as the new source does not work, the old connections stay.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{lease::BACKOFF, session::Session, source::Source};
use crate::StoreError;

/// Where the database is, now and after every change.
#[derive(Clone, Debug)]
pub struct Sources(watch::Receiver<Arc<Source>>);

impl From<Source> for Sources {
    /// One that never changes.
    fn from(source: Source) -> Self {
        Self(watch::channel(Arc::new(source)).1)
    }
}

impl From<watch::Receiver<Arc<Source>>> for Sources {
    fn from(sources: watch::Receiver<Arc<Source>>) -> Self {
        Self(sources)
    }
}

impl Sources {
    pub(super) fn current(&self) -> Arc<Source> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits for another source. Never ready where there will be none.
    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A connection that is replaced when nothing is under way on it.
#[derive(Debug, Default)]
pub(super) struct Renewable {
    current: RefCell<Option<Rc<Session>>>,
    /// Made with a newer source.
    next: RefCell<Option<Rc<Session>>>,
}

impl Renewable {
    pub(super) fn new(session: Rc<Session>) -> Self {
        Self {
            current: RefCell::new(Some(session)),
            next: RefCell::new(None),
        }
    }

    /// The connection for what begins now, if there is one that lives.
    pub(super) fn get(&self) -> Option<Rc<Session>> {
        let next = self.take_next();
        let mut current = self.current.borrow_mut();
        if next.is_some() {
            *current = next;
        }
        current.clone().filter(|session| !session.is_closed())
    }

    /// The connection that a newer source has brought.
    pub(super) fn take_next(&self) -> Option<Rc<Session>> {
        let next = self.next.borrow_mut().take();
        next.filter(|session| !session.is_closed())
    }

    pub(super) fn set(&self, session: Rc<Session>) {
        *self.current.borrow_mut() = Some(session);
    }

    /// Gives the connection up.
    pub(super) fn take(&self) -> Option<Rc<Session>> {
        self.current.borrow_mut().take()
    }

    /// Gives this connection up, if it is still the one in use.
    pub(super) fn forget(&self, broken: &Rc<Session>) {
        let mut current = self.current.borrow_mut();
        current.take_if(|session| Rc::ptr_eq(session, broken));
    }
}

/// Makes new connections whenever the source changes; `purpose` names them in the log. Ends with the one who runs it.
pub(super) async fn renew(
    mut sources: Sources,
    owner: String,
    connections: Vec<Rc<Renewable>>,
    purpose: &'static str,
) {
    loop {
        sources.changed().await;
        let mut backoff = BACKOFF.0;
        while let Err(error) = renew_all(&sources, &owner, &connections).await {
            warn!(
                purpose,
                "the new source does not work, the connections of the former one stay: {}",
                error.cause()
            );
            if wait_or_changed(&mut sources, backoff).await {
                backoff = BACKOFF.0;
            } else {
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
        info!(purpose, "connected with the new source");
    }
}

async fn renew_all(
    sources: &Sources,
    owner: &str,
    connections: &[Rc<Renewable>],
) -> Result<(), StoreError> {
    let mut sessions = Vec::new();
    for _ in connections {
        sessions.push(Rc::new(Session::open(sources, owner).await?));
    }
    for (connection, session) in connections.iter().zip(sessions) {
        *connection.next.borrow_mut() = Some(session);
    }
    Ok(())
}

/// Whether the source has changed within that time.
async fn wait_or_changed(sources: &mut Sources, time: Duration) -> bool {
    tokio::time::timeout(time, sources.changed()).await.is_ok()
}
