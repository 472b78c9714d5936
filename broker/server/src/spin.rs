//! Looking for work a little longer before a worker's thread sleeps.
//!
//! Waking a thread on another core costs about as much as looking for fifty microseconds. A client that
//! waits for an answer before it asks again is served in half the time by a thread that is still awake
//! (measured: unpinned request-reply, median 100 to 50 microseconds). Between looks the core is offered
//! to others. Looking pays where it finds something at least every second time; threads that are less lucky hardly
//! look any more, so that an idle broker sleeps, and so that clients who compute for longer between their
//! messages, for a handshake say, do not have it burn their core.

use std::time::{Duration, Instant};

use crate::worker::WorkerHandle;

/// How long a worker looks.
const LOOK: Duration = Duration::from_micros(50);
/// Most looks in vain in a row before a worker hardly looks any more.
const PATIENCE: u32 = 8;
/// Of the passes then, every how manieth is followed by a look, to notice that it would pay again.
const PROBE: u32 = 64;

/// Whether looking pays.
#[derive(Debug)]
struct Luck {
    /// How many more looks found something than did not, within `0..=PATIENCE`.
    balance: u32,
    skipped: u32,
}

impl Default for Luck {
    fn default() -> Self {
        Self {
            balance: PATIENCE,
            skipped: 0,
        }
    }
}

impl Luck {
    /// Whether to look now.
    fn tries(&mut self) -> bool {
        if self.balance > 0 {
            return true;
        }
        self.skipped += 1;
        self.skipped.is_multiple_of(PROBE)
    }

    fn learns(&mut self, found: bool) {
        self.balance = if found {
            (self.balance + 1).min(PATIENCE)
        } else {
            self.balance.saturating_sub(1)
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

    #[test]
    fn finding_something_every_third_time_does_not_pay() {
        let mut luck = Luck::default();
        let mut looks = |found: fn(u32) -> bool| {
            let mut looks = 0;
            (0..100 * PROBE).for_each(|pass| {
                if luck.tries() {
                    looks += 1;
                    luck.learns(found(pass));
                }
            });
            looks
        };
        assert!(looks(|pass| pass.is_multiple_of(3)) < 400);
        assert!(looks(|pass| !pass.is_multiple_of(3)) > 60 * PROBE);
    }
}
