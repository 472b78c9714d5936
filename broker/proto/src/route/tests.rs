use proptest::prelude::*;

use super::{encode::MessagePrefix, *};
use crate::{
    op::ParseError,
    parser::{Limits, Step},
};

const LIMITS: Limits = Limits {
    max_control_line: 64,
    max_payload: 1024,
    headers: true,
};

fn only(input: &[u8]) -> RouteOp<'_> {
    match parse(input, &LIMITS) {
        Ok(Step::Taken { op, consumed }) if consumed == input.len() => op,
        other => panic!("{:?} gave {other:?}", input.escape_ascii().to_string()),
    }
}

fn message(input: &[u8]) -> RouteMessage<'_> {
    let RouteOp::Message(message) = only(input) else {
        panic!("{:?} is no message", input.escape_ascii().to_string())
    };
    message
}

fn refused(input: &[u8]) -> ParseError {
    parse(input, &LIMITS).expect_err(&input.escape_ascii().to_string())
}

/// Everything in a message but where it was found.
fn shown(message: &RouteMessage<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let publication = &message.publication;
    format!(
        "{} {} [{}] {:?} {}|{}",
        text(message.account),
        text(publication.subject),
        text(publication.reply),
        message
            .queue_groups
            .iter()
            .map(|name| text(name))
            .collect::<Vec<_>>(),
        text(publication.headers()),
        text(publication.payload())
    )
}

#[test]
fn all_forms_of_messages_are_read() {
    for (input, parts, canonical) in [
        ("RMSG $G a 2\r\nhi\r\n", "$G a [] [] |hi", true),
        ("RMSG $G a r 2\r\nhi\r\n", "$G a [r] [] |hi", true),
        ("rmsg  $G a r 2\r\nhi\r\n", "$G a [r] [] |hi", true),
        ("RMSG $G a  r 2\r\nhi\r\n", "$G a [r] [] |hi", false),
        ("RMSG $G a r 2\nhi\r\n", "$G a [r] [] |hi", false),
        ("RMSG $G a | q 2\r\nhi\r\n", "$G a [] [\"q\"] |hi", true),
        (
            "RMSG $G a | q p 02\r\nhi\r\n",
            "$G a [] [\"q\", \"p\"] |hi",
            true,
        ),
        (
            "RMSG $G a + r q p 2\r\nhi\r\n",
            "$G a [r] [\"q\", \"p\"] |hi",
            false,
        ),
        ("RMSG $G a + r 2\r\nhi\r\n", "$G a [r] [] |hi", true),
        ("RMSG $G a | 2\r\nhi\r\n", "$G a [|] [] |hi", true),
        ("HMSG $G a 4 6\r\nhhhhpp\r\n", "$G a [] [] hhhh|pp", true),
        ("HMSG $G a r 4 6\r\nhhhhpp\r\n", "$G a [r] [] hhhh|pp", true),
        ("HMSG $G a r 0 2\r\npp\r\n", "$G a [r] [] |pp", false),
        (
            "HMSG $G a | q 4 6\r\nhhhhpp\r\n",
            "$G a [] [\"q\"] hhhh|pp",
            true,
        ),
        (
            "HMSG $G a + r q 4 6\r\nhhhhpp\r\n",
            "$G a [r] [\"q\"] hhhh|pp",
            false,
        ),
    ] {
        let message = message(input.as_bytes());
        assert_eq!(shown(&message), parts, "{input:?}");
        let tail = message.publication.canonical_tail();
        assert_eq!(tail.is_some(), canonical, "{input:?}");
        if let (Some(tail), "") = (
            tail,
            std::str::from_utf8(message.publication.reply).unwrap(),
        ) {
            assert!(tail[0].is_ascii_digit(), "{input:?}");
        }
    }
}

