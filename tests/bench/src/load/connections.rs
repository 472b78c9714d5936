//! Connections themselves: how fast they come one after another, and what idle ones cost.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::client::Client;
use crate::figures::{Quantity, Sample};
use crate::server::Server;
use crate::tls::Tls;
use crate::usage::{self, Memory, Meter};

/// Connections of the first pass.
const FIRST: u64 = 100;
/// Memory has settled when it was the same so often, so long apart: Go returns pages late.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// Some servers never settle; then the last value counts.
const SETTLING: Duration = Duration::from_secs(5);

/// One after another: connect, handshake, PING and PONG, close.
///
/// # Errors
/// When the server refuses one.
pub(crate) fn measure_rate(
    server: &Server,
    tls: Option<&Tls>,
    length: Duration,
) -> anyhow::Result<Sample> {
    let (connections, usage) = super::measured(server, FIRST, length, |connections| {
        for _ in 0..connections {
            Client::connect(server.address, tls)?;
        }
        Ok(())
    })?;
    super::sample(server, connections, connections, &usage)
}

/// Opens `connections` with a subscription each, and looks at the server's memory before and after.
///
/// # Errors
/// When the server refuses one, or closes one while it is idle.
pub(crate) fn measure_idle(
    server: &Server,
    connections: usize,
    tls: Option<&Tls>,
) -> anyhow::Result<Sample> {
    let before = settled(server)?;
    let meter = Meter::start(Some(server.pid()))?;
    let mut clients = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut client = Client::connect(server.address, tls)?;
        client.subscribe(&format!("idle.{number}"))?;
        clients.push(client);
    }
    let usage = meter.stop()?;
    let after = settled(server)?;
    for client in &mut clients {
        client.ping()?;
    }

    // No rate and no processor time: opening them is over too soon to be counted in ticks.
    let mut sample = super::bare_sample(&usage);
    let added = after.resident.saturating_sub(before.resident) as f64;
    sample.set(Quantity::PerConnection, added / connections as f64);
    sample.set(Quantity::IdleMemory, before.resident as f64);
    super::set_memory(&mut sample, after);
    Ok(sample)
}

/// Memory of the server when it does not change any more.
///
/// # Errors
/// When the server has ended.
pub(super) fn settled(server: &Server) -> anyhow::Result<Memory> {
    let deadline = Instant::now() + SETTLING;
    let (mut last, mut same) = (usage::memory(server.pid())?, 0);
    while same < LOOKS && Instant::now() < deadline {
        std::thread::sleep(BETWEEN_LOOKS);
        let memory = usage::memory(server.pid())?;
        same = if memory == last { same + 1 } else { 0 };
        last = memory;
    }
    if last.resident == 0 {
        bail!("the server has ended");
    }
    Ok(last)
}
