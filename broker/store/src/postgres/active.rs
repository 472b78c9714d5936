//! The store while this process owns it: lanes, flushes, and what is done when one goes wrong.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use broker_core::durable::{Batch, ChannelId, FlushOutcome, Recovered, Sequence, Totals};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tracing::{info, warn};

use super::{
    LANES,
    changes::ChangeColumns,
    current::{Renewable, Sources, renew},
    lease::{self, BACKOFF, Candidate},
    messages::{Fenced, Found, MessageColumns},
    reading::ReadingThread,
    recover,
    session::{Failure, Session, end_former},
    sqlstate::Verdict,
    sweep::Sweep,
    totals::{self, TotalsColumns},
    warm::Warm,
};
use crate::{
    StoreError,
    final_state::{FinalState, SubscriptionNumbers},
};

/// How long a fenced statement proves that the store is ours: shorter than anybody's patience with an owner that has
/// gone or does not tick.
const PROOF_LASTS: Duration = Duration::from_secs(1);

/// Everything that lives from one activation to its end.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) owner: String,
    pub(super) reader: ReadingThread,
    sources: Sources,
    lanes: [Lane; LANES],
    numbers: RefCell<SubscriptionNumbers>,
    last_pending_row: Cell<i64>,
    /// True once the store belongs to somebody else.
    lost: watch::Sender<bool>,
    /// There is a table for totals.
    has_totals: bool,
    sweep: Sweep,
    keeper: Task,
    _renewal: Task,
    /// The connection that holds the lock.
    lock: Rc<Renewable>,
}

/// A writing connection. Taken out while a flush uses it.
#[derive(Debug)]
struct Lane {
    connection: Rc<Renewable>,
    /// Backend of a connection that was lost with a statement under way.
    former: Cell<Option<i32>>,
}

/// One flush, as columns.
struct Work<'a> {
    changes: Option<ChangeColumns>,
    totals: TotalsColumns,
    messages: MessageColumns<'a>,
    /// Changes are on record; only the messages are left to write.
    changes_done: bool,
    /// An attempt was made whose outcome is not known.
    uncertain: bool,
}

