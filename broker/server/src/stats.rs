//! Counters. A worker counts in plain integers and shows them to others once a pass, so that counting
//! costs no shared memory traffic a message.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One worker's counts since the start; `connections` is how many there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) in_msgs: u64,
    pub(crate) in_bytes: u64,
    pub(crate) out_msgs: u64,
    pub(crate) out_bytes: u64,
    pub(crate) connections: u64,
    pub(crate) total_connections: u64,
    pub(crate) slow_consumers: u64,
    pub(crate) stale_connections: u64,
}

/// The counts of one worker as others may read them.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    values: [AtomicU64; 8],
}

impl Counters {
    fn values(&self) -> [u64; 8] {
        [
            self.in_msgs,
            self.in_bytes,
            self.out_msgs,
            self.out_bytes,
            self.connections,
            self.total_connections,
            self.slow_consumers,
            self.stale_connections,
        ]
    }

    fn from_values(values: [u64; 8]) -> Self {
        let [
            in_msgs,
            in_bytes,
            out_msgs,
            out_bytes,
            connections,
            total_connections,
            slow_consumers,
            stale_connections,
        ] = values;
        Self {
            in_msgs,
            in_bytes,
            out_msgs,
            out_bytes,
            connections,
            total_connections,
            slow_consumers,
            stale_connections,
        }
    }

    /// Sum of several workers.
    pub(crate) fn sum<'a>(shown: impl Iterator<Item = &'a Shown>) -> Self {
        let mut sums = [0; 8];
        for one in shown {
            for (sum, value) in sums.iter_mut().zip(&one.values) {
                *sum += value.load(Relaxed);
            }
        }
        Self::from_values(sums)
    }
}

impl Shown {
    /// Called by the owning worker.
    pub(crate) fn show(&self, counters: &Counters) {
        for (shown, value) in self.values.iter().zip(counters.values()) {
            shown.store(value, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_each_count_in_its_place() {
        let counters = Counters::from_values([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(counters.values(), [1, 2, 3, 4, 5, 6, 7, 8]);
        let (one, other) = (Shown::default(), Shown::default());
        one.show(&counters);
        other.show(&counters);
        let sum = Counters::sum([&one, &other].into_iter());
        assert_eq!(
            (sum.in_msgs, sum.out_bytes, sum.stale_connections),
            (2, 8, 16)
        );
    }
}
