//! One message in flight: how long it takes until it is stored and acknowledged.

use std::time::{Duration, Instant};

use super::publish::channel;
use crate::figures::Sample;
use crate::server::Server;
use crate::streaming::StreamingClient;
use crate::usage::Meter;

/// Every payload, bytes.
const PAYLOAD_BYTES: usize = 128;

/// # Errors
/// When the server refuses a message or falls silent.
pub(crate) fn measure(server: &Server, database: u32, length: Duration) -> anyhow::Result<Sample> {
    let mut client = StreamingClient::connect(server.address)?;
    client.publish_to(&[channel(0)], PAYLOAD_BYTES);
    client.wait(true)?;
    pass(&mut client, super::warm_up(length))?;
    let meter = Meter::with_database(Some(server.pid()), Some(database))?;
    let took = pass(&mut client, length)?;
    let usage = meter.stop()?;
    let mut sample = super::sample(server, database, took.len() as u64, &usage)?;
    super::set_latency(&mut sample, took);
    Ok(sample)
}

fn pass(client: &mut StreamingClient, length: Duration) -> anyhow::Result<Vec<f64>> {
    let (mut took, end) = (Vec::new(), Instant::now() + length);
    while took.is_empty() || Instant::now() < end {
        let began = Instant::now();
        client.publish_and_wait()?;
        took.push(began.elapsed().as_secs_f64());
    }
    client.expect_all_acknowledged()?;
    Ok(took)
}
