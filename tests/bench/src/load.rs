//! What is done to a server, one file a kind of load, and what they share: passes of a calibrated length.

pub(crate) mod connections;
pub(crate) mod fan;
pub(crate) mod request_reply;
pub(crate) mod start;
pub(crate) mod store;
pub(crate) mod streaming;

use std::time::Duration;

use anyhow::ensure;

use crate::figures::{Quantity, Sample};
use crate::server::Server;
use crate::usage::{self, Memory, Meter, Usage};

/// One warm-up pass each, whose figures are thrown away: caches, the scheduler and the server's buffers find their size in
/// them. The pass after it aims for this part of the full length.
const AFTER_WARM_UP: [f64; 3] = [0.25, 0.5, 1.0];

/// Amounts are rounded up to this, so that even the first pass is not empty.
const LEAST: u64 = 20;

/// Runs `pass` with growing amounts, and then once, measured, with as much as takes about `length`.
///
/// Gives the amount of that pass and what was used in it.
fn measured(
    server: &Server,
    first: u64,
    length: Duration,
    mut pass: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<(u64, Usage)> {
    let mut amount = first.max(LEAST);
    for part in AFTER_WARM_UP {
        let usage = timed(server, amount, &mut pass)?;
        amount = fitting(amount, &usage, length.mul_f64(part));
    }
    loop {
        let usage = timed(server, amount, &mut pass)?;
        // Half is long enough to be counted in ticks; less means that the warm-up was slower than the server is.
        if usage.took >= length / 2 {
            return Ok((amount, usage));
        }
        amount = fitting(amount, &usage, length);
    }
}

/// How much takes `length`, when `amount` used what it did.
fn fitting(amount: u64, usage: &Usage, length: Duration) -> u64 {
    let rate = amount as f64 / usage.took.as_secs_f64().max(1e-6);
    ((rate * length.as_secs_f64()) as u64).max(LEAST)
}

fn timed(
    server: &Server,
    amount: u64,
    pass: &mut impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Usage> {
    let meter = Meter::start(Some(server.pid()))?;
    pass(amount)?;
    meter.stop()
}

/// A sample of a pass in which `amount` things were done, which were `work` for the server.
fn sample(server: &Server, amount: u64, work: u64, usage: &Usage) -> anyhow::Result<Sample> {
    ensure!(
        usage.cpu_seconds > 0.0,
        "the server used no processor time in {:?}: the pass is too short",
        usage.took
    );
    let mut sample = bare_sample(usage);
    sample.set(Quantity::Rate, amount as f64 / usage.took.as_secs_f64());
    sample.set(Quantity::PerCpuSecond, work as f64 / usage.cpu_seconds);
    sample.set(Quantity::CpuSeconds, usage.cpu_seconds);
    sample.set(Quantity::LoadCpuSeconds, usage.load_cpu_seconds);
    set_memory(&mut sample, usage::memory(server.pid())?);
    Ok(sample)
}

/// Says only how long it took and who disturbed.
fn bare_sample(usage: &Usage) -> Sample {
    Sample {
        seconds: usage.took.as_secs_f64(),
        foreign: usage.foreign,
        ..Sample::default()
    }
}

fn set_memory(sample: &mut Sample, memory: Memory) {
    sample.set(Quantity::Memory, memory.resident as f64);
    sample.set(Quantity::ProportionalMemory, memory.proportional as f64);
}
