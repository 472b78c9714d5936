//! A TCP proxy that makes its target farther away: every byte arrives later, and none is held back by another.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

/// Read at once at most.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks on their way; beyond it the proxy stops reading, as a full link does. More than any party has in flight.
const CHUNKS: usize = 4096;

/// Listens until the process ends.
#[derive(Debug)]
pub(crate) struct Delay {
    pub(crate) port: u16,
}

impl Delay {
    /// Adds `round_trip` to what it takes to `target` and back, half of it each way.
    ///
    /// # Errors
    /// When loopback does not work.
    pub(crate) fn start(target: SocketAddr, round_trip: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A party that cannot be connected sees its connection closed.
                let _ = connect(client, target, round_trip / 2);
            }
        });
        Ok(Self { port })
    }
}

fn connect(client: TcpStream, target: SocketAddr, late: Duration) -> anyhow::Result<()> {
    let server = TcpStream::connect(target)?;
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
    }
    forward(client.try_clone()?, server.try_clone()?, late);
    forward(server, client, late);
    Ok(())
}

fn forward(from: TcpStream, to: TcpStream, late: Duration) {
    let (put, take) = sync_channel(CHUNKS);
    thread::spawn(move || read(from, &put, late));
    thread::spawn(move || write(to, &take));
}

fn read(mut from: TcpStream, put: &SyncSender<(Instant, Vec<u8>)>, late: Duration) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(bytes) = from.read(&mut buffer) {
        let chunk = (Instant::now() + late, buffer[..bytes].to_vec());
        if bytes == 0 || put.send(chunk).is_err() {
            return;
        }
    }
}

fn write(mut to: TcpStream, take: &Receiver<(Instant, Vec<u8>)>) {
    for (due, chunk) in take {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    // Whoever waits at either end is told.
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_in_order_and_not_before_their_time() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let round_trip = Duration::from_millis(20);
        let delay = Delay::start(listener.local_addr().unwrap(), round_trip).unwrap();
        let echo = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut there = [0; 3];
            socket.read_exact(&mut there).unwrap();
            socket.write_all(&there).unwrap();
        });
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, delay.port)).unwrap();
        let began = Instant::now();
        socket.write_all(b"ab").unwrap();
        socket.write_all(b"c").unwrap();
        let mut back = [0; 3];
        socket.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"abc");
        assert!(began.elapsed() >= round_trip);
        echo.join().unwrap();
        assert_eq!(
            socket.read(&mut back).unwrap(),
            0,
            "the end is passed on too"
        );
    }
}
