//! Server lines to bytes.
//!
//! A delivery is the prefix `HMSG subject sid ` that a subscription keeps ready-made (or the same
//! from its second byte: `MSG `), followed by what the publisher sent after the subject.

use crate::{
    headers,
    op::{Publication, ServerError},
};

/// Where encoded bytes go. Implemented by the server's chunked output.
pub trait Sink {
    /// Appends.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// `PING`.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG`.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK`, for verbose clients.
pub const OK: &[u8] = b"+OK\r\n";

/// `HMSG subject sid `, which without its first byte is the beginning of a `MSG`.
#[must_use]
pub fn delivery_prefix(subject: &[u8], sid: &[u8]) -> Box<[u8]> {
    [b"HMSG ", subject, b" ", sid, b" "]
        .concat()
        .into_boxed_slice()
}

/// `-ERR 'text'`.
pub fn error<S: Sink>(error: &ServerError<'_>, out: &mut S) {
    out.put(format!("-ERR '{error}'\r\n").as_bytes());
}

/// One message for one subscription. A subscriber that does not understand headers gets the message
/// without them.
#[inline]
pub fn publication<S: Sink>(
    prefix: &[u8],
    publication: &Publication<'_>,
    headers: bool,
    out: &mut S,
) {
    let stripped = publication.has_headers() && !headers;
    if let (Some(tail), false) = (publication.canonical_tail(), stripped) {
        out.put(if publication.has_headers() {
            prefix
        } else {
            &prefix[1..]
        });
        out.put(tail);
        return;
    }
    out.put(if publication.has_headers() && headers {
        prefix
    } else {
        &prefix[1..]
    });
    put_reply(publication.reply, out);
    put_sized(publication, headers, out);
}

/// Sizes, CR LF, body, CR LF: all that follows the reply.
pub(crate) fn put_sized<S: Sink>(publication: &Publication<'_>, headers: bool, out: &mut S) {
    let body = if publication.has_headers() && headers {
        put_number(publication.headers().len(), publication.header_digits, out);
        out.put(b" ");
        put_number(publication.body().len(), publication.size_digits, out);
        publication.body()
    } else {
        let digits = match publication.has_headers() {
            true => 0,
            false => publication.size_digits,
        };
        put_number(publication.payload().len(), digits, out);
        publication.payload()
    };
    out.put(b"\r\n");
    out.put(body);
    out.put(b"\r\n");
}

/// One message without headers for one subscription, its payload in pieces.
pub fn message<S: Sink>(prefix: &[u8], reply: &[u8], payload: &[&[u8]], out: &mut S) {
    out.put(&prefix[1..]);
    put_reply(reply, out);
    put_number(payload.iter().map(|piece| piece.len()).sum(), 0, out);
    out.put(b"\r\n");
    for piece in payload {
        out.put(piece);
    }
    out.put(b"\r\n");
}

/// Tells a publisher on its own inbox that nobody was there to answer.
pub fn no_responders<S: Sink>(prefix: &[u8], subject: &[u8], out: &mut S) {
    let block = headers::no_responders(subject);
    out.put(prefix);
    put_number(block.len(), 0, out);
    out.put(b" ");
    put_number(block.len(), 0, out);
    out.put(b"\r\n");
    out.put(&block);
    out.put(b"\r\n");
}

pub(crate) fn put_reply<S: Sink>(reply: &[u8], out: &mut S) {
    if !reply.is_empty() {
        out.put(reply);
        out.put(b" ");
    }
}

/// A size with at least `digits` digits, as the publisher wrote it.
pub(crate) fn put_number<S: Sink>(number: usize, digits: u8, out: &mut S) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    for _ in text.len()..usize::from(digits) {
        out.put(b"0");
    }
    out.put(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        op::ClientOp,
        parser::{Limits, Step, parse},
    };

    const LIMITS: Limits = Limits {
        max_control_line: 4096,
        max_payload: 1 << 20,
        headers: true,
    };

    fn delivered(input: &str, headers: bool) -> String {
        let Ok(Step::Taken {
            op: ClientOp::Publish(given),
            consumed,
        }) = parse(input.as_bytes(), &LIMITS)
        else {
            panic!("{input:?} is no publication");
        };
        assert_eq!(consumed, input.len());
        let mut out = Vec::new();
        publication(
            &delivery_prefix(given.subject, b"7"),
            &given,
            headers,
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_are_passed_on_as_published() {
        for (input, output) in [
            ("PUB a 2\r\nhi\r\n", "MSG a 7 2\r\nhi\r\n"),
            ("PUB a r 2\r\nhi\r\n", "MSG a 7 r 2\r\nhi\r\n"),
            ("PUB a 0002\r\nhi\r\n", "MSG a 7 0002\r\nhi\r\n"),
            ("pub\ta \t r  0002 \nhi\r\n", "MSG a 7 r 0002\r\nhi\r\n"),
            ("PUB a 0\r\n\r\n", "MSG a 7 0\r\n\r\n"),
            ("HPUB a r 4 6\r\nhhhhpp\r\n", "HMSG a 7 r 4 6\r\nhhhhpp\r\n"),
            (
                "HPUB  a  r 04  006\r\nhhhhpp\r\n",
                "HMSG a 7 r 04 006\r\nhhhhpp\r\n",
            ),
            ("HPUB a 0 2\r\npp\r\n", "MSG a 7 2\r\npp\r\n"),
        ] {
            assert_eq!(delivered(input, true), output, "{input:?}");
        }
    }

    #[test]
    fn headers_are_stripped_for_those_who_do_not_know_them() {
        assert_eq!(
            delivered("HPUB a r 4 06\r\nhhhhpp\r\n", false),
            "MSG a 7 r 2\r\npp\r\n"
        );
        assert_eq!(
            delivered("HPUB a 4 4\r\nhhhh\r\n", false),
            "MSG a 7 0\r\n\r\n"
        );
    }

    #[test]
    fn pieces_become_one_payload() {
        let mut out = Vec::new();
        message(
            &delivery_prefix(b"a", b"1"),
            b"",
            &[b"he", b"llo"],
            &mut out,
        );
        message(&delivery_prefix(b"a", b"1"), b"r", &[], &mut out);
        assert_eq!(out, b"MSG a 1 5\r\nhello\r\nMSG a 1 r 0\r\n\r\n");
    }

    #[test]
    fn no_responders_names_the_subject() {
        let mut out = Vec::new();
        no_responders(&delivery_prefix(b"inbox.7", b"1"), b"nobody", &mut out);
        let expected = "HMSG inbox.7 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
