//! NATS server and NATS Streaming server in one process.

mod assemble;
mod banner;
mod config;
mod connection;
mod drive;
mod exchange;
mod identity;
mod interfaces;
mod internal;
mod launch;
mod listener;
mod mailbox;
mod metrics;
mod monitor;
mod output;
mod process_files;
mod run;
mod signals;
mod stats;
mod streaming;
mod timers;
mod transport;
#[cfg(test)]
mod wire;
mod worker;

pub use run::run;
