//! Counters. A worker counts in plain integers and shows them to others once a pass, so that counting
//! costs no shared memory traffic a message.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Declares the counts once, for everything that treats them alike.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One worker's counts since the start; `connections` and `routes` are how many there are now.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        const COUNT: usize = [$(stringify!($name)),*].len();

        impl Counters {
            fn values(&self) -> [u64; COUNT] {
                [$(self.$name),*]
            }

            fn from_values([$($name),*]: [u64; COUNT]) -> Self {
                Self { $($name),* }
            }
        }
    };
}

counters! {
    /// Of clients and routes.
    in_msgs,
    in_bytes,
    out_msgs,
    out_bytes,
    /// Of these, what routes brought and took.
    route_in_msgs,
    route_in_bytes,
    route_out_msgs,
    route_out_bytes,
    connections,
    total_connections,
    routes,
    slow_clients,
    slow_routes,
    stale_clients,
    stale_routes,
    /// Times that a producer was held back.
    stalls,
}

/// The counts of one worker as others may read them.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    values: [AtomicU64; COUNT],
}

impl Counters {
    /// Sum of several workers.
    pub(crate) fn sum<'a>(shown: impl Iterator<Item = &'a Shown>) -> Self {
        let mut sums = [0; COUNT];
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
        let values: [u64; COUNT] = std::array::from_fn(|place| place as u64 + 1);
        let counters = Counters::from_values(values);
        assert_eq!(counters.values(), values);
        let (one, other) = (Shown::default(), Shown::default());
        one.show(&counters);
        other.show(&counters);
        let sum = Counters::sum([&one, &other].into_iter());
        assert_eq!((sum.in_msgs, sum.in_bytes, sum.out_msgs), (2, 4, 6));
    }
}
