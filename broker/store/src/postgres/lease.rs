//! Ownership of the store: the lock row, which the reference server understands, and a session
//! advisory lock, which tells brokers of this kind at once when an owner's process has ended.
//!
//! * The row decides. It is taken under `FOR UPDATE`, which waits for every fenced statement in
//!   flight; from then on statements of the former owner find no row of theirs.
//! * A candidate looks at the row at each activation. It takes a released row at once; the row of a
//!   broker of this kind that has no session left, after [`DEAD_PATIENCE`], or [`GONE_PATIENCE`] where it was seen to have had one; any other row once its tick has stood still for [`STEAL_PATIENCE`].
//! * A row that is free may belong to a server that takes no lock; see `unlocked`.
//! * Before it steals, it ends the sessions of the former owner: a frozen process keeps them open,
//!   and a statement that is under way in one of them.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{
    current::{Renewable, Sources},
    session::{Failure, Session},
    sqlstate::Verdict,
    unlocked,
};
use crate::{
    StoreError,
    owner::is_of_our_kind,
    standing::{STEAL_PATIENCE, Standing},
};

/// Period of the owner's tick, as the reference has it.
const TICK: Duration = Duration::from_secs(1);

/// How long an owner may be without any session before its row is taken. It covers an owner that is
/// connecting again after a restart of the database.
const DEAD_PATIENCE: Duration = Duration::from_millis(1500);

/// The same where the sessions went while ours stayed: then it was not the database that restarted, and an owner that
/// lives is back within a few attempts to connect.
const GONE_PATIENCE: Duration = Duration::from_millis(500);

/// First and longest pause between two attempts to connect again. With what connecting takes, service is there within a
/// second of the database's return.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(400));

/// The lock row, and what is known of the owner that it names. `1398030926` is "STAN" in ASCII; the
/// second half of the advisory key is the table's, so two stores in one database do not meet.
const LOOK: &str = "
    SELECT l.id, l.tick,
           EXISTS (SELECT FROM pg_stat_activity a
                   WHERE a.datname = current_database() AND l.id <> ''
                     AND right(a.application_name, length(l.id)) = l.id) AS has_sessions,
           EXISTS (SELECT FROM pg_locks k
                   WHERE k.locktype = 'advisory' AND k.granted AND k.classid = 1398030926
                     AND k.objid = 'storelock'::regclass::oid AND k.objsubid = 2
                     AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     AND k.pid <> pg_backend_pid()) AS is_locked
    FROM StoreLock l LIMIT 1";
const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(1398030926, 'storelock'::regclass::oid::int4)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(1398030926, 'storelock'::regclass::oid::int4)";
/// Sessions that hold the advisory lock and bear this owner's name.
const END_HOLDER: &str = "
    SELECT pg_terminate_backend(k.pid) FROM pg_locks k JOIN pg_stat_activity a USING (pid)
    WHERE k.locktype = 'advisory' AND k.granted AND k.classid = 1398030926
      AND k.objid = 'storelock'::regclass::oid AND k.objsubid = 2
      AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND k.pid <> pg_backend_pid() AND right(a.application_name, length($1::text)) = $1::text";
const END_SESSIONS: &str = "
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND $1::text <> ''
      AND right(application_name, length($1::text)) = $1::text";
const ROW_FOR_UPDATE: &str = "SELECT id, tick FROM StoreLock FOR UPDATE";
/// The whole table: two rows can have been left by the reference, of which the first counts.
const TAKE: &str = "UPDATE StoreLock SET id = $1, tick = $2";
const INSERT: &str = "INSERT INTO StoreLock (id, tick) VALUES ($1, $2)";
const TICK_ROW: &str = "UPDATE StoreLock SET tick = tick + 1 WHERE id = $1";
const RELEASE: &str = "UPDATE StoreLock SET id = '', tick = 0 WHERE id = $1";

/// One who wants the store: a session, the id it would own the store under, what it has seen.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) session: Rc<Session>,
    pub(super) owner: String,
    /// There is a table for totals.
    pub(super) has_totals: bool,
    seen: Option<Seen>,
    unlocked: unlocked::Watch,
}

/// What the looks at one owner have shown.
#[derive(Clone, Debug)]
struct Seen {
    owner: Standing,
    /// Since when it has had neither session nor advisory lock.
    gone_since: Option<Instant>,
    /// It had one of them at a look of this candidate, whose own session has lasted since.
    was_there: bool,
}

/// One look.
#[derive(Clone, Debug)]
struct Row {
    id: String,
    tick: i64,
    has_sessions: bool,
    is_locked: bool,
}

/// What a look says to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Wait,
    /// Released in order, or never owned.
    TakeFree,
    /// The owner's process has ended.
    TakeDead,
    /// The owner has not ticked for too long.
    Steal,
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Taken,
    Held { holder: String },
}

