//! The configurations under which histories are played.

use std::time::Duration;

use crate::history::FEW;

/// How long the channel `age` keeps a message.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(6);

/// After so long without use the channel `rest` is deleted: longer than a history takes without its waits.
pub(crate) const MAX_INACTIVITY: Duration = Duration::from_secs(6);

/// Heartbeats come so often where clients are to be missed.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Channels that a history of a crowded server has before it begins. It gets no other, because the server is full then.
const CROWDED: &[usize] = &[0, FEW];

/// What all servers of the histories are told. The first token of a channel is its history's.
const CONFIG: &str = r#"
streaming {
  store_limits {
    max_channels: MAX_CHANNELS
    max_subs: 0
    max_msgs: 0
    max_bytes: 0
    channels {
      "*.few" { max_msgs: 3 }
      "*.bytes" { max_bytes: 160 }
      "*.subs" { max_subs: 2 }
      "*.age" { max_age: "6s" }
      "*.rest" { max_inactivity: "6s" }
    }
  }
}
"#;

/// One configuration, and what histories under it may do.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) flags: &'static [&'static str],
    /// Keeps messages in files, so that the server can be restarted.
    pub(crate) files: bool,
    /// Everybody leaves, until channels are deleted.
    pub(crate) rests: bool,
    /// Stands on a NATS server of its own instead of the one inside of it.
    pub(crate) external: bool,
    /// As many channels as there are when the histories begin.
    pub(crate) crowded: bool,
    /// Clients that answer nothing are dropped soon.
    pub(crate) drops: bool,
    /// Clients that answer nothing are noticed soon, and never dropped.
    pub(crate) misses: bool,
    /// Histories that are played at a time: as many as there are waits to be filled.
    pub(crate) at_a_time: u64,
    /// Played in runs of so many histories in all, on top of the others: on a machine that is busy with other tests the
    /// time for which a server waits for a client that is to be replaced is over by chance.
    pub(crate) least: u64,
    /// Of 100 histories, so many are of this profile.
    pub(crate) share: u64,
}

impl Profile {
    /// Channels that every history of it finds.
    pub(crate) fn channels(&self) -> &'static [usize] {
        if self.crowded { CROWDED } else { &[] }
    }

    /// The configuration for so many histories.
    pub(crate) fn config(&self, histories: usize) -> String {
        // Each has one more for its barrier.
        let channels = if self.crowded {
            histories * (CROWDED.len() + 1)
        } else {
            0
        };
        CONFIG.replace("MAX_CHANNELS", &channels.to_string())
    }

    /// Histories are played in groups to servers of their own.
    pub(crate) fn groups(&self) -> bool {
        self.files || self.crowded
    }
}

/// The heartbeats of `drops`: after two seconds without an answer.
const DROPS: &[&str] = &["-hbi", "1s", "-hbt", "1s", "-hbf", "1"];
/// The heartbeats of `misses`.
const MISSES: &[&str] = &["-hbi", "1s", "-hbt", "1s", "-hbf", "100000"];

/// Histories of a run that is not one of all tests.
const LONG_RUN: u64 = 1_000;

/// All of them.
pub(crate) const PROFILES: [Profile; 8] = [
    Profile {
        name: "plain",
        flags: &[],
        files: false,
        rests: false,
        external: false,
        crowded: false,
        drops: false,
        misses: false,
        at_a_time: 48,
        least: 0,
        share: 55,
    },
    Profile {
        name: "replacing",
        flags: &["-replace_durable"],
        files: false,
        rests: false,
        external: false,
        crowded: false,
        drops: false,
        misses: false,
        at_a_time: 48,
        least: 0,
        share: 15,
    },
    Profile {
        name: "restarted",
        flags: &[],
        files: true,
        rests: false,
        external: false,
        crowded: false,
        drops: false,
        misses: false,
        at_a_time: 40,
        least: 0,
        share: 10,
    },
    Profile {
        name: "crowded",
        flags: &[],
        files: false,
        rests: false,
        external: false,
        crowded: true,
        drops: false,
        misses: false,
        at_a_time: 40,
        least: 0,
        share: 5,
    },
    Profile {
        name: "dropping",
        flags: DROPS,
        files: false,
        rests: false,
        external: false,
        crowded: false,
        drops: true,
        misses: false,
        at_a_time: 64,
        least: 0,
        share: 10,
    },
    Profile {
        name: "missing",
        flags: MISSES,
        files: false,
        rests: false,
        external: false,
        crowded: false,
        drops: false,
        misses: true,
        at_a_time: 64,
        least: 0,
        share: 5,
    },
    Profile {
        name: "resting",
        flags: &[],
        files: false,
        rests: true,
        external: false,
        crowded: false,
        drops: false,
        misses: false,
        at_a_time: 32,
        least: LONG_RUN,
        share: 4,
    },
    Profile {
        name: "external",
        flags: &[],
        files: false,
        rests: false,
        external: true,
        crowded: false,
        drops: false,
        misses: false,
        at_a_time: 16,
        least: LONG_RUN,
        share: 5,
    },
];
