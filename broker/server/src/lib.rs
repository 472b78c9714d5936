//! NATS server and NATS Streaming server in one process.

mod config;
mod connection;
mod drive;
mod exchange;
mod identity;
mod internal;
mod launch;
mod listener;
mod mailbox;
mod output;
mod stats;
mod timers;
mod transport;
mod worker;
#[cfg(test)]
mod wire;
