//! This process: since when it runs, and what the operating system knows of it.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    thread::available_parallelism,
    time::Instant,
};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};
use time::OffsetDateTime;

use super::documents::uptime;

/// A process since its start.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) since: OffsetDateTime,
    /// The same moment, on a clock that nobody sets.
    begun: Instant,
    pub(crate) cores: usize,
    cpu: CpuMeter,
}

impl Running {
    /// Takes the present moment as that of the start.
    pub(crate) fn begin() -> Self {
        Self {
            since: OffsetDateTime::now_utc(),
            begun: Instant::now(),
            cores: available_parallelism().map_or(1, usize::from),
            cpu: CpuMeter::new(),
        }
    }

    /// As documents show it.
    pub(crate) fn uptime(&self) -> String {
        uptime(self.begun.elapsed())
    }

    /// Percent since the last look, summed over cores, one decimal.
    pub(crate) fn cpu_percent(&self) -> f64 {
        self.cpu.percent()
    }
}

/// Resident memory in bytes; 0 where `/proc` does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// File descriptors open now, and how many may be; 0 where not known.
pub(crate) fn file_descriptors() -> (u64, u64) {
    let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    (open, getrlimit(Resource::Nofile).current.unwrap_or(0))
}

/// Processor use between two looks.
#[derive(Debug)]
struct CpuMeter {
    /// Held for a few instructions.
    last: Mutex<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    used_seconds: f64,
    percent: f64,
}

/// Looks closer together than this repeat the last answer: two dashboards must not take each other's
/// interval away.
const SHORTEST_INTERVAL_SECONDS: f64 = 0.5;

impl CpuMeter {
    fn new() -> Self {
        Self {
            last: Mutex::new(Sample {
                at: Instant::now(),
                used_seconds: used_seconds(),
                percent: 0.0,
            }),
        }
    }

    fn percent(&self) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, used_seconds) = (Instant::now(), used_seconds());
        let interval = now.duration_since(last.at).as_secs_f64();
        if interval >= SHORTEST_INTERVAL_SECONDS {
            let percent = (used_seconds - last.used_seconds) / interval * 100.0;
            *last = Sample {
                at: now,
                used_seconds,
                percent: (percent * 10.0).round() / 10.0,
            };
        }
        last.percent
    }
}

/// Processor time of all threads, user and system.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of a process's life fit"
)]
fn used_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_descriptors() {
        assert!(resident_bytes() > 1 << 20);
        let (open, limit) = file_descriptors();
        assert!(open > 2 && limit >= open);
    }

    #[test]
    fn a_busy_thread_shows_in_the_percentage() {
        let meter = CpuMeter::new();
        let began = Instant::now();
        let mut sum = 0_u64;
        while began.elapsed().as_secs_f64() < 0.6 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let percent = meter.percent();
        assert!(percent > 1.0, "{percent}");
        assert!(
            (meter.percent() - percent).abs() < f64::EPSILON,
            "asked again at once"
        );
    }
}
