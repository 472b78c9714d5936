//! Routes between servers over real sockets: ours with nats-server of before and after pools of routes,
//! and with a peer that speaks bytes.

mod hostile;
mod joining;
mod mesh;
mod news;
mod node;
mod peer;
mod queues;
mod reloading;
mod scale;
mod security;
mod streaming;
mod wiring;
