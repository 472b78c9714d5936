//! Names in the manner of NUIDs: 22 characters of base 62, unguessable enough for an inbox when the
//! seed is, and the same again for the same seed.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 22;

/// A SplitMix64 stream cut into base-62 digits.
#[derive(Debug)]
pub(super) struct NuidSource {
    state: u64,
}

impl NuidSource {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next name. 22 digits carry 128 bits.
    pub(super) fn next_name(&mut self) -> String {
        let mut value = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        (0..LENGTH)
            .map(|_| {
                let digit = (value % 62) as usize;
                value /= 62;
                char::from(DIGITS[digit])
            })
            .collect()
    }

    /// A fresh subject `_INBOX.<name>`.
    pub(super) fn next_inbox(&mut self) -> String {
        format!("_INBOX.{}", self.next_name())
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_follow_from_the_seed() {
        let names = |seed| {
            let mut source = NuidSource::new(seed);
            (0..1000).map(|_| source.next_name()).collect::<Vec<_>>()
        };
        let first = names(1);
        assert!(first.iter().all(|name| name.len() == LENGTH));
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 1000);
        assert_eq!(first, names(1));
        assert_ne!(first, names(2));
    }
}
