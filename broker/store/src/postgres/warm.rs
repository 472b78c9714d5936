//! The sessions of an owner, made before they are needed: taking over waits neither for connections nor for statements
//! to be prepared.
//!
//! What is stored is not read beforehand: it would have to be read again once the row is taken, since the former owner
//! may have written until then.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::future::{join_all, try_join_all};
use tokio::time::timeout;
use tracing::debug;

use super::{LANES, changes, current::Sources, messages, recover, session::Session, totals};
use crate::StoreError;

/// Time between two uses of a session that waits: short against the patience of firewalls and address translators with
/// silent connections, which is minutes.
const PERIOD: Duration = Duration::from_secs(10);

/// How long a use may take, and how long making new sessions. The looks at the lock wait for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sessions for an activation, one in each place. A place whose session has gone is filled when there is time, at the
/// latest when it is needed.
#[derive(Debug)]
pub(super) struct Warm {
    recovering: Option<Rc<Session>>,
    lanes: [Option<Rc<Session>>; LANES],
    used: Instant,
}

/// What an activation gets.
#[derive(Debug)]
pub(super) struct Sessions {
    /// For reading everything back; not needed afterwards.
    pub(super) recovering: Rc<Session>,
    pub(super) lanes: [Rc<Session>; LANES],
}

impl Warm {
    /// Connects them all at once.
    pub(super) async fn open(sources: &Sources, owner: &str) -> Result<Self, StoreError> {
        let mut warm = Self {
            recovering: None,
            lanes: [const { None }; LANES],
            used: Instant::now(),
        };
        warm.fill(sources, owner).await?;
        Ok(warm)
    }

    /// The one for recovery, while it is there.
    pub(super) fn recovering(&self) -> Option<&Session> {
        self.recovering.as_deref()
    }

    /// Uses each session that was not used for a while; one that does not answer is replaced.
    pub(super) async fn keep(&mut self, sources: &Sources, owner: &str, has_totals: bool) {
        if self.used.elapsed() < PERIOD {
            return;
        }
        join_all(self.places().map(use_session)).await;
        let renewed = async {
            self.fill(sources, owner).await?;
            self.prepare(has_totals).await
        };
        match timeout(PATIENCE, renewed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!("sessions for taking over cannot be made now: {error}"),
            Err(_) => debug!("sessions for taking over were not made within {PATIENCE:?}"),
        }
        self.used = Instant::now();
    }

    /// Has them know the statements of an activation and of the first flushes.
    pub(super) async fn prepare(&self, has_totals: bool) -> Result<(), StoreError> {
        let of_totals = |statement| has_totals.then_some(statement);
        let writing = messages::STATEMENTS.into_iter().chain([changes::WRITE]);
        let writing = writing.chain(of_totals(totals::PUT));
        let recovering = recover::statements(has_totals).into_iter();
        let recovering = recovering.chain(of_totals(totals::FORGET_OTHERS));
        let lanes = self.lanes.iter().flatten();
        let prepared = async {
            try_join_all(lanes.map(|lane| lane.prepare(writing.clone()))).await?;
            match &self.recovering {
                Some(session) => session.prepare(recovering).await,
                None => Ok(()),
            }
        };
        prepared
            .await
            .map_err(|failure| failure.into_store_error("preparing statements"))
    }

    /// All of them, for use.
    pub(super) async fn take(
        mut self,
        sources: &Sources,
        owner: &str,
    ) -> Result<Sessions, StoreError> {
        self.fill(sources, owner).await?;
        const FILLED: &str = "filling leaves no place empty";
        Ok(Sessions {
            recovering: self.recovering.expect(FILLED),
            lanes: self.lanes.map(|lane| lane.expect(FILLED)),
        })
    }

    /// Makes those that are not there or have ended.
    async fn fill(&mut self, sources: &Sources, owner: &str) -> Result<(), StoreError> {
        let gone = self.places().filter(|place| {
            let session = place.as_ref();
            session.is_none_or(|session| session.is_closed())
        });
        let made = gone.map(async |place| {
            *place = Some(Rc::new(Session::open(sources, owner).await?));
            Ok(())
        });
        try_join_all(made).await.map(drop)
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Option<Rc<Session>>> {
        self.lanes.iter_mut().chain([&mut self.recovering])
    }
}

/// Empties the place if its session does not answer.
async fn use_session(place: &mut Option<Rc<Session>>) {
    let Some(session) = place else { return };
    if !matches!(timeout(PATIENCE, session.batch("")).await, Ok(Ok(()))) {
        *place = None;
    }
}
