//! The differences from nats-server that are meant, each with its reason. One that is never met in a run is
//! an error of this table.

use std::{collections::BTreeSet, sync::Mutex};

use crate::session::Session;

/// A difference that is no fault.
pub(crate) struct Accepted {
    pub(crate) name: &'static str,
    /// Why it is right, for whoever reads a failure.
    pub(crate) reason: &'static str,
    /// Makes both sides equal where they differ in this way only. The reference comes first.
    pub(crate) apply: fn(&mut Vec<String>, &mut Vec<String>),
}

/// All of them.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "INFO without xkey",
        reason: "the server's key for authorization callouts, which the broker does not offer",
        apply: |reference, other| drop_key("\"xkey\":\"any\"", reference, other),
    },
    Accepted {
        name: "INFO without api_lvl",
        reason: "the level of the JetStream interface, which the broker does not have",
        apply: |reference, other| drop_key("\"api_lvl\":5", reference, other),
    },
    Accepted {
        name: "pedantic complaint told once a message",
        reason: "the reference looks at the subject again when a message comes in pieces, so how often it \
                 complains depends on the network",
        apply: |reference, other| {
            const COMPLAINT: &str = r"-ERR \'Invalid Publish Subject\'\r\n";
            for lines in [reference, other] {
                lines.dedup_by(|next, line| next == line && line == COMPLAINT);
            }
        },
    },
];

/// A kind of session over which the servers may differ in any way.
pub(crate) struct Excused {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    /// Told the session, and the report of how they differ.
    pub(crate) has: fn(&Session, &str) -> bool,
}

/// Sessions that are played, but not judged.
pub(crate) const EXCUSED: &[Excused] = &[
    Excused {
        name: "carriage return within a line",
        reason: "the reference drops the last byte of a line that has one anywhere, so it reads `PUB a 3` out of \
                 `PUB a 3<CR>1`",
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
        has: |_, difference| {
            let broker = difference
                .lines()
                .filter(|line| line.starts_with("   > "))
                .nth(1);
            broker.is_some_and(|line| {
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
        has: |session, difference| {
            let broker = difference
                .lines()
                .filter(|line| line.starts_with("   > "))
                .nth(1);
            broker.is_some_and(|line| line.contains("Authorization Violation"))
                && connects_later(session)
        },
    },
];

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

    /// Those that were not met.
    pub(crate) fn idle(&self) -> Vec<String> {
        let met = self.0.lock().unwrap();
        let accepted = ACCEPTED.iter().map(|rule| (rule.name, rule.reason));
        let excused = EXCUSED.iter().map(|rule| (rule.name, rule.reason));
        let idle = accepted
            .chain(excused)
            .filter(|(name, _)| !met.contains(name));
        idle.map(|(name, reason)| format!("{name} ({reason})"))
            .collect()
    }
}
