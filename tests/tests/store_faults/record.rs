//! What happened as the clients saw it: the only thing beside the tables that the checker reads.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Microseconds since the Unix epoch, comparable with commit times of a database on this machine.
pub(crate) type Micros = i64;

/// Most that a clock may have been put forward or back during a round for its times to be comparable with the database's.
const STEADY: Micros = 50_000;

/// Reads the wall clock once; from then on time only goes forward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began_unix: Micros,
    began: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            began_unix: unix_micros(),
            began: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Micros {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.began_unix.saturating_add(elapsed)
    }

    /// Nobody has set the wall clock meanwhile.
    pub(crate) fn is_steady(&self) -> bool {
        (self.now() - unix_micros()).abs() < STEADY
    }
}

fn unix_micros() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Names a message: who published it, and its place in what that publisher sent, from 1. None is sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageId {
    pub(crate) publisher: usize,
    pub(crate) number: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.publisher, self.number)
    }
}

impl MessageId {
    /// The message that a payload names, if it is one of ours.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let text = str::from_utf8(payload).ok()?;
        let mut words = text.split(' ');
        let publisher = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        Some(Self { publisher, number })
    }

    /// A payload of at least so many bytes that says so.
    pub(crate) fn payload(self, bytes: usize) -> String {
        format!("{:<bytes$}", format!("{self} "))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acked,
    /// The server says that it stored nothing.
    Refused(String),
    /// Nothing came in time.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) id: MessageId,
    pub(crate) sent: Micros,
    /// When it was known, and what. None while nothing is.
    pub(crate) outcome: Option<(Micros, Outcome)>,
}

impl Publish {
    pub(crate) fn acked_at(&self) -> Option<Micros> {
        match &self.outcome {
            Some((at, Outcome::Acked)) => Some(*at),
            Some((_, Outcome::Refused(_) | Outcome::Unknown)) | None => None,
        }
    }
}

/// One subscription request that was granted, until its close.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// Place in [`History::durables`].
    pub(crate) durable: usize,
    pub(crate) opened: Micros,
    /// When the server had answered the close.
    pub(crate) closed: Option<Micros>,
}

#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Place in [`History::openings`].
    pub(crate) opening: usize,
    pub(crate) sequence: u64,
    /// None: a payload that nobody sends.
    pub(crate) id: Option<MessageId>,
    pub(crate) redelivered: bool,
    pub(crate) at: Micros,
    /// When the acknowledgement was sent.
    pub(crate) acked: Option<Micros>,
}

/// How many answered when it was asked who serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    pub(crate) at: Micros,
    pub(crate) answers: usize,
}

/// A time in which connections to the serving broker may break, or it may be another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turmoil {
    pub(crate) began: Micros,
    /// None: not over yet.
    pub(crate) ended: Option<Micros>,
}

/// One round, as it is written down while it happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) publishes: Vec<Publish>,
    /// When the newest of those was sent that are acknowledged.
    pub(crate) heard_since: Micros,
    /// Names of durables, or of durable groups.
    pub(crate) durables: Vec<String>,
    pub(crate) openings: Vec<Opening>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) turmoils: Vec<Turmoil>,
    pub(crate) censuses: Vec<Census>,
    /// Processes that ended although nobody had asked them to, with their last words.
    pub(crate) deaths: Vec<String>,
    /// Clients that the server no longer knew although they answered.
    pub(crate) forgotten_clients: Vec<String>,
    /// Times that a broker was let go on which was no longer the owner.
    pub(crate) deposed: usize,
    /// Those after which it has acknowledged something.
    pub(crate) talkative: usize,
    /// Inserts, or answers to them, that were cut.
    pub(crate) cuts: usize,
    /// Times of the database are comparable with ours.
    pub(crate) clock_was_steady: bool,
}

impl History {
    pub(crate) fn acked(&self) -> usize {
        let acked = self.publishes.iter().filter(|one| one.acked_at().is_some());
        acked.count()
    }

    /// The longest time in this one in which nobody got an acknowledgement.
    pub(crate) fn longest_silence(&self, from: Micros, to: Micros) -> Micros {
        let acked = self.publishes.iter().filter_map(Publish::acked_at);
        let mut times: Vec<_> = acked.filter(|at| (from..to).contains(at)).collect();
        times.extend([from, to]);
        times.sort_unstable();
        let silences = times.windows(2).map(|pair| pair[1] - pair[0]);
        silences.max().unwrap_or_default()
    }

    /// Sequences that a durable has acknowledged, settled or not.
    pub(crate) fn acked_by(&self, durable: usize) -> BTreeSet<u64> {
        let own = self.deliveries.iter().filter(|delivery| {
            delivery.acked.is_some() && self.openings[delivery.opening].durable == durable
        });
        own.map(|delivery| delivery.sequence).collect()
    }
}

/// The history under way, shared by everybody who writes it.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) clock: Clock,
    history: Rc<RefCell<History>>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        Self {
            clock: Clock::start(),
            history: Rc::default(),
        }
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.history.borrow())
    }

    /// Writes something down, with the time.
    pub(crate) fn write<T>(&self, note: impl FnOnce(&mut History, Micros) -> T) -> T {
        let now = self.clock.now();
        note(&mut self.history.borrow_mut(), now)
    }

    /// Everything so far; whoever writes on does so in vain.
    pub(crate) fn take(&self) -> History {
        let mut history = self.history.take();
        history.clock_was_steady = self.clock.is_steady();
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_measured_between_acknowledgements_and_bounds() {
        let acked = |at| Publish {
            id: MessageId {
                publisher: 0,
                number: 1,
            },
            sent: 0,
            outcome: Some((at, Outcome::Acked)),
        };
        let history = History {
            publishes: [40, 10, 15, 95].map(acked).into(),
            ..History::default()
        };
        assert_eq!(history.longest_silence(0, 50), 25);
        assert_eq!(history.longest_silence(12, 90), 50);
        assert_eq!(history.longest_silence(50, 90), 40);
    }
}
