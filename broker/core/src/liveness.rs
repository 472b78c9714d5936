//! Whether the other end of a connection is still there: when to send `PING`, and when to give up.

use std::time::{Duration, Instant};

/// How long a measured round-trip time is good; after that even a busy client is pinged.
const ROUND_TRIP_VALID: Duration = Duration::from_secs(3600);

/// When to ask whether the other end is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingPolicy {
    pub interval: Duration,
    /// The first after `CONNECT`, to learn the round-trip time, if the interval is not shorter.
    pub first: Duration,
    /// Unanswered `PING`s after which a connection is given up.
    pub max_outstanding: u32,
    /// Whether one that was heard of lately is asked all the same. Other servers are.
    pub always: bool,
}

/// What a tick of the ping timer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// The other end was heard of lately.
    Quiet,
    Ping,
    /// Too many unanswered: close.
    Stale,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Liveness {
    active: bool,
    pings_outstanding: u32,
    next_tick: Instant,
    ping_sent: Instant,
    last_activity: Instant,
    round_trip: RoundTrip,
}

/// Time from a `PING` to its `PONG`.
#[derive(Clone, Copy, Debug)]
enum RoundTrip {
    Unknown,
    /// By an answer that needed no `PING`.
    Estimated(Duration),
    Measured {
        took: Duration,
        at: Instant,
    },
}

impl Liveness {
    /// Of a connection that has just been made.
    #[must_use]
    pub fn new(pings: &PingPolicy, now: Instant) -> Self {
        Self {
            active: false,
            pings_outstanding: 0,
            next_tick: now + pings.interval,
            ping_sent: now,
            last_activity: now,
            round_trip: RoundTrip::Unknown,
        }
    }

    /// The connection is established: the first `PING` comes soon. `jitter` (0 to 1) spreads those of
    /// clients that come together.
    pub fn established(&mut self, pings: &PingPolicy, jitter: f64, now: Instant) {
        let first = pings.interval.min(pings.first);
        self.next_tick = now + first + first.mul_f64(jitter.clamp(0.0, 1.0) / 5.0);
    }

    /// Something came that shows the other end at work. A `PONG` does not.
    pub fn heard(&mut self, now: Instant) {
        self.active = true;
        self.last_activity = now;
    }

    /// `PONG` came.
    pub fn ponged(&mut self, now: Instant) {
        if self.pings_outstanding > 0 {
            let took = now.saturating_duration_since(self.ping_sent);
            self.round_trip = RoundTrip::Measured { took, at: now };
        }
        self.pings_outstanding = 0;
    }

    /// Nothing was measured yet, but an answer that needed no `PING` took this long.
    pub fn estimate(&mut self, answered_after: Duration) {
        if !matches!(self.round_trip, RoundTrip::Measured { .. }) {
            self.round_trip = RoundTrip::Estimated(answered_after);
        }
    }

    /// Last measured round-trip time, or else the estimate.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        match self.round_trip {
            RoundTrip::Unknown => None,
            RoundTrip::Estimated(took) | RoundTrip::Measured { took, .. } => Some(took),
        }
    }

    /// When something was last heard, or handed over to be sent.
    #[must_use]
    pub fn last_activity(&self) -> Instant {
        self.last_activity
    }

    /// When [`Self::tick`] wants to be called.
    #[must_use]
    pub fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// The ping timer is due.
    pub fn tick(&mut self, pings: &PingPolicy, now: Instant) -> Tick {
        self.next_tick = now + pings.interval;
        let measured = matches!(
            self.round_trip,
            RoundTrip::Measured { at, .. } if now < at + ROUND_TRIP_VALID
        );
        if std::mem::take(&mut self.active) && measured && !pings.always {
            return Tick::Quiet;
        }
        if self.pings_outstanding + 1 > pings.max_outstanding {
            return Tick::Stale;
        }
        self.pings_outstanding += 1;
        self.ping_sent = now;
        Tick::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINGS: PingPolicy = PingPolicy {
        interval: Duration::from_secs(120),
        first: Duration::from_secs(2),
        max_outstanding: 2,
        always: false,
    };

    fn liveness() -> (Liveness, Instant) {
        let now = Instant::now();
        (Liveness::new(&PINGS, now), now)
    }

    #[test]
    fn first_ping_comes_soon_after_connect_with_jitter() {
        let (mut liveness, now) = liveness();
        assert_eq!(liveness.next_tick(), now + PINGS.interval);
        liveness.established(&PINGS, 1.0, now);
        assert_eq!(liveness.next_tick(), now + Duration::from_millis(2400));
    }

    #[test]
    fn silence_ends_in_stale_even_with_unprompted_pongs() {
        let (mut liveness, mut now) = liveness();
        for expected in [Tick::Ping, Tick::Ping, Tick::Stale] {
            now += PINGS.interval;
            assert_eq!(liveness.tick(&PINGS, now), expected);
        }
        liveness.ponged(now);
        assert_eq!(liveness.tick(&PINGS, now), Tick::Ping);
    }

    #[test]
    fn an_estimate_is_shown_until_it_is_measured_and_spares_no_ping() {
        let (mut liveness, now) = liveness();
        liveness.estimate(Duration::from_millis(7));
        assert_eq!(liveness.round_trip(), Some(Duration::from_millis(7)));
        liveness.heard(now);
        assert_eq!(liveness.tick(&PINGS, now), Tick::Ping);
        liveness.ponged(now + Duration::from_millis(3));
        assert_eq!(liveness.round_trip(), Some(Duration::from_millis(3)));
    }

    #[test]
    fn a_busy_client_is_not_pinged_once_its_round_trip_is_known() {
        let (mut liveness, mut now) = liveness();
        liveness.heard(now);
        assert_eq!(liveness.tick(&PINGS, now), Tick::Ping);
        liveness.ponged(now + Duration::from_millis(3));
        assert_eq!(liveness.round_trip(), Some(Duration::from_millis(3)));
        liveness.heard(now);
        now += PINGS.interval;
        assert_eq!(liveness.tick(&PINGS, now), Tick::Quiet);
        assert_eq!(liveness.tick(&PINGS, now), Tick::Ping);
        liveness.ponged(now);
        liveness.heard(now);
        now += ROUND_TRIP_VALID;
        assert_eq!(liveness.tick(&PINGS, now), Tick::Ping);
    }

    #[test]
    fn a_busy_peer_is_pinged_all_the_same() {
        let (mut liveness, now) = liveness();
        let pings = PingPolicy {
            always: true,
            ..PINGS
        };
        assert_eq!(liveness.tick(&pings, now), Tick::Ping);
        liveness.ponged(now);
        liveness.heard(now);
        assert_eq!(liveness.tick(&pings, now), Tick::Ping);
    }
}
