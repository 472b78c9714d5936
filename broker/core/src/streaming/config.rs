//! What an operator may set about streaming, already checked.

use std::time::Duration;

use super::partition::PartitionConfig;
use crate::durable::ChannelLimits;

/// Settings of one engine; see [`Engine::reconfigure`](super::Engine::reconfigure) for what may change.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Must equal the one a store was first used with.
    pub cluster_id: String,
    /// Used at the first start only; later the persisted discovery subject counts.
    pub discover_prefix: String,
    /// Time between two heartbeats to a client, counted from the outcome of the first.
    pub heartbeat_interval: Duration,
    /// How long a client may take to answer one.
    pub heartbeat_timeout: Duration,
    /// Consecutive failures a client survives.
    pub heartbeat_fail_count: u32,
    /// 0 means unlimited.
    pub max_channels: u64,
    /// What a channel may hold unless an override says otherwise; 0 means unlimited.
    pub limits: ChannelLimits,
    /// Limits of single channels or of those below a wildcard, in any order.
    pub overrides: Vec<LimitsOverride>,
    /// A second request for an online durable closes the first instead of being refused.
    pub replace_durable: bool,
    /// Only channels with limits of their own are served, and other servers are told which; does not
    /// change later.
    pub partition: Option<PartitionConfig>,
}

/// Limits of the channels that match a pattern. Of each value: 0 inherits from the next wider
/// pattern, a negative number means unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsOverride {
    /// A channel name; `*` and `>` as in subjects.
    pub pattern: String,
    pub max_msgs: i64,
    pub max_bytes: i64,
    pub max_age_nanos: i64,
    pub max_subs: i64,
    pub max_inactivity_nanos: i64,
}

impl Default for EngineConfig {
    /// The reference server's defaults.
    fn default() -> Self {
        Self {
            cluster_id: "test-cluster".into(),
            discover_prefix: "_STAN.discover".into(),
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(10),
            heartbeat_fail_count: 10,
            max_channels: 100,
            limits: ChannelLimits {
                max_msgs: 1_000_000,
                max_bytes: 1_024_000_000,
                max_age_nanos: 0,
                max_subs: 1000,
                max_inactivity_nanos: 0,
            },
            overrides: Vec::new(),
            replace_durable: false,
            partition: None,
        }
    }
}

impl EngineConfig {
    /// What a partitioned server serves; nothing of one that serves all.
    #[must_use]
    pub fn partitioned_channels(&self) -> Vec<String> {
        let channels = self.overrides.iter().filter(|_| self.partition.is_some());
        channels.map(|limits| limits.pattern.clone()).collect()
    }

    /// The limits of a channel: the narrowest matching override counts, what it leaves at 0 comes
    /// from the next wider one, and at last from the general limits.
    pub(super) fn limits_of(&self, channel: &str) -> ChannelLimits {
        let mut matching: Vec<_> = self
            .overrides
            .iter()
            .filter(|limits| matches(&limits.pattern, channel))
            .collect();
        matching.sort_by_key(|limits| breadth(&limits.pattern));
        let value = |of: fn(&LimitsOverride) -> i64, general: u64| {
            let set = matching
                .iter()
                .map(|limits| of(limits))
                .find(|value| *value != 0);
            set.map_or(general, |value| u64::try_from(value).unwrap_or(0))
        };
        ChannelLimits {
            max_msgs: value(|limits| limits.max_msgs, self.limits.max_msgs),
            max_bytes: value(|limits| limits.max_bytes, self.limits.max_bytes),
            max_age_nanos: value(|limits| limits.max_age_nanos, self.limits.max_age_nanos),
            max_subs: value(|limits| limits.max_subs, self.limits.max_subs),
            max_inactivity_nanos: value(
                |limits| limits.max_inactivity_nanos,
                self.limits.max_inactivity_nanos,
            ),
        }
    }
}

/// Orders matching patterns from the narrowest: for each token literal before `*` before `>`.
fn breadth(pattern: &str) -> Vec<u8> {
    pattern
        .split('.')
        .map(|token| match token {
            ">" => 2,
            "*" => 1,
            _ => 0,
        })
        .collect()
}

pub(super) fn matches(pattern: &str, channel: &str) -> bool {
    let mut tokens = channel.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(token)) if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pattern: &str, max_msgs: i64, max_subs: i64) -> LimitsOverride {
        LimitsOverride {
            pattern: pattern.into(),
            max_msgs,
            max_bytes: 0,
            max_age_nanos: 0,
            max_subs,
            max_inactivity_nanos: 0,
        }
    }

    #[test]
    fn the_narrowest_override_counts_and_inherits_from_wider_ones() {
        let config = EngineConfig {
            overrides: vec![
                entry("foo.bar", 0, -1),
                entry("foo.*", 7, 3),
                entry(">", 5, 2),
            ],
            ..EngineConfig::default()
        };
        let both = |name| {
            let limits = config.limits_of(name);
            (limits.max_msgs, limits.max_subs)
        };
        assert_eq!(both("foo.bar"), (7, 0));
        assert_eq!(both("foo.baz"), (7, 3));
        assert_eq!(both("foo"), (5, 2));
        assert_eq!(config.limits_of("foo.bar").max_bytes, 1_024_000_000);
    }
}
