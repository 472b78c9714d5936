//! The configurations under which histories are played.

use std::time::Duration;

/// How long the channel `age` keeps a message.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(4);

/// Heartbeats come so often where clients are to be missed.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// What all servers of the histories are told. The first token of a channel is its history's.
pub(crate) const CONFIG: &str = r#"
streaming {
  store_limits {
    max_channels: 0
    max_subs: 0
    max_msgs: 0
    max_bytes: 0
    channels {
      "*.few" { max_msgs: 3 }
      "*.bytes" { max_bytes: 160 }
      "*.subs" { max_subs: 2 }
      "*.age" { max_age: "4s" }
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
    /// Clients that answer nothing are dropped soon.
    pub(crate) drops: bool,
    /// Clients that answer nothing are noticed soon, and never dropped.
    pub(crate) misses: bool,
    /// Histories that are played at a time: as many as there are waits to be filled.
    pub(crate) at_a_time: u64,
    /// Of 100 histories, so many are of this profile.
    pub(crate) share: u64,
}

/// The heartbeats of `drops`: after two seconds without an answer.
const DROPS: &[&str] = &["-hbi", "1s", "-hbt", "1s", "-hbf", "1"];
/// The heartbeats of `misses`.
const MISSES: &[&str] = &["-hbi", "1s", "-hbt", "1s", "-hbf", "100000"];

/// All of them.
pub(crate) const PROFILES: [Profile; 5] = [
    Profile {
        name: "plain",
        flags: &[],
        files: false,
        drops: false,
        misses: false,
        at_a_time: 48,
        share: 60,
    },
    Profile {
        name: "replacing",
        flags: &["-replace_durable"],
        files: false,
        drops: false,
        misses: false,
        at_a_time: 32,
        share: 10,
    },
    Profile {
        name: "restarted",
        flags: &[],
        files: true,
        drops: false,
        misses: false,
        at_a_time: 40,
        share: 10,
    },
    Profile {
        name: "dropping",
        flags: DROPS,
        files: false,
        drops: true,
        misses: false,
        at_a_time: 64,
        share: 10,
    },
    Profile {
        name: "missing",
        flags: MISSES,
        files: false,
        drops: false,
        misses: true,
        at_a_time: 64,
        share: 10,
    },
];
