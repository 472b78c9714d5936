//! Sizes, counts, time, and consumers that do not keep up.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use super::{Server, eventually};

#[test]
fn control_lines_and_payloads_are_accepted_up_to_their_limits() {
    let server = Server::with(|config| config.max_payload = 100_000);
    let mut client = server.client();
    let subject = "a".repeat(4094);
    client.send(&format!("SUB {subject} 1\r\nUNSUB 1\r\nSUB big 2\r\n"));
    let body = "x".repeat(100_000);
    client.send(&format!("PUB big 100000\r\n{body}\r\n"));
    client.expect(&format!("MSG big 2 100000\r\n{body}\r\n"));
    client.send(&format!("SUB a{subject} 1\r\n"));
    client.expect("-ERR 'maximum control line exceeded'\r\n");
    client.expect_closed();

    let mut client = server.client();
    client.send("PUB big 100001\r\n");
    client.expect("-ERR 'Maximum Payload Violation'\r\n");
    client.expect_closed();
}

#[test]
fn large_bodies_arrive_whole_between_small_ones() {
    let server = Server::start();
    let (mut subscriber, mut publisher) = (server.client(), server.client());
    subscriber.send("SUB a 1\r\n");
    subscriber.sync();
    let bodies: Vec<String> = [1, 8191, 8192, 70_000, 3, 1 << 20, 0, 500_000]
        .map(|size| "y".repeat(size))
        .into();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for body in &bodies {
                publisher.send(&format!("PUB a {}\r\n{body}\r\n", body.len()));
            }
        });
        for body in &bodies {
            subscriber.expect(&format!("MSG a 1 {}\r\n{body}\r\n", body.len()));
        }
    });
}

#[test]
fn one_connection_too_many_is_greeted_and_refused() {
    let server = Server::with(|config| config.max_connections = Some(2));
    let first = server.client();
    let mut second = server.client();
    second.sync();
    let mut third = server.accept();
    third.expect("-ERR 'maximum connections exceeded'\r\n");
    third.expect_closed();
    drop(first);
    eventually("room again", || {
        let mut next = server.accept();
        next.send("PING\r\n");
        next.line() == "PONG\r\n"
    });
}

#[test]
fn silent_clients_are_pinged_and_then_given_up() {
    let server = Server::with(|config| config.ping_interval = Duration::from_millis(50));
    let mut client = server.client();
    client.expect("PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    client.expect_closed();
    eventually("counted", || {
        server.stats().snapshot().counters.stale_clients == 1
    });
}

#[test]
fn answered_pings_keep_a_connection() {
    const MAX: u32 = 500;
    let server = Server::with(|config| {
        config.ping_interval = Duration::from_millis(5);
        // For answers that a busy machine keeps waiting.
        config.ping_max = MAX;
    });
    let mut client = server.client();
    for _ in 0..MAX + 100 {
        client.expect("PING\r\n");
        client.send("PONG\r\n");
    }
}

/// Publishes until the server has cut the stuck subscriber, while another one reads along.
fn cut_stuck_subscriber(stuck_first: bool) {
    const BODY: usize = 1000;
    let server = Server::with(|config| config.max_pending = 4 << 20);
    let mut clients = [server.client(), server.client(), server.client()];
    for client in &mut clients[..2] {
        client.send("SUB a 1\r\n");
        client.sync();
    }
    let [first, second, mut publisher] = clients;
    let (mut stuck, mut healthy) = if stuck_first {
        (first, second)
    } else {
        (second, first)
    };
    let batch = format!("PUB a {BODY}\r\n{}\r\n", "x".repeat(BODY)).repeat(100);
    let delivered = batch.len() + "1 ".len() * 100;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut batches = 0;
            while server.stats().snapshot().counters.slow_clients == 0 {
                assert!(began.elapsed() < super::PATIENCE, "never cut");
                publisher.send(&batch);
                batches += 1;
            }
            publisher.sync();
            publisher.send("PUB a 0\r\n\r\n");
            batches
        });
        let mut buffer = vec![0; 1 << 16];
        let mut read = 0;
        let mut last = Vec::new();
        while !last.ends_with(b"MSG a 1 0\r\n\r\n") {
            let count = healthy.socket.read(&mut buffer).unwrap();
            assert!(count > 0, "the healthy one was closed after {read} bytes");
            read += count;
            last.extend_from_slice(&buffer[..count]);
            last.drain(..last.len().saturating_sub(64));
        }
        let batches: usize = publishing.join().unwrap();
        assert_eq!(read, batches * delivered + "MSG a 1 0\r\n\r\n".len());
    });
    let counters = server.stats().snapshot().counters;
    assert_eq!(counters.slow_clients, 1);
    // What the kernel had taken is still there, then the end comes, without a word.
    let mut rest = Vec::new();
    match stuck.socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(!super::shown(&rest).contains("ERR"));
}

