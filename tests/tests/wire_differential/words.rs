//! The small things that sessions consist of: subjects, sizes, blanks, and damage.

use fastrand::Rng;

use crate::{
    profiles::{MAX_CONTROL_LINE, MAX_PAYLOAD},
    session::{PREFIX, find},
};

/// One of several.
pub(crate) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// A body of some size that begins with its number.
pub(crate) fn filled(number: u32, bytes: usize) -> Vec<u8> {
    let mut body = format!("m{number} ").into_bytes();
    body.resize(bytes.max(body.len()), b'x');
    body
}

/// A source of words.
pub(crate) struct Words {
    pub(crate) rng: Rng,
    /// First token of every subject; none in a session that is alone.
    prefix: &'static [u8],
}

impl Words {
    pub(crate) fn new(rng: Rng, prefix: &'static [u8]) -> Self {
        Self { rng, prefix }
    }

    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.rng.usize(..many) == 0
    }

    fn blank(&mut self) -> &'static [u8] {
        match self.rng.usize(..24) {
            0 => b"\t",
            1 => b"  ",
            2 => b" \t ",
            _ => b" ",
        }
    }

    /// A control line of a verb and its arguments.
    pub(crate) fn line(&mut self, arguments: &[&[u8]]) -> Vec<u8> {
        let mut line = Vec::new();
        for (place, argument) in arguments.iter().enumerate() {
            if place > 0 {
                line.extend_from_slice(self.blank());
            }
            line.extend_from_slice(argument);
        }
        if self.one_in(10) {
            let verb = line.iter().take_while(|byte| byte.is_ascii_uppercase());
            let verb = verb.count();
            let mixed = self.one_in(2);
            for byte in &mut line[..verb] {
                if !mixed || self.rng.bool() {
                    byte.make_ascii_lowercase();
                }
            }
        }
        let end: &[u8] = match self.rng.usize(..24) {
            0 => b"\n",
            1 => b" \r\n",
            2 => b"\t\r\n",
            3 => b"  \n",
            _ => b"\r\n",
        };
        line.extend_from_slice(end);
        line
    }

    /// Digits for a size, now and then with zeros before.
    pub(crate) fn number(&mut self, number: usize) -> Vec<u8> {
        let zeros = match self.rng.usize(..12) {
            0 => self.rng.usize(1..6),
            _ => 0,
        };
        format!("{}{number}", "0".repeat(zeros)).into_bytes()
    }

    pub(crate) fn sid(&mut self) -> Vec<u8> {
        let sids = [
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "12",
            "007",
            "x",
            "abc-1",
            "\u{e9}",
            "1.2",
            "*",
            "123456789012345678901",
        ];
        pick(&mut self.rng, &sids).as_bytes().to_vec()
    }

    fn subject(&mut self, tokens: &[&str], rare: &[&str]) -> Vec<u8> {
        let mut subject = self.prefix.to_vec();
        let count = [1, 1, 1, 2, 2, 3, 4][self.rng.usize(..7)];
        for place in 0..count {
            if place > 0 || !subject.is_empty() {
                subject.push(b'.');
            }
            let from = if self.one_in(25) { rare } else { tokens };
            subject.extend_from_slice(pick(&mut self.rng, from).as_bytes());
        }
        subject
    }

    /// Something to publish to; rarely none that is right.
    pub(crate) fn literal(&mut self) -> Vec<u8> {
        let rare = [
            "",
            "*",
            ">",
            "foo*",
            "f>o",
            "A",
            "\u{e9}",
            "\u{1}",
            "\"q\"",
            "\\",
            "\u{7f}",
            "'",
            "\u{200b}",
            "*b",
            "#{}",
            "\u{0}",
            "\u{1f980}",
            "-",
            "$SYS",
            "\u{ad}",
        ];
        if self.one_in(60) {
            let reserved: [&[u8]; 4] = [b"_GR_.x", b"$NRG.x", b"_GR_", b"$NRG"];
            return pick(&mut self.rng, &reserved).to_vec();
        }
        if self.one_in(80) {
            return self.long();
        }
        let mut subject = self.subject(&["a", "b", "c"], &rare);
        if self.one_in(100) {
            // No UTF-8.
            subject.extend_from_slice(b"\xff\xc3");
        }
        subject
    }

    /// Something to subscribe to; rarely none that is right.
    pub(crate) fn filter(&mut self) -> Vec<u8> {
        let rare = [
            "",
            ">",
            "foo*",
            "*",
            "f>o",
            "\u{e9}",
            "\u{1}",
            "\"q\"",
            "\\",
            "\u{7f}",
            "\u{200b}",
            "*b",
            ">.",
            "\u{1f980}",
        ];
        match self.rng.usize(..12) {
            0 => [&self.subject(&["a", "b", "c", "*"], &rare), &b".>"[..]].concat(),
            1 => self.inbox(),
            2 if !self.prefix.is_empty() => [self.prefix, b"._r.*"].concat(),
            3 if self.one_in(6) => self.long(),
            _ => self.subject(&["a", "b", "c", "a", "b", "c", "*"], &rare),
        }
    }

    /// As long as a control line can be, or one or two longer.
    fn long(&mut self) -> Vec<u8> {
        let mut subject = [self.prefix, b".long."].concat();
        let room = MAX_CONTROL_LINE - self.rng.usize(..6);
        subject.resize(room, b'l');
        subject
    }

    pub(crate) fn inbox(&mut self) -> Vec<u8> {
        let reserved: [&[u8]; 6] = [
            b"_R_.x",
            b"$JS.ACK.x",
            b"_GR_.x",
            b"_R_",
            b"$JS.ACK",
            b"$NRG.x",
        ];
        if self.one_in(40) {
            return pick(&mut self.rng, &reserved).to_vec();
        }
        let number = self.rng.usize(..4);
        if self.one_in(5) {
            return [b"_INBOX.", self.prefix, b".", number.to_string().as_bytes()].concat();
        }
        [self.prefix, b"._r.", number.to_string().as_bytes()].concat()
    }

    /// Bytes that mean nothing, or the beginning of something.
    pub(crate) fn noise(&mut self) -> Vec<u8> {
        let starts: [&[u8]; 12] = [
            b"CONNECT {\"verbose\":false}\r\n",
            b"PUB x 2\r\nhi\r\n",
            b"HPUB x 2 2\r\nhi\r\n",
            b"SUB x 1\r\n",
            b"UNSUB 1\r\n",
            b"PING\r\n",
            b"PONG\r\n",
            b"+OK\r\n",
            b"-ERR 'x'\r\n",
            b"INFO {}\r\n",
            b"MSG x 1 2\r\nhi\r\n",
            b"HMSG x 1 2 2\r\nhi\r\n",
        ];
        if self.one_in(3) {
            let length = self.rng.usize(1..40);
            return (0..length).map(|_| self.rng.u8(..)).collect();
        }
        let start = pick(&mut self.rng, &starts);
        let mut noise = start[..self.rng.usize(1..=start.len())].to_vec();
        let tails: [&[u8]; 7] = [b"", b"", b"\r", b"\n", b"\r\n", b"\r\r\n", b"Z\r\n"];
        noise.extend_from_slice(pick(&mut self.rng, &tails));
        noise
    }

    /// One wrong byte, or an end too soon. The session's prefix stays whole: without it the session would meet
    /// others.
    pub(crate) fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let prefix = find(&bytes, PREFIX);
        let place = self.rng.usize(..bytes.len());
        if prefix.is_some_and(|start| (start..=start + PREFIX.len()).contains(&place)) {
            return bytes;
        }
        let interesting = b" \t\r\n.*>0123456789-+'\"{}\x00\xffPSaz";
        let byte = pick(&mut self.rng, interesting);
        match self.rng.usize(..6) {
            0 => bytes.truncate(place),
            1 => drop(bytes.remove(place)),
            2 => bytes.insert(place, byte),
            3 => bytes[place] = byte,
            4 => bytes[place] = self.rng.u8(..),
            _ => bytes.insert(place, bytes[place]),
        }
        bytes
    }
}

