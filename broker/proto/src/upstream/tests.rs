use proptest::prelude::*;

use super::*;

/// Everything that the input holds, however it is read.
fn all(mut input: &[u8]) -> Vec<String> {
    let mut ops = Vec::new();
    while !input.is_empty() {
        let Step::Taken { op, consumed } = parse(input).unwrap() else {
            break;
        };
        ops.push(match op {
            UpstreamOp::Message { sid, publication } => format!(
                "{sid} {} {} {:?} {:?}",
                String::from_utf8_lossy(publication.subject),
                String::from_utf8_lossy(publication.reply),
                String::from_utf8_lossy(publication.headers()),
                String::from_utf8_lossy(publication.payload())
            ),
            UpstreamOp::Error(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        });
        input = &input[consumed..];
    }
    ops
}

#[test]
fn messages_are_read_in_every_form() {
    assert_eq!(
        all(b"MSG a.b 7 2\r\nhi\r\nMSG a 7 r 0\r\n\r\nHMSG a 8 4 6\r\nhhhhpp\r\nHMSG a 9 r 4 4\r\nhhhh\r\n"),
        [
            "7 a.b  \"\" \"hi\"",
            "7 a r \"\" \"\"",
            "8 a  \"hhhh\" \"pp\"",
            "9 a r \"hhhh\" \"\"",
        ]
    );
}

#[test]
fn what_else_a_server_says_is_read_too() {
    assert_eq!(
        all(b"+OK\r\nPING\r\nPONG\r\nINFO {}\r\n-ERR 'Authorization Violation'\r\n"),
        [
            "Ignored",
            "Ping",
            "Pong",
            "Info([123, 125])",
            "Authorization Violation",
        ]
    );
}

#[test]
fn what_is_no_server_is_refused() {
    for input in [
        "HTTP/1.1 400 Bad Request\r\n",
        "MSG a 1\r\n",
        "MSG a x 1\r\nb\r\n",
        "MSG a 1 r x 2\r\nhi\r\n",
        "HMSG a 1 2\r\nhi\r\n",
        "MSG a 1 999999999\r\n",
        "MSG a 1 2\r\nhigh\r\n",
    ] {
        assert!(parse(input.as_bytes()).is_err(), "{input:?}");
    }
}

#[test]
fn only_the_servers_own_answer_says_that_nobody_is_there() {
    assert!(is_no_responders(b"NATS/1.0 503\r\n\r\n", b""));
    assert!(is_no_responders(b"NATS/1.0 503 No Responders\r\n\r\n", b""));
    assert!(!is_no_responders(b"NATS/1.0\r\nStatus: 503\r\n\r\n", b""));
    assert!(!is_no_responders(b"NATS/1.0 503\r\n\r\n", b"x"));
    assert!(!is_no_responders(b"", b""));
}

#[test]
fn requests_are_written_as_a_server_reads_them() {
    let mut out = Vec::new();
    put_subscribe(b"a.>", 12, &mut out);
    put_unsubscribe(12, &mut out);
    put_publish(b"a", b"", &[b"he", b"llo"], &mut out);
    put_publish(b"a", b"r", &[], &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "SUB a.> 12\r\nUNSUB 12\r\nPUB a 5\r\nhello\r\nPUB a r 0\r\n\r\n"
    );
}

#[test]
fn info_is_read_and_connect_written_without_what_is_empty() {
    let info = UpstreamInfo::from_json(
        br#"{"server_id":"N","nonce":"n","tls_required":true,"max_payload":5,"connect_urls":null}"#,
    );
    let info = info.unwrap();
    assert_eq!((info.nonce.as_str(), info.max_payload), ("n", 5));
    assert!(info.tls_required && info.connect_urls.is_empty());
    assert!(UpstreamInfo::from_json(b"[]").is_err());
    let connect = UpstreamConnect {
        name: "n",
        lang: "rust",
        version: "1",
        pass: "hunter2",
        ..UpstreamConnect::default()
    };
    assert_eq!(
        String::from_utf8(connect.to_line()).unwrap(),
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"tls_required\":false,\
         \"protocol\":0,\"headers\":false,\"no_responders\":false,\"name\":\"n\",\"lang\":\"rust\",\
         \"version\":\"1\",\"pass\":\"hunter2\"}\r\n"
    );
    assert!(!format!("{connect:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn a_part_is_either_too_little_or_the_same(cut in 0usize..60) {
        let input = b"MSG a.b 7 reply 2\r\nhi\r\nHMSG a 8 4 6\r\nhhhhpp\r\nPING\r\n";
        let (mut rest, mut ops) = (Vec::new(), Vec::new());
        let cut = cut.min(input.len());
        for part in [&input[..cut], &input[cut..]] {
            rest.extend_from_slice(part);
            while let Ok(Step::Taken { op, consumed }) = parse(&rest) {
                ops.push(format!("{op:?}"));
                rest.drain(..consumed);
            }
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(ops.len(), 3);
    }

    #[test]
    fn no_input_brings_it_down(input: Vec<u8>) {
        let _ = parse(&input);
    }
}
