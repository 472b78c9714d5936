//! The streaming engine on NATS servers that are not ours: start, credentials, TLS, outages, and the check
//! for a second server with the same cluster id. Numbers as N-16 are those of the list of behaviours that
//! streaming applications rely on.

mod alone;
mod credentials;
mod encrypted;
mod outage;
mod partitions;
mod serving;
mod stage;
mod start;
