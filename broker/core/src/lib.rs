//! Decisions of the broker. An input and `now` go in, effects come out; nothing here reads a clock,
//! opens a socket or awaits.

pub mod account;
pub mod auth;
pub mod cluster;
pub mod durable;
pub mod effect;
pub mod interest;
pub mod liveness;
pub mod peer;
pub mod router;
pub mod session;
pub mod streaming;
pub mod sublist;
pub mod subscription;

use std::time::Instant;

/// The two clocks a decision may need, read once by the shell for each pass.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For timers and time-outs.
    pub monotonic: Instant,
    /// For timestamps of messages: nanoseconds since the Unix epoch.
    pub unix_nanos: i64,
}
