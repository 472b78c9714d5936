//! Lifetime arithmetic. `now` is always an argument.

use std::time::Duration;

use time::OffsetDateTime;

/// How far `not_before` lies before the moment of issuance, for peers whose clock is behind.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// The validity of a certificate granted `now` for `lifetime`: from [`BACKDATE`] ago until `lifetime`
/// from now, in whole seconds, as X.509 has no smaller unit.
pub fn window(now: OffsetDateTime, lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = now
        .replace_nanosecond(0)
        .expect("zero is a valid nanosecond");
    (now - BACKDATE, now + lifetime)
}

/// When to replace a certificate: after two thirds of its life.
///
/// Life begins at issuance, which [`BACKDATE`] hides in `not_before`; counted from `not_before`, a
/// leaf of a few minutes would be due as soon as it is made. A certificate shorter than the
/// back-dating is not ours, and its life begins where it says.
pub fn renew_at(not_before: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    let begin = life_begin(not_before, not_after);
    begin + (not_after - begin) * 2 / 3
}

/// When the life of a certificate began; see [`renew_at`].
pub fn life_begin(not_before: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    let issued = not_before + BACKDATE;
    if issued < not_after {
        issued
    } else {
        not_before
    }
}

/// What is left until `not_after`; zero from then on.
pub fn remaining(not_after: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(not_after - now).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn renewal_lies_in_the_last_half_of_the_life_and_before_its_end(
            start in 0_i64..4_000_000_000,
            lifetime in 1_u64..200_000_000,
        ) {
            let now = OffsetDateTime::from_unix_timestamp(start).unwrap();
            let (not_before, not_after) = window(now, Duration::from_secs(lifetime));
            let due = renew_at(not_before, not_after);
            prop_assert!(due < not_after);
            prop_assert!(due >= now + Duration::from_secs(lifetime) / 2);
        }

        #[test]
        fn any_certificate_is_due_within_its_validity(
            start in 0_i64..4_000_000_000,
            length in 1_i64..200_000_000,
        ) {
            let not_before = OffsetDateTime::from_unix_timestamp(start).unwrap();
            let not_after = not_before + time::Duration::seconds(length);
            let due = renew_at(not_before, not_after);
            prop_assert!(not_before <= due && due < not_after);
        }
    }

    #[test]
    fn nothing_remains_after_the_end() {
        let end = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(
            remaining(end, end - Duration::from_secs(3)),
            Duration::from_secs(3)
        );
        assert_eq!(remaining(end, end), Duration::ZERO);
        assert_eq!(remaining(end, end + Duration::from_secs(3)), Duration::ZERO);
    }
}
