//! What a server sends, cut into frames: one line, or one message with its body.

use serde_json::Value;

/// One thing that a server said.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `INFO`, without its name.
    Info(Value),
    /// `MSG` or `HMSG`.
    Message(Message),
    /// Any other line, with its end.
    Line(Vec<u8>),
}

/// A delivery. What it consists of is kept as it came; only the sid is apart, because a server may serve
/// the subscriptions of a connection in any order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Verb and subject, with the blank after them.
    pub before_sid: Vec<u8>,
    /// Everything after the sid, body included.
    pub after_sid: Vec<u8>,
    pub sid: Vec<u8>,
}

impl Message {
    /// As it came.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [&*self.before_sid, &*self.sid, &*self.after_sid].concat()
    }

    /// Whether two deliveries may be of one publication.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        (&self.before_sid, &self.after_sid) == (&other.before_sid, &other.after_sid)
    }
}

/// The first frame of `input` and its length, once it is there as a whole.
#[must_use]
pub fn first(input: &[u8]) -> Option<(Frame, usize)> {
    let end = input.iter().position(|&byte| byte == b'\n')? + 1;
    let line = &input[..end];
    if let Some(info) = line.strip_prefix(b"INFO ")
        && let Ok(info) = serde_json::from_slice(info)
    {
        return Some((Frame::Info(info), end));
    }
    let Some((sid, body_bytes)) = delivery(line) else {
        return Some((Frame::Line(line.to_vec()), end));
    };
    let total = end + body_bytes + 2;
    let message = Message {
        before_sid: input[..sid.start].to_vec(),
        sid: input[sid.clone()].to_vec(),
        after_sid: input.get(sid.end..total)?.to_vec(),
    };
    Some((Frame::Message(message), total))
}

/// Where the sid of a delivery stands, and how long its body is.
fn delivery(line: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
    let is_delivery = line.starts_with(b"MSG ") || line.starts_with(b"HMSG ");
    let text = line.strip_suffix(b"\r\n").filter(|_| is_delivery)?;
    let mut words = text.split(|&byte| byte == b' ');
    let (verb, subject, sid) = (words.next()?, words.next()?, words.next()?);
    let size = std::str::from_utf8(words.next_back()?).ok()?;
    let start = verb.len() + subject.len() + 2;
    Some((start..start + sid.len(), size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_with_their_bodies_only_when_whole() {
        let input = b"HMSG a.b 7 r 2 0005\r\n\r\nabc\r\nPONG\r\n";
        let (frame, length) = first(input).unwrap();
        assert_eq!(&input[length..], b"PONG\r\n");
        let Frame::Message(message) = frame else {
            panic!("{frame:?}");
        };
        assert_eq!(message.sid, b"7");
        assert_eq!(message.bytes(), &input[..length]);
        assert!((0..length).all(|end| first(&input[..end]).is_none()));
    }

    #[test]
    fn whatever_is_no_delivery_is_a_line() {
        for line in ["PONG\r\n", "MSG a 1 x\r\n", "MSG a\r\n", "INFO {\r\n"] {
            let expected = Frame::Line(line.as_bytes().to_vec());
            assert_eq!(first(line.as_bytes()), Some((expected, line.len())));
        }
    }
}