/// A task that ends with this.
#[derive(Debug)]
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Active {
    /// Recovers and starts to tick, with the sessions that the standby had ready. The lock has just been taken by
    /// `candidate`; it is given back if this fails.
    pub(super) async fn start(
        sources: &Sources,
        candidate: &Candidate,
        warm: Warm,
    ) -> Result<(Self, Recovered), StoreError> {
        let started = Self::recover_and_connect(sources, candidate, warm).await;
        if started.is_err() {
            let session = Rc::clone(&candidate.session);
            lease::release(sources, &candidate.owner, Some(session)).await;
        }
        started
    }

    async fn recover_and_connect(
        sources: &Sources,
        candidate: &Candidate,
        warm: Warm,
    ) -> Result<(Self, Recovered), StoreError> {
        let owner = candidate.owner.clone();
        let lost = watch::Sender::new(false);
        let lock = Rc::new(Renewable::new(Rc::clone(&candidate.session)));
        // Ticking must not wait for the recovery, which can take longer than a taker's patience.
        let keeper = Task(tokio::task::spawn_local(lease::keep(
            sources.clone(),
            owner.clone(),
            Rc::clone(&lock),
            lost.clone(),
        )));
        let sessions = warm.take(sources, &owner).await?;
        let session = sessions.recovering;
        let has_totals = candidate.has_totals;
        if has_totals {
            let forgotten = totals::forget_others(&session).await;
            forgotten.map_err(|failure| failure.into_store_error("reading the store back"))?;
        }
        let read = recover::read(&session, has_totals).await?;
        let recovered = read.rows.assemble()?;
        let lanes = sessions.lanes.map(Lane::new);
        let renewed = lanes.iter().map(|lane| &lane.connection);
        let renewed = renewed.chain([&lock]).cloned().collect();
        let renewal = renew(sources.clone(), owner.clone(), renewed, "writing");
        let sweep = Sweep::start(sources, &owner, has_totals, &lost);
        sweep.add(read.deleted_channels);
        let active = Self {
            has_totals,
            sweep,
            reader: ReadingThread::start(sources.clone(), owner.clone())?,
            owner,
            sources: sources.clone(),
            lanes,
            numbers: RefCell::new(read.numbers),
            last_pending_row: Cell::new(read.last_pending_row),
            lost,
            keeper,
            _renewal: Task(tokio::task::spawn_local(renewal)),
            lock,
        };
        Ok((active, recovered))
    }

    pub(super) async fn deposed(&self) {
        let mut lost = self.lost.subscribe();
        // The sender lives as long as `self`.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Stops ticking and gives the lock back.
    pub(super) async fn stop(&self) {
        self.keeper.0.abort();
        if !self.is_lost() {
            lease::release(&self.sources, &self.owner, self.lock.get()).await;
        }
        // A read that is still under way must not keep anybody waiting for an owner that has gone.
        self.lost.send_replace(true);
    }

    /// Repeats or proves until the outcome is known.
    pub(super) async fn flush(&self, lane: usize, batch: &Batch) -> FlushOutcome {
        let state = FinalState::of(&batch.changes);
        let changes = (!state.is_empty()).then(|| {
            ChangeColumns::of(&state, &self.numbers.borrow(), || {
                self.last_pending_row.set(self.last_pending_row.get() + 1);
                self.last_pending_row.get()
            })
        });
        let mut work = Work {
            changes,
            totals: match self.has_totals {
                true => TotalsColumns::of(&state.totals),
                false => TotalsColumns::default(),
            },
            messages: MessageColumns::of(batch),
            changes_done: false,
            uncertain: false,
        };
        let lane = &self.lanes[lane];
        let mut backoff = BACKOFF.0;
        let mut has_met_another = false;
        loop {
            if self.is_lost() {
                return FlushOutcome::Deposed;
            }
            let failure = match self.try_flush(lane, &mut work).await {
                Ok(outcome) => {
                    self.record(&outcome, &state);
                    return outcome;
                }
                Err(failure) => failure,
            };
            match failure.verdict() {
                Verdict::Refused => {
                    return FlushOutcome::Refused {
                        reason: failure.to_string(),
                    };
                }
                // Somebody's row is in the way, perhaps our own of a lost attempt: look at it.
                Verdict::Duplicate => {
                    work.uncertain = true;
                    continue;
                }
                Verdict::Lost => {
                    warn!("flush interrupted, its outcome is being looked up: {failure}");
                    work.uncertain = true;
                    lane.lose();
                }
                // The first time at once; whom it meets again may have longer work.
                Verdict::Again if !std::mem::replace(&mut has_met_another, true) => continue,
                Verdict::Again | Verdict::Wait => warn!("flush is being repeated: {failure}"),
            }
            self.pause(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// On a connection of its own, since it can take long.
    pub(super) async fn count(
        &self,
        channel: ChannelId,
        up_to: Sequence,
    ) -> Result<Totals, StoreError> {
        let session = Session::open(&self.sources, &self.owner).await?;
        let counted = totals::count(&session, channel, up_to).await;
        counted.map_err(|failure| failure.into_store_error("counting messages"))
    }

    fn record(&self, outcome: &FlushOutcome, state: &FinalState) {
        match outcome {
            FlushOutcome::Stored => {
                let mut numbers = self.numbers.borrow_mut();
                let after = numbers.after(state);
                *numbers = after;
                self.sweep.add(state.channels_gone.iter().copied());
            }
            FlushOutcome::Deposed => {
                self.lost.send_replace(true);
            }
            FlushOutcome::Foreign { last } => {
                warn!(
                    channels = last.len(),
                    "rows of another writer found behind our own"
                );
            }
            FlushOutcome::Refused { .. } => {}
        }
    }

    async fn pause(&self, backoff: Duration) {
        tokio::select! {
            () = sleep(backoff) => {}
            () = self.deposed() => {}
        }
    }

    async fn try_flush(&self, lane: &Lane, work: &mut Work<'_>) -> Result<FlushOutcome, Failure> {
        let Some(session) = self.lane_session(lane).await? else {
            // Not connected yet; the caller pauses and tries again.
            return Err(Failure::NotConnected);
        };
        let mut proof = None;
        if let (Some(changes), false) = (&work.changes, work.changes_done) {
            let asked = Instant::now();
            if changes.write(&session, &self.owner).await? == Fenced::Deposed {
                return Ok(FlushOutcome::Deposed);
            }
            proof = Some(asked);
            work.changes_done = true;
        }
        if !work.totals.is_empty() {
            let asked = Instant::now();
            match work.totals.write(&session, &self.owner).await {
                Ok(Fenced::Deposed) => return Ok(FlushOutcome::Deposed),
                Ok(Fenced::Done) => proof = Some(asked),
                Err(failure) if failure.verdict() == Verdict::Lost => return Err(failure),
                // Nothing else may fail because of them.
                Err(failure) => {
                    warn!("totals cannot be written down, the next start will count: {failure}");
                }
            }
            work.totals = TotalsColumns::default();
        }
        if work.messages.is_empty() {
            return self.stored(&session, proof).await;
        }
        if work.uncertain {
            match work.messages.find(&session).await? {
                Found::All => {
                    info!("the interrupted flush had been stored");
                    return self.stored(&session, None).await;
                }
                Found::Foreign(last) => return Ok(FlushOutcome::Foreign { last }),
                Found::Missing => {}
            }
        }
        let asked = Instant::now();
        match work.messages.write(&session, &self.owner).await? {
            Fenced::Done => self.stored(&session, Some(asked)).await,
            Fenced::Deposed => Ok(FlushOutcome::Deposed),
        }
    }

    /// The flush is on record; this may be told if the store is ours still. Whoever was frozen, or cut off from the database,
    /// reads the answer after somebody else has taken over.
    ///
    /// `proof`: a fenced statement was sent then, and has found us to be the owner.
    async fn stored(
        &self,
        session: &Session,
        proof: Option<Instant>,
    ) -> Result<FlushOutcome, Failure> {
        const OWNED: &str = "SELECT FROM StoreLock WHERE id = $1";
        if proof.is_some_and(|asked| asked.elapsed() < PROOF_LASTS) {
            return Ok(FlushOutcome::Stored);
        }
        let owned = session.query(OWNED, &[&self.owner]).await?;
        Ok(match owned.is_empty() {
            false => FlushOutcome::Stored,
            true => FlushOutcome::Deposed,
        })
    }

    /// The lane's session, connected again if need be. A former session that may still be at work
    /// is ended first: a statement of it that came late would undo newer state.
    async fn lane_session(&self, lane: &Lane) -> Result<Option<Rc<Session>>, Failure> {
        if let Some(session) = lane.connection.get() {
            return Ok(Some(session));
        }
        lane.lose();
        let session = match Session::open(&self.sources, &self.owner).await {
            Ok(session) => Rc::new(session),
            Err(error) => {
                warn!("{error}: {}", error.cause());
                return Ok(None);
            }
        };
        if let Some(former) = lane.former.get()
            && !end_former(&session, former, &self.owner).await?
        {
            warn!(backend = former, "a former session does not end");
            return Ok(None);
        }
        lane.former.set(None);
        lane.connection.set(Rc::clone(&session));
        Ok(Some(session))
    }
}

impl Lane {
    fn new(session: Rc<Session>) -> Self {
        Self {
            connection: Rc::new(Renewable::new(session)),
            former: Cell::new(None),
        }
    }

    /// Gives the connection up, remembering its backend.
    fn lose(&self) {
        if let Some(session) = self.connection.take() {
            self.former.set(Some(session.backend));
        }
    }
}
