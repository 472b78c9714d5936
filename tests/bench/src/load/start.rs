//! What a server costs before anybody asks it for something.

use std::path::Path;

use anyhow::Context;

use crate::figures::{Quantity, Sample, Spread};
use crate::server::Contender;
use crate::usage::{self, Meter};

/// Starts of a round; the median counts.
const STARTS: usize = 10;

/// # Errors
/// When the server does not start.
pub(crate) fn measure_cold(contender: &Contender, logs: &Path) -> anyhow::Result<Sample> {
    let meter = Meter::start(None)?;
    let (mut took, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let server = contender.start(None, logs)?;
        took.push(server.came_up.as_secs_f64());
        memory.push(usage::memory(server.pid())?.resident as f64);
    }
    let usage = meter.stop()?;
    let mut sample = super::bare_sample(&usage);
    let median = |values: Vec<f64>| Spread::of(values).context("no start").map(|s| s.median);
    sample.set(Quantity::ColdStart, median(took)?);
    sample.set(Quantity::Memory, median(memory)?);
    Ok(sample)
}

/// # Errors
/// When the program is not there.
pub(crate) fn measure_size(contender: &Contender) -> anyhow::Result<Sample> {
    let metadata = contender.program.metadata();
    let metadata = metadata.with_context(|| format!("{}", contender.program.display()))?;
    let mut sample = Sample::default();
    sample.set(Quantity::BinarySize, metadata.len() as f64);
    Ok(sample)
}
