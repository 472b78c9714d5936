//! Connections that do not take what they are sent within the write deadline, clients and other
//! servers (`write_timeout`).

use super::*;
use crate::settings::RoutePort;

/// More than the kernel takes on both sides, less than the pending limit.
const MESSAGES: usize = 24;
const BODY_BYTES: usize = 1_000_000;
/// Nobody reads anything within it.
const DEADLINE: Duration = Duration::from_secs(1);
/// A test on a busy machine must be able to read something within it.
const LONG_DEADLINE: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Client,
    Route,
}

fn server(deadline: Duration) -> Server {
    Server::with(|config| {
        config.write_deadline = deadline;
        config.retry_writes = true;
        config.cluster = Some(RoutePort {
            write_deadline: deadline,
            retry_writes: true,
            ..route_port(|_| {})
        });
    })
}

/// One that wants everything and reads nothing, as many bytes waiting for it as said, whose first
/// deadline has passed.
fn stuck(server: &Server, kind: Kind) -> (Client, usize) {
    let (mut stuck, line) = match kind {
        Kind::Client => {
            let mut client = server.client();
            client.send("SUB a 1\r\n");
            (client, format!("MSG a 1 {BODY_BYTES}\r\n"))
        }
        Kind::Route => {
            let mut peer = server.peer();
            peer.send("RS+ $G a\r\n");
            (peer, format!("RMSG $G a {BODY_BYTES}\r\n"))
        }
    };
    answers(&mut stuck);
    let mut publisher = server.client();
    let body = format!("PUB a {BODY_BYTES}\r\n{}\r\n", "x".repeat(BODY_BYTES));
    for _ in 0..MESSAGES {
        publisher.send(&body);
    }
    publisher.sync();
    eventually("slow", || slow(server, kind) >= 1);
    (stuck, MESSAGES * (line.len() + BODY_BYTES + 2))
}

/// Waits for the answer to a ping, whatever else comes before; other servers are pinged too.
fn answers(client: &mut Client) {
    client.send("PING\r\n");
    while client.line() != "PONG\r\n" {}
}

/// How often a deadline has passed.
fn slow(server: &Server, kind: Kind) -> u64 {
    let counters = server.stats().snapshot().counters;
    match kind {
        Kind::Client => counters.slow_clients,
        Kind::Route => counters.slow_routes,
    }
}

#[test]
fn whoever_takes_something_is_given_more_time_if_so_configured() {
    let takes_something = |kind| {
        let server = server(LONG_DEADLINE);
        let (mut stuck, waiting) = stuck(&server, kind);
        stuck.drain(waiting / 4);
        eventually("slow again", || slow(&server, kind) >= 2);
        stuck.drain(waiting - waiting / 4);
        answers(&mut stuck);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| takes_something(Kind::Client));
        takes_something(Kind::Route);
    });
}

#[test]
fn whoever_takes_nothing_is_given_more_time_once() {
    for kind in [Kind::Client, Kind::Route] {
        let server = server(DEADLINE);
        let _stuck = stuck(&server, kind);
        eventually("cut", || is_alone(&server, kind));
        assert_eq!(slow(&server, kind), 2, "{kind:?}");
    }
}

#[test]
fn nobody_is_given_more_time_if_so_configured() {
    for kind in [Kind::Client, Kind::Route] {
        let mut server = server(DEADLINE);
        server.reload(|config| {
            config.retry_writes = false;
            config.cluster.as_mut().unwrap().retry_writes = false;
        });
        let _stuck = stuck(&server, kind);
        eventually("cut", || is_alone(&server, kind));
        assert_eq!(slow(&server, kind), 1, "{kind:?}");
    }
}

/// Whoever was stuck is gone.
fn is_alone(server: &Server, kind: Kind) -> bool {
    let counters = server.stats().snapshot().counters;
    match kind {
        Kind::Client => server.closed().iter().any(|one| {
            let closed = one.closed.as_ref();
            closed.is_some_and(|end| end.reason == "Slow Consumer (Write Deadline)")
        }),
        Kind::Route => counters.routes == 0,
    }
}
