//! Routes between servers over real sockets: ours with nats-server of before and after pools of routes,
//! and with a peer that speaks bytes.

mod joining;
mod node;
mod peer;
mod wiring;
