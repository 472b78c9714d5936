//! The bytes of a streaming client's busy paths, written and read by hand: publications and acknowledgements as they
//! go out, and what comes in. Nothing here allocates for a message.

use std::ops::Range;

/// Digits of a publication's number, as long as the identifiers that real clients make.
const GUID_BYTES: usize = 22;
/// Inboxes are this long, so that what follows them in a message's line has its place.
pub(crate) const INBOX_BYTES: usize = 30;
const BEFORE_SID: usize = b"MSG ".len() + INBOX_BYTES + b" ".len();
/// Longest varint of 64 bits.
const VARINT_BYTES: usize = 10;

/// Inbox of a subscription; no other client or subscription has it.
pub(crate) fn inbox(client: u32, sid: usize) -> String {
    let inbox = format!("_INBOX.load.{client:08}.{sid:09}");
    assert_eq!(inbox.len(), INBOX_BYTES, "every number fits");
    inbox
}

fn varint(value: u64) -> ([u8; VARINT_BYTES], usize) {
    let (mut bytes, mut length, mut rest) = ([0; VARINT_BYTES], 0, value);
    while rest >= 0x80 {
        bytes[length] = (rest & 0x7f) as u8 | 0x80;
        (length, rest) = (length + 1, rest >> 7);
    }
    bytes[length] = rest as u8;
    (bytes, length + 1)
}

/// Value and length of the varint that `bytes` begin with.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let (length, bytes) = varint(value.len() as u64);
    out.push(tag);
    out.extend_from_slice(&length[..bytes]);
    out.extend_from_slice(value);
}

/// The number of a publication, counted in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guid([u8; GUID_BYTES]);

impl Guid {
    pub(crate) fn first() -> Self {
        Self([b'0'; GUID_BYTES])
    }

    pub(crate) fn advance(&mut self) {
        for digit in self.0.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }

    /// A number that tells publications of a run apart: the last eight digits as they stand.
    pub(crate) fn mark(&self) -> u64 {
        mark(&self.0)
    }
}

fn mark(guid: &[u8]) -> u64 {
    let last = guid.last_chunk().expect("a guid has more than 8 digits");
    u64::from_be_bytes(*last)
}

/// How many publications came before the one with this mark: a run has fewer than a hundred million.
pub(crate) fn number_of(mark: u64) -> u64 {
    let digits = mark.to_be_bytes();
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit & 0x0f))
}

/// What a publication to one channel looks like, but for its number.
#[derive(Debug)]
pub(crate) struct Publication {
    bytes: Vec<u8>,
    guid_at: usize,
}

/// Who publishes what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publisher<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) conn_id: &'a [u8],
    /// `ConnectResponse::pub_prefix`.
    pub(crate) prefix: &'a str,
    /// Where acknowledgements go.
    pub(crate) acks: &'a str,
    pub(crate) payload_bytes: usize,
}

