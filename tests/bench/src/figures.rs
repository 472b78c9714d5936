//! What is measured: quantities, their units and which way is better; medians and ratios of rounds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// One thing that a shape tells. The order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    /// Messages published, round trips or connections, a second of wall clock.
    Rate,
    /// Half of the round trips took no longer, seconds.
    P50,
    /// All but one in a hundred took no longer, seconds.
    P99,
    /// All but one in a thousand took no longer, seconds.
    P999,
    /// One bare commit of one row, seconds; half took no longer.
    SingleCommit,
    /// One message in flight on the memory store, seconds; half took no longer.
    MemoryTrip,
    /// From exec until a publication is acknowledged, seconds.
    FirstAck,
    /// The same where another server has written to the store last, so that nothing kept about it can be believed.
    FirstAckUnknown,
    /// Two messages there and two back over loopback without any server, seconds; half took no longer.
    PingPongs,
    /// `P50` in parts of `PingPongs`.
    OfPingPongs,
    /// From exec until a connection is accepted, seconds.
    ColdStart,
    /// The program's file, bytes.
    BinarySize,
    /// Bytes of resident memory that a connection adds.
    PerConnection,
    /// The same of a streaming subscription.
    PerSubscription,
    /// Messages in and out, round trips or connections, a second of the server's processor time.
    PerCpuSecond,
    /// Processor time of the server in the pass, seconds.
    CpuSeconds,
    /// Processor time of the database in the pass, seconds.
    DatabaseCpuSeconds,
    /// Processor time of the load in the pass, seconds: it must not be what is measured.
    LoadCpuSeconds,
    /// Resident memory before anybody connected, bytes.
    IdleMemory,
    /// Resident memory after the pass, connections still open, bytes.
    Memory,
    /// The same with shared pages divided among their users, bytes.
    ProportionalMemory,
    /// Resident memory of all processes of the database after the pass, shared pages once, bytes.
    DatabaseMemory,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    PerSecond,
    Seconds,
    Bytes,
    Times,
}

impl Quantity {
    /// As a person calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::SingleCommit => "bare commit",
            Self::MemoryTrip => "on the memory store",
            Self::FirstAck => "first ack",
            Self::FirstAckUnknown => "first ack after another server",
            Self::PingPongs => "2 ping-pongs",
            Self::OfPingPongs => "p50 / ping-pongs",
            Self::ColdStart => "start",
            Self::BinarySize => "size",
            Self::PerConnection => "memory a connection",
            Self::PerSubscription => "memory a subscription",
            Self::PerCpuSecond => "work a CPU-second",
            Self::CpuSeconds => "CPU",
            Self::DatabaseCpuSeconds => "database CPU",
            Self::LoadCpuSeconds => "load CPU",
            Self::IdleMemory => "memory idle",
            Self::Memory => "memory",
            Self::ProportionalMemory => "memory, proportional",
            Self::DatabaseMemory => "database memory",
        }
    }

    /// Whether more of it is better.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Self::Rate | Self::PerCpuSecond)
    }

    fn unit(self) -> Unit {
        match self {
            Self::Rate | Self::PerCpuSecond => Unit::PerSecond,
            Self::P50
            | Self::P99
            | Self::P999
            | Self::SingleCommit
            | Self::MemoryTrip
            | Self::FirstAck
            | Self::FirstAckUnknown
            | Self::PingPongs
            | Self::ColdStart
            | Self::CpuSeconds
            | Self::DatabaseCpuSeconds
            | Self::LoadCpuSeconds => Unit::Seconds,
            Self::OfPingPongs => Unit::Times,
            Self::BinarySize
            | Self::PerConnection
            | Self::PerSubscription
            | Self::IdleMemory
            | Self::Memory
            | Self::ProportionalMemory
            | Self::DatabaseMemory => Unit::Bytes,
        }
    }

    /// `value` with its unit, three digits.
    pub(crate) fn show(self, value: f64) -> String {
        let (steps, unit): (&[(f64, &str)], &str) = match self.unit() {
            Unit::PerSecond => (&[(1e6, " M/s"), (1e3, " k/s")], " /s"),
            Unit::Seconds => (&[(1.0, " s"), (1e-3, " ms")], " us"),
            Unit::Bytes => (&[(1024.0 * 1024.0, " MiB"), (1024.0, " KiB")], " B"),
            Unit::Times => (&[], "x"),
        };
        let smallest = if self.unit() == Unit::Seconds {
            1e-6
        } else {
            1.0
        };
        let step = steps.iter().find(|(size, _)| value.abs() >= *size);
        let (size, unit) = step.copied().unwrap_or((smallest, unit));
        format!("{}{unit}", three_digits(value / size))
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// One server in one round.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) values: BTreeMap<Quantity, f64>,
    /// Length of the measured pass, seconds.
    pub(crate) seconds: f64,
    /// Part of the machine that others used in it.
    pub(crate) foreign: f64,
}

impl Sample {
    pub(crate) fn set(&mut self, quantity: Quantity, value: f64) {
        self.values.insert(quantity, value);
    }
}

/// Middle and ends of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value; `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }

    /// Of one divided by each.
    pub(crate) fn inverse(self) -> Self {
        Self {
            median: 1.0 / self.median,
            min: 1.0 / self.max,
            max: 1.0 / self.min,
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} [{:.2}..{:.2}]", self.median, self.min, self.max)
    }
}

/// The part of `sorted` below which `share` of it lies.
///
/// # Panics
/// When there are no values.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    sorted[(last as f64 * share) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn an_inverse_turns_the_ends_around() {
        let spread = Spread::of([0.5, 0.25, 0.2]).unwrap().inverse();
        assert_eq!((spread.median, spread.min, spread.max), (4.0, 2.0, 5.0));
    }

    #[test]
    fn values_are_shown_with_three_digits_and_a_unit() {
        assert_eq!(Quantity::Rate.show(2_604_000.0), "2.60 M/s");
        assert_eq!(Quantity::Rate.show(999.0), "999 /s");
        assert_eq!(Quantity::P50.show(0.000_126), "126 us");
        assert_eq!(Quantity::ColdStart.show(0.0123), "12.3 ms");
        assert_eq!(Quantity::PerConnection.show(716.8), "717 B");
        assert_eq!(Quantity::Memory.show(5.0 * 1024.0 * 1024.0), "5.00 MiB");
    }

    #[test]
    fn percentiles_come_from_the_sorted_values() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
    }
}
