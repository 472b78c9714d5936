// TEMPORARY NOTICE of the founding engineer (remove when followed). Two helpers write in tests/ at the same time; divide it so:
// * Helper A (wrote application, control_plane, kubelet, programs, streaming_server, streaming_client, webhook): keeps all of these EXCEPT streaming_client
//   (use stan.rs of B instead; delete streaming_client.rs), and owns tests/tests/{admission_apiserver,rotation_kubelet,streaming_clients}.rs,
//   Makefile, deny.toml, clippy.toml, .ci/run, tests/tools.
// * Helper B (wrote binaries, broker, stan/, certificates, probe): keeps stan/, certificates; uses A's programs.rs instead of binaries.rs and A's
//   streaming_server.rs instead of broker.rs (delete those two; extend A's if something is missing), and owns tests/tests/{streaming_kill,tidy}.rs and
//   tests/tests/ of differential checks against the reference. B does NOT write the kube parts, Makefile, deny, .ci.
// Both: commit at once what compiles, only your own paths. stanchion-broker runs now with all three stores (cargo build -p broker-server).
//! Harness of the integration tests: the real programs around ours, started and stopped, and the patience to wait for
//! them.
//!
//! Nothing here decides what is right; that is said in `tests/tests/`.

pub mod application;
pub mod certificates;
pub mod control_plane;
pub mod patience;
pub mod ports;
pub mod probe;
pub mod process;
pub mod programs;
pub mod rotation;
pub mod stan;
pub mod streaming_server;
pub mod webhook;
