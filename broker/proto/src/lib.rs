//! Bytes to operations and back: the NATS client protocol, NATS Streaming messages, and the
//! configuration syntax that both servers share. Pure: no socket, no clock, no task.

pub mod conf;
pub mod encode;
pub mod headers;
pub mod info;
mod json;
pub mod op;
pub mod parser;
pub mod quote;
pub mod route;
pub mod streaming;
pub mod subject;
pub mod upstream;
