//! When to renew, and how patiently to retry. Pure: `now` and chance are arguments.

use std::time::Duration;

use certs::validity::{life_begin, remaining, renew_at};
use time::OffsetDateTime;

/// First pause after a failure, before chance; doubles with every further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between attempts.
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Shortest pause: an issuer that is down is not asked in a tight loop, however little is left.
const RETRY_SHORTEST: Duration = Duration::from_millis(100);
/// Attempts that the rest of a life has room for.
const RETRIES_IN_REST: u32 = 50;

/// The life of the certificate in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// How a fleet is kept from renewing in step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Chosen once per process, `0.0 <= spread < 1.0`: renewal comes earlier than two thirds of the
    /// life by this part of a tenth of the life. Earlier and not later, so that what is left to
    /// survive an outage of the issuer never shrinks.
    pub spread: f64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due before `until`.
    Keep { until: OffsetDateTime },
    /// Obtain a certificate: there is none, or two thirds of its life are over.
    Renew,
    /// Obtain a certificate and say loudly that it is late: less than a fifth of the life is left.
    Alarm,
}

/// Decides by wall clock; the caller asks again every few seconds, since the clocks of timers stand
/// still while a machine is suspended.
pub fn plan(now: OffsetDateTime, certificate: Option<Validity>, policy: Policy) -> Step {
    let Some(Validity {
        not_before,
        not_after,
    }) = certificate
    else {
        return Step::Renew;
    };
    let life = not_after - life_begin(not_before, not_after);
    if remaining(not_after, now) < life / 5 {
        return Step::Alarm;
    }
    let due = renew_at(not_before, not_after) - life * (policy.spread.clamp(0.0, 1.0) / 10.0);
    if now < due {
        Step::Keep { until: due }
    } else {
        Step::Renew
    }
}

/// The pause after the `failures`-th failed attempt in a row (from 1): exponential with full jitter,
/// and never longer than a fiftieth of what is `left` of the certificate's life. `chance` is uniform
/// in `0.0..1.0`.
pub fn retry_delay(failures: u32, left: Duration, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let mut longest = RETRY_FIRST
        .saturating_mul(1 << doublings)
        .min(RETRY_LONGEST);
    if !left.is_zero() {
        longest = longest.min(left / RETRIES_IN_REST);
    }
    longest.mul_f64(chance.clamp(0.0, 1.0)).max(RETRY_SHORTEST)
}

#[cfg(test)]
mod tests {
    use certs::validity::window;
    use proptest::prelude::*;

    use super::*;

    fn granted(start: i64, lifetime: u64) -> (OffsetDateTime, Validity) {
        let now = OffsetDateTime::from_unix_timestamp(start).unwrap();
        let (not_before, not_after) = window(now, Duration::from_secs(lifetime));
        (
            now,
            Validity {
                not_before,
                not_after,
            },
        )
    }

    proptest! {
        #[test]
        fn never_renews_late_nor_before_half_of_the_life(
            start in 0_i64..4_000_000_000,
            lifetime in 5_u64..100_000_000,
            spread in 0.0_f64..1.0,
            part in 0.0_f64..1.5,
        ) {
            let (issued, validity) = granted(start, lifetime);
            let life = Duration::from_secs(lifetime);
            let now = issued + life.mul_f64(part);
            let step = plan(now, Some(validity), Policy { spread });
            if part < 0.5 {
                prop_assert!(matches!(step, Step::Keep { .. }), "{step:?}");
            }
            if part > 0.667 {
                prop_assert!(!matches!(step, Step::Keep { .. }), "{step:?}");
            }
            if part > 0.801 {
                prop_assert_eq!(step, Step::Alarm);
            }
            if let Step::Keep { until } = step {
                prop_assert!(now < until);
                prop_assert!(until >= issued + life / 2);
                prop_assert!(until <= issued + life * 2 / 3);
                prop_assert_eq!(plan(until, Some(validity), Policy { spread }), Step::Renew);
            }
        }

        #[test]
        fn retries_fit_into_what_is_left(
            failures in 0_u32..1000,
            left in 0_u64..10_000_000,
            chance in 0.0_f64..1.0,
        ) {
            let left = Duration::from_secs(left);
            let delay = retry_delay(failures, left, chance);
            prop_assert!(delay >= RETRY_SHORTEST && delay <= RETRY_LONGEST);
            if !left.is_zero() {
                prop_assert!(delay <= (left / RETRIES_IN_REST).max(RETRY_SHORTEST));
            }
        }
    }

    #[test]
    fn nothing_held_is_obtained_at_once_and_an_expired_one_is_an_alarm() {
        let policy = Policy { spread: 0.0 };
        let (issued, validity) = granted(1_000_000, 60);
        assert_eq!(plan(issued, None, policy), Step::Renew);
        assert_eq!(
            plan(issued + Duration::from_secs(60), Some(validity), policy),
            Step::Alarm
        );
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let left = Duration::from_secs(1_000_000);
        let longest = |failures| retry_delay(failures, left, 1.0).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 100].map(longest), [1, 2, 4, 32, 60, 60]);
    }
}
