use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    max_control_line: 4096,
    max_payload: 1024,
    headers: true,
};

/// What a parser made of a whole stream, in a form that outlives the stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    ops: Vec<String>,
    error: Option<ParseError>,
}

/// Feeds a stream in pieces, keeping what was not taken, as a connection does.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut outcome = Outcome {
        ops: Vec::new(),
        error: None,
    };
    let mut kept = Vec::new();
    for piece in pieces {
        kept.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match parse(&kept[at..], &LIMITS) {
                Ok(Step::Taken { op, consumed }) => {
                    assert!(consumed > 0 && at + consumed <= kept.len());
                    outcome.ops.push(shown(&op));
                    at += consumed;
                }
                Ok(Step::Incomplete { needed }) => {
                    assert!(needed == 0 || needed > kept.len() - at);
                    break;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        kept.drain(..at);
    }
    outcome
}

/// A publication shows its parts, not where they were found: the canonical form is not compared.
fn shown(op: &ClientOp<'_>) -> String {
    match op {
        ClientOp::Publish(publication) => format!(
            "publish {:?} {:?} {:?} {:?}",
            publication.subject,
            publication.reply,
            publication.headers(),
            publication.payload()
        ),
        other => format!("{other:?}"),
    }
}

fn only(input: &[u8]) -> ClientOp<'_> {
    match parse(input, &LIMITS) {
        Ok(Step::Taken { op, consumed }) if consumed == input.len() => op,
        other => panic!("{:?} gave {other:?}", input.escape_ascii().to_string()),
    }
}

fn refused(input: &[u8]) -> ParseError {
    parse(input, &LIMITS).expect_err(&input.escape_ascii().to_string())
}

#[test]
fn both_paths_agree_on_a_canonical_publish() {
    let input = b"PUB foo.bar _INBOX.1 5\r\nhello\r\nPING\r\n";
    let (fast, consumed) = canonical_publish(input, &LIMITS).unwrap();
    let slow = general(input, &LIMITS).unwrap();
    assert_eq!(
        slow,
        Step::Taken {
            op: ClientOp::Publish(fast),
            consumed
        }
    );
    assert_eq!(
        fast.canonical_tail(),
        Some(b"_INBOX.1 5\r\nhello\r\n".as_slice())
    );
}

#[test]
fn only_canonical_lines_keep_their_tail() {
    for (input, canonical) in [
        ("PUB a 1\r\nx\r\n", true),
        ("pub  a 1\r\nx\r\n", true),
        ("PUB a  1\r\nx\r\n", false),
        ("PUB a\t1\r\nx\r\n", false),
        ("PUB a 1 \r\nx\r\n", false),
        ("PUB a 1\nx\r\n", false),
        ("HPUB a 1 1\r\nx\r\n", true),
        ("HPUB a 0 1\r\nx\r\n", false),
    ] {
        let ClientOp::Publish(publication) = only(input.as_bytes()) else {
            panic!()
        };
        assert_eq!(
            publication.canonical_tail().is_some(),
            canonical,
            "{input:?}"
        );
        assert_eq!(publication.body(), b"x");
    }
}

#[test]
fn lines_are_read_leniently() {
    assert_eq!(only(b"ping\r\n"), ClientOp::Ping);
    assert_eq!(only(b"PING whatever\n"), ClientOp::Ping);
    assert_eq!(only(b"PoNg\n"), ClientOp::Pong);
    assert_eq!(only(b"+OK\r\n"), ClientOp::Ignored);
    assert_eq!(only(b"INFO {}\r\n"), ClientOp::Ignored);
    assert_eq!(only(b"CONNECT{}\r\n"), ClientOp::Connect(b"{}"));
    assert_eq!(only(b"CONNECT \t{} \r\n"), ClientOp::Connect(b"{} "));
    assert_eq!(only(b"-ERR 'oh'\r\n"), ClientOp::Error(b"'oh'"));
    assert_eq!(
        only(b"SUB  a \tq  1 \r\n"),
        ClientOp::Subscribe {
            subject: b"a",
            queue_group: b"q",
            sid: b"1"
        }
    );
    assert_eq!(
        only(b"UNSUB 1 x\r\n"),
        ClientOp::Unsubscribe { sid: b"1", max: 0 }
    );
    assert_eq!(
        only(b"UNSUB 1 12\r\n"),
        ClientOp::Unsubscribe { sid: b"1", max: 12 }
    );
}

