//! A channel that is full, read from the store from one end to the other, again and again.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{MAX_IN_FLIGHT, PAYLOAD_BYTES};
use crate::client::PATIENCE;
use crate::figures::Sample;
use crate::server::Server;
use crate::streaming::{Start, StreamingClient, turn};

const CHANNEL: &str = "bench";
/// Publications without acknowledgement while the channel is filled.
const WINDOW: u64 = 16_384;
/// Messages of the first pass.
const FIRST: u64 = 100_000;

/// Stores `kept` messages, as many as the server keeps of a channel, and reads them.
///
/// # Errors
/// When a message is lost or repeated, or the server fails otherwise.
pub(crate) fn measure(server: &Server, kept: u64, length: Duration) -> anyhow::Result<Sample> {
    let mut clients = [StreamingClient::connect(server.address)?];
    fill(&mut clients, kept)?;
    let (messages, usage) = crate::load::measured(server, FIRST, length, |messages| {
        let mut left = messages;
        while left > 0 {
            let now = left.min(kept);
            read(&mut clients, kept - now + 1, now)?;
            left -= now;
        }
        Ok(())
    })?;
    crate::load::sample(server, messages, messages, &usage)
}

fn fill(clients: &mut [StreamingClient; 1], messages: u64) -> anyhow::Result<()> {
    clients[0].publish_to(&[CHANNEL.to_owned()], PAYLOAD_BYTES);
    while clients[0].acknowledged() < messages {
        let [client] = clients;
        let room = (client.acknowledged() + WINDOW).min(messages) - client.published();
        client.publish(room);
        ensure!(turn(clients, PATIENCE)?, "nothing comes for {PATIENCE:?}");
    }
    clients[0].expect_all_acknowledged()
}

/// Subscribes at `first`, takes `count` messages and unsubscribes.
fn read(clients: &mut [StreamingClient; 1], first: u64, count: u64) -> anyhow::Result<()> {
    let at = clients[0].subscribe(CHANNEL, Start::At(first), MAX_IN_FLIGHT)?;
    let (mut delivered, mut last) = (0, Instant::now());
    while delivered < count {
        turn(clients, PATIENCE)?;
        let before = std::mem::replace(&mut delivered, clients[0].delivered(at));
        if delivered > before {
            last = Instant::now();
        }
        // Heartbeats come even if no message does.
        ensure!(
            last.elapsed() < PATIENCE,
            "{delivered} messages of {count} were delivered, and no more for {PATIENCE:?}"
        );
    }
    clients[0].unsubscribe(CHANNEL)
}
