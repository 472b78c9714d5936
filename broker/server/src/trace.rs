//! The trace log: what a connection says and is told, in the lines of nats-server 2.15.
//!
//! A connection that is traced has a [`Tracer`]; one that is not has none, which is all that trace costs
//! it. What comes in is traced operation by operation, before it is carried out. What goes out is traced
//! when the socket takes it, at the latest at the end of a pass; the reference traces it when it is queued.
//! No secret gets into the log: of a `CONNECT` only members known to be harmless are shown.

use std::fmt;

use broker_core::auth::user::UserKind;
use broker_proto::quote::Quoted;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use tracing::trace;

use crate::connection::{Connection, Role};

/// How much is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceSettings {
    /// Of messages only the headers.
    pub(crate) headers_only: bool,
    /// Bytes of a payload; `None`: all.
    pub(crate) max_bytes: Option<usize>,
}

/// Of one connection.
#[derive(Debug)]
pub(crate) struct Tracer {
    settings: TraceSettings,
    /// What the socket took of an operation whose end it has not yet taken.
    begun: Vec<u8>,
    /// Bytes that were waiting before the trace was switched on, to be passed over.
    pass_over: usize,
}

/// Members of `CONNECT` that are no secrets, in lower case. Everything else is hidden, what the future
/// brings included.
const HARMLESS: [&str; 21] = [
    "account",
    "cluster",
    "cluster_dynamic",
    "echo",
    "headers",
    "lang",
    "lnoc",
    "name",
    "new_account",
    "nkey",
    "no_responders",
    "pedantic",
    "protocol",
    "remote_account",
    "tls_required",
    "user",
    "verbose",
    "version",
    "export",
    "import",
    "gateway",
];
/// What stands in place of a secret.
const HIDDEN: &str = "[REDACTED]";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "<<-",
            Self::Out => "->>",
        })
    }
}

impl Connection {
    /// Traces from now on, or no more.
    pub(crate) fn trace(&mut self, settings: Option<TraceSettings>) {
        let waiting = self.output.pending();
        match (&mut self.tracer, settings) {
            (Some(tracer), Some(settings)) => tracer.settings = settings,
            (None, Some(settings)) => {
                self.tracer = Some(Box::new(Tracer {
                    settings,
                    begun: Vec::new(),
                    pass_over: waiting,
                }));
            }
            (_, None) => self.tracer = None,
        }
    }

    /// An operation came, at the start of `input`, or a line that is none.
    pub(crate) fn trace_in(&self, input: &[u8]) {
        if let Some(tracer) = &self.tracer {
            let label = self.traced_label();
            tracer.settings.show(Direction::In, &label, input);
        }
    }

    /// The socket took these bytes.
    pub(crate) fn trace_out(&mut self, taken: &[u8]) {
        let Some(mut tracer) = self.tracer.take() else {
            return;
        };
        let known = tracer.pass_over.min(taken.len());
        tracer.pass_over -= known;
        tracer.begun.extend_from_slice(&taken[known..]);
        let label = self.traced_label();
        let mut at = 0;
        while let Some(end) = operation_end(&tracer.begun[at..]) {
            let operation = &tracer.begun[at..at + end];
            tracer.settings.show(Direction::Out, &label, operation);
            at += end;
        }
        tracer.begun.drain(..at);
        self.tracer = Some(tracer);
    }

    /// A subscription has ended.
    pub(crate) fn trace_ended(&self, sid: &[u8]) {
        if self.tracer.is_some() {
            let sid = String::from_utf8_lossy(sid);
            trace!("{} - <-> [DELSUB {sid}]", self.traced_label());
        }
    }

    /// With its user, once that is known.
    fn traced_label(&self) -> String {
        let label = self.label();
        let Role::Client(session) = &self.role else {
            return label;
        };
        let Some(user) = session.user().filter(|_| session.is_connected()) else {
            return label;
        };
        let account = &session.account().name;
        match user.kind() {
            UserKind::Anonymous => label,
            UserKind::Token => format!("{label} - \"{account}/token\""),
            UserKind::Named => format!("{label} - \"{account}/user:{}\"", user.name()),
            UserKind::Nkey => format!("{label} - \"{account}/nkey:{}\"", user.name()),
        }
    }
}

impl TraceSettings {
    fn show(&self, direction: Direction, label: &str, operation: &[u8]) {
        for line in self.lines(direction, operation) {
            trace!("{label} - {direction} {line}");
        }
    }

