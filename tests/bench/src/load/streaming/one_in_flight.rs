//! One message in flight: how long it takes until it is acknowledged, beside the time that two messages there and back
//! need between two sockets of this machine.

use std::time::{Duration, Instant};

use super::{PAYLOAD_BYTES, ping_pong};
use crate::figures::{Quantity, Sample, percentile};
use crate::server::Server;
use crate::streaming::StreamingClient;

/// Messages of the first pass.
const FIRST: u64 = 1_000;

/// # Errors
/// When the server refuses a message or falls silent.
pub(crate) fn measure(server: &Server, length: Duration) -> anyhow::Result<Sample> {
    let mut client = StreamingClient::connect(server.address)?;
    client.publish_to(&["bench".to_owned()], PAYLOAD_BYTES);
    client.wait(true)?;

    let mut took = Vec::new();
    let (messages, usage) = crate::load::measured(server, FIRST, length, |messages| {
        took.clear();
        for _ in 0..messages {
            let began = Instant::now();
            client.publish_and_wait()?;
            took.push(began.elapsed().as_secs_f64());
        }
        client.expect_all_acknowledged()
    })?;
    took.sort_by(f64::total_cmp);
    let floor = 2.0 * ping_pong::median_seconds(length / 4)?;

    let mut sample = crate::load::sample(server, messages, messages, &usage)?;
    let p50 = percentile(&took, 0.5);
    sample.set(Quantity::P50, p50);
    sample.set(Quantity::P99, percentile(&took, 0.99));
    sample.set(Quantity::PingPongs, floor);
    sample.set(Quantity::OfPingPongs, p50 / floor);
    Ok(sample)
}