#[test]
fn interest_is_read_with_and_without_queue_groups() {
    let (account, subject) = (b"$G".as_slice(), b"a.*".as_slice());
    assert_eq!(
        only(b"RS+ $G a.*\r\n"),
        RouteOp::Interest {
            account,
            subject,
            queue_group: b"",
            weight: 1
        }
    );
    assert_eq!(
        only(b"rs+ $G  a.* q 12\r\n"),
        RouteOp::Interest {
            account,
            subject,
            queue_group: b"q",
            weight: 12
        }
    );
    assert_eq!(
        only(b"RS- $G a.*\r\n"),
        RouteOp::NoInterest {
            account,
            subject,
            queue_group: b""
        }
    );
    assert_eq!(
        only(b"RS- $G a.* q\n"),
        RouteOp::NoInterest {
            account,
            subject,
            queue_group: b"q"
        }
    );
}

#[test]
fn the_rest_of_the_dialect_is_read() {
    assert_eq!(only(b"PING\r\n"), RouteOp::Ping);
    assert_eq!(only(b"pong\r\n"), RouteOp::Pong);
    assert_eq!(only(b"+OK\r\n"), RouteOp::Ignored);
    assert_eq!(only(b"-ERR 'no'\r\n"), RouteOp::Error(b"'no'"));
    assert_eq!(only(b"INFO {} \r\n"), RouteOp::Info(b"{} "));
    assert_eq!(only(b"CONNECT {}\r\n"), RouteOp::Connect(b"{}"));
}

#[test]
fn what_does_not_belong_on_a_route_is_refused() {
    for foreign in [
        "PUB a 1\r\nx\r\n",
        "HPUB a 1 1\r\nx\r\n",
        "SUB a 1\r\n",
        "UNSUB 1\r\n",
        "MSG a 1 1\r\nx\r\n",
        "LS+ o $G a\r\n",
        "LS- o $G a\r\n",
        "LMSG o $G a 1\r\nx\r\n",
        "A+ x\r\n",
        "A- x\r\n",
        "\r\n",
        "\0",
    ] {
        assert_eq!(
            refused(foreign.as_bytes()),
            ParseError::UnknownOperation,
            "{foreign:?}"
        );
    }
    for malformed in [
        "RS+ $G\r\n",
        "RS+ $G a q\r\n",
        "RS+ $G a q x\r\n",
        "RS+ $G a q 1 2\r\n",
        "RS- $G\r\n",
        "RS- $G a q 1\r\n",
        "RMSG 1\r\n",
        "RMSG $G 1\r\n",
        "RMSG $G a x\r\n",
        "RMSG $G a r q 1\r\n",
        "RMSG $G a -1\r\n",
        "RMSG $G a 1234567890\r\n",
        "HMSG $G a 1\r\n",
        "HMSG $G a 3 2\r\n",
        "RMSG\t \r\n",
    ] {
        assert_eq!(
            refused(malformed.as_bytes()),
            ParseError::Arguments,
            "{malformed:?}"
        );
    }
    assert_eq!(
        refused(b"RMSG $G a 2\r\nhixx"),
        ParseError::UnknownOperation
    );
    assert_eq!(refused(b"RMSG $G a 1025\r\n"), ParseError::Payload);
}

#[test]
fn lines_may_be_sixteen_times_as_long_as_those_of_clients() {
    let most = LIMITS.max_control_line * CONTROL_LINE_FACTOR;
    let line = |subject: usize| format!("RS+ $G {}\r\n", "a".repeat(subject)).into_bytes();
    only(&line(most - 3));
    assert_eq!(refused(&line(most - 2)), ParseError::ControlLine);
    assert_eq!(
        refused("RS+ ".repeat(most).as_bytes()),
        ParseError::ControlLine
    );
}