impl Seen {
    /// Takes a look in and decides.
    fn after(previous: Option<Self>, row: &Row, now: Instant) -> (Self, Move) {
        let previous = previous.filter(|seen| seen.owner.id == row.id);
        let gone_before = previous.as_ref().and_then(|seen| seen.gone_since);
        let was_there = previous.as_ref().is_some_and(|seen| seen.was_there);
        let owner = Standing::after(previous.map(|seen| seen.owner), &row.id, row.tick, now);
        let is_gone = is_of_our_kind(&row.id) && !row.has_sessions && !row.is_locked;
        let gone_since = is_gone.then(|| gone_before.unwrap_or(now));
        let was_there = was_there || row.has_sessions || row.is_locked;
        let patience = match was_there {
            true => GONE_PATIENCE,
            false => DEAD_PATIENCE,
        };
        let is_dead = gone_since.is_some_and(|since| {
            now.saturating_duration_since(since) >= patience && owner.still(now) >= patience
        });
        let next = if row.id.is_empty() {
            Move::TakeFree
        } else if owner.is_abandoned(now) {
            Move::Steal
        } else if is_dead {
            Move::TakeDead
        } else {
            Move::Wait
        };
        let seen = Self {
            owner,
            gone_since,
            was_there,
        };
        (seen, next)
    }
}

impl Candidate {
    pub(super) fn new(session: Session, owner: String, has_totals: bool) -> Self {
        Self {
            session: Rc::new(session),
            owner,
            has_totals,
            seen: None,
            unlocked: unlocked::Watch::default(),
        }
    }

    /// Looks at the lock and takes it if it may be taken. Does not wait for an owner.
    pub(super) async fn attempt(&mut self) -> Result<Attempt, StoreError> {
        self.try_once()
            .await
            .map_err(|failure| failure.into_store_error("taking the store lock"))
    }

    async fn try_once(&mut self) -> Result<Attempt, Failure> {
        let rows = self.session.query(LOOK, &[]).await?;
        let row = rows.first().map_or_else(
            || Row {
                id: String::new(),
                tick: 0,
                has_sessions: false,
                is_locked: false,
            },
            |row| Row {
                id: row.get::<_, Option<String>>(0).unwrap_or_default(),
                tick: row.get::<_, Option<i64>>(1).unwrap_or_default(),
                has_sessions: row.get(2),
                is_locked: row.get(3),
            },
        );
        let (seen, next) = Seen::after(self.seen.take(), &row, Instant::now());
        // A frozen session can hold the advisory lock although its owner lost the row long ago.
        let is_overdue = seen.owner.still(Instant::now()) >= STEAL_PATIENCE;
        self.seen = Some(seen);
        let held = Attempt::Held {
            holder: row.id.clone(),
        };
        match next {
            Move::Wait => return Ok(held),
            Move::TakeFree => {
                if let Some(holder) = self.unlocked.look(&self.session).await? {
                    return Ok(Attempt::Held { holder });
                }
            }
            Move::TakeDead => info!(
                former = row.id,
                "the store's former owner has ended, taking over"
            ),
            Move::Steal => {
                warn!(
                    former = row.id,
                    "the store's owner does not tick any more, taking over"
                );
                self.evict(&row.id).await;
            }
        }
        if !self.lock(is_overdue).await? {
            return Ok(held);
        }
        if self.take(&row).await? {
            return Ok(Attempt::Taken);
        }
        self.session.query(UNLOCK, &[]).await?;
        Ok(held)
    }

    /// Ends the sessions of an owner that does not answer. Not being allowed to is no obstacle: the
    /// row alone is enough to be safe.
    async fn evict(&self, former: &str) {
        match self.session.query(END_SESSIONS, &[&former]).await {
            Ok(ended) => info!(
                former,
                sessions = ended.len(),
                "ended sessions of the former owner"
            ),
            Err(failure) => warn!(
                former,
                "not permitted to end the former owner's sessions, relying on the lock row alone: {failure}"
            ),
        }
    }

    /// Takes the advisory lock. `regardless`: having waited for it is enough.
    async fn lock(&self, regardless: bool) -> Result<bool, Failure> {
        /// Attempts, 20 ms apart: a session that has just been ended or closed is about to let go.
        const ATTEMPTS: u32 = 25;
        for _ in 0..ATTEMPTS {
            if self.session.query(TRY_LOCK, &[]).await?[0].get(0) {
                return Ok(true);
            }
            sleep(Duration::from_millis(20)).await;
        }
        if regardless {
            warn!("the advisory lock of the store is still held, relying on the lock row alone");
        }
        Ok(regardless)
    }

