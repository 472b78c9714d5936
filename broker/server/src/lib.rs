//! NATS server and NATS Streaming server in one process.

mod admission;
mod apply;
mod assemble;
mod authenticate;
mod banner;
mod close_reason;
mod config;
mod connection;
mod drive;
mod exchange;
mod external;
mod handshake_rate;
mod identity;
mod inspect;
mod interfaces;
mod internal;
mod lame_duck;
mod launch;
mod listener;
mod mailbox;
mod metrics;
mod monitor;
mod operate;
mod output;
mod panics;
mod process_files;
mod reload;
mod route_interest;
mod routes;
mod run;
mod settings;
mod shared;
mod signals;
mod spin;
mod stats;
mod store_command;
mod streaming;
mod timers;
mod trace;
mod transport;
#[cfg(test)]
mod wire;
mod worker;

pub use run::run;
