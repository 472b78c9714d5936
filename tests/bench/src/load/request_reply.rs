//! One request in flight between two connections.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};

use crate::client::Client;
use crate::figures::{Quantity, Sample, percentile};
use crate::server::Server;

/// Round trips of the first pass.
const FIRST: u64 = 1_000;
/// The payload is the number of the request in this many digits.
const DIGITS: usize = 16;

/// # Errors
/// When a reply is missing or belongs to another request, or the server fails otherwise.
pub(crate) fn measure(server: &Server, length: Duration) -> anyhow::Result<Sample> {
    let mut responder = Client::connect(server.address, None)?;
    responder.subscribe("service")?;
    let mut requester = Client::connect(server.address, None)?;
    requester.subscribe("inbox")?;

    let mut took = Vec::new();
    let (trips, usage) = super::measured(server, FIRST, length, |trips| {
        thread::scope(|scope| {
            let replies = scope.spawn(|| reply(&mut responder, trips));
            took = request(&mut requester, trips)?;
            replies
                .join()
                .map_err(|_| anyhow!("the responder panicked"))?
        })
    })?;
    took.sort_by(f64::total_cmp);
    let mut sample = super::sample(server, trips, trips, &usage)?;
    sample.set(Quantity::P50, percentile(&took, 0.5));
    sample.set(Quantity::P99, percentile(&took, 0.99));
    Ok(sample)
}

fn reply(client: &mut Client, count: u64) -> anyhow::Result<()> {
    let mut answer = Vec::new();
    for _ in 0..count {
        answer.clear();
        answer.extend_from_slice(format!("PUB inbox {DIGITS}\r\n").as_bytes());
        answer.extend_from_slice(client.payload()?);
        answer.extend_from_slice(b"\r\n");
        client.send(&answer)?;
    }
    Ok(())
}

/// Seconds that each round trip took.
fn request(client: &mut Client, count: u64) -> anyhow::Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count as usize);
    for number in 0..count {
        let request = format!("PUB service inbox {DIGITS}\r\n{number:0DIGITS$}\r\n");
        let (_, payload) = request.split_once("\r\n").expect("two lines were written");
        let began = Instant::now();
        client.send(request.as_bytes())?;
        let reply = client.payload()?;
        took.push(began.elapsed().as_secs_f64());
        ensure!(
            reply == payload.trim_end().as_bytes(),
            "the reply to request {number} says {:?}",
            String::from_utf8_lossy(reply)
        );
    }
    Ok(took)
}
