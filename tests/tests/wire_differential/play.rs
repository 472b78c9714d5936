//! Plays a session against a server and keeps what each connection got.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::Context as _;
use tests::wire::{
    dialogue::{Dialogue, State},
    frames::Frame,
};

use crate::session::Session;

/// Whatever one connection got, and how it ended.
pub(crate) type Heard = (Vec<Frame>, State);

/// Sessions get prefixes in turn: subscriptions of an earlier one may be around for a moment.
static PLAYED: AtomicU32 = AtomicU32::new(0);

/// What every session of this process puts before its subjects, for the next one.
pub(crate) fn next_prefix() -> Vec<u8> {
    format!("s{:07x}", PLAYED.fetch_add(1, Relaxed)).into_bytes()
}

/// Plays a session: one connection's turn after the other's. A turn is over when its last `PING` is
/// answered or the server has closed; by then whatever it caused is on its way.
///
/// # Errors
/// When the server does not take connections.
pub(crate) async fn play(
    port: u16,
    session: &Session,
    prefix: &[u8],
) -> anyhow::Result<Vec<Heard>> {
    let mut connections = Vec::new();
    for _ in 0..session.connections {
        let dialogue = Dialogue::begin(port).await.context("a session begins")?;
        connections.push((dialogue, 0));
    }
    for turn in &session.turns {
        let (dialogue, pongs) = &mut connections[turn.connection];
        if dialogue.state() != State::Open {
            continue;
        }
        let pieces = turn.pieces(prefix);
        dialogue.send(pieces.iter().map(Vec::as_slice)).await;
        if turn.last {
            dialogue.finish().await;
        } else {
            *pongs += turn.pongs();
            dialogue.read_to_pong(*pongs).await;
        }
    }
    let mut heard = Vec::new();
    for (mut dialogue, pongs) in connections {
        if dialogue.state() == State::Open {
            // Two, because a server may add something after the first `PONG`.
            dialogue.send([&b"PING\r\nPING\r\n"[..]].into_iter()).await;
            dialogue.read_to_pong(pongs + 2).await;
        }
        heard.push(dialogue.end());
    }
    Ok(heard)
}
