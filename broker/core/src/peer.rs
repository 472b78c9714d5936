//! The face a connection shows to other workers: who it is, how much waits for it, and whether a
//! fast producer should hold back for it.
//!
//! The rule: while more than [`SOFT_LIMIT`] bytes wait for a consumer, the sockets of those who
//! produce for it are left unread, at most [`MAX_PAUSE`] at a time, as long as the consumer takes
//! bytes. One that has taken none for [`STUCK_AFTER`] earns no further pause: it is queued up to the
//! hard limit and cut, and healthy consumers beside it go on. (Granting a single pause without
//! progress was tried: at a gigabyte a second a client that collects garbage for 80 ms is cut.) A
//! service inside the broker is never cut, so producers wait for it as long as it takes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
    },
    task::Waker,
    time::{Duration, Instant},
};

use crate::auth::permissions::Permissions;

/// Bytes waiting for a consumer above which producers pause. Measured: 256 KiB stalls too often,
/// 8 MiB loses as much by leaving the cache.
pub const SOFT_LIMIT: usize = 1 << 20;
/// Longest that a producer is left unread without looking again.
pub const MAX_PAUSE: Duration = Duration::from_millis(10);
/// How long a consumer may take nothing before it is not waited for any more.
pub const STUCK_AFTER: Duration = Duration::from_millis(250);

/// Written by the worker that owns the connection, read by all.
#[derive(Debug)]
pub struct Peer {
    /// Unique for the life of the process.
    pub id: u64,
    /// Index of the worker the connection is pinned to.
    pub worker: usize,
    /// Place in that worker's table; reused after the connection has gone, so compare `id` too.
    pub slot: usize,
    /// Never cut, so producers have to wait.
    patient: bool,
    headers: AtomicBool,
    /// What its user may do; `None`: everything.
    permissions: RwLock<Option<Arc<Permissions>>>,
    /// Replies that it gets are noted, because it may answer them.
    notes_replies: AtomicBool,
    /// Bytes queued with the owner, as of the end of its last pass.
    pending: AtomicUsize,
    /// Bytes handed over by other workers and not yet seen by the owner.
    in_transit: AtomicUsize,
    /// Bytes ever accepted by the socket.
    taken: AtomicU64,
    gone: AtomicBool,
    /// There is something in the gate, so that a report looks into it only then.
    watched: AtomicBool,
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    /// `taken` as of the last look, and when it was first seen so; `None` while there is room.
    progress: Option<(u64, Instant)>,
    waiting: Vec<Waker>,
}

impl Peer {
    /// Of a connection.
    #[must_use]
    pub fn new(id: u64, worker: usize, slot: usize) -> Self {
        Self {
            id,
            worker,
            slot,
            patient: false,
            headers: AtomicBool::new(false),
            permissions: RwLock::new(None),
            notes_replies: AtomicBool::new(false),
            pending: AtomicUsize::new(0),
            in_transit: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            gate: Mutex::new(Gate::default()),
        }
    }

    /// Of the services inside the broker, all together.
    #[must_use]
    pub fn internal(worker: usize) -> Self {
        Self {
            patient: true,
            ..Self::new(0, worker, usize::MAX)
        }
    }

    /// Whether messages may go out with their headers.
    #[must_use]
    pub fn headers(&self) -> bool {
        self.headers.load(Relaxed)
    }

    /// Set by `CONNECT`.
    pub fn set_headers(&self, headers: bool) {
        self.headers.store(headers, Relaxed);
    }

    /// Set by `CONNECT` and by a reload. What subscriptions of this connection get changes once their
    /// account's list has been [invalidated](crate::sublist::Sublist::invalidate), if there are any.
    pub fn set_permissions(&self, permissions: Option<Arc<Permissions>>) {
        let responses = permissions.as_ref().and_then(|one| one.responses());
        self.notes_replies.store(responses.is_some(), Relaxed);
        *self
            .permissions
            .write()
            .unwrap_or_else(PoisonError::into_inner) = permissions;
    }

    /// Whether a subscription in a group (empty: none) may get a message on a subject.
    #[must_use]
    pub fn may_receive(&self, queue_group: &[u8], subject: &[u8]) -> bool {
        let permissions = self
            .permissions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        permissions
            .as_ref()
            .is_none_or(|one| one.may_receive(queue_group, subject))
    }

    /// Whether its connection wants to know the replies of what it gets (`allow_responses`).
    #[must_use]
    pub fn notes_replies(&self) -> bool {
        self.notes_replies.load(Relaxed)
    }

    /// The connection is closing.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }

