//! How workers hand things to each other: one push and at most one wake a pass.
//!
//! A mailbox is bounded by what bounds its senders: bytes in it count as waiting for their consumer,
//! above the soft limit producers pause, and above the hard one the consumer is cut.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Waker,
};

use broker_core::subscription::Subscription;
use futures_util::task::AtomicWaker;

use crate::{internal::InternalBatch, listener::Newcomer, output::Chunk, shared::Request};

/// What one worker has for another after a pass.
#[derive(Default)]
pub(crate) struct Parcel {
    /// Output for connections.
    pub(crate) handovers: Vec<Handover>,
    /// Messages for services; to worker 0 only.
    pub(crate) internal: InternalBatch,
    /// Subscriptions that got their last message; out of their account's list already.
    pub(crate) exhausted: Vec<Arc<Subscription>>,
    /// Empty chunks on their way home.
    pub(crate) chunks: Vec<Chunk>,
    /// Connections just accepted.
    pub(crate) newcomers: Vec<Newcomer>,
    /// What the control side wants done.
    pub(crate) requests: Vec<Request>,
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").finish_non_exhaustive()
    }
}

/// Formatted output for one connection.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) slot: usize,
    pub(crate) connection: u64,
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
    pub(crate) payload_bytes: usize,
    /// Replies among the messages, for receivers that note them.
    pub(crate) replies: Vec<Box<[u8]>>,
    pub(crate) chunks: Vec<Chunk>,
}

impl Parcel {
    /// Nothing that the receiver should be woken for.
    pub(crate) fn is_empty(&self) -> bool {
        self.handovers.is_empty()
            && self.internal.is_empty()
            && self.exhausted.is_empty()
            && self.newcomers.is_empty()
            && self.requests.is_empty()
    }
}

/// Of one worker; everybody pushes, the owner takes.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    parcels: Mutex<Vec<Parcel>>,
    filled: AtomicBool,
    /// The owner is about to sleep or sleeps; whoever clears it wakes it.
    asleep: AtomicBool,
    waker: AtomicWaker,
}

impl Mailbox {
    /// Puts a parcel in; wakes the owner only if it sleeps.
    pub(crate) fn push(&self, parcel: Parcel) {
        self.parcels().push(parcel);
        // With `sleep`: either the owner sees the parcel before it sleeps, or this sees it asleep.
        self.filled.store(true, SeqCst);
        if self.asleep.swap(false, SeqCst) {
            self.waker.wake();
        }
    }

    /// Something is there to be taken.
    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(SeqCst)
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Vec<Parcel> {
        if !self.filled.swap(false, SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut *self.parcels())
    }

    /// The task to be woken.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The owner's thread has nothing to do.
    pub(crate) fn sleep(&self) {
        self.asleep.store(true, SeqCst);
        if self.filled.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            self.waker.wake();
        }
    }

    /// The owner's thread goes on.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, SeqCst);
    }

    fn parcels(&self) -> MutexGuard<'_, Vec<Parcel>> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn parcel() -> Parcel {
        Parcel::default()
    }

    #[test]
    fn only_a_sleeping_owner_is_woken_and_only_once() {
        let (mailbox, wakes) = (Mailbox::default(), Arc::new(Wakes::default()));
        for round in 1..3 {
            mailbox.register(&Waker::from(Arc::clone(&wakes)));
            mailbox.sleep();
            mailbox.push(parcel());
            mailbox.push(parcel());
            assert_eq!(wakes.0.load(SeqCst), round);
            mailbox.wake_up();
            assert_eq!(mailbox.take().len(), 2);
            mailbox.push(parcel());
            assert_eq!(wakes.0.load(SeqCst), round);
            assert_eq!(mailbox.take().len(), 1);
        }
    }

    #[test]
    fn an_owner_that_goes_to_sleep_over_a_parcel_is_woken() {
        let (mailbox, wakes) = (Mailbox::default(), Arc::new(Wakes::default()));
        mailbox.register(&Waker::from(Arc::clone(&wakes)));
        mailbox.push(parcel());
        assert_eq!(wakes.0.load(SeqCst), 0);
        mailbox.sleep();
        assert_eq!(wakes.0.load(SeqCst), 1);
        assert!(mailbox.take().len() == 1 && mailbox.take().is_empty());
    }
}
