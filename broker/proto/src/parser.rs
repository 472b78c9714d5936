//! Client input to operations.
//!
//! [`parse`] looks at the start of what has arrived and either takes one whole operation off or asks
//! for more. It keeps no state, so it cannot matter how the input was split on its way; the caller
//! keeps the bytes that were not taken. The form in which every client library writes `PUB` has a
//! loop of its own; whatever deviates from it goes through the general path.
//!
//! Rules observed on nats-server 2.9 and 2.15: verbs are case-insensitive, arguments are separated
//! by blanks and tabs, a line ends with LF and one CR before it is dropped, a body is followed by
//! exactly CR LF.

use memchr::memchr;

use crate::{
    json,
    op::{ClientOp, ParseError, Publication},
};

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of arguments in a line, from the first after the verb's separator up to the line end.
    pub max_control_line: usize,
    /// Bytes of a body, headers included.
    pub max_payload: usize,
    /// `HPUB` was negotiated.
    pub headers: bool,
}

/// What the start of the input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<Op> {
    /// An operation, and how many bytes it took.
    Taken { op: Op, consumed: usize },
    /// More must arrive. `needed` is the length of the whole operation once it is known (a body is
    /// under way), else 0.
    Incomplete { needed: usize },
}

impl<Op> Step<Op> {
    /// The same with something made of the operation.
    pub(crate) fn map<To>(self, make: impl FnOnce(Op) -> To) -> Step<To> {
        match self {
            Self::Taken { op, consumed } => Step::Taken {
                op: make(op),
                consumed,
            },
            Self::Incomplete { needed } => Step::Incomplete { needed },
        }
    }
}

/// Most digits of a size; ten could overflow what the reference keeps it in.
const MAX_SIZE_DIGITS: usize = 9;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Connect,
    Pub,
    Hpub,
    Sub,
    Unsub,
    Ping,
    Pong,
    Info,
    Ok,
    Err,
}

const VERBS: [(&[u8], Verb); 10] = [
    (b"PUB", Verb::Pub),
    (b"HPUB", Verb::Hpub),
    (b"SUB", Verb::Sub),
    (b"UNSUB", Verb::Unsub),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"CONNECT", Verb::Connect),
    (b"INFO", Verb::Info),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

/// Takes one operation off the start of `input`.
///
/// # Errors
/// The connection must be closed; [`ParseError::reply`] says what to tell the client first.
pub fn parse<'a>(input: &'a [u8], limits: &Limits) -> Result<Step<ClientOp<'a>>, ParseError> {
    if let Some((publication, consumed)) = canonical_publish(input, limits) {
        return Ok(Step::Taken {
            op: ClientOp::Publish(publication),
            consumed,
        });
    }
    general(input, limits)
}

/// `PUB subject [reply ]size CR LF body CR LF`, complete, with single blanks. `None` leaves it to the
/// general path to find out what is different.
fn canonical_publish<'a>(input: &'a [u8], limits: &Limits) -> Option<(Publication<'a>, usize)> {
    if !input.starts_with(b"PUB ") {
        return None;
    }
    canonical_line(input, 4, 4, limits)
}

/// The rest of a canonical line from its subject on. Arguments begin at `arguments`, not after
/// `subject`.
pub(crate) fn canonical_line<'a>(
    input: &'a [u8],
    arguments: usize,
    subject: usize,
    limits: &Limits,
) -> Option<(Publication<'a>, usize)> {
    let subject_end = token_end(input, subject)?;
    let tail_start = subject_end + 1;
    let (reply, digits_start, (size, line_end)) = match size_end(input, tail_start) {
        Some(size) => (&input[..0], tail_start, size),
        None => {
            let reply_end = token_end(input, tail_start)?;
            let digits_start = reply_end + 1;
            let size = size_end(input, digits_start)?;
            (&input[tail_start..reply_end], digits_start, size)
        }
    };
    let body_start = line_end + 2;
    let body_end = body_start + size;
    let end = body_end + 2;
    let acceptable = size <= limits.max_payload && line_end - arguments <= limits.max_control_line;
    if !acceptable || input.get(body_end..end)? != b"\r\n" {
        return None;
    }
    let publication = Publication {
        subject: &input[subject..subject_end],
        reply,
        tail: &input[tail_start..end],
        body_offset: (body_start - tail_start) as u32,
        header_bytes: 0,
        header_digits: 0,
        size_digits: (line_end - digits_start) as u8,
    };
    Some((publication, end))
}

