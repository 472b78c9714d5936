//! Looking for work a little longer before a worker's thread sleeps.
//!
//! Waking a thread on another core costs about as much as looking for fifty microseconds. A client that
//! waits for an answer before it asks again is served in half the time by a thread that is still awake
//! (measured: unpinned request-reply, median 100 to 50 microseconds). Between looks the core is offered
//! to others. Threads that look in vain again and again look less often, so that an idle broker sleeps.

use std::time::{Duration, Instant};

use crate::worker::WorkerHandle;

/// How long a worker looks.
const LOOK: Duration = Duration::from_micros(50);
/// Looks in vain after which a worker hardly looks any more.
const PATIENCE: u32 = 8;
/// Of the passes then, every how manieth is followed by a look, to notice that it would pay again.
const PROBE: u32 = 64;

/// Whether looking pays.
#[derive(Debug, Default)]
struct Luck {
    in_vain: u32,
    skipped: u32,
}

impl Luck {
    /// Whether to look now.
    fn tries(&mut self) -> bool {
        if self.in_vain < PATIENCE {
            return true;
        }
        self.skipped += 1;
        self.skipped.is_multiple_of(PROBE)
    }

    fn learns(&mut self, found: bool) {
        self.in_vain = if found {
            0
        } else {
            (self.in_vain + 1).min(PATIENCE)
        };
    }
}

/// Runs for as long as the worker does. Useless on a machine with one core, where whoever looks keeps
/// others from producing what it looks for.
pub(crate) async fn look_for_work(worker: WorkerHandle) {
    let mut luck = Luck::default();
    let worked = worker.worked();
    loop {
        worked.notified().await;
        if luck.tries() {
            let found = look(&worker).await;
            luck.learns(found);
        }
    }
}

/// Whether something came in time.
async fn look(worker: &WorkerHandle) -> bool {
    let (before, end) = (worker.work_done(), Instant::now() + LOOK);
    while Instant::now() < end {
        rustix::thread::sched_yield();
        // The runtime looks at its sockets before this goes on.
        tokio::task::yield_now().await;
        if worker.work_done() != before {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_in_vain_looks_seldom_until_something_is_found() {
        let mut luck = Luck::default();
        for _ in 0..PATIENCE {
            assert!(luck.tries());
            luck.learns(false);
        }
        let tries = (0..10 * PROBE).filter(|_| luck.tries()).count();
        assert_eq!(tries, 10);
        luck.learns(true);
        assert!(luck.tries());
    }
}
