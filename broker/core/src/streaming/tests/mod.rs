//! Claims about the engine, made against its public inputs and effects only.

mod connect;
mod delivery;
mod durable;
mod flush;
mod harness;
mod heartbeat;
mod inactivity;
mod invariants;
mod leave;
mod limits;
mod members;
mod model_store;
mod odd_records;
mod partition;
mod publish;
mod queue;
mod redelivery;
mod restart;
mod simulation;
mod subscribe;
mod totals;
