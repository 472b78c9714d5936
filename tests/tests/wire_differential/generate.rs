//! Sessions made from a number: the same number gives the same session.
//!
//! What the reference leaves to chance is avoided here: no two members in a queue group, and no two
//! subscriptions of one connection that match a reply subject which might be answered with "no responders".

use broker_proto::subject;
use fastrand::Rng;

use crate::{
    profiles::{OPEN, Profile},
    session::{Op, PREFIX, Session, Turn},
    words::{self, Words},
};

/// One of so many sessions listens to everything and therefore runs alone.
const ALONE: usize = 64;

/// A session of a profile.
pub(crate) fn session(profile: &Profile, number: u64) -> Session {
    let mut rng = Rng::with_seed(number);
    let alone = profile.name == OPEN.name && rng.usize(..ALONE) == 0;
    let connections = [1, 1, 2, 2, 3][rng.usize(..5)];
    let mut generator = Generator {
        profile,
        words: Words::new(rng, if alone { b"" } else { PREFIX }),
        connections: vec![Connection::default(); connections],
        groups: 0,
        messages: 0,
    };
    let turns = generator.turns();
    Session {
        connections,
        turns,
        alone,
    }
}

struct Generator<'a> {
    profile: &'a Profile,
    words: Words,
    connections: Vec<Connection>,
    groups: u32,
    messages: u32,
}

/// What the generator remembers of a connection.
#[derive(Clone, Default)]
struct Connection {
    over: bool,
    greeted: bool,
    headers: bool,
    no_responders: bool,
    /// Every filter it ever asked for.
    filters: Vec<Vec<u8>>,
    sids: Vec<Vec<u8>>,
}

