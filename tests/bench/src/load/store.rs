//! Streaming on a durable store. Passes last for a time and not for an amount: parties differ by a factor of a hundred,
//! and every one of them is to be measured for as long.

pub(crate) mod first_ack;
pub(crate) mod one_in_flight;
pub(crate) mod open_loop;
pub(crate) mod publish;
pub(crate) mod replay;

use std::time::Duration;

use crate::figures::{Quantity, Sample, percentile};
use crate::server::Server;
use crate::usage::{self, Usage};

/// A pass that is not measured comes before: this part of the length of the one that is.
const WARM_UP: f64 = 0.25;

fn warm_up(length: Duration) -> Duration {
    length.mul_f64(WARM_UP)
}

/// What was used while the server worked on `messages`, its database beside it.
fn sample(server: &Server, database: u32, messages: u64, usage: &Usage) -> anyhow::Result<Sample> {
    let mut sample = super::sample(server, messages, messages, usage)?;
    set_database(&mut sample, database, usage)?;
    Ok(sample)
}

/// The same where the load itself uses the database.
///
/// # Errors
/// When the database has ended.
pub(crate) fn bare_sample(database: u32, messages: u64, usage: &Usage) -> anyhow::Result<Sample> {
    let mut sample = super::bare_sample(usage);
    let rate = messages as f64 / usage.took.as_secs_f64();
    sample.set(Quantity::Rate, rate);
    sample.set(Quantity::LoadCpuSeconds, usage.load_cpu_seconds);
    set_database(&mut sample, database, usage)?;
    Ok(sample)
}

fn set_database(sample: &mut Sample, database: u32, usage: &Usage) -> anyhow::Result<()> {
    sample.set(Quantity::DatabaseCpuSeconds, usage.database_cpu_seconds);
    let memory = usage::family_memory(database)? as f64;
    sample.set(Quantity::DatabaseMemory, memory);
    Ok(())
}

/// Percentiles of what each of at least one message took, in seconds.
pub(crate) fn set_latency(sample: &mut Sample, mut took: Vec<f64>) {
    took.sort_by(f64::total_cmp);
    sample.set(Quantity::P50, percentile(&took, 0.5));
    sample.set(Quantity::P99, percentile(&took, 0.99));
    sample.set(Quantity::P999, percentile(&took, 0.999));
}
