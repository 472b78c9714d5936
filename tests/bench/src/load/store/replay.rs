//! A stored channel, read by a durable subscription that acknowledges each message.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::publish::channel;
use crate::client::PATIENCE;
use crate::figures::Sample;
use crate::server::Server;
use crate::streaming::{Start, StreamingClient, turn};
use crate::usage::Meter;

/// Messages that real clients let a subscription have at a time, unless told otherwise.
const MAX_IN_FLIGHT: i32 = 1024;
/// Messages that are read before the pass begins.
const WARM_UP: u64 = 20_000;

/// Reads a channel of `stored` messages from its beginning, again when it has come to the end.
///
/// # Errors
/// When a message is missing or repeated, or nothing comes for long.
pub(crate) fn measure(
    server: &Server,
    database: u32,
    stored: u64,
    length: Duration,
) -> anyhow::Result<Sample> {
    let mut client = StreamingClient::connect(server.address)?;
    let first = stored.saturating_sub(WARM_UP) + 1;
    read(&mut client, first..stored + 1, None)?;
    let meter = Meter::with_database(Some(server.pid()), Some(database))?;
    let (mut messages, end) = (0, Instant::now() + length);
    while Instant::now() < end {
        messages += read(&mut client, 1..stored + 1, Some(end))?;
    }
    super::sample(server, database, messages, &meter.stop()?)
}

/// Subscribes, reads up to the end of the range or until `end`, and unsubscribes if there is nothing more to come; how
/// many messages it was.
fn read(
    client: &mut StreamingClient,
    range: std::ops::Range<u64>,
    end: Option<Instant>,
) -> anyhow::Result<u64> {
    let count = range.end - range.start;
    let start = Start::DurablyAt(range.start);
    let at = client.subscribe(&channel(0), start, MAX_IN_FLIGHT)?;
    while client.delivered(at) < count {
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(client.delivered(at));
        }
        let news = turn(std::slice::from_mut(client), PATIENCE)?;
        ensure!(news, "nothing comes for {PATIENCE:?}");
    }
    client.unsubscribe(&channel(0))?;
    Ok(count)
}