/// End of the non-empty token at `start`, which a single blank must follow.
#[inline]
pub(crate) fn token_end(input: &[u8], start: usize) -> Option<usize> {
    let rest = input.get(start..)?;
    let length = blank(rest)?;
    (length > 0 && rest[length] == b' ').then_some(start + length)
}

/// Place of the first blank or control byte. Tokens are short, so that eight bytes at a time beat both
/// one at a time and a call of memchr.
#[inline]
fn blank(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte below 0x21; borrows disturb only bytes above the first such.
        let below = word.wrapping_sub(ONES * 0x21) & !word & (ONES << 7);
        if below != 0 {
            return Some(index * 8 + below.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte <= b' ')?;
    Some(words.len() * 8 + at)
}

/// The number at `start` and where it ends, if CR LF follows it.
#[inline]
fn size_end(input: &[u8], start: usize) -> Option<(usize, usize)> {
    let digits = input.get(start..)?;
    let mut size = 0;
    for (length, &byte) in digits.iter().enumerate().take(MAX_SIZE_DIGITS + 1) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let complete = length > 0 && byte == b'\r' && digits.get(length + 1) == Some(&b'\n');
            return complete.then_some((size, start + length));
        }
        size = size * 10 + usize::from(digit);
    }
    None
}

fn general<'a>(input: &'a [u8], limits: &Limits) -> Result<Step<ClientOp<'a>>, ParseError> {
    let Some((verb, verb_len)) = verb(input, &VERBS)? else {
        return Ok(Step::Incomplete { needed: 0 });
    };
    let follows = match verb {
        Verb::Pub | Verb::Hpub | Verb::Sub | Verb::Unsub | Verb::Err => Follows::SeparatedArguments,
        Verb::Connect | Verb::Info => Follows::Arguments,
        Verb::Ping | Verb::Pong | Verb::Ok => Follows::Nothing,
    };
    let Some((arguments, line_end)) = arguments(input, verb_len, follows, limits.max_control_line)?
    else {
        return Ok(Step::Incomplete { needed: 0 });
    };
    let op = match verb {
        Verb::Pub | Verb::Hpub => {
            let line = PublishLine::read(arguments, verb == Verb::Hpub, limits)?;
            return Ok(line.with_body(input, line_end)?.map(ClientOp::Publish));
        }
        Verb::Sub => subscribe(arguments)?,
        Verb::Unsub => unsubscribe(arguments)?,
        Verb::Connect => ClientOp::Connect(arguments),
        Verb::Ping => ClientOp::Ping,
        Verb::Pong => ClientOp::Pong,
        // What it says means nothing here, but it has to be said properly.
        Verb::Info => json::members(arguments)
            .map(|_| ClientOp::Ignored)
            .ok_or(ParseError::Arguments)?,
        Verb::Ok => ClientOp::Ignored,
        Verb::Err => ClientOp::Error(arguments),
    };
    Ok(Step::Taken {
        op,
        consumed: line_end,
    })
}

/// The verb at the start of the input; `None` if what has arrived may still become one.
pub(crate) fn verb<V: Copy>(
    input: &[u8],
    verbs: &[(&[u8], V)],
) -> Result<Option<(V, usize)>, ParseError> {
    let mut may_become = false;
    for &(name, verb) in verbs {
        let common = name.len().min(input.len());
        if input[..common].eq_ignore_ascii_case(&name[..common]) {
            if common == name.len() {
                return Ok(Some((verb, name.len())));
            }
            may_become = true;
        }
    }
    if may_become {
        Ok(None)
    } else {
        Err(ParseError::UnknownOperation)
    }
}

