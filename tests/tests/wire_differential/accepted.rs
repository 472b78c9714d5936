//! The differences from nats-server that are meant, each with its reason. One that is never met in a run is
//! an error of this table.

use std::{collections::BTreeSet, sync::Mutex};

use crate::{TELLING_SESSIONS, session::Session};

/// What every run must meet.
const USUAL: u64 = TELLING_SESSIONS;
/// What only long runs meet.
const RARE: u64 = 100_000;
/// What happens when two are equally fast.
const BY_CHANCE: u64 = u64::MAX;

/// A difference that is no fault.
pub(crate) struct Accepted {
    pub(crate) name: &'static str,
    /// Why it is right, for whoever reads a failure.
    pub(crate) reason: &'static str,
    /// So many sessions a profile must meet it.
    pub(crate) met_within: u64,
    /// Makes both sides equal where they differ in this way only. The reference comes first.
    pub(crate) apply: fn(&mut Vec<String>, &mut Vec<String>),
}

/// All of them.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "INFO without xkey",
        reason: "the server's key for authorization callouts, which the broker does not offer",
        met_within: USUAL,
        apply: |reference, other| drop_key("\"xkey\":\"any\"", reference, other),
    },
    Accepted {
        name: "INFO without api_lvl",
        reason: "the level of the JetStream interface, which the broker does not have",
        met_within: USUAL,
        apply: |reference, other| drop_key("\"api_lvl\":5", reference, other),
    },
    Accepted {
        name: "pedantic complaint told once a message",
        reason: "the reference looks at the subject again when a message comes in pieces, so how often it \
                 complains depends on the network",
        met_within: USUAL,
        apply: |reference, other| {
            for lines in [reference, other] {
                lines.dedup_by(|next, line| next == line && line == COMPLAINT);
            }
        },
    },
    Accepted {
        name: "no pedantic complaint of a message without end",
        reason: "the reference looks at the subject when the line has come, the broker when the message is whole; of a \
                 connection that ends between the two nobody is left to complain to",
        met_within: RARE,
        apply: |reference, other| {
            let end = |lines: &[String]| match lines {
                [.., last, closed] if last == UNKNOWN && closed == CLOSED => lines.len() - 2,
                _ => lines.len() - 1,
            };
            let (one, two) = (end(reference), end(other));
            let complains = |lines: &[String], end: usize| end > 0 && lines[end - 1] == COMPLAINT;
            if reference.last().is_some_and(|last| last == CLOSED)
                && complains(reference, one)
                && !complains(other, two)
            {
                reference.remove(one - 1);
            }
        },
    },
    Accepted {
        name: "INFO behind the first PONG",
        reason: "the reference lets messages of others come between the two, which depends on who is faster",
        met_within: BY_CHANCE,
        apply: |reference, other| {
            for lines in [reference, other] {
                let Some(info) = lines.iter().position(|line| {
                    line.starts_with("INFO ") && line.contains("\"connect_info\":true")
                }) else {
                    continue;
                };
                let pong = lines[..info].iter().rposition(|line| line == PONG);
                if let Some(pong) = pong
                    && lines[pong + 1..info]
                        .iter()
                        .all(|line| line.starts_with("MSG "))
                {
                    lines[pong + 1..=info].rotate_right(1);
                }
            }
        },
    },
];

const COMPLAINT: &str = r"-ERR \'Invalid Publish Subject\'\r\n";
const UNKNOWN: &str = r"-ERR \'Unknown Protocol Operation\'\r\n";
const PONG: &str = r"PONG\r\n";
const CLOSED: &str = "(closed)";

/// A kind of session over which the servers may differ in any way.
pub(crate) struct Excused {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    /// So many sessions a profile must meet it.
    pub(crate) met_within: u64,
    /// Told the session, and the report of how they differ.
    pub(crate) has: fn(&Session, &str) -> bool,
}

