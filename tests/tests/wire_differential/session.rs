//! What one session sends: turns of its connections, each a row of operations cut at some places.

use std::fmt;

/// Cuts that are shown one by one.
const MANY: usize = 8;

/// Stands for the first token of a session's subjects. Sessions that run at the same time have different ones
/// of this length, so sizes and texts do not depend on it.
pub(crate) const PREFIX: &[u8] = b"@@@@@@@@";

/// Bytes that belong together, right or wrong.
#[derive(Clone)]
pub(crate) struct Op {
    pub(crate) bytes: Vec<u8>,
    /// Answers that let the sender know how far the server has read.
    pub(crate) pongs: usize,
}

impl Op {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            pongs: 0,
        }
    }
}

/// What a connection sends while the others wait.
#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) connection: usize,
    pub(crate) ops: Vec<Op>,
    /// Where the bytes are cut into writes; places behind their end mean nothing.
    pub(crate) cuts: Vec<usize>,
    /// Nothing comes after it: the server reads the end, whatever it made of the operations.
    pub(crate) last: bool,
}

impl Turn {
    /// The writes of this turn, with the session's own prefix.
    pub(crate) fn pieces(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes: Vec<u8> = self.ops.iter().flat_map(|op| op.bytes.clone()).collect();
        if !self.last {
            bytes.extend_from_slice(b"PING\r\n");
        }
        replace(&mut bytes, PREFIX, prefix);
        let mut cuts = self.cuts.clone();
        cuts.retain(|&cut| cut > 0 && cut < bytes.len());
        cuts.sort_unstable();
        cuts.dedup();
        cuts.push(bytes.len());
        let mut start = 0;
        let pieces = cuts.into_iter().map(|cut| {
            let piece = bytes[start..cut].to_vec();
            start = cut;
            piece
        });
        pieces.collect()
    }

    /// `PONG`s that this turn gets if nothing ends the connection.
    pub(crate) fn pongs(&self) -> usize {
        self.ops.iter().map(|op| op.pongs).sum::<usize>() + usize::from(!self.last)
    }
}

/// Some connections and their turns.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) connections: usize,
    pub(crate) turns: Vec<Turn>,
    /// Listens to subjects of others, so it must be alone on its server.
    pub(crate) alone: bool,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} connections", self.connections)?;
        for turn in &self.turns {
            let end = if turn.last { ", then the end" } else { "" };
            writeln!(f, "  connection {}{end}:", turn.connection)?;
            for op in &turn.ops {
                writeln!(f, "    {}", op.bytes.escape_ascii())?;
            }
            match turn.cuts.len() {
                0 => {}
                1..=MANY => writeln!(f, "    cut at {:?}", turn.cuts)?,
                _ => writeln!(f, "    cut everywhere")?,
            }
        }
        Ok(())
    }
}

/// Puts `new` where `old` is; both have one length.
pub(crate) fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], old) {
        at += found;
        bytes[at..at + new.len()].copy_from_slice(new);
        at += new.len();
    }
}

/// Where `wanted` begins.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