/// What belongs behind a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// What comes all the same is passed over.
    Nothing,
    /// Perhaps with blanks before them.
    Arguments,
    /// With a blank before them.
    SeparatedArguments,
}

/// What stands between the verb and the line end, and where the next line begins; `None` until all
/// of it has arrived. The first byte behind the blanks is always taken for an argument's, a line end
/// too, which then separates arguments (observed on nats-server 2.15).
pub(crate) fn arguments(
    input: &[u8],
    verb_len: usize,
    follows: Follows,
    max_control_line: usize,
) -> Result<Option<(&[u8], usize)>, ParseError> {
    let separated = input[verb_len..]
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t'))
        .unwrap_or(input.len() - verb_len);
    if follows == Follows::SeparatedArguments && separated == 0 {
        return match input.len() == verb_len {
            true => Ok(None),
            false => Err(ParseError::UnknownOperation),
        };
    }
    let start = verb_len + separated;
    // One byte more than the limit for the CR, which does not count, and one for the LF.
    let window = &input[start..input.len().min(start + max_control_line + 2)];
    let first = usize::from(follows != Follows::Nothing).min(window.len());
    let Some(length) = memchr(b'\n', &window[first..]).map(|length| first + length) else {
        let arrived = input.len() - start - usize::from(input.ends_with(b"\r"));
        if arrived > max_control_line {
            return Err(ParseError::ControlLine);
        }
        return Ok(None);
    };
    let line = &window[..length];
    let arguments = line.strip_suffix(b"\r").unwrap_or(line);
    if arguments.len() > max_control_line {
        return Err(ParseError::ControlLine);
    }
    Ok(Some((arguments, start + length + 1)))
}

/// The arguments of a line.
pub(crate) fn tokens(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .filter(|argument| !argument.is_empty())
}

/// Splits a line into at most four arguments; the count is five if there are more.
pub(crate) fn split(line: &[u8]) -> ([&[u8]; 4], usize) {
    let mut arguments = [&line[..0]; 4];
    let mut count = 0;
    for argument in tokens(line) {
        if count == arguments.len() {
            return (arguments, count + 1);
        }
        arguments[count] = argument;
        count += 1;
    }
    (arguments, count)
}

pub(crate) fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > MAX_SIZE_DIGITS {
        return None;
    }
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u32::from(byte - b'0'))
    })
}

fn subscribe(line: &[u8]) -> Result<ClientOp<'_>, ParseError> {
    match split(line) {
        ([subject, sid, ..], 2) => Ok(ClientOp::Subscribe {
            subject,
            queue_group: &line[..0],
            sid,
        }),
        ([subject, queue_group, sid, _], 3) => Ok(ClientOp::Subscribe {
            subject,
            queue_group,
            sid,
        }),
        _ => Err(ParseError::Arguments),
    }
}

fn unsubscribe(line: &[u8]) -> Result<ClientOp<'_>, ParseError> {
    match split(line) {
        ([sid, ..], 1) => Ok(ClientOp::Unsubscribe { sid, max: 0 }),
        ([sid, max, ..], 2) => Ok(ClientOp::Unsubscribe {
            sid,
            max: number(max).unwrap_or(0),
        }),
        _ => Err(ParseError::Arguments),
    }
}

/// A checked line that announces a message, its body still to come.
pub(crate) struct PublishLine<'a> {
    subject: &'a [u8],
    reply: &'a [u8],
    header_size: &'a [u8],
    size: &'a [u8],
    header_bytes: u32,
    body_bytes: u32,
    /// The end of the line is written as it would be delivered, from the reply on.
    canonical: bool,
}

