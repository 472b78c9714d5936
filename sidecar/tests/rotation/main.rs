//! The sidecar from outside: over HTTPS, through files, as a process.

mod issuer;
mod lock;
mod process;
mod proof;
mod support;
