//! Limits on what one connection and all together may have.

use super::Server;

#[test]
fn subscriptions_beyond_the_limit_are_refused_and_the_rest_stays() {
    let server = Server::with(|config| config.subscriptions.count = Some(2));
    let mut client = server.client();
    client.send("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\nPUB a 0\r\n\r\nPUB c 0\r\n\r\nPING\r\n");
    client.expect("-ERR 'maximum subscriptions exceeded'\r\nMSG a 1 0\r\n\r\nPONG\r\n");
    client.send("UNSUB 1\r\nSUB c 3\r\nPUB c 0\r\n\r\n");
    client.expect("MSG c 3 0\r\n\r\n");
    // Each connection has its own.
    let mut other = server.client();
    other.send("SUB a 1\r\nSUB b 2\r\n");
    other.sync();
}

#[test]
fn subjects_with_too_many_tokens_are_refused() {
    let server = Server::with(|config| config.subscriptions.tokens = Some(3));
    let mut client = server.client();
    client.send("SUB a.b.c 1\r\nSUB a.b.c.d 2\r\nSUB *.*.* q 3\r\n");
    client.expect(
        "-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'\r\n",
    );
    client.sync();
}

#[test]
fn a_limit_of_no_connections_lets_nobody_in_and_none_at_all_lets_everybody() {
    let closed = Server::with(|config| config.max_connections = Some(0));
    let mut client = closed.accept();
    client.expect("-ERR 'maximum connections exceeded'\r\n");
    client.expect_closed();
    let open = Server::with(|config| config.max_connections = None);
    let mut clients: Vec<_> = (0..50).map(|_| open.client()).collect();
    for client in &mut clients {
        client.sync();
    }
}

#[test]
fn the_whole_of_a_message_counts_headers_included() {
    let server = Server::with(|config| config.max_payload = 20);
    let mut client = server.modern_client();
    client.send("SUB a 1\r\nHPUB a 12 20\r\nNATS/1.0\r\n\r\n12345678\r\n");
    client.expect("HMSG a 1 12 20\r\nNATS/1.0\r\n\r\n12345678\r\n");
    client.send("HPUB a 12 21\r\n");
    client.expect("-ERR 'Maximum Payload Violation'\r\n");
    client.expect_closed();
}

#[test]
fn a_line_without_end_takes_no_more_memory_than_its_limit() {
    let server = Server::with(|config| config.max_control_line = 512);
    let mut client = server.accept();
    let endless = format!("CONNECT {{\"name\":\"{}", "x".repeat(600));
    client.send(&endless);
    client.expect("-ERR 'maximum control line exceeded'\r\n");
    client.expect_closed();
}

#[test]
fn a_line_may_be_longer_than_what_is_kept_beside_the_buffer() {
    let server = Server::with(|config| config.max_control_line = 200_000);
    let mut client = server.client();
    let subject = "long".repeat(30_000);
    let line = format!("SUB {subject} 1\r\nPUB end 0\r\n\r\nSUB end 2\r\n");
    // So that its parts are read one by one.
    for part in line.as_bytes().chunks(20_000) {
        client.send(std::str::from_utf8(part).unwrap());
        server.client().sync();
    }
    client.sync();
    client.send(&format!("PUB {subject} 2\r\nhi\r\nPUB end 0\r\n\r\n"));
    client.expect(&format!("MSG {subject} 1 2\r\nhi\r\nMSG end 2 0\r\n\r\n"));
    // Beyond the limit it is no different.
    client.send(&format!("SUB {} 3\r\n", "x".repeat(200_001)));
    client.expect("-ERR 'maximum control line exceeded'\r\n");
}

#[test]
fn a_filter_may_not_have_more_tokens_than_a_tree_can_hold() {
    let server = Server::with(|config| config.max_control_line = 200_000);
    let mut client = server.client();
    let subject = "a.".repeat(50_000) + "a";
    client.send(&format!("SUB {subject} 1\r\nSUB *.> 2\r\nPING\r\n"));
    client.expect("-ERR 'Invalid Subject'\r\nPONG\r\n");
    client.send(&format!("PUB {subject} 0\r\n\r\n"));
    client.expect(&format!("MSG {subject} 2 0\r\n\r\n"));
}
