//! Verbs, blanks and numbers: what is let through, what ends a connection, and in which words.

use super::Server;

#[test]
fn verbs_in_any_case_blanks_and_bare_line_feeds_are_accepted() {
    let server = Server::start();
    let mut client = server.accept();
    client.send("connect {\"verbose\":false}\nCoNnEcT{\"verbose\":false}\r\n");
    client.send("sub  a\t 1 \r\nSuB\tb\tg\t2\n  \x20".trim_end_matches([' ', '\x20']));
    client.send("pub a   2\r\nhi\r\nPuB\tb\t\tr  0002 \nho\r\nping\npInG \t \r\n");
    client.expect("MSG a 1 2\r\nhi\r\nMSG b 2 r 0002\r\nho\r\nPONG\r\nPONG\r\n");
}

#[test]
fn unknown_verbs_are_named_unknown_and_close() {
    for input in [
        "PUBS a 0\r\n",
        "SUBZZZ a 1\r\n",
        "ZZZ\r\n",
        "\n",
        " PING\r\n",
        "PUB\r\n",
        "HMSG a 1 0 0\r\n",
        "RS+ $G a\r\n",
        "RMSG $G a 0\r\n\r\n",
        "LS+ a\r\n",
        "LMSG a 0\r\n\r\n",
        "A+ x\r\n",
        "\u{0}\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}",
        "GET / HTTP/1.1\r\n",
    ] {
        let server = Server::start();
        let mut client = server.accept();
        client.send(input);
        client.expect("-ERR 'Unknown Protocol Operation'\r\n");
        server.expect_reasons(&["Protocol Violation"]);
    }
}

#[test]
fn a_body_that_is_too_short_takes_the_next_line_and_ends_the_connection() {
    let server = Server::start();
    let mut other = server.client();
    other.send("SUB > 1\r\n");
    other.sync();
    for input in [
        "PUB a 10\r\nhi\r\nPUB b 2\r\nho\r\n",
        "PUB a 2\r\nhi\nPUB b 2\r\nho\r\n",
        "PUB a 2\r\nhiPUB b 2\r\nho\r\n",
        "PUB a 2\r\nhi\r\r\n",
        "PUB a 0\r\nPUB b 0\r\n\r\n",
    ] {
        let mut client = server.client();
        client.send(input);
        client.expect("-ERR 'Unknown Protocol Operation'\r\n");
        client.expect_closed();
    }
    // Nothing of it was delivered.
    other.sync();
}

#[test]
fn numbers_that_do_not_fit_end_the_connection_and_nothing_else() {
    let server = Server::start();
    let mut other = server.client();
    other.send("SUB > 1\r\n");
    other.sync();
    for number in [
        "-1",
        "+1",
        "1.0",
        "0x1",
        "1e3",
        "a",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        for input in [
            format!("PUB a {number}\r\nhi\r\n"),
            format!("PUB a r {number}\r\nhi\r\n"),
            format!("HPUB a {number} 12\r\nNATS/1.0\r\n\r\n\r\n"),
            format!("HPUB a 12 {number}\r\nNATS/1.0\r\n\r\n\r\n"),
        ] {
            let mut client = server.modern_client();
            client.send(&input);
            client.expect_closed();
        }
    }
    for number in ["2147483", "999999999"] {
        let mut client = server.client();
        client.send(&format!("PUB a {number}\r\nhi\r\n"));
        client.expect("-ERR 'Maximum Payload Violation'\r\n");
        client.expect_closed();
    }
    other.sync();
}

#[test]
fn a_maximum_of_any_size_is_a_maximum_or_means_now() {
    let server = Server::start();
    let mut client = server.client();
    for (max, stays) in [
        ("0", false),
        ("1", true),
        ("2147483647", false),
        ("999999999", true),
        ("2147483648", false),
        ("9223372036854775807", false),
        ("18446744073709551616", false),
        ("-1", false),
        ("-9223372036854775808", false),
        ("x", false),
    ] {
        client.send(&format!(
            "SUB a 1\r\nUNSUB 1 {max}\r\nPUB a 0\r\n\r\nPING\r\n"
        ));
        let first = client.line();
        if first == "MSG a 1 0\r\n" {
            client.expect("\r\nPONG\r\n");
        } else {
            assert_eq!(first, "PONG\r\n", "{max}");
            assert!(!stays, "{max}");
        }
        client.send("UNSUB 1\r\n");
        client.sync();
    }
}

#[test]
fn headers_are_for_servers_that_have_them() {
    let server = Server::with(|config| config.headers = false);
    let mut client = server.client_with(r#"{"verbose":false,"headers":true}"#);
    assert!(client.info.contains("\"headers\":false"), "{}", client.info);
    client.send("HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    client.expect_closed();
    let mut asking = server.client_with(r#"{"verbose":false,"headers":true,"no_responders":true}"#);
    asking.expect("-ERR 'no responders requires headers support'\r\n");
    asking.expect_closed();
}

#[test]
fn control_characters_pass_from_client_to_client_and_end_no_line() {
    let server = Server::start();
    let (mut subscriber, mut publisher) = (server.client(), server.client());
    subscriber.send("SUB > \u{1}\u{7f}\r\n");
    subscriber.sync();
    for subject in ["a\u{0}b", "a\u{1b}[2J", "a\u{b}b", "\u{85}", "\u{fffd}"] {
        publisher.send(&format!("PUB {subject} {subject}r 0\r\n\r\n"));
        publisher.sync();
        subscriber.expect(&format!("MSG {subject} \u{1}\u{7f} {subject}r 0\r\n\r\n"));
    }
    // Refusals repeat what they refuse; it is still one line.
    publisher.send("SUB a\u{7}..b 1\r\n");
    publisher.expect("-ERR 'Invalid Subject'\r\n");
    publisher.sync();
    // A bare CR divides arguments, of which there are too many then.
    publisher.send("PUB a\rb c d 0\r\n\r\n");
    publisher.expect_closed();
}

#[test]
fn headers_steer_nothing() {
    let server = Server::start();
    let (mut subscriber, mut publisher) = (server.modern_client(), server.modern_client());
    subscriber.send("SUB > 1\r\n");
    subscriber.sync();
    for header in [
        "Nats-Trace-Dest: spy",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "Nats-Request-Info: {\"acc\":\"$SYS\"}",
        "Nats-Schedule-Target: spy",
        "Status: 503",
    ] {
        let block = format!("NATS/1.0\r\n{header}\r\n\r\n");
        let (size, total) = (block.len(), block.len() + 2);
        publisher.send(&format!("HPUB a {size} {total}\r\n{block}hi\r\n"));
        publisher.sync();
        // As it was published, and to nobody else.
        subscriber.expect(&format!("HMSG a 1 {size} {total}\r\n{block}hi\r\n"));
        subscriber.sync();
    }
}
