//! Monitoring documents of the broker are those of the reference servers.

mod details;
mod routes;
mod server;
mod streaming;
