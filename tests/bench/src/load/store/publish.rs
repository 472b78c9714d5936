//! Publishers that keep as many messages in flight as they may, for a time.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::client::PATIENCE;
use crate::figures::Sample;
use crate::server::Server;
use crate::streaming::{StreamingClient, turn};
use crate::usage::Meter;

/// Who publishes what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish {
    pub(crate) publishers: usize,
    /// Every publisher goes over all of them by turns.
    pub(crate) channels: usize,
    /// Publications of each publisher without acknowledgement.
    pub(crate) in_flight: u64,
    pub(crate) payload_bytes: usize,
}

/// # Errors
/// When a message is lost or refused, or nothing comes for long.
pub(crate) fn measure(
    server: &Server,
    database: u32,
    publish: Publish,
    length: Duration,
) -> anyhow::Result<Sample> {
    let channels: Vec<String> = (0..publish.channels).map(channel).collect();
    let mut clients = (0..publish.publishers)
        .map(|_| StreamingClient::connect(server.address))
        .collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.publish_to(&channels, publish.payload_bytes);
    }
    pass(&mut clients, publish.in_flight, super::warm_up(length))?;
    let meter = Meter::with_database(Some(server.pid()), Some(database))?;
    let messages = pass(&mut clients, publish.in_flight, length)?;
    super::sample(server, database, messages, &meter.stop()?)
}

/// Name of a channel.
pub(crate) fn channel(number: usize) -> String {
    format!("bench.{number:06}")
}

/// Publishes for `length` and waits for what is in flight then; how many messages it was.
fn pass(clients: &mut [StreamingClient], in_flight: u64, length: Duration) -> anyhow::Result<u64> {
    let before = acknowledged(clients);
    let end = Instant::now() + length;
    loop {
        let open = Instant::now() < end;
        for client in clients.iter_mut().filter(|_| open) {
            client.publish_up_to(client.acknowledged() + in_flight)?;
        }
        let all = clients
            .iter()
            .all(|client| client.acknowledged() == client.published());
        if !open && all {
            break;
        }
        ensure!(turn(clients, PATIENCE)?, "nothing comes for {PATIENCE:?}");
    }
    for client in clients.iter() {
        client.expect_all_acknowledged()?;
    }
    Ok(acknowledged(clients) - before)
}

fn acknowledged(clients: &[StreamingClient]) -> u64 {
    clients.iter().map(StreamingClient::acknowledged).sum()
}
