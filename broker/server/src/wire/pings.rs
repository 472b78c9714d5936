//! When the server asks whether somebody is there, and what counts as an answer.

use std::time::{Duration, Instant};

use super::{Server, eventually};

#[test]
fn unasked_pongs_do_not_keep_a_connection() {
    let server = Server::with(|config| config.ping_interval = Duration::from_millis(60));
    let mut client = server.client();
    client.expect("PING\r\n");
    client.send("PONG\r\n");
    // Measured now: what follows may be put off by activity, but pongs are none.
    let mut asked = 0;
    let end = loop {
        let line = client.line();
        if line != "PING\r\n" {
            break line;
        }
        asked += 1;
    };
    assert_eq!(end, "-ERR 'Stale Connection'\r\n");
    // Two, unless the pong of a busy machine came later than the second ping, or than the end.
    assert!((1..=3).contains(&asked), "{asked}");
    client.expect_closed();
    server.expect_reasons(&["Stale Connection"]);
}

#[test]
fn whoever_is_busy_is_not_asked() {
    let interval = Duration::from_millis(300);
    let server = Server::with(|config| {
        config.ping_interval = interval;
        // A busy machine may be silent for longer than it wants to.
        config.ping_max = 100;
    });
    let mut client = server.client();
    client.expect("PING\r\n");
    client.send("PONG\r\n");
    // Anything that was sent after each tick keeps the next one quiet, so it is to be seen that none was without.
    eventually("four intervals of activity", || {
        let began = Instant::now();
        let (mut was_busy, mut was_asked) = (true, false);
        while began.elapsed() < interval * 4 {
            let asked = Instant::now();
            client.send("PING\r\n");
            while client.line() == "PING\r\n" {
                was_asked = true;
                client.send("PONG\r\n");
            }
            was_busy &= asked.elapsed() < interval / 2;
        }
        assert!(!(was_busy && was_asked), "asked though it was busy");
        was_busy
    });
    client.expect("PING\r\n");
}

#[test]
fn the_first_ping_comes_soon_after_connect_and_not_before() {
    let first = Duration::from_millis(200);
    let server = Server::with(|config| config.first_ping = first);
    let mut silent = server.accept();
    let began = Instant::now();
    let mut client = server.client();
    // Others come after two minutes.
    client.expect("PING\r\n");
    assert!(began.elapsed() >= first, "{:?}", began.elapsed());
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
