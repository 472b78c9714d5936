//! Many clients at once that do everything in any order and leave without a word.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::{Server, eventually};

const CLIENTS: u64 = 6;
const STEPS: usize = 10_000;

/// A fixed sequence for a seed (an LCG; its high bits are good enough here).
struct Choice(u64);

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn subject(&mut self) -> String {
        let tokens = ["a", "b", "c", "*", ">"];
        match self.below(4) {
            0 => tokens[self.below(5) as usize].into(),
            1 => format!("_INBOX.{}", self.below(50)),
            _ => format!(
                "{}.{}",
                tokens[self.below(4) as usize],
                tokens[self.below(5) as usize]
            ),
        }
    }

    fn step(&mut self) -> Vec<u8> {
        let (sid, subject) = (self.below(20), self.subject());
        match self.below(20) {
            0..=4 => format!("SUB {subject} {sid}\r\n"),
            5 => format!("SUB {subject} q{} {sid}\r\n", self.below(2)),
            6 => format!("UNSUB {sid}\r\n"),
            7 | 8 => format!("UNSUB {sid} {}\r\n", self.below(10)),
            9 => "PING\r\n".into(),
            10 => format!("HPUB {subject} a 3 5\r\nhhhpp\r\n"),
            11 => format!("PUB {subject} 40000\r\n{}\r\n", "x".repeat(40_000)),
            12 => format!("PUB  {subject} _INBOX.{} 1\r\nx\r\n", self.below(50)),
            _ => format!("PUB {subject} b.a 2\r\nhi\r\n").repeat(1 + self.below(30) as usize),
        }
        .into_bytes()
    }
}

/// A client that reads some of the time; `None` once the server had enough of it.
fn act(socket: &mut TcpStream, choice: &mut Choice, buffer: &mut [u8]) -> Option<()> {
    let step = choice.step();
    let mut rest = step.as_slice();
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // Nobody who only writes gets anywhere.
                read_some(socket, buffer)?;
                std::thread::yield_now();
            }
            Err(_) => return None,
        }
    }
    if choice.below(4) > 0 {
        read_some(socket, buffer)
    } else {
        Some(())
    }
}

fn read_some(socket: &mut TcpStream, buffer: &mut [u8]) -> Option<()> {
    match socket.read(buffer) {
        Ok(0) => None,
        Ok(_) => Some(()),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(()),
        Err(_) => None,
    }
}

fn misbehave(server: &Server, seed: u64) {
    let mut choice = Choice(seed);
    let mut buffer = vec![0; 1 << 18];
    let mut steps = 0;
    while steps < STEPS {
        let mut socket = server.modern_client().socket;
        socket.set_nonblocking(true).unwrap();
        let stay = 20 + choice.below(200);
        for _ in 0..stay {
            steps += 1;
            if act(&mut socket, &mut choice, &mut buffer).is_none() {
                break;
            }
        }
        if choice.below(2) == 0 {
            // In the middle of a message.
            let _ = socket.write(b"PUB a 100\r\nhalf of");
        }
    }
}

#[test]
fn nothing_is_left_behind_and_the_core_goes_on() {
    // Small enough that some clients are cut.
    let server = Server::with(|config| config.max_pending = 2 << 20);
    std::thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || misbehave(server, seed));
        }
    });
    eventually("all connections gone", || {
        server.stats().snapshot().counters.connections == 0
    });
    assert_eq!(server.stats().snapshot().subscriptions, 0);
    let (mut one, mut other) = (server.client(), server.client());
    one.send("SUB a 1\r\n");
    one.sync();
    other.send("PUB a 2\r\nhi\r\n");
    one.expect("MSG a 1 2\r\nhi\r\n");
}
