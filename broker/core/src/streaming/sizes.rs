//! Lengths of the messages a channel holds, so that trimming by bytes needs no read.

use std::collections::VecDeque;

/// Most runs kept for a channel: 8 MiB of them. Older ones are merged.
const MAX_RUNS: usize = 1 << 20;

/// Runs of equal length, oldest first. Of what an earlier process stored, or what is older than the
/// runs, only the sum is known; it is taken as evenly spread, so the figures are exact again once
/// that part has been trimmed.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    merged_msgs: u64,
    merged_bytes: u64,
    runs: VecDeque<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    msgs: u32,
    message_bytes: u32,
}

impl Sizes {
    pub(super) fn recovered(msgs: u64, bytes: u64) -> Self {
        Self {
            merged_msgs: msgs,
            merged_bytes: bytes,
            runs: VecDeque::new(),
        }
    }

    /// A message longer than 4 GiB does not come through any connection; it would count as that.
    pub(super) fn push(&mut self, message_bytes: usize) {
        let message_bytes = u32::try_from(message_bytes).unwrap_or(u32::MAX);
        match self.runs.back_mut() {
            Some(run) if run.message_bytes == message_bytes && run.msgs < u32::MAX => run.msgs += 1,
            _ => self.runs.push_back(Run {
                msgs: 1,
                message_bytes,
            }),
        }
        if self.runs.len() > MAX_RUNS
            && let Some(run) = self.runs.pop_front()
        {
            self.merged_msgs += u64::from(run.msgs);
            self.merged_bytes += u64::from(run.msgs) * u64::from(run.message_bytes);
        }
    }

    /// Lengths from the oldest message on.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let (mut msgs, mut bytes) = (self.merged_msgs, self.merged_bytes);
        let merged = std::iter::from_fn(move || {
            let average = bytes.checked_div(msgs)?;
            msgs -= 1;
            bytes -= average;
            Some(average)
        });
        let runs = self.runs.iter();
        merged.chain(runs.flat_map(|run| (0..run.msgs).map(|_| u64::from(run.message_bytes))))
    }

    /// Forgets the oldest message and gives its length; 0 if there is none.
    pub(super) fn pop(&mut self) -> u64 {
        if let Some(average) = self.merged_bytes.checked_div(self.merged_msgs) {
            self.merged_msgs -= 1;
            self.merged_bytes -= average;
            return average;
        }
        let Some(run) = self.runs.front_mut() else {
            return 0;
        };
        let bytes = u64::from(run.message_bytes);
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
    fn merged_bytes_are_spread_and_end_exact() {
        let mut sizes = Sizes::recovered(3, 100);
        for bytes in [10, 10, 20] {
            sizes.push(bytes);
        }
        let listed: Vec<u64> = sizes.iter().collect();
        let popped: Vec<u64> = (0..7).map(|_| sizes.pop()).collect();
        assert_eq!(popped[..3].iter().sum::<u64>(), 100);
        assert_eq!(popped[3..], [10, 10, 20, 0]);
        assert_eq!(listed, popped[..6]);
    }
}