    /// What is to be said of an operation, or of a line that is none.
    fn lines(&self, direction: Direction, operation: &[u8]) -> Vec<String> {
        let end = line_end(operation).unwrap_or(operation.len());
        let (line, body) = operation.split_at(end);
        let (verb, arguments) = verb_and_arguments(line);
        let shown = String::from_utf8_lossy(arguments);
        let text = match verb.as_str() {
            "CONNECT" if direction == Direction::In => format!("[CONNECT {}]", redacted(&shown)),
            "PING" | "PONG" => format!("[{verb}]"),
            "+OK" if direction == Direction::Out => "[OK]".to_owned(),
            "-ERR" if direction == Direction::Out => format!("[-ERR {}]", shown.trim_matches('\'')),
            "PUB" | "HPUB" | "SUB" | "UNSUB" | "MSG" | "HMSG" | "RMSG" | "RS+" | "RS-" | "LMSG"
            | "LS+" | "LS-" => format!("[{verb} {shown}]"),
            // What others log themselves, or what the reference does not show either.
            _ => return Vec::new(),
        };
        let mut lines = vec![text];
        lines.extend(self.payload(&verb, arguments, body));
        lines
    }

    fn payload(&self, verb: &str, arguments: &[u8], body: &[u8]) -> Option<String> {
        let mut shown = body.strip_suffix(b"\r\n")?;
        if self.headers_only {
            let has_headers = matches!(verb, "HPUB" | "HMSG");
            let headers = if has_headers { sizes(arguments).1 } else { 0 };
            shown = shown.get(..headers.checked_sub(4)?)?;
        }
        if shown.is_empty() {
            return None;
        }
        let (cut, more) = match self.max_bytes {
            Some(most) if shown.len() > most => (&shown[..most], "..."),
            _ => (shown, ""),
        };
        let quoted = Quoted(cut).to_string();
        let inner = &quoted[1..quoted.len() - 1];
        Some(format!("MSG_PAYLOAD: [\"{inner}{more}\"]"))
    }
}

/// Where the first line ends, its LF included.
fn line_end(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
}

/// The verb in upper case, and what stands between it and the line end.
fn verb_and_arguments(line: &[u8]) -> (String, &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut end = line.iter().position(is_blank).unwrap_or(line.len());
    // Verbs that something may follow at once.
    for verb in [&b"CONNECT"[..], b"PING", b"PONG"] {
        if line[..end.min(verb.len())].eq_ignore_ascii_case(verb) {
            end = verb.len();
        }
    }
    let verb = String::from_utf8_lossy(&line[..end]).to_ascii_uppercase();
    let rest = &line[end..];
    let blanks = rest.iter().take_while(|byte| is_blank(byte)).count();
    (verb, &rest[blanks..])
}

/// Of the last two arguments: those of the body, and of its headers if it has any.
fn sizes(arguments: &[u8]) -> (usize, usize) {
    let mut last = arguments.rsplit(|byte| matches!(byte, b' ' | b'\t'));
    let mut size = || {
        let digits = last.find(|word| !word.is_empty())?;
        str::from_utf8(digits).ok()?.parse().ok()
    };
    (size().unwrap_or(0), size().unwrap_or(0))
}

/// Where the first operation of what we send ends, if all of it is there.
fn operation_end(output: &[u8]) -> Option<usize> {
    let line_end = line_end(output)?;
    let (verb, arguments) = verb_and_arguments(&output[..line_end]);
    let body = match verb.as_str() {
        "MSG" | "HMSG" | "RMSG" => sizes(arguments).0 + 2,
        _ => 0,
    };
    let end = line_end + body;
    (end <= output.len()).then_some(end)
}

/// A `CONNECT` as it was written but for what might be a secret. Of one that is no JSON object nobody
/// can say where a secret ends, so that nothing of it is shown.
fn redacted(json: &str) -> String {
    // Whoever is no object has no members.
    if serde_json::from_str::<AnyObject>(json).is_err() {
        return HIDDEN.to_owned();
    }
    let mut shown = String::with_capacity(json.len());
    let mut rest = json;
    // Keys are the strings in the object itself that a colon follows.
    while let Some(key_start) = rest.find('"') {
        let key_end = key_start + string_end(&rest[key_start..]);
        let after = &rest[key_end..];
        let blanks = after.len() - after.trim_start().len();
        let Some(behind) = after[blanks..].strip_prefix(':') else {
            return HIDDEN.to_owned();
        };
        let value = behind.trim_start();
        let value_start = rest.len() - value.len();
        let value_end = value_start + value_end(value);
        shown.push_str(&rest[..value_start]);
        let is_scalar = !value.starts_with(['{', '[']);
        // A key with escapes is none of those known.
        let key = rest[key_start + 1..key_end - 1].to_ascii_lowercase();
        if is_scalar && HARMLESS.contains(&key.as_str()) {
            shown.push_str(&rest[value_start..value_end]);
        } else {
            shown.extend(["\"", HIDDEN, "\""]);
        }
        rest = &rest[value_end..];
    }
    shown.push_str(rest);
    shown
}

/// The length of the string that the JSON text begins with, quotes included.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the value that the JSON text begins with.
fn value_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'"' => {
                at += string_end(&text[at..]);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => return at,
            _ if depth == 0 && byte.is_ascii_whitespace() => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// A JSON object, whatever is in it.
struct AnyObject;

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for AnyObject {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