impl Publication {
    pub(crate) fn new(publisher: &Publisher<'_>, channel: &str) -> Self {
        let mut message = Vec::new();
        put_field(&mut message, 0x0a, publisher.client_id.as_bytes());
        put_field(&mut message, 0x12, &Guid::first().0);
        let guid_at = message.len() - GUID_BYTES;
        put_field(&mut message, 0x1a, channel.as_bytes());
        put_field(&mut message, 0x2a, &vec![b'x'; publisher.payload_bytes]);
        put_field(&mut message, 0x32, publisher.conn_id);
        let (prefix, acks) = (publisher.prefix, publisher.acks);
        let line = format!("PUB {prefix}.{channel} {acks} {}\r\n", message.len());
        Self {
            guid_at: line.len() + guid_at,
            bytes: [line.as_bytes(), &message, b"\r\n"].concat(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>, guid: &Guid) {
        let start = out.len() + self.guid_at;
        out.extend_from_slice(&self.bytes);
        out[start..start + GUID_BYTES].copy_from_slice(&guid.0);
    }
}

/// The mark of the publication that a `PubAck` says is stored; `None` when it says anything else.
pub(crate) fn stored(ack: &[u8]) -> Option<u64> {
    match ack {
        [0x0a, length, guid @ ..]
            if usize::from(*length) == GUID_BYTES && guid.len() == GUID_BYTES =>
        {
            Some(mark(guid))
        }
        _ => None,
    }
}

/// The sequence of a delivered message, whose first field it is; `None` when it is none.
pub(crate) fn sequence(message: &[u8]) -> Option<u64> {
    let (tag, rest) = message.split_first()?;
    let (sequence, _) = read_varint(rest)?;
    (*tag == 0x08).then_some(sequence)
}

/// Acknowledgements of one subscription: for every length of the sequence, all that comes before it.
#[derive(Debug)]
pub(crate) struct Acks([Vec<u8>; VARINT_BYTES]);

impl Acks {
    pub(crate) fn new(ack_inbox: &str, channel: &str) -> Self {
        let mut message = Vec::new();
        put_field(&mut message, 0x0a, channel.as_bytes());
        message.push(0x10);
        Self(std::array::from_fn(|at| {
            let size = message.len() + at + 1;
            let line = format!("PUB {ack_inbox} {size}\r\n");
            [line.as_bytes(), &message].concat()
        }))
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>, sequence: u64) {
        let (bytes, length) = varint(sequence);
        out.extend_from_slice(&self.0[length - 1]);
        out.extend_from_slice(&bytes[..length]);
        out.extend_from_slice(b"\r\n");
    }
}

/// What the bytes of a connection begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A message without reply subject.
    Message {
        sid: usize,
        payload: Range<usize>,
        /// All of it, line ends too.
        bytes: usize,
    },
    /// A line of another kind, or a message with a reply subject.
    Other,
    /// Not whole yet.
    Partial,
}

/// Reads the beginning of `bytes`. Messages must have come on an [`inbox`].
pub(crate) fn next(bytes: &[u8]) -> Next {
    if bytes.len() <= BEFORE_SID {
        return match bytes.contains(&b'\n') {
            true => Next::Other,
            false => Next::Partial,
        };
    }
    if !bytes.starts_with(b"MSG ") || bytes[BEFORE_SID - 1] != b' ' {
        return Next::Other;
    }
    let Some((sid, end)) = number(bytes, BEFORE_SID, b' ') else {
        return other_if_line(&bytes[BEFORE_SID..]);
    };
    let Some((size, end)) = number(bytes, end, b'\r') else {
        return other_if_line(&bytes[end..]);
    };
    let start = end + 1;
    let whole = start + size + 2;
    if bytes.len() < whole {
        return Next::Partial;
    }
    Next::Message {
        sid,
        payload: start..start + size,
        bytes: whole,
    }
}

fn other_if_line(rest: &[u8]) -> Next {
    if rest.contains(&b'\n') {
        Next::Other
    } else {
        Next::Partial
    }
}

/// The decimal number from `at` up to `end`, and the place behind `end`; `None` when something else stands there.
fn number(bytes: &[u8], at: usize, end: u8) -> Option<(usize, usize)> {
    let mut value = 0;
    for (length, byte) in bytes[at..].iter().enumerate() {
        match byte {
            b'0'..=b'9' if length < 9 => value = value * 10 + usize::from(byte - b'0'),
            byte if *byte == end && length > 0 => return Some((value, at + length + 1)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use broker_proto::streaming::{Ack, MsgProto, PubAck, PubMsg};
    use prost::Message;

    use super::*;

    const WHO: Publisher<'_> = Publisher {
        client_id: "me",
        conn_id: b"conn",
        prefix: "_STAN.pub",
        acks: "acks",
        payload_bytes: 300,
    };

    /// The line of a publication and the message behind it.
    fn parts(publication: &[u8]) -> (&str, &[u8]) {
        let end = publication.iter().position(|byte| *byte == b'\r').unwrap();
        let (line, rest) = publication.split_at(end);
        let message = rest.strip_prefix(b"\r\n").unwrap();
        let message = message.strip_suffix(b"\r\n").unwrap();
        (std::str::from_utf8(line).unwrap(), message)
    }

    #[test]
    fn a_publication_is_what_a_server_reads() {
        let mut guid = Guid::first();
        for _ in 0..1_234 {
            guid.advance();
        }
        let publication = Publication::new(&WHO, "orders");
        let mut out = b"before".to_vec();
        publication.put(&mut out, &guid);
        assert_eq!(out.len(), 6 + publication.bytes());
        let (line, message) = parts(&out[6..]);
        assert_eq!(line, format!("PUB _STAN.pub.orders acks {}", message.len()));
        let message = PubMsg::decode(message).unwrap();
        assert_eq!(
            (message.client_id, message.subject),
            ("me".into(), "orders".into())
        );
        assert_eq!(
            (message.data.len(), &message.conn_id[..]),
            (300, &b"conn"[..])
        );
        assert_eq!(message.guid, format!("{:022}", 1_234));
    }

    #[test]
    fn an_acknowledgement_is_what_a_server_reads() {
        let acks = Acks::new("inbox", "orders");
        for sequence in [1, 127, 128, 1_000_000, u64::MAX] {
            let mut out = Vec::new();
            acks.put(&mut out, sequence);
            let (line, message) = parts(&out);
            assert_eq!(line, format!("PUB inbox {}", message.len()));
            let ack = Ack::decode(message).unwrap();
            assert_eq!((ack.subject.as_str(), ack.sequence), ("orders", sequence));
        }
    }

    #[test]
    fn a_refusal_is_not_taken_for_an_acknowledgement() {
        let mut ack = PubAck {
            guid: format!("{:022}", 12),
            error: String::new(),
        };
        let stored_mark = stored(&ack.encode_to_vec()).unwrap();
        assert_eq!(stored_mark, u64::from_be_bytes(*b"00000012"));
        ack.error = "stan: invalid publish request".to_owned();
        assert_eq!(stored(&ack.encode_to_vec()), None);
    }

    #[test]
    fn the_sequence_of_a_delivery_is_read() {
        let message = MsgProto {
            sequence: 300,
            subject: "orders".to_owned(),
            ..MsgProto::default()
        };
        assert_eq!(sequence(&message.encode_to_vec()), Some(300));
        assert_eq!(sequence(b"\x12\x01a"), None);
    }

    #[test]
    fn marks_differ_while_numbers_do() {
        let (mut guid, mut marks) = (Guid::first(), std::collections::HashSet::new());
        for _ in 0..10_000 {
            assert!(marks.insert(guid.mark()));
            guid.advance();
        }
        assert_eq!(number_of(guid.mark()), 10_000);
    }

    #[test]
    fn a_message_is_found_whole_or_not_at_all() {
        let line = format!("MSG {} 12 3\r\n", inbox(7, 12));
        let whole = [line.as_bytes(), b"abc\r\n"].concat();
        for length in 0..whole.len() {
            assert_eq!(next(&whole[..length]), Next::Partial, "{length} bytes");
        }
        let payload = line.len()..line.len() + 3;
        let bytes = whole.len();
        let followed = [&whole[..], b"PING"].concat();
        let sid = 12;
        assert_eq!(
            next(&followed),
            Next::Message {
                sid,
                payload,
                bytes
            }
        );
    }

    #[test]
    fn everything_else_is_left_to_others() {
        let heartbeat = format!("MSG {} 1 _INBOX.reply 0\r\n\r\n", inbox(7, 1));
        let long_error = format!("-ERR '{}'\r\n", "x".repeat(80));
        for line in ["PING\r\n", "+OK\r\n", &heartbeat, &long_error] {
            assert_eq!(next(line.as_bytes()), Next::Other, "{line}");
        }
    }
}
