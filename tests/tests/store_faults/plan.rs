//! What happens in a round: the same for the same seed. Pure.

use std::{fmt, ops::Range, time::Duration};

use fastrand::Rng;

/// Which way something goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the broker to the database.
    Up,
    Down,
}

/// What is done to the broker, the database, or what lies between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; started again after a pause.
    KillBroker { away: Duration },
    /// SIGKILL of postmaster and children, and of the broker with them.
    KillBoth { away: Duration },
    /// SIGKILL of postmaster and children.
    KillDatabase { away: Duration },
    /// SIGKILL of the postmaster alone.
    KillPostmaster { away: Duration },
    /// SIGKILL of one session of the broker, after which the postmaster restarts all.
    KillBackend,
    /// The database stops without a checkpoint.
    ImmediateStop { away: Duration },
    /// The database ends its sessions and stops.
    FastStop { away: Duration },
    /// One session of the broker is ended, or all of them.
    Terminate { all: bool },
    /// All sessions are ended again and again, 50 ms apart.
    TerminateAgain { times: u32 },
    /// SIGSTOP of postmaster and children.
    FreezeDatabase { for_: Duration },
    /// Connections to the database are cut, and new ones for a while.
    Cut { away: Duration },
    /// Nothing passes, one way or both.
    FreezeNetwork { ways: Vec<Way>, for_: Duration },
    /// Everything passes late.
    Delay { by: Duration, for_: Duration },
    /// The connection is cut when so many bytes of an insert, or of the answer to it, have passed.
    CutInsert { way: Way, bytes: usize },
    /// The connection is cut after no byte of the answer to an insert, then after one of the next, and so on, until answers
    /// are over before.
    CutEveryByte,
    /// An insert never reaches the database, and is confirmed all the same: no broker can live with that.
    Lie,
    /// SIGSTOP of the broker that serves.
    FreezeActive { for_: Duration },
    /// SIGKILL of the broker that serves; started again when another one does.
    KillActive,
    /// SIGTERM to the broker that serves; started again when another one does.
    StopActive,
    /// The broker that serves does not reach the database; or its ticks do not, while it stores on.
    IsolateActive { ticks_only: bool, for_: Duration },
    /// The database is there and refuses.
    Refuse { how: Refusal, for_: Duration },
    /// The machine ends with broker and database on it, and forgets what was not synchronised with the disk.
    LoseHost { away: Duration },
    /// The disk is full, and the database has nowhere to write its log to.
    FillLog { for_: Duration },
}

/// Why a database that runs does not do what it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No table can grow.
    DiskFull,
    /// Others have all its connections.
    TooManyClients,
    /// Sessions that are there are ended, or notice it themselves.
    ReadOnly { ends_sessions: bool },
    /// It follows another one, until it is promoted.
    InRecovery,
    /// The role's password is another one; the broker is told later, in its password file or in its configuration.
    Password { in_file: bool },
    /// It has gone to another address; the name leads nowhere before it leads there, or the broker is told later.
    Address { by_name: bool },
}

impl Fault {
    /// The broker that serves may be another one afterwards, or clients were cut off.
    pub(crate) fn is_turmoil(&self) -> bool {
        matches!(
            self,
            Self::KillBroker { .. }
                | Self::KillBoth { .. }
                | Self::LoseHost { .. }
                | Self::KillActive
                | Self::StopActive
        ) || self.is_contested()
    }

    /// The broker that serves may lose the store without noticing at once.
    pub(crate) fn is_contested(&self) -> bool {
        matches!(self, Self::FreezeActive { .. } | Self::IsolateActive { .. })
    }
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillBroker,
    CutAnswer,
    FreezeActive,
    ImmediateStop,
    Terminate,
    KillActive,
    FreezeDatabase,
    FreezeNetwork,
    IsolateActive,
    KillDatabase,
    TerminateAgain,
    StopActive,
    CutRequest,
    KillBackend,
    FreezeActiveOfThree,
    FastStop,
    Cut,
    KillPostmaster,
    Delay,
    KillBoth,
    DiskFull,
    TooManyClients,
    ReadOnly,
    Password,
    Address,
    /// Has no turn: once is enough.
    CutEveryByte,
    /// Has no turn: shows that the checker finds it.
    Lie,
    /// Has no turn: takes a disk of its own.
    LoseHost,
    /// As the one before.
    LogFull,
}

/// Those that take turns.
pub(crate) const KINDS: [Kind; 25] = [
    Kind::KillBroker,
    Kind::CutAnswer,
    Kind::FreezeActive,
    Kind::ImmediateStop,
    Kind::Terminate,
    Kind::KillActive,
    Kind::FreezeDatabase,
    Kind::FreezeNetwork,
    Kind::IsolateActive,
    Kind::KillDatabase,
    Kind::TerminateAgain,
    Kind::StopActive,
    Kind::CutRequest,
    Kind::KillBackend,
    Kind::FreezeActiveOfThree,
    Kind::FastStop,
    Kind::Cut,
    Kind::KillPostmaster,
    Kind::Delay,
    Kind::KillBoth,
    Kind::DiskFull,
    Kind::TooManyClients,
    Kind::ReadOnly,
    Kind::Password,
    Kind::Address,
];