/// Whole operations after which the server closes, with or without a word.
pub(crate) fn fatal(words: &mut Words) -> Vec<u8> {
    let large = format!("PUB x {}\r\n", MAX_PAYLOAD + 1);
    let large_headers = format!("HPUB x 1 {}\r\n", MAX_PAYLOAD + 1);
    let long = format!("PUB {} 1\r\nx\r\n", "l".repeat(MAX_CONTROL_LINE));
    let long_connect = format!(
        "CONNECT {{\"name\":\"{}\"}}\r\n",
        "n".repeat(MAX_CONTROL_LINE)
    );
    let long_info = format!("INFO {{\"name\":\"{}\"}}\r\n", "n".repeat(MAX_CONTROL_LINE));
    let long_verb = "P".repeat(MAX_CONTROL_LINE + 20);
    let all: [&str; 70] = [
        "\r\n",
        "\n",
        " \r\n",
        "ZZZ\r\n",
        "PUBS x 1\r\nx\r\n",
        "SUBZZZ x 1\r\n",
        "PUB\r\n",
        "PUB \r\n",
        "SUB\r\n",
        "SUB \r\n",
        "UNSUB\r\n",
        "UNSUB \r\n",
        "UNSUB 1 2 3\r\n",
        "SUB x\r\n",
        "SUB x q 1 2\r\n",
        "PUB x\r\n",
        "PUB x r s 1\r\nx\r\n",
        "PUB x -1\r\n",
        "PUB x +1\r\n",
        "PUB x 1x\r\n",
        "PUB x 0x1\r\n",
        "PUB x 1234567890\r\n",
        "PUB x 2147483648\r\n",
        "PUB x 9223372036854775808\r\n",
        "PUB x 999999999\r\n",
        "PUB x 2\r\nhiho\r\n",
        "PUB x 2\r\nhi\n\n",
        "PUB x 2\r\nhi\rx",
        "MSG x 1 2\r\nhi\r\n",
        "HMSG x 1 2 2\r\nhi\r\n",
        "RS+ $G x\r\n",
        "LS+ x\r\n",
        "RS- x\r\n",
        "A+ x\r\n",
        "A- x\r\n",
        "RMSG $G x 2\r\nhi\r\n",
        "LMSG x 2\r\nhi\r\n",
        "-ERR 'enough'\r\n",
        "-ERR\r\n",
        "-err x\r\n",
        "CONNECT\r\n",
        "CONNECT \r\n",
        "CONNECT {\r\n",
        "CONNECT []\r\n",
        "CONNECT null\r\n",
        "CONNECT 1\r\n",
        "CONNECT {\"verbose\":1}\r\n",
        "CONNECT {\"protocol\":2}\r\n",
        "CONNECT {\"protocol\":-1}\r\n",
        "CONNECT {\"protocol\":1.0}\r\n",
        "CONNECT {\"protocol\":\"1\"}\r\n",
        "CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
        "CONNECT {\"verbose\":false} x\r\n",
        "CONNECT {\"name\":1}\r\n",
        "CONNECT{\"protocol\":3}\r\n",
        "CONNECTED\r\n",
        "HPUB x 5 2\r\nhi\r\n",
        "HPUB x 2\r\nhi\r\n",
        "HPUB x a 2\r\nhi\r\n",
        "HPUB a b c 2 2\r\nhi\r\n",
        "HPUB x -1 2\r\nhi\r\n",
        "INFO {\r\n",
        "INFO x\r\n",
        "PIN\r\n",
        "+O\r\n",
        &large,
        &large_headers,
        &long,
        &long_connect,
        &long_verb,
    ];
    let extra = [
        long_info.as_str(),
        "+\r\n",
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01\x02\x00",
        "UNSUB a b c d\r\n",
    ];
    let place = words.rng.usize(..all.len() + extra.len());
    let text = all.get(place).unwrap_or_else(|| &extra[place - all.len()]);
    text.as_bytes().to_vec()
}