    /// Writes our id into the row, if it still is as it was seen. Waits for fenced statements.
    async fn take(&self, expected: &Row) -> Result<bool, Failure> {
        self.session
            .batch(
                "BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE StoreLock IN ROW EXCLUSIVE MODE",
            )
            .await?;
        let taken = self.take_in_transaction(expected).await;
        let end = if matches!(taken, Ok(true)) {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        self.session.batch(end).await?;
        taken
    }

    async fn take_in_transaction(&self, expected: &Row) -> Result<bool, Failure> {
        let mut rows = self.session.query(ROW_FOR_UPDATE, &[]).await?;
        if rows.is_empty() {
            // Against another one who finds no row either and inserts its own.
            self.session
                .batch("LOCK TABLE StoreLock IN SHARE ROW EXCLUSIVE MODE")
                .await?;
            rows = self.session.query(ROW_FOR_UPDATE, &[]).await?;
        }
        let Some(row) = rows.first() else {
            self.session.execute(INSERT, &[&self.owner, &1_i64]).await?;
            return Ok(true);
        };
        let id = row.get::<_, Option<String>>(0).unwrap_or_default();
        let tick = row.get::<_, Option<i64>>(1).unwrap_or_default();
        if !id.is_empty() && (id != expected.id || tick != expected.tick) {
            return Ok(false);
        }
        let first_tick = if id.is_empty() { tick + 1 } else { 1 };
        self.session
            .execute(TAKE, &[&self.owner, &first_tick])
            .await?;
        Ok(true)
    }
}

/// Ticks until ownership is lost, which `lost` then says. Ends only then; abort it to stop it.
pub(super) async fn keep(
    sources: Sources,
    owner: String,
    connection: Rc<Renewable>,
    lost: watch::Sender<bool>,
) {
    let mut next = tokio::time::interval(TICK);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        next.tick().await;
        if let Some(newer) = connection.take_next() {
            move_lock(connection.take(), &newer).await;
            connection.set(newer);
        }
        let ticked = match connection.get() {
            Some(session) => session.execute(TICK_ROW, &[&owner]).await,
            None => Err(Failure::NotConnected),
        };
        match ticked {
            Ok(0) => break,
            Ok(_) => {}
            Err(failure) => {
                warn!("unable to update store lock: {failure}");
                if failure.verdict() == Verdict::Lost {
                    let Some(regained) = regain(&sources, &owner).await else {
                        break;
                    };
                    info!("store lock regained");
                    connection.set(regained);
                }
            }
        }
    }
    lost.send_replace(true);
}

/// The advisory lock goes along to a newer connection. The row stays ours meanwhile, so that nobody else takes the store.
async fn move_lock(former: Option<Rc<Session>>, newer: &Session) {
    if let Some(former) = former {
        // If this fails it is gone, and the lock with it.
        let _ = former.query(UNLOCK, &[]).await;
    }
    match newer.query(TRY_LOCK, &[]).await {
        Ok(rows) if rows[0].get(0) => {}
        Ok(_) => {
            warn!("the advisory lock of the store was not moved, relying on the lock row alone")
        }
        Err(failure) => warn!("the advisory lock of the store was not moved: {failure}"),
    }
}

/// Connects again, until it is known whether the store is still ours. None: it is not. While the
/// database cannot be reached nobody else can take the store either, so there is no hurry.
async fn regain(sources: &Sources, owner: &str) -> Option<Rc<Session>> {
    /// Looks at an advisory lock that somebody else holds, a backoff apart.
    const PATIENCE: u32 = 20;
    let mut refusals = 0;
    let mut backoff = BACKOFF.0;
    loop {
        match try_regain(sources, owner).await {
            Ok(Regained::Yes(session)) => return Some(session),
            Ok(Regained::NotOurs) => return None,
            Ok(Regained::LockedByOther) if refusals == PATIENCE => return None,
            Ok(Regained::LockedByOther) => refusals += 1,
            Err(error) => warn!("unable to regain store lock: {error}"),
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

enum Regained {
    Yes(Rc<Session>),
    NotOurs,
    LockedByOther,
}

async fn try_regain(sources: &Sources, owner: &str) -> Result<Regained, StoreError> {
    let regaining = |failure: Failure| failure.into_store_error("regaining the store lock");
    let session = Session::open(sources, owner).await?;
    if session
        .execute(TICK_ROW, &[&owner])
        .await
        .map_err(regaining)?
        == 0
    {
        return Ok(Regained::NotOurs);
    }
    if session.query(TRY_LOCK, &[]).await.map_err(regaining)?[0].get(0) {
        return Ok(Regained::Yes(Rc::new(session)));
    }
    // Perhaps by our own former session, whose end the database has not noticed.
    session
        .query(END_HOLDER, &[&owner])
        .await
        .map_err(regaining)?;
    Ok(Regained::LockedByOther)
}

/// Gives the row back if it is still ours. All flushes have ended.
pub(super) async fn release(sources: &Sources, owner: &str, session: Option<Rc<Session>>) {
    let released = match &session {
        Some(session) => session.execute(RELEASE, &[&owner]).await.ok(),
        None => None,
    };
    let released = match released {
        Some(rows) => Ok(rows),
        None => match Session::open(sources, owner).await {
            Ok(session) => session
                .execute(RELEASE, &[&owner])
                .await
                .map_err(|failure| failure.into_store_error("releasing the store lock")),
            Err(error) => Err(error),
        },
    };
    if let Err(error) = released {
        warn!("unable to release store lock, it will run out: {error}");
    }
    if let Some(session) = session {
        // If this fails the session is gone, and the advisory lock with it.
        let _ = session.query(UNLOCK, &[]).await;
    }
}

#[cfg(test)]
mod tests;