impl Kind {
    /// Brokers on the database, on an external NATS server if there are several.
    fn brokers(self) -> usize {
        match self {
            Self::FreezeActiveOfThree => 3,
            Self::FreezeActive | Self::KillActive | Self::StopActive | Self::IsolateActive => 2,
            Self::KillBroker
            | Self::CutAnswer
            | Self::ImmediateStop
            | Self::Terminate
            | Self::FreezeDatabase
            | Self::FreezeNetwork
            | Self::KillDatabase
            | Self::TerminateAgain
            | Self::CutRequest
            | Self::KillBackend
            | Self::FastStop
            | Self::Cut
            | Self::KillPostmaster
            | Self::Delay
            | Self::KillBoth
            | Self::DiskFull
            | Self::TooManyClients
            | Self::ReadOnly
            | Self::Password
            | Self::Address
            | Self::CutEveryByte
            | Self::Lie
            | Self::LoseHost
            | Self::LogFull => 1,
        }
    }

    /// Faults of a round: the quick ones come several times.
    fn times(self) -> usize {
        match self {
            Self::CutAnswer | Self::CutRequest | Self::Terminate | Self::Cut => 4,
            Self::KillBroker | Self::KillBackend | Self::FreezeDatabase | Self::FreezeNetwork => 2,
            Self::FreezeActive
            | Self::ImmediateStop
            | Self::KillActive
            | Self::IsolateActive
            | Self::KillDatabase
            | Self::TerminateAgain
            | Self::StopActive
            | Self::FreezeActiveOfThree
            | Self::FastStop
            | Self::KillPostmaster
            | Self::Delay
            | Self::KillBoth
            | Self::DiskFull
            | Self::TooManyClients
            | Self::ReadOnly
            | Self::Password
            | Self::Address
            | Self::CutEveryByte
            | Self::Lie
            | Self::LoseHost
            | Self::LogFull => 1,
        }
    }

    fn fault(self, rng: &mut Rng) -> Fault {
        let away = millis(rng, 0..600);
        match self {
            Self::KillBroker => Fault::KillBroker { away },
            Self::KillBoth => Fault::KillBoth { away },
            Self::KillDatabase => Fault::KillDatabase { away },
            Self::KillPostmaster => Fault::KillPostmaster { away },
            Self::KillBackend => Fault::KillBackend,
            Self::ImmediateStop => Fault::ImmediateStop { away },
            Self::FastStop => Fault::FastStop { away },
            Self::Terminate => Fault::Terminate { all: rng.bool() },
            Self::TerminateAgain => Fault::TerminateAgain {
                times: rng.u32(5..30),
            },
            Self::FreezeDatabase => Fault::FreezeDatabase {
                for_: freeze(rng, 2_000),
            },
            Self::FreezeNetwork => {
                let ways = match rng.u8(0..3) {
                    0 => vec![Way::Up],
                    1 => vec![Way::Down],
                    _ => vec![Way::Up, Way::Down],
                };
                let for_ = freeze(rng, 2_000);
                Fault::FreezeNetwork { ways, for_ }
            }
            Self::Cut => Fault::Cut {
                away: millis(rng, 0..400),
            },
            Self::Delay => Fault::Delay {
                by: millis(rng, 1..100),
                for_: millis(rng, 500..2_500),
            },
            // Longer than any answer of today, so that whole answers are among them.
            Self::CutAnswer => Fault::CutInsert {
                way: Way::Down,
                bytes: rng.usize(0..40),
            },
            Self::CutRequest => Fault::CutInsert {
                way: Way::Up,
                bytes: rng.usize(0..2_000),
            },
            Self::FreezeActive | Self::FreezeActiveOfThree => Fault::FreezeActive {
                for_: contested(rng),
            },
            Self::IsolateActive => Fault::IsolateActive {
                ticks_only: rng.bool(),
                for_: contested(rng),
            },
            Self::DiskFull => refuse(rng, |_| Refusal::DiskFull),
            Self::TooManyClients => refuse(rng, |_| Refusal::TooManyClients),
            Self::ReadOnly => refuse(rng, |rng| match rng.u8(0..3) {
                0 => Refusal::InRecovery,
                other => Refusal::ReadOnly {
                    ends_sessions: other == 1,
                },
            }),
            Self::Password => refuse(rng, |rng| Refusal::Password {
                in_file: rng.bool(),
            }),
            Self::Address => refuse(rng, |rng| Refusal::Address {
                by_name: rng.bool(),
            }),
            Self::CutEveryByte => Fault::CutEveryByte,
            Self::Lie => Fault::Lie,
            Self::LoseHost => Fault::LoseHost { away },
            Self::LogFull => Fault::FillLog {
                for_: millis(rng, 200..3_000),
            },
            Self::KillActive => Fault::KillActive,
            Self::StopActive => Fault::StopActive,
        }
    }
}

