//! Local time for log lines.
//!
//! The system tells the offset of local time safely only while the process has a single thread, so it
//! is asked once, at start, for all changes of the years to come.

use time::{Duration, OffsetDateTime, UtcOffset};

/// As far as a process may live without a restart.
const YEARS: i64 = 10;
/// No zone changes its offset and back within a week.
const STEP: Duration = Duration::WEEK;

/// The offsets of local time, by the time from which they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalZone {
    first: UtcOffset,
    /// In order of time.
    changes: Vec<(OffsetDateTime, UtcOffset)>,
}

impl LocalZone {
    /// Asks the system. UTC where it cannot tell, which it refuses to once there are threads.
    pub(super) fn of_system() -> Self {
        let offset = |at| UtcOffset::local_offset_at(at).unwrap_or(UtcOffset::UTC);
        Self::starting(OffsetDateTime::now_utc(), offset)
    }

    /// One offset for all times.
    pub(super) fn fixed(offset: UtcOffset) -> Self {
        Self {
            first: offset,
            changes: Vec::new(),
        }
    }

    fn starting(now: OffsetDateTime, offset_at: impl Fn(OffsetDateTime) -> UtcOffset) -> Self {
        let first = offset_at(now);
        let mut changes = Vec::new();
        let end = now + Duration::days(365 * YEARS);
        let (mut before, mut current) = (now, first);
        while before < end {
            let after = before + STEP;
            let offset = offset_at(after);
            if offset != current {
                changes.push((change(before, after, offset, &offset_at), offset));
                current = offset;
            }
            before = after;
        }
        Self { first, changes }
    }

    /// The same time on the clock of this zone.
    pub(super) fn local(&self, utc: OffsetDateTime) -> OffsetDateTime {
        let past = self.changes.partition_point(|(from, _)| *from <= utc);
        let offset = match past.checked_sub(1) {
            Some(last) => self.changes[last].1,
            None => self.first,
        };
        utc.to_offset(offset)
    }
}

/// The second from which `offset` holds, which it does at `after` and not at `before`.
fn change(
    mut before: OffsetDateTime,
    mut after: OffsetDateTime,
    offset: UtcOffset,
    offset_at: impl Fn(OffsetDateTime) -> UtcOffset,
) -> OffsetDateTime {
    while after - before > Duration::SECOND {
        let middle = before + (after - before) / 2;
        if offset_at(middle) == offset {
            after = middle;
        } else {
            before = middle;
        }
    }
    after
        .replace_nanosecond(0)
        .expect("zero is a valid nanosecond")
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, offset};

    use super::*;

    #[test]
    fn daylight_saving_begins_and_ends_on_the_second() {
        let spring = datetime!(2027-03-28 01:00 UTC);
        let autumn = datetime!(2027-10-31 01:00 UTC);
        let zone = LocalZone::starting(datetime!(2026-11-22 21:30:05.5 UTC), |at| {
            if at >= spring && at < autumn {
                offset!(+2)
            } else {
                offset!(+1)
            }
        });
        assert_eq!(zone.changes, [(spring, offset!(+2)), (autumn, offset!(+1))]);
        let almost = spring - Duration::NANOSECOND;
        assert_eq!(zone.local(almost).offset(), offset!(+1));
        assert_eq!(zone.local(spring).offset(), offset!(+2));
        assert_eq!(zone.local(autumn).hour(), 2);
    }

    #[test]
    fn a_zone_without_changes_has_one_offset() {
        let now = datetime!(2026-11-22 21:30 UTC);
        let zone = LocalZone::starting(now, |_| offset!(-3:30));
        assert_eq!(zone.changes, []);
        assert_eq!(
            zone.local(now + Duration::days(9999)).offset(),
            offset!(-3:30)
        );
    }
}