fn encoded(input: &str, queue_groups: &[&str], headers: bool) -> String {
    let given = message(input.as_bytes());
    let prefix = MessagePrefix::new(given.account, given.publication.subject);
    let mut out = Vec::new();
    encode::publication(&prefix, queue_groups, &given.publication, headers, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn messages_are_written_in_the_form_that_fits() {
    for (input, queue_groups, headers, output) in [
        (
            "RMSG $G a 2\r\nhi\r\n",
            &[][..],
            true,
            "RMSG $G a 2\r\nhi\r\n",
        ),
        (
            "RMSG $G a r 2\r\nhi\r\n",
            &[],
            true,
            "RMSG $G a r 2\r\nhi\r\n",
        ),
        (
            "RMSG $G a  r 002\r\nhi\r\n",
            &[],
            true,
            "RMSG $G a r 002\r\nhi\r\n",
        ),
        (
            "RMSG $G a 2\r\nhi\r\n",
            &["q", "p"],
            true,
            "RMSG $G a | q p 2\r\nhi\r\n",
        ),
        (
            "RMSG $G a r 2\r\nhi\r\n",
            &["q"],
            true,
            "RMSG $G a + r q 2\r\nhi\r\n",
        ),
        (
            "RMSG $G a + r x 2\r\nhi\r\n",
            &[],
            true,
            "RMSG $G a r 2\r\nhi\r\n",
        ),
        (
            "HMSG $G a 4 6\r\nhhhhpp\r\n",
            &[],
            true,
            "HMSG $G a 4 6\r\nhhhhpp\r\n",
        ),
        (
            "HMSG $G a r 4 6\r\nhhhhpp\r\n",
            &["q"],
            true,
            "HMSG $G a + r q 4 6\r\nhhhhpp\r\n",
        ),
        (
            "HMSG $G a r 4 6\r\nhhhhpp\r\n",
            &[],
            false,
            "RMSG $G a r 2\r\npp\r\n",
        ),
        (
            "HMSG $G a r 4 6\r\nhhhhpp\r\n",
            &["q"],
            false,
            "RMSG $G a + r q 2\r\npp\r\n",
        ),
        (
            "HMSG $G a 4 6\r\nhhhhpp\r\n",
            &["q"],
            false,
            "RMSG $G a | q 2\r\npp\r\n",
        ),
        (
            "HMSG $G a 0 2\r\npp\r\n",
            &[],
            true,
            "RMSG $G a 2\r\npp\r\n",
        ),
    ] {
        assert_eq!(
            encoded(input, queue_groups, headers),
            output,
            "{input:?} {queue_groups:?}"
        );
    }
}

#[test]
fn a_message_is_handed_on_to_one_queue_group() {
    let given = message(b"RMSG A a + r q p 2\r\nhi\r\n");
    let mut out = Vec::new();
    encode::forwarded(&given, b"p", true, &mut out);
    assert_eq!(out, b"RMSG A a + r p 2\r\nhi\r\n");
}

#[test]
fn a_message_to_clients_is_the_one_that_came() {
    let given = message(b"RMSG $G a | q 2\r\nhi\r\n");
    let mut out = Vec::new();
    let prefix = crate::encode::delivery_prefix(b"a", b"7");
    crate::encode::publication(&prefix, &given.publication, true, &mut out);
    assert_eq!(out, b"MSG a 7 2\r\nhi\r\n");
}

#[test]
fn pieces_become_one_payload() {
    let prefix = MessagePrefix::new(b"$G", b"a");
    let mut out = Vec::new();
    encode::message(&prefix, &[""; 0], b"r", &[b"he", b"llo"], &mut out);
    encode::message(&prefix, &["q"], b"r", &[], &mut out);
    assert_eq!(out, b"RMSG $G a r 5\r\nhello\r\nRMSG $G a + r q 0\r\n\r\n");
}

#[test]
fn an_error_text_stays_one_line() {
    let mut out = Vec::new();
    encode::error("name \"a\r\nRS+ $G b\" is taken", &mut out);
    assert_eq!(out, b"-ERR 'name \"aRS+ $G b\" is taken'\r\n");
}

/// Arguments as a client may write them: anything but blanks and line ends, control characters and
/// broken UTF-8 included.
fn argument() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("ends an argument", |byte| !b" \t\r\n".contains(byte));
    prop::collection::vec(byte, 1..12)
}

proptest! {
    /// Whatever a subject, reply or queue group holds, the peer reads back what was meant, and nothing
    /// else: no byte of a client becomes a line of its own.
    #[test]
    fn what_is_written_is_what_is_read(
        account in argument(),
        subject in argument(),
        reply in prop::option::of(argument()),
        queue_groups in prop::collection::vec(argument(), 0..4),
        headers in prop::option::of(prop::collection::vec(any::<u8>(), 1..20)),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let limits = Limits { max_control_line: 4096, ..LIMITS };
        let header_bytes = headers.as_ref().map_or(0, Vec::len);
        let body = [headers.unwrap_or_default(), payload].concat();
        let mut line = if header_bytes > 0 { b"HPUB ".to_vec() } else { b"PUB ".to_vec() };
        line.extend_from_slice(&subject);
        line.push(b' ');
        if let Some(reply) = &reply {
            line.extend_from_slice(reply);
            line.push(b' ');
        }
        if header_bytes > 0 {
            line.extend_from_slice(format!("{header_bytes} ").as_bytes());
        }
        line.extend_from_slice(format!("{}\r\n", body.len()).as_bytes());
        line.extend_from_slice(&body);
        line.extend_from_slice(b"\r\n");
        let Ok(Step::Taken { op: crate::op::ClientOp::Publish(published), .. }) =
            crate::parser::parse(&line, &limits) else { panic!("a publication") };
        let mut out = Vec::new();
        encode::interest(&account, &subject, None, &mut out);
        encode::publication(
            &MessagePrefix::new(&account, &subject), &queue_groups, &published, true, &mut out,
        );
        let Ok(Step::Taken { op: RouteOp::Interest { account: a, subject: s, .. }, consumed }) =
            parse(&out, &limits) else { panic!("interest") };
        prop_assert_eq!((a, s), (&account[..], &subject[..]));
        let Ok(Step::Taken { op: RouteOp::Message(read), consumed: rest }) =
            parse(&out[consumed..], &limits) else { panic!("a message") };
        prop_assert_eq!(consumed + rest, out.len());
        prop_assert_eq!(read.account, &account[..]);
        prop_assert_eq!(read.publication.subject, &subject[..]);
        prop_assert_eq!(read.publication.reply, &reply.unwrap_or_default()[..]);
        prop_assert_eq!(read.queue_groups.to_vec(), queue_groups);
        prop_assert_eq!(read.publication.body(), &body[..]);
        prop_assert_eq!(read.publication.headers().len(), header_bytes);
    }

    /// An operation is asked for again until all of it is there, and is then the same: how the input
    /// was split cannot matter.
    #[test]
    fn every_beginning_asks_for_more(
        input in prop::sample::select(vec![
            "RMSG $G a | q p 5\r\nhello\r\n", "RMSG $G a r 0\r\n\r\n", "HMSG $G a + r q 4 6\r\nhhhhpp\r\n",
            "RS+ $G a q 3\r\n", "RS- $G a\r\n", "INFO {\"a\":1} \r\n", "-ERR 'x'\r\n", "PING\r\n",
        ]),
    ) {
        for end in 0..input.len() {
            match parse(&input.as_bytes()[..end], &LIMITS) {
                Ok(Step::Incomplete { needed }) => {
                    prop_assert!(needed == 0 || needed == input.len());
                }
                other => prop_assert!(false, "{end} of {input:?} gave {other:?}"),
            }
        }
        only(input.as_bytes());
    }

    #[test]
    fn no_bytes_panic(
        start in prop::sample::select(vec!["", "RMSG ", "HMSG $G a ", "RMSG $G a + ", "RS+ ", "RS- ", "R", "INFO"]),
        rest in prop::collection::vec(prop_oneof![Just(b' '), Just(b'1'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..60),
    ) {
        let input = [start.as_bytes(), &rest].concat();
        let mut at = 0;
        while let Ok(Step::Taken { consumed, .. }) = parse(&input[at..], &LIMITS) {
            prop_assert!(consumed > 0 && at + consumed <= input.len());
            at += consumed;
        }
    }
}