impl Generator<'_> {
    fn turns(&mut self) -> Vec<Turn> {
        let count = self.words.rng.usize(2..=5 + 2 * self.connections.len());
        let mut turns = Vec::new();
        // Everybody introduces himself, nearly always.
        for connection in 0..self.connections.len() {
            if self.words.one_in(12) {
                continue;
            }
            let mut ops = vec![self.connect(connection)];
            if self.words.one_in(2) {
                ops.push(self.subscribe(connection));
            }
            turns.push(self.turn(connection, ops, false));
        }
        for _ in 0..count {
            let connection = self.words.rng.usize(..self.connections.len());
            if self.connections[connection].over {
                continue;
            }
            let few = self.words.rng.usize(1..=4);
            let mut ops: Vec<Op> = (0..few).map(|_| self.operation(connection)).collect();
            let last = self.words.one_in(6);
            if last && self.words.one_in(2) {
                ops.push(self.broken(connection));
            } else if !last && self.words.one_in(14) {
                ops.push(self.fatal(connection));
            }
            turns.push(self.turn(connection, ops, last));
        }
        turns
    }

    fn turn(&mut self, connection: usize, ops: Vec<Op>, last: bool) -> Turn {
        self.connections[connection].over |= last;
        let length: usize = ops.iter().map(|op| op.bytes.len()).sum::<usize>() + 6;
        let cuts = match self.words.rng.usize(..8) {
            0 if length < 400 => (1..length).collect(),
            0..=3 => (0..self.words.rng.usize(1..4))
                .map(|_| self.words.rng.usize(..length))
                .collect(),
            _ => Vec::new(),
        };
        Turn {
            connection,
            ops,
            cuts,
            last,
        }
    }

    /// Something after which the connection goes on, as far as the protocol is concerned.
    fn operation(&mut self, connection: usize) -> Op {
        match self.words.rng.usize(..100) {
            0..=39 => self.publish(connection),
            40..=49 if self.connections[connection].headers => self.publish_headers(connection),
            40..=69 => self.subscribe(connection),
            70..=79 => self.unsubscribe(connection),
            80..=84 => {
                let nothing = [
                    "PONG",
                    "+OK",
                    "+ok then",
                    "INFO {}",
                    "info {\"a\":1}",
                    "PONG 1 2",
                ];
                self.one_of(&nothing)
            }
            85..=87 => self.connect(connection),
            88..=91 => Op {
                pongs: 1,
                ..self.one_of(&["PING", "PING", "PING it"])
            },
            _ => self.publish(connection),
        }
    }

    fn one_of(&mut self, texts: &[&str]) -> Op {
        let text = words::pick(&mut self.words.rng, texts);
        Op::new(self.words.line(&[text.as_bytes()]))
    }

    fn connect(&mut self, connection: usize) -> Op {
        let mut fields = Vec::new();
        let state = &mut self.connections[connection];
        let again = state.greeted;
        let rng = &mut self.words.rng;
        let mut flag = |name: &str, given_in_10: usize, true_in_10: usize| {
            (rng.usize(..10) < given_in_10).then(|| {
                let value = rng.usize(..10) < true_in_10;
                fields.push(format!("{name:?}:{value}"));
                value
            })
        };
        flag("verbose", 9, 2);
        flag("pedantic", 9, 2);
        flag("echo", 3, 4);
        let headers = flag("headers", 8, 9);
        let no_responders = headers == Some(true) && flag("no_responders", 6, 9) == Some(true);
        state.headers = headers.unwrap_or(state.headers && again);
        state.no_responders = no_responders || (state.no_responders && again);
        state.greeted = true;
        if rng.usize(..3) > 0 {
            fields.push(format!("\"protocol\":{}", rng.usize(..2)));
        }
        if rng.usize(..4) == 0 {
            let more = [
                r#""name":"n","lang":"rust","version":"1""#,
                r#""name":null"#,
                r#""tls_required":false,"unknown":[1,{"a":2}]"#,
                r#""VERBOSE":false"#,
            ];
            fields.push(words::pick(rng, &more).to_owned());
        }
        let login = words::pick(rng, self.profile.logins);
        if !login.is_empty() {
            fields.push(login.to_owned());
        }
        let json = format!("{{{}}}", fields.join(","));
        Op::new(self.words.line(&[b"CONNECT", json.as_bytes()]))
    }

    fn subscribe(&mut self, connection: usize) -> Op {
        let filter = self.words.filter();
        let sid = self.words.sid();
        let mut arguments: Vec<Vec<u8>> = vec![b"SUB".to_vec(), filter.clone()];
        if self.words.one_in(4) {
            arguments.push(self.group());
        }
        arguments.push(sid.clone());
        let state = &mut self.connections[connection];
        state.filters.push(filter);
        state.sids.push(sid);
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        Op::new(self.words.line(&arguments))
    }

    /// A name that nobody has yet, and none that becomes another by one wrong byte.
    fn group(&mut self) -> Vec<u8> {
        if self.words.one_in(30) {
            return b"_sys_".to_vec();
        }
        self.groups += 1;
        let letter = char::from(b'a' + u8::try_from(self.groups % 26).expect("below 26"));
        let tail = words::pick(&mut self.words.rng, &["", ".x", ".*", ".>", "\u{e9}"]);
        let name = format!(
            "{}{letter}{letter}{}{tail}",
            if self.groups.is_multiple_of(5) {
                "v1."
            } else {
                "q"
            },
            self.groups / 26
        );
        name.into_bytes()
    }

    fn unsubscribe(&mut self, connection: usize) -> Op {
        let known = &self.connections[connection].sids;
        let sid = match self.words.one_in(5) || known.is_empty() {
            true => self.words.sid(),
            false => known[self.words.rng.usize(..known.len())].clone(),
        };
        let max = [
            "",
            "",
            "0",
            "1",
            "1",
            "2",
            "3",
            "5",
            "02",
            "x",
            "-1",
            "99999999999",
        ];
        let max = words::pick(&mut self.words.rng, &max);
        let mut arguments: Vec<&[u8]> = vec![b"UNSUB", &sid];
        if !max.is_empty() {
            arguments.push(max.as_bytes());
        }
        Op::new(self.words.line(&arguments))
    }

    /// A reply subject whose answer, if there is one, can only go to one subscription.
    fn reply(&mut self, connection: usize) -> Option<Vec<u8>> {
        let state = &self.connections[connection];
        let reply = if self.words.one_in(3) {
            self.words.literal()
        } else {
            self.words.inbox()
        };
        let matching = state
            .filters
            .iter()
            .filter(|filter| subject::matches(filter, &reply));
        (!state.no_responders || matching.count() < 2).then_some(reply)
    }

    fn publish(&mut self, connection: usize) -> Op {
        let body = self.body();
        let size = self.words.number(body.len());
        let subject = self.words.literal();
        let reply = self
            .words
            .one_in(3)
            .then(|| self.reply(connection))
            .flatten();
        let mut arguments: Vec<&[u8]> = vec![b"PUB", &subject];
        arguments.extend(reply.as_deref());
        arguments.push(&size);
        Op::new([self.words.line(&arguments), body, b"\r\n".to_vec()].concat())
    }

    fn publish_headers(&mut self, connection: usize) -> Op {
        let blocks: [&[u8]; 7] = [
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0\r\nA: b\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 100 Idle\r\nX:y\r\nX: \r\n\r\n",
            b"",
            b"no header at all",
            b"\r\n\x00\xff",
        ];
        let block = words::pick(&mut self.words.rng, &blocks).to_vec();
        let body = [block.clone(), self.body()].concat();
        let header_size = self.words.number(block.len());
        let size = self.words.number(body.len());
        let subject = self.words.literal();
        let reply = self
            .words
            .one_in(3)
            .then(|| self.reply(connection))
            .flatten();
        let mut arguments: Vec<&[u8]> = vec![b"HPUB", &subject];
        arguments.extend(reply.as_deref());
        arguments.extend([&*header_size, &*size]);
        Op::new([self.words.line(&arguments), body, b"\r\n".to_vec()].concat())
    }

    /// No two alike, except the empty ones.
    fn body(&mut self) -> Vec<u8> {
        self.messages += 1;
        let number = self.messages;
        match self.words.rng.usize(..20) {
            0 | 1 => Vec::new(),
            2 => format!("{number}\r\nPING\r\nPUB a 1\r\nx").into_bytes(),
            3 => format!("{number}\0\u{ff}\r").into_bytes(),
            4 => words::filled(number, self.words.rng.usize(100..500)),
            5 => words::filled(number, crate::profiles::MAX_PAYLOAD - 40),
            _ => format!("m{number}").into_bytes(),
        }
    }

    /// Something that ends the connection, whole.
    fn fatal(&mut self, connection: usize) -> Op {
        let own = words::fatal(&mut self.words);
        let state = &self.connections[connection];
        // Without headers this is one more fatal thing.
        if self.words.one_in(8) && state.greeted && !state.headers {
            return Op::new("HPUB x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        }
        Op::new(own)
    }

    /// Something that may be understood in any way; only in a last turn.
    fn broken(&mut self, connection: usize) -> Op {
        let whole = match self.words.rng.usize(..6) {
            0 => return Op::new(self.words.noise()),
            1 => self.fatal(connection),
            2 => self.connect(connection),
            _ => self.operation(connection),
        };
        Op::new(self.words.damage(whole.bytes))
    }
}
