//! A bound on TLS handshakes a second, which cost more than anything else a stranger can ask for.

use std::time::{Duration, Instant};

/// Handshakes of all workers in the second under way.
#[derive(Debug, Default)]
pub(crate) struct HandshakeRate {
    second: Option<Instant>,
    begun: u32,
}

impl HandshakeRate {
    /// Whether one more may begin now; `None` is no limit.
    pub(crate) fn admits(&mut self, limit: Option<u32>, now: Instant) -> bool {
        let Some(limit) = limit else { return true };
        let over = |since: Instant| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            self.second = Some(now);
            self.begun = 0;
        }
        self.begun += 1;
        self.begun <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_admits_as_many_as_allowed() {
        let (mut rate, now) = (HandshakeRate::default(), Instant::now());
        let admitted =
            |rate: &mut HandshakeRate, at| (0..5).filter(|_| rate.admits(Some(2), at)).count();
        assert_eq!(admitted(&mut rate, now), 2);
        assert_eq!(admitted(&mut rate, now + Duration::from_millis(999)), 0);
        assert_eq!(admitted(&mut rate, now + Duration::from_secs(1)), 2);
        assert!((0..1000).all(|_| rate.admits(None, now)));
    }
}
