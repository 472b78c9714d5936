//! What the machine itself needs for a message there and one back over loopback, each to a thread that sleeps on another
//! processor, as clients and servers find themselves on a quiet machine. On one processor it would be a tenth, and the
//! scheduler does now this and now that.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use crate::figures::percentile;
use crate::usage::Pinned;

/// About as much as a publication of 128 B, and as its acknowledgement.
const THERE: usize = 300;
const BACK: usize = 70;
/// Trips before the first that counts.
const WARM_UP: usize = 200;

/// Seconds that half of the trips took at most, tried for `length`.
///
/// # Errors
/// When loopback does not work.
pub(crate) fn median_seconds(length: Duration) -> anyhow::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || echo(&listener));
        let took = trips(TcpStream::connect(address)?, length);
        let mut took = took.context("sending to a thread and back")?;
        echo.join().map_err(|_| anyhow!("the echo panicked"))??;
        ensure!(took.len() > WARM_UP, "too few trips in {length:?}");
        let took = &mut took[WARM_UP..];
        took.sort_by(f64::total_cmp);
        Ok(percentile(took, 0.5))
    })
}

/// Answers until the other side has gone.
fn echo(listener: &TcpListener) -> anyhow::Result<()> {
    let _pinned = Pinned::to_core(1)?;
    let (mut socket, _) = listener.accept().context("accepting")?;
    socket.set_nodelay(true)?;
    let mut there = [0; THERE];
    while socket.read_exact(&mut there).is_ok() {
        socket.write_all(&[0; BACK])?;
    }
    Ok(())
}

fn trips(mut socket: TcpStream, length: Duration) -> anyhow::Result<Vec<f64>> {
    let _pinned = Pinned::to_core(0)?;
    socket.set_nodelay(true)?;
    let (mut took, mut back) = (Vec::new(), [0; BACK]);
    let end = Instant::now() + length;
    while took.len() <= WARM_UP || Instant::now() < end {
        let began = Instant::now();
        socket.write_all(&[0; THERE])?;
        socket.read_exact(&mut back)?;
        took.push(began.elapsed().as_secs_f64());
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_takes_time() {
        let seconds = median_seconds(Duration::from_millis(1)).unwrap();
        assert!(seconds > 0.0 && seconds < 1.0, "{seconds}");
    }
}
