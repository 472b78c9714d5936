//! When an owner that says nothing counts as gone: one definition for those who take over and those who only watch.

use std::time::{Duration, Instant};

/// How long a tick must stand still (`stores/sqlstore.go`: three looks, 1.5 s apart).
pub(crate) const STEAL_PATIENCE: Duration = Duration::from_millis(4500);

/// Looks that this rests on at least, after the first, however far apart they were.
const LOOKS: u32 = 3;

/// What looks at the lock row have shown of its owner's tick.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) id: String,
    tick: i64,
    /// When the tick was first seen at this value.
    since: Instant,
    looks: u32,
}

impl Standing {
    /// Takes in a look; `previous` is what those before it have shown.
    pub(crate) fn after(previous: Option<Self>, id: &str, tick: i64, now: Instant) -> Self {
        match previous {
            Some(seen) if seen.id == id && seen.tick == tick => Self {
                looks: seen.looks.saturating_add(1),
                ..seen
            },
            _ => Self {
                id: id.to_owned(),
                tick,
                since: now,
                looks: 1,
            },
        }
    }

    /// For how long the tick has stood still.
    pub(crate) fn still(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether somebody owns the store who has not ticked for too long.
    pub(crate) fn is_abandoned(&self, now: Instant) -> bool {
        !self.id.is_empty() && self.looks > LOOKS && self.still(now) >= STEAL_PATIENCE
    }
}
