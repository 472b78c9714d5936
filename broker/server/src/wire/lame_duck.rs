//! A server that lets its clients go.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{Server, eventually, wait};

#[test]
fn new_clients_are_refused_and_old_ones_told_once() {
    let server = Server::start();
    let mut modern = server.client_with(r#"{"verbose":false,"protocol":1}"#);
    modern.sync();
    modern.line();
    let mut old = server.client();
    old.sync();
    let mut unheard = server.client_with(r#"{"verbose":false,"protocol":1}"#);
    assert!(server.core.lame_duck().begin());
    let info = modern.line();
    assert!(
        info.starts_with("INFO {") && info.contains("\"ldm\":true"),
        "{info}"
    );
    assert!(!info.contains("connect_urls"), "{info}");
    eventually("refused", || {
        TcpStream::connect(server.core.address()).is_err()
    });
    // Everything else goes on.
    old.send("SUB a 1\r\n");
    old.sync();
    modern.send("PUB a 2\r\nhi\r\n");
    modern.sync();
    old.expect("MSG a 1 2\r\nhi\r\n");
    // It never got as far as a first pong, and its INFO is the usual one.
    unheard.sync();
    assert!(!unheard.line().contains("\"ldm\":true"));
    assert!(server.stats().snapshot().is_lame_duck);
}

#[test]
fn clients_go_one_by_one_within_the_time() {
    const CLIENTS: u32 = 8;
    let server = Server::start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("SUB a 1\r\n");
        client.sync();
    }
    let duck = server.core.lame_duck();
    assert!(duck.begin());
    // Long beside what holds a worker up on a busy machine.
    let whole = Duration::from_secs(6);
    let began = Instant::now();
    let closing = std::thread::spawn(move || {
        wait(duck.close_clients(whole));
        began.elapsed()
    });
    for client in &mut clients {
        client.expect_closed();
    }
    // The pauses between two are at least half of an even share.
    let took = closing.join().unwrap();
    let shortest = whole / CLIENTS / 2 * (CLIENTS - 1);
    assert!(took >= shortest, "{took:?}");
    server.expect_reasons(&["Server Shutdown"; CLIENTS as usize]);
    let stops = server.closed();
    let stops = stops.into_iter().map(|one| one.closed.unwrap().stop);
    let (first, last) = (stops.clone().min().unwrap(), stops.max().unwrap());
    // Each worker may be late, together less than all the pauses.
    let spread = last.duration_since(first).unwrap();
    assert!(spread >= whole / CLIENTS / 4, "{spread:?}");
}

#[test]
fn without_clients_there_is_nobody_to_wait_for() {
    let server = Server::start();
    let duck = server.core.lame_duck();
    assert!(!duck.begin());
    wait(duck.close_clients(Duration::from_secs(3600)));
}

#[test]
fn a_later_info_does_not_repeat_the_mark() {
    let mut server = Server::start();
    let mut client = server.client_with(r#"{"verbose":false,"protocol":1}"#);
    client.sync();
    client.line();
    server.core.lame_duck().begin();
    assert!(client.line().contains("\"ldm\":true"));
    server.reload(|config| config.max_payload = 1000);
    client.sync();
    client.send("PUB a 1001\r\n");
    client.expect("-ERR 'Maximum Payload Violation'\r\n");
    client.expect_closed();
}