fn refuse(rng: &mut Rng, how: impl FnOnce(&mut Rng) -> Refusal) -> Fault {
    Fault::Refuse {
        how: how(rng),
        for_: millis(rng, 200..3_000),
    }
}

fn millis(rng: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// From 100 ms on; every twentieth is up to 30 s long, which is beyond every patience that a broker has.
fn freeze(rng: &mut Rng, usual_ms: u64) -> Duration {
    match rng.u8(0..20) {
        0 => millis(rng, usual_ms..30_000),
        _ => millis(rng, 100..usual_ms),
    }
}

/// Most are somewhat longer than the patience with an owner that does not tick, which is 4.5 s.
fn contested(rng: &mut Rng) -> Duration {
    match rng.u8(0..4) {
        0 => freeze(rng, 4_500),
        _ => millis(rng, 4_500..7_500),
    }
}

/// A fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strike {
    /// Acknowledgements since the last one healed.
    pub(crate) after_acks: usize,
    /// Then so long after, which puts it anywhere between two flushes.
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
}

/// What publishers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publishing {
    /// Most without acknowledgement.
    pub(crate) window: usize,
    /// Most at once; a short pause follows.
    pub(crate) burst: u64,
    /// Least bytes of a payload.
    pub(crate) payload_bytes: usize,
}

/// What a durable does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consuming {
    pub(crate) durable: &'static str,
    /// Members, if it is a group.
    pub(crate) members: Option<usize>,
    pub(crate) max_in_flight: u16,
    pub(crate) ack_wait_secs: u16,
    /// Of a hundred messages that come for the first time so many are acknowledged, as long as it matters.
    pub(crate) acked_percent: u8,
    /// How long it stays before it closes and comes back.
    pub(crate) stay: Range<u64>,
}

/// A round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) brokers: usize,
    pub(crate) strikes: Vec<Strike>,
    pub(crate) publishers: Vec<Publishing>,
    pub(crate) consumers: Vec<Consuming>,
}

impl Plan {
    /// These kinds take turns, seed by seed.
    pub(crate) fn of(kinds: &[Kind], seed: u64) -> Self {
        let turn = usize::try_from(seed % kinds.len() as u64).expect("less than the kinds");
        Self::with_kind(kinds[turn], seed)
    }

    /// Parameters from the seed, whatever its turn is.
    pub(crate) fn with_kind(kind: Kind, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let strikes = (0..kind.times()).map(|_| Strike {
            after_acks: rng.usize(1..400),
            pause: Duration::from_micros(rng.u64(0..20_000)),
            fault: kind.fault(&mut rng),
        });
        let strikes = strikes.collect();
        let publishers = (0..rng.usize(1..=3)).map(|_| Publishing {
            window: 1 << rng.u32(0..9),
            burst: rng.u64(1..128),
            payload_bytes: rng.usize(0..300),
        });
        let publishers = publishers.collect();
        let mut consume = |durable, members, acked_percent| Consuming {
            durable,
            members,
            max_in_flight: rng.u16(64..512),
            ack_wait_secs: rng.u16(1..3),
            acked_percent,
            stay: 200..rng.u64(600..2_500),
        };
        Self {
            seed,
            kind,
            brokers: kind.brokers(),
            strikes,
            publishers,
            consumers: vec![
                consume("steady", None, 100),
                consume("reluctant", None, 80),
                consume("crew", Some(2), 95),
            ],
        }
    }
}

impl Plan {
    /// Why the database refuses, if it does.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        let how = self.strikes.iter().filter_map(|strike| match strike.fault {
            Fault::Refuse { how, .. } => Some(how),
            _ => None,
        });
        how.collect()
    }

    /// The same with other reasons to refuse.
    pub(crate) fn refusing(mut self, other: impl Fn(Refusal) -> Refusal) -> Self {
        for strike in &mut self.strikes {
            if let Fault::Refuse { how, .. } = &mut strike.fault {
                *how = other(*how);
            }
        }
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}, {:?} over {} broker(s):",
            self.seed, self.kind, self.brokers
        )?;
        for strike in &self.strikes {
            write!(f, " {:?} after {};", strike.fault, strike.after_acks)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        for seed in 0..1_000 {
            assert_eq!(Plan::of(&KINDS, seed), Plan::of(&KINDS, seed));
        }
        assert_ne!(
            Plan::of(&KINDS, 0).strikes,
            Plan::of(&KINDS, KINDS.len() as u64).strikes
        );
    }

    #[test]
    fn rounds_in_a_row_meet_every_kind_equally_often() {
        let mut met: Vec<_> = (100..300).map(|seed| Plan::of(&KINDS, seed).kind).collect();
        met.sort_unstable();
        for kind in KINDS {
            let times = met.iter().filter(|other| **other == kind).count();
            assert_eq!(times, 200 / KINDS.len(), "{kind:?}");
        }
    }
}