impl<'a> PublishLine<'a> {
    fn read(line: &'a [u8], with_headers: bool, limits: &Limits) -> Result<Self, ParseError> {
        let none = &line[..0];
        let (arguments, count) = split(line);
        let (subject, reply, header_size, size) = match (arguments, count, with_headers) {
            ([subject, size, ..], 2, false) => (subject, none, none, size),
            ([subject, reply, size, _], 3, false) => (subject, reply, none, size),
            ([subject, header_size, size, _], 3, true) => (subject, none, header_size, size),
            ([subject, reply, header_size, size], 4, true) => (subject, reply, header_size, size),
            _ => return Err(ParseError::Arguments),
        };
        let header_size = with_headers.then_some(header_size);
        let checked = Self::new(subject, reply, header_size, size, limits)?;
        let tokens = arguments.iter().map(|argument| argument.len()).sum();
        Ok(checked.canonical_if(single_blanks(line, tokens, count)))
    }

    /// Checks the arguments. `header_size` is given for the forms with headers.
    pub(crate) fn new(
        subject: &'a [u8],
        reply: &'a [u8],
        header_size: Option<&'a [u8]>,
        size: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, ParseError> {
        if header_size.is_some() && !limits.headers {
            return Err(ParseError::Arguments);
        }
        let body_bytes = number(size).ok_or(ParseError::Arguments)?;
        let header_bytes = match header_size {
            Some(digits) => number(digits).ok_or(ParseError::Arguments)?,
            None => 0,
        };
        if header_bytes > body_bytes {
            return Err(ParseError::Arguments);
        }
        if body_bytes as usize > limits.max_payload {
            return Err(ParseError::Payload);
        }
        Ok(Self {
            subject,
            reply,
            header_size: header_size.unwrap_or_default(),
            size,
            header_bytes,
            body_bytes,
            // A form with an empty header block is delivered as one without, so that its line cannot
            // be passed on.
            canonical: header_size.is_some() == (header_bytes > 0),
        })
    }

    /// Reply and sizes can be passed on only if the line that held them allows it.
    pub(crate) fn canonical_if(self, line_allows: bool) -> Self {
        Self {
            canonical: self.canonical && line_allows,
            ..self
        }
    }

    /// Waits for the body of a line that ended before `line_end`.
    pub(crate) fn with_body(
        &self,
        input: &'a [u8],
        line_end: usize,
    ) -> Result<Step<Publication<'a>>, ParseError> {
        let body_end = line_end + self.body_bytes as usize;
        let end = body_end + 2;
        let trailer = &input[body_end.min(input.len())..end.min(input.len())];
        if !b"\r\n".starts_with(trailer) {
            return Err(ParseError::UnknownOperation);
        }
        if trailer.len() < 2 {
            return Ok(Step::Incomplete { needed: end });
        }
        let ends_crlf = input[..line_end].ends_with(b"\r\n");
        // The rest of the line and its CR LF: argument lengths, the blanks between them, two.
        let rest = [self.reply, self.header_size, self.size]
            .iter()
            .filter(|argument| !argument.is_empty())
            .map(|argument| argument.len() + 1)
            .sum::<usize>()
            + 1;
        let canonical = self.canonical && ends_crlf;
        let tail_start = if canonical { line_end - rest } else { line_end };
        let publication = Publication {
            subject: self.subject,
            reply: self.reply,
            tail: &input[tail_start..end],
            body_offset: (line_end - tail_start) as u32,
            header_bytes: self.header_bytes,
            header_digits: self.header_size.len() as u8,
            size_digits: self.size.len() as u8,
        };
        Ok(Step::Taken {
            op: publication,
            consumed: end,
        })
    }
}

/// Whether exactly one blank stands between any two of `count` arguments of `tokens` bytes together,
/// and nothing around them.
pub(crate) fn single_blanks(line: &[u8], tokens: usize, count: usize) -> bool {
    line.len() == tokens + count - 1 && !line.iter().any(|byte| matches!(byte, b'\t' | b'\r'))
}

#[cfg(test)]
mod tests;
