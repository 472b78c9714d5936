//! As much of PostgreSQL's protocol as it takes to know which bytes belong to an insert and which to its answer; and of NATS to
//! know an acknowledgement.

use std::collections::BTreeMap;

/// Bytes of a message that are looked at: names and the beginning of a statement.
const LOOKED_AT: usize = 4096;

/// Follows what one client sends.
#[derive(Debug)]
pub(crate) struct Requests {
    /// What the statements contain that are waited for.
    needle: &'static [u8],
    /// Whether prepared statements are such ones, by their names.
    watched: BTreeMap<Vec<u8>, bool>,
    frames: Frames,
}

impl Requests {
    pub(crate) fn new(needle: &'static [u8]) -> Self {
        Self {
            needle,
            watched: BTreeMap::new(),
            frames: Frames::of_a_client(),
        }
    }

    /// Takes bytes in; whether the parameters of such a statement end in them.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> bool {
        let mut found = false;
        let (needle, watched) = (self.needle, &mut self.watched);
        self.frames.read(bytes, |kind, body| match kind {
            b'P' => {
                let mut parts = body.splitn(2, |byte| *byte == 0);
                let name = parts.next().unwrap_or_default().to_vec();
                let statement = parts.next().unwrap_or_default();
                let is_watched = statement.windows(needle.len()).any(|part| part == needle);
                watched.insert(name, is_watched);
            }
            b'B' => {
                let name = body.split(|byte| *byte == 0).nth(1).unwrap_or_default();
                found |= watched.get(name) == Some(&true);
            }
            _ => {}
        });
        found
    }
}

/// Counts the bytes of one answer.
#[derive(Debug)]
pub(crate) struct Answer {
    frames: Frames,
    length: usize,
    is_over: bool,
}

impl Answer {
    pub(crate) fn new() -> Self {
        Self {
            frames: Frames::default(),
            length: 0,
            is_over: false,
        }
    }

    /// Takes bytes in, one after the other; true once the database is ready for the next statement.
    pub(crate) fn read(&mut self, byte: u8) -> bool {
        self.length += 1;
        let is_over = &mut self.is_over;
        self.frames
            .read(&[byte], |kind, _| *is_over |= kind == b'Z');
        self.is_over
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }
}

/// Counts acknowledgements of publishes in what a broker sends to a NATS server.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// The end of what was read, too short to hold one.
    tail: Vec<u8>,
}

impl Acks {
    /// An inbox, with which the client begins the guid of every message. Before it stand the end of a protocol line, the
    /// mark of a first field that is text, and the text's length.
    const INBOX: &[u8] = b"_INBOX.";
    const BEFORE: usize = 4;

    /// Takes bytes in; how many acknowledgements begin in them.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> usize {
        let length = Self::BEFORE + Self::INBOX.len();
        self.tail.extend_from_slice(bytes);
        let parts = self.tail.windows(length);
        let found = parts
            .filter(|part| part.starts_with(b"\r\n\x0a") && part[Self::BEFORE..] == *Self::INBOX);
        let found = found.count();
        let read = self.tail.len().saturating_sub(length - 1);
        self.tail.drain(..read);
        found
    }
}

/// Cuts a stream into messages: a kind, a length, a body.
#[derive(Debug, Default)]
struct Frames {
    /// The first message of a client has no kind.
    is_startup: bool,
    head: Vec<u8>,
    body: Vec<u8>,
    /// Bytes of the body that are still to come; none: the head is not complete.
    left: Option<usize>,
}

impl Frames {
    fn of_a_client() -> Self {
        Self {
            is_startup: true,
            ..Self::default()
        }
    }

    /// Calls for every message that ends in the bytes.
    fn read(&mut self, bytes: &[u8], mut message: impl FnMut(u8, &[u8])) {
        let mut at = 0;
        while at < bytes.len() {
            let Some(left) = self.left else {
                self.head.push(bytes[at]);
                at += 1;
                self.begin_body();
                self.end_if_complete(&mut message);
                continue;
            };
            let taken = left.min(bytes.len() - at);
            let wanted = taken.min(LOOKED_AT.saturating_sub(self.body.len()));
            self.body.extend_from_slice(&bytes[at..at + wanted]);
            self.left = Some(left - taken);
            at += taken;
            self.end_if_complete(&mut message);
        }
    }

    fn begin_body(&mut self) {
        let kind_length = usize::from(!self.is_startup);
        if let Some(length) = self.head.get(kind_length..kind_length + 4) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
            // The length counts itself.
            self.left = Some((length as usize).saturating_sub(4));
        }
    }

    fn end_if_complete(&mut self, message: &mut impl FnMut(u8, &[u8])) {
        if self.left != Some(0) {
            return;
        }
        let kind = match self.is_startup {
            true => 0,
            false => self.head[0],
        };
        message(kind, &self.body);
        self.is_startup = false;
        self.head.clear();
        self.body.clear();
        self.left = None;
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::streaming::PubAck;
    use prost::Message as _;

    use super::*;

    fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn conversation() -> (Vec<u8>, usize) {
        let startup = framed(0, b"user\0me\0\0")[1..].to_vec();
        let mut all = startup;
        all.extend(framed(b'P', b"s0\0SELECT 1\0\0\0"));
        all.extend(framed(b'P', b"s1\0INSERT INTO Messages\0\0\0"));
        all.extend(framed(b'B', b"\0s0\0rest"));
        all.extend(framed(b'S', b""));
        all.extend(framed(b'B', b"\0s1\0rest"));
        let end = all.len();
        all.extend(framed(b'S', b""));
        (all, end)
    }

    #[test]
    fn the_execution_of_a_watched_statement_is_found_however_bytes_are_cut() {
        let (bytes, end) = conversation();
        for size in 1..=bytes.len() {
            let mut requests = Requests::new(b"INTO Messages");
            let found: Vec<_> = bytes.chunks(size).map(|part| requests.read(part)).collect();
            let expected: Vec<_> = (0..found.len())
                .map(|part| part == (end - 1) / size)
                .collect();
            assert_eq!(found, expected, "parts of {size}");
        }
    }

    #[test]
    fn acknowledgements_are_counted_however_bytes_are_cut() {
        let ack = |inbox: &str| {
            let guid = format!("{inbox}-1");
            let ack = PubAck {
                guid,
                error: String::new(),
            };
            let ack = ack.encode_to_vec();
            let head = format!("PUB {inbox} {}\r\n", ack.len());
            [head.as_bytes(), &ack, b"\r\n"].concat()
        };
        let bytes = [
            ack("_INBOX.abc"),
            b"PUB _INBOX.abc 0\r\n\r\n".to_vec(),
            ack("_INBOX.d"),
        ]
        .concat();
        for size in 1..=bytes.len() {
            let mut acks = Acks::default();
            let counted: usize = bytes.chunks(size).map(|part| acks.read(part)).sum();
            assert_eq!(counted, 2, "parts of {size}");
        }
    }

    #[test]
    fn an_answer_ends_when_the_database_is_ready() {
        let mut bytes = framed(b'2', b"");
        bytes.extend(framed(b'C', b"INSERT 0 1\0"));
        bytes.extend(framed(b'Z', b"I"));
        let mut answer = Answer::new();
        let over: Vec<bool> = bytes.iter().map(|byte| answer.read(*byte)).collect();
        assert_eq!(over.iter().position(|over| *over), Some(bytes.len() - 1));
        assert_eq!(answer.length(), bytes.len());
    }
}