#[test]
fn a_stuck_subscriber_on_another_worker_is_cut_and_the_healthy_one_goes_on() {
    cut_stuck_subscriber(false);
}

#[test]
fn a_stuck_subscriber_on_the_publishers_worker_is_cut_and_the_healthy_one_goes_on() {
    cut_stuck_subscriber(true);
}

#[test]
fn a_flush_that_takes_too_long_ends_the_connection() {
    let server = Server::with(|config| config.write_deadline = Duration::from_millis(100));
    let mut stuck = server.client();
    stuck.send("SUB a 1\r\n");
    stuck.sync();
    let mut publisher = server.client();
    // More than the kernel takes on both sides, less than the pending limit.
    let body = format!("PUB a 1000000\r\n{}\r\n", "x".repeat(1_000_000));
    for _ in 0..24 {
        publisher.send(&body);
    }
    publisher.sync();
    eventually("cut", || {
        server.stats().snapshot().counters.slow_clients == 1
    });
    eventually("closed", || {
        server.stats().snapshot().counters.connections == 1
    });
}

#[test]
fn a_fast_publisher_does_not_cut_a_subscriber_that_keeps_reading() {
    const MESSAGES: usize = 200_000;
    let server = Server::with(|config| config.max_pending = 8 << 20);
    let (mut subscriber, mut publisher) = (server.client(), server.client());
    subscriber.send("SUB a 1\r\n");
    subscriber.sync();
    let batch = format!("PUB a 128\r\n{}\r\n", "z".repeat(128)).repeat(1000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..MESSAGES / 1000 {
                publisher.socket.write_all(batch.as_bytes()).unwrap();
            }
        });
        subscriber.drain(MESSAGES * ("MSG a 1 128\r\n\r\n".len() + 128));
    });
    subscriber.sync();
    assert_eq!(server.stats().snapshot().counters.slow_clients, 0);
}

#[test]
fn counts_add_up() {
    let server = Server::start();
    let (mut subscriber, mut publisher) = (server.client(), server.client());
    subscriber.send("SUB a 1\r\nSUB a 2\r\n");
    subscriber.sync();
    publisher.send("PUB a 3\r\nabc\r\nPUB b 5\r\nabcde\r\n");
    publisher.sync();
    subscriber.drain(2 * "MSG a 1 3\r\nabc\r\n".len());
    // Either worker shows its counts at the end of its own pass.
    eventually("counted", || {
        let counters = server.stats().snapshot().counters;
        counters.in_msgs == 2 && counters.out_msgs == 2
    });
    let counters = server.stats().snapshot().counters;
    assert_eq!((counters.in_msgs, counters.in_bytes), (2, 8));
    assert_eq!((counters.out_msgs, counters.out_bytes), (2, 6));
    assert_eq!((counters.connections, counters.total_connections), (2, 2));
}

#[test]
fn a_stopped_core_sends_what_it_has_and_closes() {
    let server = Server::start();
    let mut clients = [server.client(), server.client()];
    for client in &mut clients {
        client.send("SUB a 1\r\n");
        client.sync();
    }
    let Server {
        mut core,
        _stop: stop,
        ..
    } = server;
    drop(stop);
    for client in &mut clients {
        client.expect_closed();
    }
    super::wait(async { core.ended().await.unwrap() });
    assert!(std::net::TcpStream::connect(core.address()).is_err());
}
