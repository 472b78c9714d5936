//! Lengths of the messages a channel holds, so that trimming by bytes needs no read.

use std::collections::VecDeque;

/// Runs of equal length, oldest first. Of what an earlier process stored only the sum is known; it
/// is taken as evenly spread, so the figures are exact again once that part has been trimmed.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    recovered_msgs: u64,
    recovered_bytes: u64,
    runs: VecDeque<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    msgs: u64,
    message_bytes: u64,
}

impl Sizes {
    pub(super) fn recovered(msgs: u64, bytes: u64) -> Self {
        Self {
            recovered_msgs: msgs,
            recovered_bytes: bytes,
            runs: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, message_bytes: u64) {
        match self.runs.back_mut() {
            Some(run) if run.message_bytes == message_bytes => run.msgs += 1,
            _ => self.runs.push_back(Run {
                msgs: 1,
                message_bytes,
            }),
        }
    }

    /// Forgets the oldest message and gives its length; 0 if there is none.
    pub(super) fn pop(&mut self) -> u64 {
        if let Some(average) = self.recovered_bytes.checked_div(self.recovered_msgs) {
            self.recovered_msgs -= 1;
            self.recovered_bytes -= average;
            return average;
        }
        let Some(run) = self.runs.front_mut() else {
            return 0;
        };
        let bytes = run.message_bytes;
        run.msgs -= 1;
        if run.msgs == 0 {
            self.runs.pop_front();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovered_bytes_are_spread_and_end_exact() {
        let mut sizes = Sizes::recovered(3, 100);
        for bytes in [10, 10, 20] {
            sizes.push(bytes);
        }
        let popped: Vec<u64> = (0..7).map(|_| sizes.pop()).collect();
        assert_eq!(popped[..3].iter().sum::<u64>(), 100);
        assert_eq!(popped[3..], [10, 10, 20, 0]);
    }
}
