//! The JSON documents, with the keys and in the order of the reference servers. Here is what they
//! have in common: how times, durations and numbers are written.

mod absent;
mod accounts;
mod connz;
mod routez;
mod streaming;
mod subsz;
mod varz;

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use broker_core::auth::settings::SubjectRules;
use serde::{Serialize, Serializer, ser::Error as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(crate) use self::{
    absent::{Gatewayz, Jsz, Leafz},
    accounts::{Accountz, Accstatz},
    connz::{Connz, ConnzQuery, Sort, add_subscriptions},
    routez::Routez,
    streaming::Serverz,
    subsz::{Subsz, SubszQuery},
    varz::Varz,
};
use super::details::SubscriptionFigures;

/// The `go` field, which some clients insist on.
const LANGUAGE: &str = "rust";

/// What a document leaves to others: something this server does not have.
#[derive(Debug, Serialize)]
struct Empty {}

/// How much of the subscriptions of a connection or route is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subscriptions {
    #[default]
    Count,
    Subjects,
    Detail,
}

/// One subscription in full.
#[derive(Debug, Serialize)]
struct SubscriptionDetail {
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account_tag: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    qgroup: Option<String>,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    cid: u64,
}

impl SubscriptionDetail {
    /// Below what says the account itself.
    fn of_connection(figures: SubscriptionFigures) -> Self {
        Self {
            account: String::new(),
            account_tag: String::new(),
            subject: figures.subject,
            qgroup: figures.queue_group,
            sid: figures.sid,
            msgs: figures.delivered,
            max: figures.max,
            cid: figures.cid,
        }
    }

    /// Among those of all accounts.
    fn with_account(mut figures: SubscriptionFigures) -> Self {
        let account = std::mem::take(&mut figures.account);
        Self {
            account_tag: account.clone(),
            account,
            ..Self::of_connection(figures)
        }
    }
}

/// Subscriptions of one connection in both forms, of which at most one is not empty.
fn listed(
    mut subscriptions: Vec<SubscriptionFigures>,
    shown: Subscriptions,
    detail: fn(SubscriptionFigures) -> SubscriptionDetail,
) -> (Vec<String>, Vec<SubscriptionDetail>) {
    subscriptions.sort_by(|a, b| (&a.subject, &a.sid).cmp(&(&b.subject, &b.sid)));
    let subscriptions = subscriptions.into_iter();
    match shown {
        Subscriptions::Count => (Vec::new(), Vec::new()),
        Subscriptions::Subjects => (subscriptions.map(|one| one.subject).collect(), Vec::new()),
        Subscriptions::Detail => (Vec::new(), subscriptions.map(detail).collect()),
    }
}

/// Rules about subjects; an empty list is not shown.
#[derive(Debug, Serialize)]
struct Rules<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    allow: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    deny: &'a [String],
}

impl<'a> Rules<'a> {
    fn new(rules: &'a SubjectRules) -> Self {
        Self {
            allow: &rules.allow,
            deny: &rules.deny,
        }
    }
}

/// RFC 3339 in UTC, to the nanosecond.
#[derive(Clone, Copy, Debug)]
struct Stamp(OffsetDateTime);

impl Stamp {
    fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }
}

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        Self(time.into())
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.format(&Rfc3339).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

/// A float that is written without fraction when it has none, as Go does.
#[derive(Clone, Copy, Debug)]
struct Number(f64);

impl Number {
    /// 0 of nothing.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    fn ratio(part: u64, whole: u64) -> Self {
        Self(if whole == 0 {
            0.0
        } else {
            part as f64 / whole as f64
        })
    }
}

impl Serialize for Number {
    #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// `1y2d3h4m5s` without leading zero parts.
pub(crate) fn uptime(since: Duration) -> String {
    let seconds = since.as_secs();
    let parts = [
        (seconds / 31_536_000, 'y'),
        (seconds / 86_400 % 365, 'd'),
        (seconds / 3_600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let first = parts
        .iter()
        .position(|(value, _)| *value > 0)
        .unwrap_or(parts.len() - 1);
    parts[first..]
        .iter()
        .map(|(value, unit)| format!("{value}{unit}"))
        .collect()
}

/// Nothing where clocks were set back.
fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

/// A round trip as Go prints it, to the microsecond where it lasts longer than one: `478us` with the
/// sign for micro, `1.2ms`, `2.5s`.
fn round_trip(rtt: Duration) -> String {
    let nanos = nanos(rtt);
    let (nanos, unit_nanos, unit) = match nanos {
        0..1_000 => (nanos, 1, "ns"),
        1_000..1_000_000 => (nanos / 1_000 * 1_000, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => (nanos / 1_000 * 1_000, 1_000_000, "ms"),
        _ => (nanos / 1_000 * 1_000, 1_000_000_000, "s"),
    };
    let whole = nanos / unit_nanos;
    let fraction = format!("{:09}", nanos % unit_nanos * (1_000_000_000 / unit_nanos));
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{whole}{point}{fraction}{unit}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn int(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_drops_leading_zero_parts_only() {
        for (seconds, text) in [
            (0, "0s"),
            (61, "1m1s"),
            (3600, "1h0m0s"),
            (90_061, "1d1h1m1s"),
            (31_536_000, "1y0d0h0m0s"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn round_trips_are_written_as_by_go() {
        for (nanos, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (478_999, "478\u{b5}s"),
            (1_200_999, "1.2ms"),
            (1_000_000, "1ms"),
            (2_500_000_000, "2.5s"),
            (61_000_001_999, "61.000001s"),
        ] {
            assert_eq!(round_trip(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn times_set_back_count_as_no_time() {
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        assert_eq!(between(later, SystemTime::UNIX_EPOCH), Duration::ZERO);
        assert_eq!(between(SystemTime::UNIX_EPOCH, later).as_secs(), 9);
    }
}
