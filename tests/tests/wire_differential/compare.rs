//! What two servers said, brought into one form and compared.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value;
use tests::wire::{dialogue::State, frames::Frame};

use crate::{
    accepted::{ACCEPTED, Fired},
    play::Heard,
    session::{PREFIX, replace},
};

/// INFO keys whose values belong to one server or one connection. Only their type is compared.
const OWN: [&str; 11] = [
    "server_id",
    "server_name",
    "version",
    "go",
    "git_commit",
    "port",
    "client_id",
    "nonce",
    "xkey",
    "host",
    "client_ip",
];

/// What one connection heard, ready to be compared: one text a frame, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transcript(Vec<String>);

/// Brings what a session's connections heard into one form.
pub(crate) fn transcripts(heard: Vec<Heard>, prefix: &[u8]) -> Vec<Transcript> {
    let transcript = |(frames, state)| Transcript(lines(frames, state, prefix));
    heard.into_iter().map(transcript).collect()
}

fn lines(mut frames: Vec<Frame>, state: State, prefix: &[u8]) -> Vec<String> {
    // Subscriptions of one connection are served in any order.
    for copies in frames.chunk_by_mut(|one, next| match (one, next) {
        (Frame::Message(one), Frame::Message(next)) => one.is_copy_of(next),
        _ => false,
    }) {
        copies.sort_by(|one, next| match (one, next) {
            (Frame::Message(one), Frame::Message(next)) => one.cmp(next),
            _ => std::cmp::Ordering::Equal,
        });
    }
    let text = |frame: Frame| {
        let mut bytes = match frame {
            Frame::Info(info) => return format!("INFO {}", masked(info)),
            Frame::Message(message) => message.bytes(),
            Frame::Line(line) => line,
        };
        replace(&mut bytes, prefix, PREFIX);
        bytes.escape_ascii().to_string()
    };
    let end = match state {
        State::Open => "(open)",
        State::Closed => "(closed)",
        State::Silent => "(no answer)",
    };
    let lines = frames.into_iter().map(text);
    lines.chain([end.to_owned()]).collect()
}

fn masked(mut info: Value) -> Value {
    let fields = info.as_object_mut().into_iter().flatten();
    for (_, value) in fields.filter(|(key, _)| OWN.contains(&key.as_str())) {
        *value = match value {
            Value::String(_) => "any".into(),
            Value::Number(_) => 1.into(),
            _ => continue,
        };
    }
    info
}

/// Where they differ beyond what is accepted, as `reference | other` for each connection that does.
pub(crate) fn difference(
    reference: &[Transcript],
    other: &[Transcript],
    fired: &Fired,
) -> Option<String> {
    let mut used = BTreeSet::new();
    let mut report = String::new();
    for (number, (one, two)) in reference.iter().zip(other).enumerate() {
        let (mut one, mut two) = (one.clone(), two.clone());
        for rule in ACCEPTED {
            let before = (one.clone(), two.clone());
            (rule.apply)(&mut one.0, &mut two.0);
            if (&before.0, &before.1) != (&one, &two) {
                used.insert(rule.name);
            }
        }
        if one == two {
            continue;
        }
        let alike = one
            .0
            .iter()
            .zip(&two.0)
            .take_while(|(one, two)| one == two)
            .count();
        for (name, lines) in [("nats-server", &one.0), ("other", &two.0)] {
            writeln!(report, "  connection {number}, {name}:").expect("a string takes everything");
            for (place, line) in lines.iter().enumerate() {
                let mark = if place == alike { ">" } else { " " };
                writeln!(report, "   {mark} {line}").expect("a string takes everything");
            }
        }
    }
    if report.is_empty() {
        used.into_iter().for_each(|name| fired.note(name));
        return None;
    }
    Some(report)
}

/// Whether some answer that had to come did not.
pub(crate) fn is_silent(transcripts: &[Transcript]) -> bool {
    transcripts
        .iter()
        .any(|one| one.0.last().is_some_and(|end| end == "(no answer)"))
}

/// What a run has to meet, or it says nothing about it.
const TELLING: [&str; 20] = [
    "MSG ",
    "HMSG ",
    "NATS/1.0 503",
    "+OK",
    "connect_info",
    "Unknown Protocol Operation",
    "Authorization Violation",
    "maximum control line exceeded",
    "Maximum Payload Violation",
    "invalid client protocol",
    "no responders requires headers support",
    "Invalid Subject",
    "Invalid Publish Subject",
    "maximum subscriptions exceeded",
    "too many tokens",
    "Permissions Violation for Publish to",
    "Permissions Violation for Publish with Reply of",
    "Permissions Violation for Subscription to",
    "using queue",
    "(closed)",
];

/// Notes what a session has met.
pub(crate) fn note_telling(transcripts: &[Transcript], met: &Fired) {
    let lines = transcripts.iter().flat_map(|one| &one.0);
    for text in lines.flat_map(|line| TELLING.into_iter().filter(|text| line.contains(text))) {
        met.note(text);
    }
}

/// What a run has not met.
pub(crate) fn missed(met: &Fired) -> Vec<&'static str> {
    TELLING.into_iter().filter(|text| !met.has(text)).collect()
}
