//! The client's side of the NATS protocol, for a broker whose streaming engine stands on somebody
//! else's NATS server: what such a server says, and what is said to it.

mod handshake;
#[cfg(test)]
mod tests;

pub use handshake::{UpstreamConnect, UpstreamInfo};

use crate::{
    encode::{self, Sink},
    op::{ParseError, Publication},
    parser::{self, Follows, Limits, PublishLine, Step},
};

/// One operation of a server. Slices point into the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamOp<'a> {
    /// `MSG` or `HMSG` with its complete body, for the subscription of this number.
    Message {
        sid: u64,
        publication: Publication<'a>,
    },
    /// The JSON object, not yet looked at.
    Info(&'a [u8]),
    Ping,
    Pong,
    /// `+OK`.
    Ignored,
    /// What stands between the quotes of `-ERR`.
    Error(&'a [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Msg,
    Hmsg,
    Info,
    Ping,
    Pong,
    Ok,
    Err,
}

const VERBS: [(&[u8], Verb); 7] = [
    (b"MSG", Verb::Msg),
    (b"HMSG", Verb::Hmsg),
    (b"INFO", Verb::Info),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

/// What is taken from a server: an `INFO` of a large cluster, and the largest body that any server can be
/// told to pass on (`server/opts.go`: `MAX_PAYLOAD_MAX_SIZE` and its headers).
const LIMITS: Limits = Limits {
    max_control_line: 1 << 20,
    max_payload: 128 << 20,
    headers: true,
};

/// Takes one operation off the start of `input`.
///
/// # Errors
/// The other end does not speak this protocol; the connection must be closed.
pub fn parse(input: &[u8]) -> Result<Step<UpstreamOp<'_>>, ParseError> {
    let Some((verb, verb_len)) = parser::verb(input, &VERBS)? else {
        return Ok(Step::Incomplete { needed: 0 });
    };
    let follows = match verb {
        Verb::Ping | Verb::Pong | Verb::Ok => Follows::Nothing,
        Verb::Info => Follows::Arguments,
        Verb::Msg | Verb::Hmsg | Verb::Err => Follows::SeparatedArguments,
    };
    let line = parser::arguments(input, verb_len, follows, LIMITS.max_control_line)?;
    let Some((arguments, line_end)) = line else {
        return Ok(Step::Incomplete { needed: 0 });
    };
    let op = match verb {
        Verb::Msg | Verb::Hmsg => {
            let (sid, line) = message_line(arguments, verb == Verb::Hmsg)?;
            let step = line.with_body(input, line_end)?;
            return Ok(step.map(|publication| UpstreamOp::Message { sid, publication }));
        }
        Verb::Info => UpstreamOp::Info(arguments),
        Verb::Ping => UpstreamOp::Ping,
        Verb::Pong => UpstreamOp::Pong,
        Verb::Ok => UpstreamOp::Ignored,
        Verb::Err => UpstreamOp::Error(unquoted(arguments)),
    };
    Ok(Step::Taken {
        op,
        consumed: line_end,
    })
}

/// `subject sid [reply] [header_size] size`.
fn message_line(line: &[u8], with_headers: bool) -> Result<(u64, PublishLine<'_>), ParseError> {
    let mut arguments = [&line[..0]; 5];
    let mut count = 0;
    for token in parser::tokens(line) {
        *arguments.get_mut(count).ok_or(ParseError::Arguments)? = token;
        count += 1;
    }
    let none = &line[..0];
    let [subject, sid, third, fourth, fifth] = arguments;
    let (reply, header_size, size) = match (count, with_headers) {
        (3, false) => (none, None, third),
        (4, false) => (third, None, fourth),
        (4, true) => (none, Some(third), fourth),
        (5, true) => (third, Some(fourth), fifth),
        _ => return Err(ParseError::Arguments),
    };
    let sid = std::str::from_utf8(sid)
        .ok()
        .and_then(|sid| sid.parse().ok());
    let sid = sid.ok_or(ParseError::Arguments)?;
    let line = PublishLine::new(subject, reply, header_size, size, &LIMITS)?;
    Ok((sid, line.canonical_if(false)))
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"'")
        .and_then(|text| text.strip_suffix(b"'"))
        .unwrap_or(text)
}

/// Whether a message is the server's own answer to a request that nobody listens to.
#[must_use]
pub fn is_no_responders(headers: &[u8], payload: &[u8]) -> bool {
    payload.is_empty() && headers.starts_with(b"NATS/1.0 503")
}

/// `SUB`.
pub fn put_subscribe<S: Sink>(subject: &[u8], sid: u64, out: &mut S) {
    out.put(b"SUB ");
    out.put(subject);
    out.put(b" ");
    put_sid(sid, out);
}

/// `UNSUB`, at once.
pub fn put_unsubscribe<S: Sink>(sid: u64, out: &mut S) {
    out.put(b"UNSUB ");
    put_sid(sid, out);
}

fn put_sid<S: Sink>(sid: u64, out: &mut S) {
    out.put(itoa::Buffer::new().format(sid).as_bytes());
    out.put(b"\r\n");
}

/// `PUB`; the payload may come in pieces, the reply may be empty.
pub fn put_publish<S: Sink>(subject: &[u8], reply: &[u8], payload: &[&[u8]], out: &mut S) {
    out.put(b"PUB ");
    out.put(subject);
    out.put(b" ");
    encode::put_reply(reply, out);
    let size = payload.iter().map(|piece| piece.len()).sum();
    encode::put_number(size, 0, out);
    out.put(b"\r\n");
    for piece in payload {
        out.put(piece);
    }
    out.put(b"\r\n");
}