/// Sessions that are played, but not judged.
pub(crate) const EXCUSED: &[Excused] = &[
    Excused {
        name: "carriage return within a line",
        reason: "the reference drops the last byte of a line that has one anywhere, so it reads `PUB a 3` out of \
                 `PUB a 3<CR>1`",
        met_within: USUAL,
        has: |session, _| {
            any_op(session, |op| {
                let line = op.split(|&byte| byte == b'\n').next().unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                line.contains(&b'\r')
            })
        },
    },
    Excused {
        name: "HMSG without an end",
        reason: "the reference refuses HMSG from a client at the end of its line, the broker at its second letter; MSG \
                 both refuse at once",
        met_within: USUAL,
        has: |session, _| {
            any_op(session, |op| {
                op.get(..2)
                    .is_some_and(|verb| verb.eq_ignore_ascii_case(b"HM"))
            })
        },
    },
    Excused {
        name: "subscription beyond an allow entry",
        reason: "the reference looks a filter up as if it were a subject, takes `SUB a.>` under the entry `a.*` and \
                 delivers a.b.c; the broker refuses it",
        met_within: USUAL,
        has: |_, difference| {
            first_differing(difference).nth(1).is_some_and(|line| {
                line.contains("Permissions Violation for Subscription to")
                    && line.contains(".>\\\"")
            })
        },
    },
    Excused {
        name: "part of other credentials later",
        reason: "the reference adds what a later CONNECT shows to what it was shown before, or to the user that it took \
                 somebody without credentials for, and so lets in who shows a name without its password; the broker keeps \
                 no secret and judges what it is shown",
        met_within: USUAL,
        has: |session, difference| {
            // Or another connection misses what this one would have published.
            let broker = difference.split(", other:\n").skip(1);
            let mut broker = broker.filter_map(|lines| lines.split("nats-server:\n").next());
            broker.any(|lines| lines.contains("Authorization Violation")) && connects_later(session)
        },
    },
];

/// The lines from which on two connections differ, the reference's and the broker's by turns.
fn first_differing(difference: &str) -> impl Iterator<Item = &str> {
    difference.lines().filter(|line| line.starts_with("   > "))
}

/// Some connection sends CONNECT after something else.
fn connects_later(session: &Session) -> bool {
    let mut spoken = BTreeSet::new();
    session.turns.iter().any(|turn| {
        let mut first = spoken.insert(turn.connection);
        turn.ops.iter().any(|op| {
            let verb = op.bytes.get(..7);
            let connects = verb.is_some_and(|verb| verb.eq_ignore_ascii_case(b"CONNECT"));
            !std::mem::take(&mut first) && connects
        })
    })
}

fn any_op(session: &Session, has: impl Fn(&[u8]) -> bool) -> bool {
    let mut ops = session.turns.iter().flat_map(|turn| &turn.ops);
    ops.any(|op| has(&op.bytes))
}

/// Leaves a field of INFO out where the other side has none.
fn drop_key(field: &str, reference: &mut [String], other: &mut [String]) {
    for (one, two) in infos(reference, other) {
        if !two.contains(field) {
            *one = one
                .replace(&format!(",{field}"), "")
                .replace(&format!("{field},"), "");
        }
    }
}

/// Lines that are an INFO on both sides.
fn infos<'a>(
    reference: &'a mut [String],
    other: &'a mut [String],
) -> impl Iterator<Item = (&'a mut String, &'a mut String)> {
    let is_info = |line: &&mut String| line.starts_with("INFO ");
    reference
        .iter_mut()
        .filter(is_info)
        .zip(other.iter_mut().filter(is_info))
}

/// Which ones were met.
#[derive(Debug, Default)]
pub(crate) struct Fired(Mutex<BTreeSet<&'static str>>);

impl Fired {
    pub(crate) fn note(&self, name: &'static str) {
        self.0.lock().unwrap().insert(name);
    }

    /// Whether this one was met.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains(name)
    }

    /// Adds what was met here to what was met elsewhere.
    pub(crate) fn add_to(&self, other: &Self) {
        self.0
            .lock()
            .unwrap()
            .iter()
            .for_each(|name| other.note(name));
    }

    /// Those that were not met in so many sessions a profile.
    pub(crate) fn idle(&self, sessions: u64) -> Vec<String> {
        let met = self.0.lock().unwrap();
        let accepted = ACCEPTED
            .iter()
            .map(|rule| (rule.name, rule.reason, rule.met_within));
        let excused = EXCUSED
            .iter()
            .map(|rule| (rule.name, rule.reason, rule.met_within));
        let idle = accepted
            .chain(excused)
            .filter(|(name, _, within)| *within <= sessions && !met.contains(name));
        idle.map(|(name, reason, _)| format!("{name} ({reason})"))
            .collect()
    }
}
