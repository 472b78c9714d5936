//! Lines for a peer to bytes.
//!
//! None of the arguments may hold a blank, a tab, CR or LF, or they would be read as something else.
//! Subjects, replies and queue groups that came through a parser cannot; [`is_argument`] tells of
//! names from elsewhere.

use super::RouteMessage;
use crate::{
    encode::{Sink, put_number, put_reply, put_sized},
    op::Publication,
};

/// The ready-made beginning of all messages of an account with one subject: `RMSG account subject `
/// and the same as `HMSG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePrefix {
    /// Both, of the same length.
    lines: Box<[u8]>,
}

impl MessagePrefix {
    /// Made once, used for many messages.
    #[must_use]
    pub fn new(account: &[u8], subject: &[u8]) -> Self {
        let lines = [
            b"RMSG ", account, b" ", subject, b" ", b"HMSG ", account, b" ", subject, b" ",
        ]
        .concat();
        Self {
            lines: lines.into_boxed_slice(),
        }
    }

    fn plain(&self) -> &[u8] {
        &self.lines[..self.lines.len() / 2]
    }

    fn with_headers(&self) -> &[u8] {
        &self.lines[self.lines.len() / 2..]
    }
}

/// Whether a name can stand as one argument of a line.
#[must_use]
pub fn is_argument(name: &[u8]) -> bool {
    !name.is_empty()
        && !name
            .iter()
            .any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// One message for a peer, for its plain subscribers and one member of each of `queue_groups`.
/// A peer that does not understand headers gets the message without them.
#[inline]
pub fn publication<S: Sink, Q: AsRef<[u8]>>(
    prefix: &MessagePrefix,
    queue_groups: &[Q],
    publication: &Publication<'_>,
    headers: bool,
    out: &mut S,
) {
    let with_headers = publication.has_headers() && headers;
    out.put(if with_headers {
        prefix.with_headers()
    } else {
        prefix.plain()
    });
    put_queue_groups(publication.reply, queue_groups, out);
    let stripped = publication.has_headers() && !headers;
    let reply_is_told = !queue_groups.is_empty() && !publication.reply.is_empty();
    match publication.canonical_tail() {
        Some(tail) if !stripped && !reply_is_told => out.put(tail),
        _ => {
            if queue_groups.is_empty() {
                put_reply(publication.reply, out);
            }
            put_sized(publication, headers, out);
        }
    }
}

/// One message without headers for a peer, its payload in pieces.
pub fn message<S: Sink, Q: AsRef<[u8]>>(
    prefix: &MessagePrefix,
    queue_groups: &[Q],
    reply: &[u8],
    payload: &[&[u8]],
    out: &mut S,
) {
    out.put(prefix.plain());
    put_queue_groups(reply, queue_groups, out);
    if queue_groups.is_empty() {
        put_reply(reply, out);
    }
    put_number(payload.iter().map(|piece| piece.len()).sum(), 0, out);
    out.put(b"\r\n");
    for piece in payload {
        out.put(piece);
    }
    out.put(b"\r\n");
}

/// Hands a peer's message on to another that still has members of a queue group, when ours left while
/// it was on its way.
pub fn forwarded<S: Sink>(
    message: &RouteMessage<'_>,
    queue_group: &[u8],
    headers: bool,
    out: &mut S,
) {
    let prefix = MessagePrefix::new(message.account, message.publication.subject);
    publication(&prefix, &[queue_group], &message.publication, headers, out);
}

/// `RS+`: somebody here wants a subject. Queue groups come with the number of their members.
pub fn interest<S: Sink>(
    account: &[u8],
    subject: &[u8],
    queue_group: Option<(&[u8], u32)>,
    out: &mut S,
) {
    put_line_start(b"RS+ ", account, subject, out);
    if let Some((name, weight)) = queue_group {
        out.put(b" ");
        out.put(name);
        out.put(b" ");
        put_number(weight as usize, 0, out);
    }
    out.put(b"\r\n");
}

/// `RS-`: nobody here does any more.
pub fn no_interest<S: Sink>(
    account: &[u8],
    subject: &[u8],
    queue_group: Option<&[u8]>,
    out: &mut S,
) {
    put_line_start(b"RS- ", account, subject, out);
    if let Some(name) = queue_group {
        out.put(b" ");
        out.put(name);
    }
    out.put(b"\r\n");
}

/// `-ERR` with a text of the mesh, which may quote what a peer said of itself.
pub fn error<S: Sink>(text: &str, out: &mut S) {
    out.put(b"-ERR '");
    for piece in text.split(char::is_control) {
        out.put(piece.as_bytes());
    }
    out.put(b"'\r\n");
}

fn put_line_start<S: Sink>(verb: &[u8], account: &[u8], subject: &[u8], out: &mut S) {
    debug_assert!(is_argument(account) && is_argument(subject));
    out.put(verb);
    out.put(account);
    out.put(b" ");
    out.put(subject);
}

/// `| q1 q2 ` or `+ reply q1 q2 `.
fn put_queue_groups<S: Sink, Q: AsRef<[u8]>>(reply: &[u8], queue_groups: &[Q], out: &mut S) {
    if queue_groups.is_empty() {
        return;
    }
    out.put(if reply.is_empty() { b"| " } else { b"+ " });
    put_reply(reply, out);
    for name in queue_groups {
        out.put(name.as_ref());
        out.put(b" ");
    }
}
