//! What is said on a connection, apart from messages.

use super::Server;

#[test]
fn info_comes_first_and_tells_where_we_really_listen() {
    let server = Server::start();
    let client = server.accept();
    let port = server.core.address().port();
    let info = &client.info;
    assert!(info.starts_with("INFO {\"server_id\":\"N"), "{info}");
    assert!(info.ends_with("} \r\n"), "{info}");
    for part in [
        format!("\"port\":{port},"),
        "\"version\":\"2.9.24\"".into(),
        "\"proto\":1".into(),
        "\"headers\":true".into(),
        "\"max_payload\":1048576".into(),
        "\"client_ip\":\"127.0.0.1\"".into(),
        format!("\"server_name\":\"{}\"", server.core.server_id()),
    ] {
        assert!(info.contains(&part), "{part} in {info}");
    }
    assert!(!info.contains("false"), "{info}");
}

#[test]
fn advertised_address_and_name_are_shown_instead() {
    let server = Server::with(|config| {
        config.client_advertise = Some(("nats.example".into(), 4333));
        config.server_name = "first".into();
    });
    let client = server.accept();
    assert!(
        client
            .info
            .contains("\"host\":\"nats.example\",\"port\":4333"),
        "{}",
        client.info
    );
    assert!(
        client.info.contains("\"server_name\":\"first\""),
        "{}",
        client.info
    );
}

#[test]
fn ping_is_answered_even_before_connect() {
    let server = Server::start();
    let mut client = server.accept();
    client.sync();
    client.send("PING ignored\nping\r\n");
    client.expect("PONG\r\nPONG\r\n");
}

#[test]
fn verbose_clients_get_ok_before_their_own_message() {
    let server = Server::start();
    let mut client = server.client_with("{\"pedantic\":false}");
    client.send("SUB a 1\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nUNSUB 1\r\nPING\r\n");
    client.expect("+OK\r\n+OK\r\n+OK\r\n+OK\r\nMSG a 1 2\r\nhi\r\n+OK\r\nPONG\r\n");
}

#[test]
fn clients_are_verbose_and_pedantic_until_they_say_otherwise() {
    let server = Server::start();
    let mut client = server.accept();
    client.send("SUB a.* 1\r\nPUB a.* 0\r\n\r\n");
    client.expect("+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\nMSG a.* 1 0\r\n\r\n");
}

#[test]
fn pedantic_publishers_hear_of_wildcards_and_are_served_all_the_same() {
    let server = Server::start();
    let mut client = server.client_with("{\"verbose\":false}");
    client.send("SUB a.* 1\r\nPUB a.* 2\r\nhi\r\nPING\r\n");
    client.expect("-ERR 'Invalid Publish Subject'\r\nMSG a.* 1 2\r\nhi\r\nPONG\r\n");
}

#[test]
fn bad_subscription_subjects_are_reported_and_the_connection_stays() {
    let server = Server::start();
    let mut client = server.client();
    client.send("SUB a..b 1\r\nSUB a.>.b 2\r\nSUB a _sys_ 3\r\nPING\r\n");
    client.expect("-ERR 'Invalid Subject'\r\n-ERR 'Invalid Subject'\r\n");
    client.expect(
        "-ERR 'Permissions Violation for Subscription to \"a\" using queue \"_sys_\"'\r\nPONG\r\n",
    );
}

#[test]
fn errors_that_are_told_close_after_the_text() {
    for (input, text) in [
        ("\r\n", "Unknown Protocol Operation"),
        ("NONSENSE\r\n", "Unknown Protocol Operation"),
        ("MSG a 1 0\r\n\r\n", "Unknown Protocol Operation"),
        ("PUB a 2\r\nhiho\r\n", "Unknown Protocol Operation"),
        ("PUB a 1048577\r\n", "Maximum Payload Violation"),
        ("CONNECT {\"protocol\":2}\r\n", "invalid client protocol"),
        (
            "CONNECT {\"no_responders\":true}\r\n",
            "no responders requires headers support",
        ),
    ] {
        let server = Server::start();
        let mut client = server.accept();
        client.send(input);
        client.expect(&format!("-ERR '{text}'\r\n"));
        client.expect_closed();
    }
}

#[test]
fn errors_in_arguments_close_without_a_word() {
    for input in [
        "CONNECT {\r\n",
        "CONNECT\r\n",
        "PUB a b c 1\r\n",
        "PUB a 12345678901\r\n",
        "SUB a\r\n",
        "UNSUB 1 2 3\r\n",
        "HPUB a 1 1\r\nx\r\n",
        "-ERR 'enough'\r\n",
    ] {
        let server = Server::start();
        let mut client = server.client();
        client.send(input);
        client.expect_closed();
    }
}

#[test]
fn what_came_before_an_error_counts() {
    let server = Server::start();
    let mut client = server.client();
    client.send("SUB a 1\r\nPUB a 2\r\nhi\r\nXXX\r\n");
    client.expect("MSG a 1 2\r\nhi\r\n-ERR 'Unknown Protocol Operation'\r\n");
    client.expect_closed();
}

#[test]
fn clients_of_protocol_one_get_an_info_after_their_first_pong() {
    let server = Server::start();
    let mut client = server.client_with(r#"{"verbose":false,"pedantic":false,"protocol":1}"#);
    client.sync();
    let info = client.line();
    assert!(
        info.contains("\"connect_info\":true,\"remote_account\":\"$G\""),
        "{info}"
    );
    client.sync();
    client.sync();
}

#[test]
fn every_split_of_the_input_gives_the_same_answers() {
    let input = "CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB a.* q 12\r\n\
                 PUB a.b 5\r\nhello\r\nHPUB a.c r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 12\r\nPING\r\n";
    let output = "MSG a.b 12 5\r\nhello\r\nHMSG a.c 12 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPONG\r\n";
    let server = Server::start();
    for split in 1..input.len() {
        let mut client = server.accept();
        client.send(&input[..split]);
        client.send(&input[split..]);
        client.expect(output);
    }
}
