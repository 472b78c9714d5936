//! The broker as a process, beside the real nats-server: the files it leaves, the signals it hears, the
//! log it keeps, and how it ends.

mod checks;
mod commands;
mod ends;
mod files;
mod lame_duck;
mod reload;
mod secrets;
mod server;
mod trace;
