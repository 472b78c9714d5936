//! Store limits: what is configured for channels and patterns, who inherits from whom, and how the
//! start-up log shows it.

use std::{fmt::Write as _, time::Duration};

use broker_core::durable::ChannelLimits;

use super::duration::GoDuration;

/// The five values that can be set for a channel. 0 means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_msgs: u64,
    /// Sum of encoded `MsgProto` lengths.
    pub(crate) max_bytes: u64,
    pub(crate) max_age_nanos: u64,
    /// Subscriptions, offline durables included.
    pub(crate) max_subs: u64,
    /// Time without message and subscription after which a channel is deleted.
    pub(crate) max_inactivity_nanos: u64,
}

impl Limits {
    /// What the engine enforces of them.
    pub(crate) fn for_channel(&self) -> ChannelLimits {
        ChannelLimits {
            max_msgs: self.max_msgs,
            max_bytes: self.max_bytes,
            max_age_nanos: self.max_age_nanos,
            max_subs: self.max_subs,
            max_inactivity_nanos: self.max_inactivity_nanos,
        }
    }
}

/// What one entry says itself: 0 inherits, negative is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) max_msgs: i64,
    pub(crate) max_bytes: i64,
    pub(crate) max_age_nanos: i64,
    pub(crate) max_subs: i64,
    pub(crate) max_inactivity_nanos: i64,
}

/// One configured channel or pattern, with everything it inherits filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelEntry {
    /// A channel name; `*` and `>` as in subjects.
    pub(crate) pattern: String,
    pub(crate) own: Own,
    pub(crate) limits: Limits,
    /// How many entries stand above it in its chain.
    depth: usize,
}

/// All limits of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreLimits {
    /// 0 means unlimited.
    pub(crate) max_channels: u64,
    /// For channels that no entry matches.
    pub(crate) general: Limits,
    /// From general to specific, every entry after those it inherits from.
    pub(crate) channels: Vec<ChannelEntry>,
}

/// As `stores/limits.go`.
pub(crate) const DEFAULT_MAX_CHANNELS: u64 = 100;

/// As `stores/limits.go`.
pub(crate) const DEFAULT_LIMITS: Limits = Limits {
    max_msgs: 1_000_000,
    max_bytes: 1_024_000_000,
    max_age_nanos: 0,
    max_subs: 1000,
    max_inactivity_nanos: 0,
};

impl StoreLimits {
    /// Works out inheritance. Pattern names must be valid and unique.
    pub(crate) fn new(max_channels: u64, general: Limits, entries: Vec<(String, Own)>) -> Self {
        let mut entries = entries;
        entries.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)));
        let mut channels: Vec<ChannelEntry> = Vec::with_capacity(entries.len());
        for (pattern, own) in entries {
            // Inheritance follows the walk over tokens, in which `*` covers a token `>` too: that is
            // not the same as covering every channel of the narrower pattern.
            let above = channels
                .iter()
                .rev()
                .find(|above| covers(&above.pattern, &pattern));
            let (from, depth) = above.map_or((general, 0), |above| (above.limits, above.depth + 1));
            let limits = Limits {
                max_msgs: inherit(own.max_msgs, from.max_msgs),
                max_bytes: inherit(own.max_bytes, from.max_bytes),
                max_age_nanos: inherit(own.max_age_nanos, from.max_age_nanos),
                max_subs: inherit(own.max_subs, from.max_subs),
                max_inactivity_nanos: inherit(own.max_inactivity_nanos, from.max_inactivity_nanos),
            };
            channels.push(ChannelEntry {
                pattern,
                own,
                limits,
                depth,
            });
        }
        Self {
            max_channels,
            general,
            channels,
        }
    }

    /// Entries that name one channel, which count against `max_channels`.
    pub(crate) fn literal_channels(&self) -> usize {
        self.channels
            .iter()
            .filter(|entry| !entry.pattern.split('.').any(is_wildcard))
            .count()
    }

    /// Lines of the start-up log, as `stores/limits.go` prints them.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec!["---------- Store Limits ----------".to_owned()];
        let channels = marked(
            &count(self.max_channels),
            self.max_channels == DEFAULT_MAX_CHANNELS,
        );
        lines.push(format!("Channels:        {channels}"));
        lines.push("--------- Channels Limits --------".to_owned());
        for ((name, value), (_, default)) in
            shown(&self.general).into_iter().zip(shown(&DEFAULT_LIMITS))
        {
            let is_default = value == default;
            lines.push(format!("  {name:<13}: {}", marked(&value, is_default)));
        }
        if !self.channels.is_empty() {
            lines.push("-------- List of Channels --------".to_owned());
            for entry in &self.channels {
                let indent = entry.depth;
                lines.push(format!("{:indent$}{}", "", entry.pattern));
                let own = [
                    entry.own.max_subs,
                    entry.own.max_msgs,
                    entry.own.max_bytes,
                    entry.own.max_age_nanos,
                    entry.own.max_inactivity_nanos,
                ];
                for ((name, value), own) in shown(&entry.limits).into_iter().zip(own) {
                    if own != 0 {
                        lines.push(format!("{:indent$} |-> {name:<13}{value:>13}", ""));
                    }
                }
            }
        }
        lines.push("-".repeat(34));
        lines
    }
}

