//! Input of a peer to operations, by the rules that `crate::parser` has for clients.

use smallvec::SmallVec;

use super::{RouteMessage, RouteOp};
use crate::{
    op::ParseError,
    parser::{self, Follows, Limits, PublishLine, Step},
};

/// How much longer a peer's lines may be than those of clients: they list queue groups.
pub const CONTROL_LINE_FACTOR: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Rmsg,
    Hmsg,
    Interest,
    NoInterest,
    Ping,
    Pong,
    Info,
    Connect,
    Ok,
    Err,
}

const VERBS: [(&[u8], Verb); 10] = [
    (b"RMSG", Verb::Rmsg),
    (b"HMSG", Verb::Hmsg),
    (b"RS+", Verb::Interest),
    (b"RS-", Verb::NoInterest),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"INFO", Verb::Info),
    (b"CONNECT", Verb::Connect),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

/// Takes one operation off the start of `input`. The limits are those for clients; a line may be
/// [`CONTROL_LINE_FACTOR`] times as long.
///
/// # Errors
/// The route must be closed.
pub fn parse<'a>(input: &'a [u8], limits: &Limits) -> Result<Step<RouteOp<'a>>, ParseError> {
    let limits = Limits {
        max_control_line: limits.max_control_line.saturating_mul(CONTROL_LINE_FACTOR),
        ..*limits
    };
    if let Some((message, consumed)) = canonical_message(input, &limits) {
        return Ok(Step::Taken {
            op: RouteOp::Message(message),
            consumed,
        });
    }
    general(input, &limits)
}

/// `RMSG account subject [reply ]size CR LF body CR LF`, complete, with single blanks. Lists of queue
/// groups do not pass, because what follows their mark is no number.
fn canonical_message<'a>(input: &'a [u8], limits: &Limits) -> Option<(RouteMessage<'a>, usize)> {
    if !input.starts_with(b"RMSG ") {
        return None;
    }
    let account_end = parser::token_end(input, 5)?;
    let (publication, consumed) = parser::canonical_line(input, 5, account_end + 1, limits)?;
    let message = RouteMessage {
        account: &input[5..account_end],
        queue_groups: SmallVec::new(),
        publication,
    };
    Some((message, consumed))
}

fn general<'a>(input: &'a [u8], limits: &Limits) -> Result<Step<RouteOp<'a>>, ParseError> {
    let Some((verb, verb_len)) = parser::verb(input, &VERBS)? else {
        return Ok(Step::Incomplete { needed: 0 });
    };
    let follows = match verb {
        Verb::Ping | Verb::Pong | Verb::Ok => Follows::Nothing,
        Verb::Connect => Follows::Arguments,
        _ => Follows::SeparatedArguments,
    };
    let Some((arguments, line_end)) =
        parser::arguments(input, verb_len, follows, limits.max_control_line)?
    else {
        return Ok(Step::Incomplete { needed: 0 });
    };
    let op = match verb {
        Verb::Rmsg | Verb::Hmsg => {
            let line = MessageLine::read(arguments, verb == Verb::Hmsg, limits)?;
            return line.with_body(input, line_end);
        }
        Verb::Interest => interest(arguments)?,
        Verb::NoInterest => no_interest(arguments)?,
        Verb::Ping => RouteOp::Ping,
        Verb::Pong => RouteOp::Pong,
        Verb::Info => RouteOp::Info(arguments),
        Verb::Connect => RouteOp::Connect(arguments),
        Verb::Ok => RouteOp::Ignored,
        Verb::Err => RouteOp::Error(arguments),
    };
    Ok(Step::Taken {
        op,
        consumed: line_end,
    })
}

fn interest(line: &[u8]) -> Result<RouteOp<'_>, ParseError> {
    let (arguments, count) = parser::split(line);
    let [account, subject, queue_group, weight] = arguments;
    let weight = match count {
        2 => 1,
        4 => parser::number(weight).ok_or(ParseError::Arguments)?,
        _ => return Err(ParseError::Arguments),
    };
    Ok(RouteOp::Interest {
        account,
        subject,
        queue_group,
        weight,
    })
}

fn no_interest(line: &[u8]) -> Result<RouteOp<'_>, ParseError> {
    match parser::split(line) {
        ([account, subject, queue_group, _], 2 | 3) => Ok(RouteOp::NoInterest {
            account,
            subject,
            queue_group,
        }),
        _ => Err(ParseError::Arguments),
    }
}

/// A checked `RMSG` or `HMSG` line, its body still to come.
struct MessageLine<'a> {
    account: &'a [u8],
    queue_groups: SmallVec<[&'a [u8]; 4]>,
    publication: PublishLine<'a>,
}

impl<'a> MessageLine<'a> {
    /// Without queue groups: `account subject [reply] sizes`. With them: a mark in place of the reply,
    /// `|` for none and `+` for one that follows, then the groups.
    fn read(line: &'a [u8], with_headers: bool, limits: &Limits) -> Result<Self, ParseError> {
        let arguments: SmallVec<[&[u8]; 8]> = parser::tokens(line).collect();
        let sizes = if with_headers { 2 } else { 1 };
        let (first, numbers) = match arguments.len().checked_sub(sizes) {
            Some(before) => arguments.split_at(before),
            None => return Err(ParseError::Arguments),
        };
        let (account, subject, reply, queue_groups) = match *first {
            [account, subject] => (account, subject, &line[..0], &first[..0]),
            [account, subject, reply] => (account, subject, reply, &first[..0]),
            [account, subject, b"|", ..] => (account, subject, &line[..0], &first[3..]),
            [account, subject, b"+", reply, ..] => (account, subject, reply, &first[4..]),
            _ => return Err(ParseError::Arguments),
        };
        let (header_size, size) = match *numbers {
            [size] => (None, size),
            [header_size, size] => (Some(header_size), size),
            _ => return Err(ParseError::Arguments),
        };
        let adjacent = reply.is_empty() || queue_groups.is_empty();
        let tokens = arguments.iter().map(|argument| argument.len()).sum();
        let canonical = adjacent && parser::single_blanks(line, tokens, arguments.len());
        let publication = PublishLine::new(subject, reply, header_size, size, limits)?;
        Ok(Self {
            account,
            queue_groups: SmallVec::from_slice(queue_groups),
            publication: publication.canonical_if(canonical),
        })
    }

    fn with_body(self, input: &'a [u8], line_end: usize) -> Result<Step<RouteOp<'a>>, ParseError> {
        let body = self.publication.with_body(input, line_end)?;
        Ok(body.map(|publication| {
            RouteOp::Message(RouteMessage {
                account: self.account,
                queue_groups: self.queue_groups,
                publication,
            })
        }))
    }
}
