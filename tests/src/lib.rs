//! Harness of the integration tests: the real programs around ours, started and stopped, and the patience to wait for
//! them.
//!
//! Nothing here decides what is right; that is said in `tests/tests/`.

pub mod application;
pub mod certificates;
pub mod control_plane;
pub mod conversation;
pub mod core_client;
pub mod environment;
pub mod kubelet;
pub mod ledger;
pub mod nkey;
pub mod patience;
pub mod player;
pub mod ports;
pub mod probe;
pub mod process;
pub mod programs;
pub mod rotation;
pub mod stan;
pub mod streaming_client;
pub mod streaming_server;
pub mod webhook;
pub mod wire;