fn inherit(own: i64, above: u64) -> u64 {
    if own == 0 {
        above
    } else {
        u64::try_from(own).unwrap_or(0)
    }
}

fn is_wildcard(token: &str) -> bool {
    token == "*" || token == ">"
}

/// Token by token, `>` before `*` before literals: general before specific.
fn rank(pattern: &str) -> Vec<(u8, &str)> {
    let token = |token| match token {
        ">" => (0, ""),
        "*" => (1, ""),
        literal => (2, literal),
    };
    pattern.split('.').map(token).collect()
}

/// Whether `pattern` matches `name`, whose own wildcards are taken as plain tokens.
fn covers(pattern: &str, name: &str) -> bool {
    let mut tokens = name.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// A channel name or pattern as the reference accepts it (`util/channels.go`).
pub(crate) fn is_valid_pattern(name: &str) -> bool {
    let tokens: Vec<_> = name.split('.').collect();
    let valid = |(index, token): (usize, &&str)| {
        let whole = is_wildcard(token) || !token.contains(['*', '>']);
        let open_end = *token != ">" || index + 1 == tokens.len();
        !token.is_empty() && whole && open_end && !token.contains(['/', ' ', '\t', '\r', '\n'])
    };
    tokens.iter().enumerate().all(valid)
}

/// Names and values in the order of the log.
fn shown(limits: &Limits) -> [(&'static str, String); 5] {
    [
        ("Subscriptions", count(limits.max_subs)),
        ("Messages", count(limits.max_msgs)),
        ("Bytes", bytes(limits.max_bytes)),
        ("Age", age(limits.max_age_nanos)),
        ("Inactivity", age(limits.max_inactivity_nanos)),
    ]
}

fn marked(value: &str, is_default: bool) -> String {
    format!("{value:>13}{}", if is_default { " *" } else { "" })
}

fn count(value: u64) -> String {
    if value == 0 {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

fn age(nanos: u64) -> String {
    if nanos == 0 {
        "unlimited".to_owned()
    } else {
        GoDuration(Duration::from_nanos(nanos)).to_string()
    }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn bytes(value: u64) -> String {
    let mut text = String::new();
    let mut scaled = value as f64;
    let mut unit = "B";
    for larger in ["KB", "MB", "GB", "TB", "PB", "EB"] {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    let written = match (value, unit) {
        (0, _) => write!(text, "unlimited"),
        (_, "B") => write!(text, "{value} B"),
        _ => write!(text, "{scaled:.2} {unit}"),
    };
    written.expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(values: &[(char, i64)]) -> Own {
        let mut own = Own::default();
        for (which, value) in values {
            match which {
                'm' => own.max_msgs = *value,
                'b' => own.max_bytes = *value,
                'a' => own.max_age_nanos = *value,
                's' => own.max_subs = *value,
                _ => own.max_inactivity_nanos = *value,
            }
        }
        own
    }

    /// Globals msgs 11, bytes 12, age 13, subs 14, inactivity 15, and the entries of the worked
    /// example that the reference's limits test has.
    fn worked_example() -> StoreLimits {
        let general = Limits {
            max_msgs: 11,
            max_bytes: 12,
            max_age_nanos: 13,
            max_subs: 14,
            max_inactivity_nanos: 15,
        };
        let entries: [(&str, &[(char, i64)]); 11] = [
            ("bar.baz.boz", &[('i', 120)]),
            ("bar.baz.>", &[('b', 100), ('i', 110)]),
            ("bar.*.>", &[('m', 90)]),
            ("foo.baz", &[('b', 70), ('s', 80)]),
            ("foo.d.e.f", &[('m', 50), ('a', 60)]),
            ("foo.a.b.c", &[('s', 40)]),
            ("foo.*.*.>", &[('a', 30)]),
            ("foo.*.>", &[('b', 20)]),
            ("foo.>", &[('m', 10)]),
            ("*.*", &[('b', 2)]),
            ("*.>", &[('s', 5)]),
        ];
        let entries = entries
            .iter()
            .map(|(name, values)| ((*name).to_owned(), own(values)))
            .collect();
        StoreLimits::new(0, general, entries)
    }

    #[test]
    fn unset_values_come_from_the_entry_above_in_the_walk_over_tokens() {
        let limits = worked_example();
        let values = |name: &str| {
            let entry = limits
                .channels
                .iter()
                .find(|entry| entry.pattern == name)
                .unwrap();
            let Limits {
                max_msgs,
                max_bytes,
                max_age_nanos,
                max_subs,
                max_inactivity_nanos,
            } = entry.limits;
            [
                max_msgs,
                max_bytes,
                max_age_nanos,
                max_subs,
                max_inactivity_nanos,
            ]
        };
        assert_eq!(values("*.>"), [11, 12, 13, 5, 15]);
        assert_eq!(values("*.*"), [11, 2, 13, 5, 15]);
        assert_eq!(values("foo.>"), [10, 2, 13, 5, 15]);
        assert_eq!(values("foo.*.>"), [10, 20, 13, 5, 15]);
        assert_eq!(values("foo.*.*.>"), [10, 20, 30, 5, 15]);
        assert_eq!(values("foo.a.b.c"), [10, 20, 30, 40, 15]);
        assert_eq!(values("foo.d.e.f"), [50, 20, 60, 5, 15]);
        assert_eq!(values("foo.baz"), [10, 70, 13, 80, 15]);
        assert_eq!(values("bar.*.>"), [90, 12, 13, 5, 15]);
        assert_eq!(values("bar.baz.>"), [90, 100, 13, 5, 110]);
        assert_eq!(values("bar.baz.boz"), [90, 100, 13, 5, 120]);
        assert_eq!(limits.literal_channels(), 4);
    }

    #[test]
    fn negative_is_unlimited_and_is_inherited_as_such() {
        let entries = vec![
            ("foo.*".to_owned(), own(&[('m', -1)])),
            ("foo.bar".to_owned(), own(&[('b', 7)])),
        ];
        let limits = StoreLimits::new(0, DEFAULT_LIMITS, entries);
        assert_eq!(limits.channels[1].limits.max_msgs, 0);
        assert_eq!(limits.channels[1].limits.max_bytes, 7);
    }

    #[test]
    fn defaults_are_printed_as_the_reference_prints_them() {
        let limits = StoreLimits::new(DEFAULT_MAX_CHANNELS, DEFAULT_LIMITS, Vec::new());
        assert_eq!(
            limits.lines().join("\n"),
            "\
---------- Store Limits ----------
Channels:                  100 *
--------- Channels Limits --------
  Subscriptions:          1000 *
  Messages     :       1000000 *
  Bytes        :     976.56 MB *
  Age          :     unlimited *
  Inactivity   :     unlimited *
----------------------------------"
        );
    }

    #[test]
    fn entries_are_printed_below_those_they_inherit_from_with_what_they_override() {
        let general = Limits {
            max_age_nanos: 5_400_000_000_000,
            max_bytes: 1000,
            ..DEFAULT_LIMITS
        };
        let entries = vec![
            ("foo.bar".to_owned(), own(&[('m', -1)])),
            (
                "foo.*".to_owned(),
                own(&[('b', 2048), ('a', 60_000_000_000)]),
            ),
        ];
        let lines = StoreLimits::new(0, general, entries).lines();
        let text = lines.join("\n");
        assert!(text.contains("Channels:            unlimited\n"), "{text}");
        assert!(
            text.contains("  Bytes        :        1000 B\n  Age          :       1h30m0s\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "foo.*\n |-> Bytes              2.00 KB\n |-> Age                   1m0s\n foo.bar\n  |-> Messages         unlimited\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn wildcards_stand_alone_in_their_token_and_the_open_end_is_last() {
        for name in ["foo", "foo.*", "foo.>", ">", "*.bar.>"] {
            assert!(is_valid_pattern(name), "{name}");
        }
        for name in [
            "",
            ".",
            "foo.",
            ".foo",
            "a..b",
            "foo*",
            "foo.>.bar",
            "a/b",
            "a b",
        ] {
            assert!(!is_valid_pattern(name), "{name}");
        }
    }
}
