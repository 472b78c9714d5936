//! Ports that a program under test can be told to use, and use again after a restart.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the kernel takes ports of outgoing connections, so that none of those sits on the port of
/// a program that is being restarted.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Ports are handed out in turn, so that one process gives none twice before it has given all.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of loopback that nobody listens on.
///
/// # Panics
/// When every port of the range is taken.
pub fn free() -> u16 {
    // Test programs that run at the same time begin at different places.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than COUNT");
    for _ in 0..COUNT {
        let turn = NEXT.fetch_add(7, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(turn)) % COUNT;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}
