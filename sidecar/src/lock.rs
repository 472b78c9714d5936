//! Watches the store lock of the broker next door: every second the lock's row in the database and
//! the broker's own claim, judged together.
//!
//! Looking is a plain read. A lock on the row, as the owner takes it for its tick, could make a
//! healthy owner give up.

pub mod claim;
mod rows;
pub mod source;

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use broker_store::watch::{Claim, Judge, LockState, Row};
use deploy_runtime::admin::ReadyHandle;
use hyper::Uri;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

pub use rows::DatabaseRows;

/// Time between two looks; the owner ticks as often.
const LOOK: Duration = Duration::from_secs(1);
/// How long no answer is put up with before readiness falls: a database that restarts should not
/// take the broker out of its Service a second later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that can look at the lock's row.
pub trait Rows: fmt::Debug {
    /// One look, bounded in time. Cancel-safe; after an error or a cancelled look the next one starts
    /// afresh. An error text shows no credentials.
    fn look(&mut self) -> impl Future<Output = Result<Row, String>>;
}

/// Looks, judges, reports.
#[derive(Debug)]
pub struct LockWatch<R> {
    pub rows: R,
    /// `http://HOST:PORT` of the broker's monitoring.
    pub monitor: Uri,
    pub metrics: Metrics,
    /// `/readyz`: the broker holds the store, or waits for a healthy owner.
    pub ready: ReadyHandle,
}

impl<R: Rows> LockWatch<R> {
    /// Runs until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let mut judge = Judge::default();
        let mut state = None;
        let mut answered = Instant::now();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (row, claim) = tokio::select! {
                () = token.cancelled() => return,
                seen = look(&mut self.rows, &self.monitor) => seen,
            };
            let why = match (&row, &claim) {
                (Err(error), _) | (_, Err(error)) => error.clone(),
                (Ok(row), Ok(claim)) => format!("{row}; {claim}"),
            };
            let now = Instant::now();
            let seen = judge.look(row.ok(), claim.ok(), now);
            if seen != LockState::Unknown {
                answered = now;
            }
            self.report(seen, now - answered, &why);
            if state.replace(seen) != Some(seen) {
                tell(seen, &why);
            }
        }
    }

    fn report(&self, seen: LockState, silent: Duration, why: &str) {
        for state in LockState::ALL {
            let value = i64::from(state == seen);
            self.metrics
                .store_lock
                .with_label_values(&[state.as_str()])
                .set(value);
        }
        match seen {
            LockState::Held | LockState::Standby => self.ready.set(true),
            LockState::Unknown if silent < PATIENCE => {}
            LockState::Unknown | LockState::Free | LockState::Orphaned | LockState::Contested => {
                self.ready
                    .set_with_reason(false, format!("{}: {why}", seen.as_str()));
            }
        }
    }
}

async fn look(rows: &mut impl Rows, monitor: &Uri) -> (Result<Row, String>, Result<Claim, String>) {
    let claim = async {
        claim::ask(monitor)
            .await
            .map_err(|error| certs::causes::one_line(&error))
    };
    tokio::join!(rows.look(), claim)
}

fn tell(state: LockState, why: &str) {
    let lock = state.as_str();
    match state {
        LockState::Held | LockState::Standby => tracing::info!(lock, why, "store lock"),
        LockState::Free | LockState::Unknown => tracing::warn!(lock, why, "store lock"),
        LockState::Orphaned | LockState::Contested => tracing::error!(lock, why, "store lock"),
    }
}
