//! Messages at moments that were fixed before, whatever the server does: a server that falls behind does not slow down
//! what it is asked. Latencies count from the fixed moment.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::publish::channel;
use crate::client::PATIENCE;
use crate::figures::Sample;
use crate::server::Server;
use crate::streaming::{StreamingClient, turn};
use crate::usage::Meter;

/// Every payload, bytes.
const PAYLOAD_BYTES: usize = 128;
/// Messages of so much time are published together.
const TICK: Duration = Duration::from_micros(200);

/// # Errors
/// When the server refuses a message or falls silent.
pub(crate) fn measure(
    server: &Server,
    database: u32,
    a_tick: u64,
    length: Duration,
) -> anyhow::Result<Sample> {
    let mut client = StreamingClient::connect(server.address)?;
    client.publish_to(&[channel(0)], PAYLOAD_BYTES);
    client.take_order();
    pass(&mut client, a_tick, super::warm_up(length))?;
    let meter = Meter::with_database(Some(server.pid()), Some(database))?;
    let took = pass(&mut client, a_tick, length)?;
    let usage = meter.stop()?;
    let mut sample = super::sample(server, database, took.len() as u64, &usage)?;
    super::set_latency(&mut sample, took);
    Ok(sample)
}

/// Seconds that each message took.
fn pass(client: &mut StreamingClient, a_tick: u64, length: Duration) -> anyhow::Result<Vec<f64>> {
    let (first, began) = (client.published(), Instant::now());
    let last_tick = (length.as_micros() / TICK.as_micros()) as u64;
    let end = first + last_tick * a_tick;
    let mut took = Vec::new();
    while client.acknowledged() < end {
        let elapsed = began.elapsed();
        let tick = (elapsed.as_micros() / TICK.as_micros()) as u64 + 1;
        let due = first + tick.min(last_tick) * a_tick;
        client.publish_up_to(due)?;
        let patience = match tick >= last_tick {
            true => PATIENCE,
            false => (TICK * tick as u32).saturating_sub(elapsed),
        };
        let news = turn(std::slice::from_mut(client), patience)?;
        ensure!(
            news || patience < PATIENCE,
            "nothing comes for {PATIENCE:?}"
        );
        let now = began.elapsed().as_secs_f64();
        took.extend(client.take_order().into_iter().map(|number| {
            let tick = (number - first) / a_tick;
            now - tick as f64 * TICK.as_secs_f64()
        }));
    }
    client.expect_all_acknowledged()?;
    Ok(took)
}

/// Messages of a tick, so many a second.
pub(crate) const fn a_tick(rate: u64) -> u64 {
    rate * TICK.as_micros() as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_divide_a_second() {
        assert_eq!(a_tick(5_000), 1);
        assert_eq!(a_tick(50_000), 10);
    }
}
