//! When the server asks whether somebody is there, and what counts as an answer.

use std::time::{Duration, Instant};

use super::Server;

#[test]
fn unasked_pongs_do_not_keep_a_connection() {
    let server = Server::with(|config| config.ping_interval = Duration::from_millis(60));
    let mut client = server.client();
    client.expect("PING\r\n");
    client.send("PONG\r\n");
    // Measured now: what follows may be put off by activity, but pongs are none.
    client.expect("PING\r\n");
    client.expect("PING\r\n");
    client.expect("-ERR 'Stale Connection'\r\n");
    client.expect_closed();
    server.expect_reasons(&["Stale Connection"]);
}

#[test]
fn whoever_is_busy_is_not_asked() {
    let interval = Duration::from_millis(300);
    let server = Server::with(|config| config.ping_interval = interval);
    let mut client = server.client();
    client.expect("PING\r\n");
    client.send("PONG\r\n");
    let began = Instant::now();
    // Anything that was sent after each tick keeps the next one quiet.
    while began.elapsed() < interval * 4 {
        let asked = Instant::now();
        client.sync();
        assert!(asked.elapsed() < interval, "the machine is too slow");
    }
    client.expect("PING\r\n");
}

#[test]
fn the_first_ping_comes_soon_after_connect_and_not_before() {
    let first = Duration::from_millis(200);
    let server = Server::with(|config| config.first_ping = first);
    let mut silent = server.accept();
    let mut client = server.client();
    let began = Instant::now();
    client.expect("PING\r\n");
    assert!(
        began.elapsed() >= first - Duration::from_millis(50),
        "{:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < first * 5, "{:?}", began.elapsed());
    // One that has not said CONNECT has been there for as long, and is not asked.
    silent.sync();
}

#[test]
fn more_patience_means_more_pings() {
    let server = Server::with(|config| {
        config.ping_interval = Duration::from_millis(40);
        config.ping_max = 4;
    });
    let mut client = server.client();
    client.expect("PING\r\nPING\r\nPING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    client.expect_closed();
}
