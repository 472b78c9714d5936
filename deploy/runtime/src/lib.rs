//! The process contract that the manifests rely on, the same for the three programs: how they log,
//! how they are asked to stop, what their admin listener answers, and how they serve HTTPS.
//!
//! What a program *does* is left to it; nothing here knows certificates, Kubernetes or NATS.

pub mod admin;
mod http;
mod logging;
mod signals;
pub mod tls_serve;

pub use http::{Limits, serve};
pub use logging::{FATAL, LogFileSettings, LogFormat, NatsLog, NatsLogSettings, init_logging};
pub use signals::{ProcessSignal, Signals, shutdown_on_signals, signals};
