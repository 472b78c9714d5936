//! The SQL store: the tables of nats-streaming-server in PostgreSQL, written under a fence.
//!
//! Four sessions: two writing lanes and one that holds the lock, whose sockets belong to the thread that uses the store,
//! and one for reads on a thread of its own. A standby has as many ready, the fourth to read back what is stored. How the
//! protocol was decided and measured: the fence in
//! `messages`, ownership in `lease`.

mod active;
mod changes;
mod current;
mod lease;
mod messages;
mod observer;
mod pooled;
pub mod preconditions;
mod reading;
mod reads;
mod recover;
mod schema;
mod session;
mod snapshot;
pub mod source;
mod sqlstate;
mod sweep;
pub mod tls;
mod totals;
mod unlocked;
mod warm;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use broker_core::durable::{Batch, ChannelId, FlushOutcome, Sequence, StoredRange, Totals};
use futures_util::future::{self, FutureExt, LocalBoxFuture};
use tracing::debug;

pub(crate) use self::observer::Observer;
use self::{
    active::Active,
    lease::{Attempt, Candidate},
    reads::Wanted,
    session::{Failure, Session},
    warm::Warm,
};
pub use self::{
    current::Sources,
    snapshot::Snapshot,
    source::{Source, SourceError},
};
use crate::{Activation, Store, StoreError, owner::fresh_owner_id};

/// Writing connections. One backend is one core and sleeps in fsync; a second brings 25 to 40 %
/// more, a third nothing.
const LANES: usize = 2;

/// What a [`PostgresStore`] must know.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Where the database is, now and after changes.
    pub sources: Sources,
}

impl From<SourceError> for StoreError {
    fn from(error: SourceError) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self::Config(text)
    }
}

/// A store in a PostgreSQL database (version 12 or later).
#[derive(Debug)]
pub struct PostgresStore {
    config: PostgresConfig,
    /// Kept between activations that found another owner: how long the owner's tick has stood still
    /// is known only to one who looks again and again.
    candidate: RefCell<Option<(Candidate, Warm)>>,
    active: RefCell<Option<Rc<Active>>>,
}

impl PostgresStore {
    /// A store that connects when it is activated.
    #[must_use]
    pub fn new(config: PostgresConfig) -> Self {
        Self {
            config,
            candidate: RefCell::new(None),
            active: RefCell::new(None),
        }
    }

    async fn open(&self) -> Result<Activation, StoreError> {
        self.stop().await;
        let sources = &self.config.sources;
        let (mut candidate, mut warm) = self.candidate().await?;
        match candidate.attempt().await? {
            Attempt::Held { holder } => {
                warm.keep(sources, &candidate.owner, candidate.has_totals)
                    .await;
                *self.candidate.borrow_mut() = Some((candidate, warm));
                Ok(Activation::Standby { holder })
            }
            Attempt::Taken => {
                let (active, recovered) = Active::start(sources, &candidate, warm).await?;
                *self.active.borrow_mut() = Some(Rc::new(active));
                Ok(Activation::Active(recovered))
            }
        }
    }

    /// The candidate of the last activation, or a new one under a new id.
    async fn candidate(&self) -> Result<(Candidate, Warm), StoreError> {
        let kept = self.candidate.borrow_mut().take();
        let sources = &self.config.sources;
        if let Some(kept) = kept.filter(|(candidate, _)| {
            !candidate.session.is_closed() && candidate.session.is_made_with(sources)
        }) {
            return Ok(kept);
        }
        let owner = fresh_owner_id()
            .ok_or_else(|| StoreError::Config("the system gives no random numbers".to_owned()))?;
        let session = Session::open(sources, &owner).await?;
        let warm = Warm::open(sources, &owner).await?;
        if let Some(other) = warm.recovering() {
            let pooled = pooled::is_pooled(&session, other).await;
            let looking =
                |failure: Failure| failure.into_store_error("looking for a pooler on the way");
            if pooled.map_err(looking)? {
                return Err(StoreError::Config(pooled::REFUSAL.to_owned()));
            }
        }
        schema::ensure(&session).await?;
        let has_totals = schema::ensure_totals(&session).await?;
        if let Err(error) = warm.prepare(has_totals).await {
            // They are prepared when they are used. Another candidate that makes the tables may be in the way.
            debug!("statements cannot be prepared now: {error}");
        }
        Ok((Candidate::new(session, owner, has_totals), warm))
    }

    async fn stop(&self) {
        let active = self.active.borrow_mut().take();
        if let Some(active) = active {
            active.stop().await;
        }
    }

    fn current(&self) -> Option<Rc<Active>> {
        self.active.borrow().clone()
    }
}

impl Store for PostgresStore {
    fn kind(&self) -> &'static str {
        "SQL"
    }

    fn lanes(&self) -> usize {
        LANES
    }

    fn owner(&self) -> String {
        self.current()
            .map_or_else(String::new, |active| active.owner.clone())
    }

    fn activate(&self) -> LocalBoxFuture<'_, Result<Activation, StoreError>> {
        self.open().boxed_local()
    }

    fn flush(&self, lane: usize, batch: Arc<Batch>) -> LocalBoxFuture<'_, FlushOutcome> {
        match self.current() {
            Some(active) => async move { active.flush(lane, &batch).await }.boxed_local(),
            None => future::ready(FlushOutcome::Deposed).boxed_local(),
        }
    }

    fn read(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'_, Result<StoredRange, StoreError>> {
        let active = self.current();
        let wanted = Wanted {
            channel,
            from,
            max_rows,
            max_bytes,
        };
        async move {
            let active = active.ok_or_else(not_active)?;
            active.reader.range(wanted).await
        }
        .boxed_local()
    }

    fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> LocalBoxFuture<'_, Result<Option<Sequence>, StoreError>> {
        let active = self.current();
        async move {
            let active = active.ok_or_else(not_active)?;
            active.reader.sequence_at(channel, timestamp).await
        }
        .boxed_local()
    }

    fn count(
        &self,
        channel: ChannelId,
        up_to: Sequence,
    ) -> LocalBoxFuture<'_, Result<Totals, StoreError>> {
        let active = self.current();
        async move {
            let active = active.ok_or_else(not_active)?;
            active.count(channel, up_to).await
        }
        .boxed_local()
    }

    fn deposed(&self) -> LocalBoxFuture<'_, ()> {
        let active = self.current();
        async move {
            match active {
                Some(active) => active.deposed().await,
                None => future::pending().await,
            }
        }
        .boxed_local()
    }

    fn close(&self) -> LocalBoxFuture<'_, ()> {
        async move {
            self.stop().await;
            *self.candidate.borrow_mut() = None;
        }
        .boxed_local()
    }
}

fn not_active() -> StoreError {
    StoreError::Unavailable {
        context: "reading messages".to_owned(),
        source: "the store is not active".into(),
    }
}