#[test]
fn first_byte_of_the_arguments_ends_no_line() {
    for line in [&b"PUB \t\nfoo 2\r\nhi\r\n"[..], b"PUB \n\tfoo\t2\r\nhi\r\n"] {
        let ClientOp::Publish(message) = only(line) else {
            panic!("{line:?}");
        };
        assert_eq!((message.subject, message.body()), (&b"foo"[..], &b"hi"[..]));
    }
    assert!(matches!(
        only(b"UNSUB \n.2 1\r\n"),
        ClientOp::Unsubscribe { sid: b".2", max: 1 }
    ));
    assert!(matches!(
        only(b"CONNECT\n{}\r\n"),
        ClientOp::Connect(b"\n{}")
    ));
    assert!(matches!(only(b"PING \n"), ClientOp::Ping));
    assert_eq!(refused(b"PUB \n\n"), ParseError::Arguments);
}

#[test]
fn unknown_verbs_are_refused_at_their_first_wrong_byte() {
    for input in [
        "\r\n",
        "X",
        "PUX",
        "MSG a 1 0\r\n",
        "HMSG",
        "RS+",
        "A+",
        " PING\r\n",
        "PUB\r\n",
        "SUB\n",
    ] {
        assert_eq!(
            refused(input.as_bytes()),
            ParseError::UnknownOperation,
            "{input:?}"
        );
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for input in [
        "PUB a\r\n",
        "PUB a b c 1\r\n",
        "PUB a -1\r\n",
        "PUB a 1234567890\r\n",
        "PUB a 1x\r\n",
        "HPUB a 1\r\n",
        "HPUB a 3 2\r\n",
        "SUB a\r\n",
        "SUB a q 1 2\r\n",
        "UNSUB 1 2 3\r\n",
        "UNSUB \r\n",
    ] {
        assert_eq!(
            refused(input.as_bytes()),
            ParseError::Arguments,
            "{input:?}"
        );
    }
    let no_headers = Limits {
        headers: false,
        ..LIMITS
    };
    assert_eq!(
        parse(b"HPUB a 1 1\r\n", &no_headers),
        Err(ParseError::Arguments)
    );
}

#[test]
fn a_body_must_be_followed_by_cr_lf() {
    assert_eq!(refused(b"PUB a 2\r\nhiX"), ParseError::UnknownOperation);
    assert_eq!(refused(b"PUB a 2\r\nhi\rX"), ParseError::UnknownOperation);
    assert_eq!(refused(b"PUB a 2\r\nhi\n"), ParseError::UnknownOperation);
    assert_eq!(
        parse(b"PUB a 2\r\nhi\r", &LIMITS),
        Ok(Step::Incomplete { needed: 13 })
    );
}

#[test]
fn payload_limit_is_inclusive_and_decided_on_the_line() {
    assert_eq!(
        parse(b"PUB a 1024\r\n", &LIMITS),
        Ok(Step::Incomplete { needed: 1038 })
    );
    assert_eq!(refused(b"PUB a 1025\r\n"), ParseError::Payload);
    assert_eq!(refused(b"HPUB a 1 999999999\r\n"), ParseError::Payload);
}

#[test]
fn control_line_limit_counts_arguments_only() {
    for (length, ending) in [(4094, "\r\n"), (4094, "\n"), (4093, " \r\n"), (4094, "\r")] {
        let line = format!("SUB  {} 1{ending}", "a".repeat(length));
        assert!(
            parse(line.as_bytes(), &LIMITS).is_ok(),
            "{length} {ending:?}"
        );
    }
    for (length, ending) in [(4095, "\r\n"), (4095, "\r"), (4095, ""), (9000, "")] {
        let line = format!("SUB {} 1{ending}", "a".repeat(length));
        assert_eq!(
            refused(line.as_bytes()),
            ParseError::ControlLine,
            "{length} {ending:?}"
        );
    }
    let endless = format!("PING {}", "a".repeat(5000));
    assert_eq!(refused(endless.as_bytes()), ParseError::ControlLine);
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let blank = prop_oneof![4 => Just(" "), 1 => Just("  "), 1 => Just("\t")];
    let end = prop_oneof![5 => Just("\r\n"), 1 => Just("\n"), 1 => Just(" \r\n")];
    let token = "[a-c.*>]{1,8}";
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    let publish = (
        token,
        proptest::option::of("[a-z]{1,6}"),
        body,
        blank.clone(),
        end.clone(),
        0usize..9,
    )
        .prop_map(|(subject, reply, body, blank, end, headers)| {
            let reply = reply
                .map(|reply| format!("{blank}{reply}"))
                .unwrap_or_default();
            let (verb, header_size) = match headers {
                0..=5 => ("PUB", String::new()),
                _ => ("HPUB", format!("{blank}{}", headers.min(body.len()))),
            };
            let line = format!(
                "{verb} {subject}{reply}{header_size}{blank}{}{end}",
                body.len()
            );
            [line.as_bytes(), &body, b"\r\n"].concat()
        });
    prop_oneof![
        6 => publish,
        1 => (token, "[0-9]{1,3}", blank, end).prop_map(|(subject, sid, blank, end)| {
            format!("SUB {subject}{blank}{sid}{end}").into_bytes()
        }),
        1 => Just(b"PING\r\n".to_vec()),
        1 => Just(b"UNSUB 4 2\r\n".to_vec()),
        1 => Just(b"CONNECT {\"verbose\":false}\r\n".to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_split_gives_the_same_operations(
        lines in proptest::collection::vec(line(), 1..6),
        garbage in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..20)),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let mut stream = lines.concat();
        stream.extend(garbage.clone().unwrap_or_default());
        let whole = feed([stream.as_slice()]);
        if garbage.is_none() {
            prop_assert_eq!(whole.ops.len(), lines.len());
            prop_assert_eq!(whole.error, None);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let mut start = 0;
        let pieces: Vec<&[u8]> = cuts
            .into_iter()
            .map(|end| &stream[std::mem::replace(&mut start, end)..end])
            .collect();
        prop_assert_eq!(feed(pieces), whole);
    }

    #[test]
    fn every_byte_alone_gives_the_same_operations(lines in proptest::collection::vec(line(), 1..4)) {
        let stream = lines.concat();
        prop_assert_eq!(feed(stream.chunks(1)), feed([stream.as_slice()]));
    }

    #[test]
    fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = feed([input.as_slice()]);
    }
}

#[test]
fn the_first_blank_is_found_wherever_it_stands() {
    for length in 0..40 {
        for other in [b'!', b'z', 0x7f, 0x80, 0xff] {
            let mut bytes = vec![other; length];
            assert_eq!(blank(&bytes), None);
            for at in 0..length {
                for found in [0, b'\t', b'\r', b' '] {
                    bytes[at] = found;
                    assert_eq!(blank(&bytes), Some(at), "{bytes:?}");
                    bytes[at] = other;
                }
            }
        }
    }
}

#[test]
fn info_of_a_client_is_ignored_if_it_is_json() {
    for (line, ignored) in [
        ("INFO {}\r\n", true),
        ("info {\"a\":[1]}\r\n", true),
        ("INFO null\r\n", true),
        ("INFO {\r\n", false),
        ("INFO x\r\n", false),
        ("INFO\r\n", false),
        ("INFOx\r\n", false),
    ] {
        match parse(line.as_bytes(), &LIMITS) {
            Ok(Step::Taken { op, .. }) => assert!(ignored && op == ClientOp::Ignored, "{line}"),
            other => assert!(!ignored && other == Err(ParseError::Arguments), "{line}"),
        }
    }
}
