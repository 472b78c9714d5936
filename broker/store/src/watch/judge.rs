//! What looks at the lock's row and at a broker's own claim say together. One look says little; the judge remembers what
//! it saw.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::standing::Standing;

/// How long row and claim may differ, as they do while a broker takes the lock or gives it up.
const SETTLE: Duration = Duration::from_secs(3);
/// Two owners that take turns within this time fight; a take-over happens once.
const TURNS: Duration = Duration::from_secs(15);

/// The lock's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Empty when nobody owns the store.
    pub owner_id: String,
    pub tick: i64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner_id.as_str() {
            "" => f.write_str("the row names no owner"),
            owner => write!(f, "the row names {owner}, tick {}", self.tick),
        }
    }
}

/// What the broker next door says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It owns the store under this id.
    Active { owner_id: String },
    /// It waits for its turn.
    Standby,
    /// Its store has no lock.
    None,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active { owner_id } => write!(f, "the broker is active as {owner_id}"),
            Self::Standby => f.write_str("the broker is on standby"),
            Self::None => f.write_str("the broker has a store without lock"),
        }
    }
}

/// The state of the lock, from the point of view of the broker next door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockState {
    /// The broker owns the store and keeps its tick moving.
    Held,
    /// Another process owns the store and keeps its tick moving; the broker waits.
    Standby,
    /// Nobody owns the store.
    Free,
    /// Somebody owns the store and has stopped ticking.
    Orphaned,
    /// Two believe that they own the store, or the broker claims what the row denies.
    Contested,
    /// The database or the broker gives no answer.
    Unknown,
}

impl LockState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Held,
        Self::Standby,
        Self::Free,
        Self::Orphaned,
        Self::Contested,
        Self::Unknown,
    ];

    /// Value of the `state` label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Standby => "standby",
            Self::Free => "free",
            Self::Orphaned => "orphaned",
            Self::Contested => "contested",
            Self::Unknown => "unknown",
        }
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Judge {
    owner: Option<Standing>,
    /// Owners that lost the row, and when.
    former: Vec<(String, Instant)>,
    /// Since when the row denies what the broker claims.
    denied_since: Option<Instant>,
}

impl Judge {
    /// Takes in one look at both. `None` means that there was no answer.
    pub fn look(&mut self, row: Option<Row>, claim: Option<Claim>, now: Instant) -> LockState {
        let (Some(row), Some(claim)) = (row, claim) else {
            self.denied_since = None;
            return LockState::Unknown;
        };
        let (owner, taking_turns) = self.remember(&row, now);
        let is_abandoned = owner.is_abandoned(now);
        self.owner = Some(owner);
        let denied = match &claim {
            Claim::Active { owner_id } => *owner_id != row.owner_id,
            Claim::Standby | Claim::None => false,
        };
        let denied_for = if denied {
            now - *self.denied_since.get_or_insert(now)
        } else {
            self.denied_since = None;
            Duration::ZERO
        };
        match claim {
            _ if taking_turns || denied_for >= SETTLE => LockState::Contested,
            _ if row.owner_id.is_empty() => LockState::Free,
            _ if is_abandoned => LockState::Orphaned,
            Claim::Active { .. } if !denied => LockState::Held,
            Claim::Active { .. } | Claim::Standby | Claim::None => LockState::Standby,
        }
    }

    /// Takes in the row; tells whether an owner has come back that had just lost it.
    fn remember(&mut self, row: &Row, now: Instant) -> (Standing, bool) {
        self.former.retain(|(_, lost)| now - *lost < TURNS);
        let before = self.owner.take();
        if let Some(before) = &before
            && before.id != row.owner_id
            && !before.id.is_empty()
        {
            self.former.push((before.id.clone(), now));
        }
        let returns = self.former.iter().any(|(owner, _)| *owner == row.owner_id);
        let owner = Standing::after(before, &row.owner_id, row.tick, now);
        (owner, returns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second at rows `(owner, tick)` and claims, and gives the last state.
    fn judge(looks: &[((&str, i64), Claim)]) -> LockState {
        let begin = Instant::now();
        let mut judge = Judge::default();
        let mut state = LockState::Unknown;
        for (second, ((owner, tick), claim)) in (0_u64..).zip(looks) {
            let row = Row {
                owner_id: (*owner).to_owned(),
                tick: *tick,
            };
            let now = begin + Duration::from_secs(second);
            state = judge.look(Some(row), Some(claim.clone()), now);
        }
        state
    }

    fn active(owner: &str) -> Claim {
        Claim::Active {
            owner_id: owner.to_owned(),
        }
    }

    #[test]
    fn moving_tick_of_the_broker_is_held_and_of_another_is_standby() {
        assert_eq!(
            judge(&[(("a", 1), active("a")), (("a", 2), active("a"))]),
            LockState::Held
        );
        assert_eq!(
            judge(&[(("b", 1), Claim::Standby), (("b", 2), Claim::Standby)]),
            LockState::Standby
        );
    }

    #[test]
    fn tick_that_stands_still_is_orphaned_whoever_claims_it() {
        let looks = |claim: Claim| [0; 6].map(|_| (("a", 7), claim.clone()));
        assert_eq!(judge(&looks(active("a"))), LockState::Orphaned);
        assert_eq!(judge(&looks(Claim::Standby)), LockState::Orphaned);
        assert_eq!(judge(&looks(active("a"))[..5]), LockState::Held);
    }

    #[test]
    fn owners_that_take_turns_are_contested_and_a_take_over_is_not() {
        let over = [
            (("a", 1), Claim::Standby),
            (("b", 1), active("b")),
            (("b", 2), active("b")),
        ];
        assert_eq!(judge(&over), LockState::Held);
        let turns = [
            (("a", 1), active("b")),
            (("b", 1), active("b")),
            (("a", 2), active("b")),
        ];
        assert_eq!(judge(&turns), LockState::Contested);
    }

    #[test]
    fn claim_that_the_row_denies_is_contested_after_a_while() {
        let looks = [1, 2, 3, 4].map(|tick| (("other", tick), active("mine")));
        assert_eq!(judge(&looks[..3]), LockState::Standby);
        assert_eq!(judge(&looks), LockState::Contested);
    }

    #[test]
    fn nobody_is_free_and_no_answer_is_unknown() {
        assert_eq!(judge(&[(("", 0), Claim::Standby)]), LockState::Free);
        let row = Row {
            owner_id: "a".to_owned(),
            tick: 1,
        };
        let now = Instant::now();
        assert_eq!(
            Judge::default().look(None, Some(Claim::Standby), now),
            LockState::Unknown
        );
        assert_eq!(
            Judge::default().look(Some(row), None, now),
            LockState::Unknown
        );
    }
}
