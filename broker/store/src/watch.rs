//! Looking at the store lock from outside: what a sidecar reports of the database a broker uses.
//!
//! It only reads; a standby broker acts on the same signs by itself.

use std::time::{Duration, Instant};

use crate::{
    StoreError,
    postgres::{Observer, STEAL_PATIENCE, Source},
};

/// The lock row at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Owner; empty after an orderly release.
    pub id: String,
    /// Goes up about once a second while the owner lives.
    pub tick: i64,
    /// When it was read.
    pub at: Instant,
}

/// What two observations say about the lock, seen from one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// The broker owns the store and ticks.
    Held,
    /// Somebody else owns the store and, as far as can be told, ticks.
    Standby,
    /// Nobody does: the row is released, or its tick has stood still for as long as a taker waits.
    Orphaned,
}

/// Judges the lock by an `earlier` observation with the same tick as long as there is one, and the
/// latest. `claim` is the id under which the broker says it owns the store; empty if it does not.
#[must_use]
pub fn classify(earlier: &Observation, latest: &Observation, claim: &str) -> LockState {
    let is_unchanged = earlier.id == latest.id && earlier.tick == latest.tick;
    let stood = latest.at.saturating_duration_since(earlier.at);
    if latest.id.is_empty() || (is_unchanged && stood >= STEAL_PATIENCE) {
        LockState::Orphaned
    } else if latest.id == claim {
        LockState::Held
    } else {
        LockState::Standby
    }
}

/// How long a tick must stand still to count as orphaned: as long as a taker waits.
#[must_use]
pub const fn orphan_patience() -> Duration {
    STEAL_PATIENCE
}

/// A connection that reads the lock row. Lives on one thread, inside a tokio `LocalSet`.
#[derive(Debug)]
pub struct LockObserver {
    observer: Observer,
}

impl LockObserver {
    /// Connects. The tables are not touched, nor need they exist yet.
    ///
    /// # Errors
    /// The database cannot be reached or refuses the login.
    pub async fn connect(source: &Source) -> Result<Self, StoreError> {
        let observer = Observer::connect(source).await?;
        Ok(Self { observer })
    }

    /// Reads the row. Cancel-safe. After an error, connect again.
    ///
    /// # Errors
    /// The connection broke, or there is no lock table.
    pub async fn observe(&self) -> Result<Observation, StoreError> {
        let (id, tick) = self.observer.lock_row().await?;
        Ok(Observation {
            id,
            tick,
            at: Instant::now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str, tick: i64, start: Instant, after_ms: u64) -> Observation {
        Observation {
            id: id.to_owned(),
            tick,
            at: start + Duration::from_millis(after_ms),
        }
    }

    #[test]
    fn the_claim_decides_between_held_and_standby() {
        let start = Instant::now();
        let (earlier, latest) = (seen("a", 1, start, 0), seen("a", 2, start, 1000));
        assert_eq!(classify(&earlier, &latest, "a"), LockState::Held);
        assert_eq!(classify(&earlier, &latest, "b"), LockState::Standby);
        assert_eq!(classify(&earlier, &latest, ""), LockState::Standby);
    }

    #[test]
    fn a_released_or_standing_lock_is_orphaned() {
        let start = Instant::now();
        let free = seen("", 0, start, 0);
        assert_eq!(classify(&free, &free, ""), LockState::Orphaned);
        let earlier = seen("a", 1, start, 0);
        let before = seen("a", 1, start, 4400);
        let after = seen("a", 1, start, 4500);
        assert_eq!(classify(&earlier, &before, "a"), LockState::Held);
        assert_eq!(classify(&earlier, &after, "a"), LockState::Orphaned);
    }
}