    /// Bytes waiting, wherever they are.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.pending.load(SeqCst) + self.in_transit.load(Relaxed)
    }

    /// Another worker hands bytes over.
    pub fn hand_over(&self, bytes: usize) {
        self.in_transit.fetch_add(bytes, Relaxed);
    }

    /// The owner has got bytes that were handed over.
    pub fn receive(&self, bytes: usize) {
        let before = self.in_transit.fetch_sub(bytes, Relaxed);
        debug_assert!(
            before >= bytes,
            "{before} bytes were in transit, {bytes} arrived"
        );
    }

    /// The owner tells how things stand; producers that wait go on once half the limit is free.
    pub fn report(&self, pending: usize, taken: u64) {
        self.taken.store(taken, Release);
        self.pending.store(pending, SeqCst);
        // Not only where `pending` falls: a producer can wait for bytes that were all in transit, and
        // that the socket took as they arrived.
        if self.watched.load(SeqCst) && self.waiting_bytes() <= SOFT_LIMIT / 2 {
            self.release();
        }
    }

    /// The connection is being closed: nobody needs to wait for it any more.
    pub fn depart(&self) {
        self.gone.store(true, Release);
        self.release();
    }

    /// Until when a producer should leave its socket unread because of this consumer; it is woken
    /// earlier if there is room again. `None`: it may go on.
    pub fn pause(&self, now: Instant, producer: &Waker) -> Option<Instant> {
        if self.waiting_bytes() <= SOFT_LIMIT || self.gone.load(Acquire) {
            return None;
        }
        let mut gate = self.gate();
        // With `report`: either it sees this, or the second look below sees what it has written.
        self.watched.store(true, SeqCst);
        let taken = self.taken.load(Acquire);
        let since = match gate.progress {
            Some((seen, since)) if seen == taken => since,
            _ => {
                gate.progress = Some((taken, now));
                now
            }
        };
        if !self.patient && now.saturating_duration_since(since) >= STUCK_AFTER {
            return None;
        }
        if !gate.waiting.iter().any(|waker| waker.will_wake(producer)) {
            gate.waiting.push(producer.clone());
        }
        drop(gate);
        // The owner may have drained between the first look and the registration.
        if self.waiting_bytes() <= SOFT_LIMIT / 2 || self.gone.load(Acquire) {
            return None;
        }
        Some(now + MAX_PAUSE)
    }

    fn release(&self) {
        let mut gate = self.gate();
        self.watched.store(false, SeqCst);
        let Gate { waiting, .. } = std::mem::take(&mut *gate);
        drop(gate);
        for producer in waiting {
            producer.wake();
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in the critical sections can panic half way.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    fn congested(peer: Peer) -> (Peer, Instant) {
        peer.report(SOFT_LIMIT + 1, 0);
        (peer, Instant::now())
    }

    #[test]
    fn a_consumer_that_takes_nothing_is_not_waited_for_long() {
        let (peer, start) = congested(Peer::new(1, 0, 0));
        assert_eq!(peer.pause(start, Waker::noop()), Some(start + MAX_PAUSE));
        let late = start + STUCK_AFTER - MAX_PAUSE;
        assert_eq!(peer.pause(late, Waker::noop()), Some(late + MAX_PAUSE));
        let stuck = start + STUCK_AFTER;
        assert_eq!(peer.pause(stuck, Waker::noop()), None);
        peer.report(SOFT_LIMIT + 1, 1);
        assert_eq!(peer.pause(stuck, Waker::noop()), Some(stuck + MAX_PAUSE));
    }

    #[test]
    fn room_in_between_begins_a_new_count() {
        let (peer, start) = congested(Peer::new(1, 0, 0));
        assert!(peer.pause(start, Waker::noop()).is_some());
        peer.report(0, 0);
        peer.report(SOFT_LIMIT + 1, 0);
        assert!(peer.pause(start + 2 * STUCK_AFTER, Waker::noop()).is_some());
    }

    #[test]
    fn services_inside_are_waited_for() {
        let (peer, start) = congested(Peer::internal(0));
        assert!(peer.pause(start, Waker::noop()).is_some());
        assert!(peer.pause(start + 2 * STUCK_AFTER, Waker::noop()).is_some());
    }

    /// Counts wakes.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn producers_go_on_when_the_socket_takes_what_was_in_transit() {
        let (peer, woken) = (Peer::new(1, 0, 0), Arc::new(Woken::default()));
        peer.hand_over(SOFT_LIMIT + 1);
        let paused = peer.pause(Instant::now(), &Waker::from(Arc::clone(&woken)));
        assert!(paused.is_some());
        peer.receive(SOFT_LIMIT + 1);
        peer.report(0, 1);
        assert_eq!(woken.0.load(Relaxed), 1);
    }

    #[test]
    fn bytes_on_their_way_count() {
        let peer = Peer::new(1, 0, 0);
        peer.hand_over(SOFT_LIMIT + 1);
        assert!(peer.pause(Instant::now(), Waker::noop()).is_some());
        peer.receive(SOFT_LIMIT + 1);
        assert_eq!(peer.waiting_bytes(), 0);
    }

    #[test]
    fn nobody_waits_below_the_limit_or_for_one_that_is_gone() {
        let peer = Peer::new(1, 0, 0);
        peer.report(SOFT_LIMIT, 0);
        assert_eq!(peer.pause(Instant::now(), Waker::noop()), None);
        let (peer, start) = congested(peer);
        peer.depart();
        assert_eq!(peer.pause(start, Waker::noop()), None);
    }
}
