//! Monitoring documents of the broker are those of the reference servers.

mod server;
mod streaming;
