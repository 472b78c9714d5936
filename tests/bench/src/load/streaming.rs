//! Streaming on the memory store: what is published is acknowledged, what is delivered is acknowledged, and nothing may
//! be missing or come twice.

pub(crate) mod fan;
pub(crate) mod one_in_flight;
mod ping_pong;
pub(crate) mod replay;

/// Every payload, bytes.
pub(crate) const PAYLOAD_BYTES: usize = 128;

/// Messages that real clients let a subscription have at a time, unless told otherwise.
const MAX_IN_FLIGHT: i32 = 1024;
