use proptest::prelude::*;

use super::*;

const ALL: TraceSettings = TraceSettings {
    headers_only: false,
    max_bytes: None,
};

fn came(settings: TraceSettings, operation: &str) -> Vec<String> {
    settings.lines(Direction::In, operation.as_bytes())
}

fn went(operation: &str) -> Vec<String> {
    ALL.lines(Direction::Out, operation.as_bytes())
}

#[test]
fn lines_are_those_of_the_reference() {
    for (operation, expected) in [
        ("PING hello\r\n", &["[PING]"][..]),
        ("SUB  foo  1\r\n", &["[SUB foo  1]"]),
        ("unsub 1 0\n", &["[UNSUB 1 0]"]),
        (
            "pub\tfoo\t 2 \r\nxx\r\n",
            &["[PUB foo\t 2 ]", "MSG_PAYLOAD: [\"xx\"]"],
        ),
        ("PUB foo 0\r\n\r\n", &["[PUB foo 0]"]),
        (
            "PUB foo 3\r\na\"\x01\r\n",
            &["[PUB foo 3]", "MSG_PAYLOAD: [\"a\\\"\\x01\"]"],
        ),
        ("+OK\r\n", &[]),
        ("INFO {}\r\n", &[]),
        ("FOO bar\r\n", &[]),
    ] {
        assert_eq!(came(ALL, operation), expected, "{operation:?}");
    }
    assert_eq!(went("+OK\r\n"), ["[OK]"]);
    let error = went("-ERR 'Unknown Protocol Operation'\r\n");
    assert_eq!(error, ["[-ERR Unknown Protocol Operation]"]);
    let message = went("MSG foo 1 5\r\nhello\r\n");
    assert_eq!(message, ["[MSG foo 1 5]", "MSG_PAYLOAD: [\"hello\"]"]);
    assert!(went("INFO {\"nonce\":\"x\"} \r\n").is_empty());
}

#[test]
fn payloads_are_cut_or_left_to_their_headers() {
    let cut = TraceSettings {
        max_bytes: Some(3),
        ..ALL
    };
    assert_eq!(came(cut, "PUB a 3\r\nabc\r\n")[1], "MSG_PAYLOAD: [\"abc\"]");
    assert_eq!(
        came(cut, "PUB a 4\r\nabcd\r\n")[1],
        "MSG_PAYLOAD: [\"abc...\"]"
    );
    let headers = TraceSettings {
        headers_only: true,
        ..ALL
    };
    let with = "HPUB foo r 12 17\r\nNATS/1.0\r\n\r\nworld\r\n";
    let expected = ["[HPUB foo r 12 17]", "MSG_PAYLOAD: [\"NATS/1.0\"]"];
    assert_eq!(came(headers, with), expected);
    assert_eq!(came(headers, "PUB foo 5\r\nhello\r\n"), ["[PUB foo 5]"]);
    // A block too short to be one.
    assert_eq!(came(headers, "HPUB foo 2 2\r\nab\r\n"), ["[HPUB foo 2 2]"]);
}

#[test]
fn secrets_are_hidden_and_the_rest_is_as_it_was_written() {
    for (written, shown) in [
        (
            r#"{"verbose":true,"user":"u", "pass" : "se\"cret", "nkey":"n"}"#,
            r#"{"verbose":true,"user":"u", "pass" : "[REDACTED]", "nkey":"n"}"#,
        ),
        (
            r#"{"auth_token":"t","jwt":"j","sig":"s","proxy_sig":"p","password":"z"}"#,
            r#"{"auth_token":"[REDACTED]","jwt":"[REDACTED]","sig":"[REDACTED]","proxy_sig":"[REDACTED]","password":"[REDACTED]"}"#,
        ),
        (
            r#"{"PASS":"x","Verbose":false,"p\u0061ss":"y","pass":12,"pass":["a"],"echo":true}"#,
            r#"{"PASS":"[REDACTED]","Verbose":false,"p\u0061ss":"[REDACTED]","pass":"[REDACTED]","pass":"[REDACTED]","echo":true}"#,
        ),
        (
            r#"{"user":{"pass":"x"},"unheard_of":"x","name":"a,}b"}"#,
            r#"{"user":"[REDACTED]","unheard_of":"[REDACTED]","name":"a,}b"}"#,
        ),
        ("{}", "{}"),
        (r#"{"pass":"x","verbose":"#, HIDDEN),
        (r#"{pass:"x"}"#, HIDDEN),
        (r#""pass""#, HIDDEN),
        ("", HIDDEN),
    ] {
        assert_eq!(redacted(written), shown, "{written}");
    }
}

#[test]
fn a_connect_is_shown_without_its_secrets_wherever_they_stand() {
    let lines = came(ALL, "connect{\"pass\":\"x y\"}\r\n");
    assert_eq!(lines, ["[CONNECT {\"pass\":\"[REDACTED]\"}]"]);
}

proptest! {
    #[test]
    fn no_secret_is_shown_whatever_stands_around_it(
        before in "[ \\\\\"{}:,a-z\\[\\]]{0,12}",
        key in "(pass|auth_token|jwt|sig|proxy_sig|PaSs|other)",
        after in "[ \\\\\"{}:,a-z\\[\\]]{0,12}",
    ) {
        let secret = "S3CRET9";
        for json in [
            format!("{before}{{\"{key}\":\"{secret}\"}}{after}"),
            format!("{{{before}\"{key}\":{after}\"{secret}\"}}"),
            serde_json::json!({ "lang": before, key.as_str(): format!("{before}{secret}{after}"), "name": after })
                .to_string(),
        ] {
            let shown = redacted(&json);
            prop_assert!(!shown.contains(secret), "{json} {shown}");
        }
    }

    #[test]
    fn what_goes_out_is_found_again_however_it_was_taken(payload in any::<Vec<u8>>(), cut in 0..64_usize) {
        let mut sent = format!("MSG a 1 {}\r\n", payload.len()).into_bytes();
        sent.extend_from_slice(&payload);
        sent.extend_from_slice(b"\r\n");
        let whole = sent.len();
        sent.extend_from_slice(b"PING\r\n");
        prop_assert_eq!(operation_end(&sent), Some(whole));
        prop_assert_eq!(operation_end(&sent[..cut.min(whole - 1)]), None);
    }
}
