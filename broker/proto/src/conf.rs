//! The configuration file syntax of nats-server.
