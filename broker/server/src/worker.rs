//! One worker: a thread's connections and everything they touch, used by that thread only.
//!
//! A *pass* is what happens between two sleeps: connections that are readable read once each, parse
//! and route; then the pump runs, because every connection that produced something put it behind
//! itself in the run queue. The pump lets services act on what they noted, writes out all
//! connections that got something, and hands parcels to other workers: one write a connection and one
//! push a worker, however many messages there were.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use broker_core::{
    effect::HandlerId,
    interest::InterestCache,
    router::{Dice, MAX_RUN, route},
    subscription::{Subscription, Target},
};
use smallvec::SmallVec;
use tokio::{
    sync::Notify,
    time::{Sleep, sleep_until},
};

use crate::{
    close_reason::CloseReason,
    exchange::{Exchange, ServiceMessage},
    inspect::{ClosedConnections, Departed},
    internal::{Bus, Internal},
    listener::Newcomer,
    mailbox::Mailbox,
    routes::Routes,
    shared::{Request, Shared},
    timers::{Deadline, Timers},
};

/// Input taken in one read.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Rest of an earlier read that is put before the next one; a longer rest (a large body under way)
/// grows where it is.
pub(crate) const TAIL_ROOM: usize = 8 << 10;
/// Rounds in which services answer each other before connections get their turn again.
const MAX_SERVICE_ROUNDS: usize = 8;

/// See the module documentation.
pub(crate) struct Worker {
    pub(crate) exchange: Exchange,
    pub(crate) cache: InterestCache,
    pub(crate) dice: Dice,
    /// Shared by all connections: a read is parsed before the next one begins.
    pub(crate) read_buffer: Vec<u8>,
    pub(crate) closed: ClosedConnections,
    /// By account.
    pub(crate) departed: Vec<Departed>,
    /// What came with parcels and is for the pump.
    arrived: (Vec<Newcomer>, Vec<Request>),
    /// Of worker 0 in a cluster.
    pub(crate) routes: Option<Routes>,
    /// For tasks that a connection needs beside its own.
    this: Weak<RefCell<Self>>,
    timers: Timers,
    /// Reads and parcels that brought something, ever.
    pub(crate) work_done: u64,
    /// Told at the end of a pass with work in it.
    worked: Rc<Notify>,
    /// `work_done` as of the end of the last pass.
    work_seen: u64,
    /// The pump has something to do and is scheduled.
    pass_due: bool,
    pump: Option<Waker>,
    hasher: ahash::RandomState,
}

/// How tasks on a worker's thread reach it. Cheap to clone; not for other threads.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    worker: Rc<RefCell<Worker>>,
}

impl std::fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerHandle").finish_non_exhaustive()
    }
}

impl WorkerHandle {
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Self {
        let hasher = ahash::RandomState::new();
        let worker = |this: &Weak<RefCell<Worker>>| {
            RefCell::new(Worker {
                dice: Dice::new(hasher.hash_one(index)),
                exchange: Exchange::new(index, shared),
                cache: InterestCache::default(),
                read_buffer: vec![0; TAIL_ROOM + READ_BYTES],
                closed: ClosedConnections::default(),
                departed: Vec::new(),
                arrived: Default::default(),
                routes: None,
                this: Weak::clone(this),
                timers: Timers::default(),
                work_done: 0,
                worked: Rc::new(Notify::new()),
                work_seen: 0,
                pass_due: false,
                pump: None,
                hasher,
            })
        };
        Self {
            worker: Rc::new_cyclic(worker),
        }
    }

    /// Runs a closure with the worker; what it wrote to connections leaves at the end of the pass.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Worker) -> R) -> R {
        let mut worker = self.worker.borrow_mut();
        worker.exchange.now = Instant::now();
        let result = act(&mut worker);
        worker.schedule_pass();
        result
    }

    /// Notified at the end of a pass with work in it.
    pub(crate) fn worked(&self) -> Rc<Notify> {
        Rc::clone(&self.worker.borrow().worked)
    }

    /// Grows with everything that comes in.
    pub(crate) fn work_done(&self) -> u64 {
        self.worker.borrow().work_done
    }

    /// Puts the service in place; it gets its first `end_of_pass` soon.
    pub(crate) fn install(&self, internal: Box<dyn Internal>) {
        let mut worker = self.worker.borrow_mut();
        let services = &mut worker.exchange.services;
        services.internal = Some(internal);
        services.installed = true;
        services.noted = true;
        worker.schedule_pass();
    }

    /// Runs a closure with the service; what it publishes is flushed when the tasks that are ready now
    /// have had their turn. `None` if there is no service. Must not be called by the service itself,
    /// which is given the bus where it may use it.
    pub(crate) fn with_internal<R>(
        &self,
        act: impl FnOnce(&mut dyn Internal, &mut dyn Bus) -> R,
    ) -> Option<R> {
        let mut worker = self.worker.borrow_mut();
        worker.exchange.now = Instant::now();
        let mut internal = worker.exchange.services.internal.take()?;
        let result = act(&mut *internal, &mut *worker);
        worker.exchange.services.internal = Some(internal);
        worker.report_backlog();
        worker.schedule_pass();
        Some(result)
    }

    /// Takes a connection over. Must be called within the worker's `LocalSet`.
    pub(crate) fn adopt(&self, newcomer: Newcomer) {
        let adopted = self.worker.borrow_mut().admit(newcomer);
        let Some((slot, connection)) = adopted else {
            return;
        };
        let handle = self.clone();
        tokio::task::spawn_local(poll_fn(move |cx| {
            handle.worker.borrow_mut().drive(slot, connection, cx)
        }));
    }

    /// Gives a connection to a worker, perhaps this one.
    pub(crate) fn assign(&self, worker: usize, newcomer: Newcomer) {
        let here = self.worker.borrow().exchange.worker;
        if worker == here {
            self.adopt(newcomer);
        } else {
            let mut this = self.worker.borrow_mut();
            this.exchange.pass_on(worker, newcomer);
            this.schedule_pass();
        }
    }

    /// Runs for as long as the worker does: ends passes, takes parcels in, wakes connections whose time
    /// has come.
    pub(crate) async fn pump(&self) {
        let mut timer: std::pin::Pin<Box<Sleep>> = Box::pin(sleep_until(Instant::now().into()));
        let mut timer_set = None;
        poll_fn(|cx| {
            let (newcomers, requests) = self.worker.borrow_mut().pump(cx.waker());
            for newcomer in newcomers {
                self.adopt(newcomer);
            }
            for request in requests {
                request(self);
            }
            loop {
                let next = self.worker.borrow_mut().fire_timers(Instant::now());
                let Some(next) = next else {
                    return Poll::<()>::Pending;
                };
                if timer_set != Some(next) {
                    timer.as_mut().reset(next.into());
                    timer_set = Some(next);
                }
                std::task::ready!(timer.as_mut().poll(cx));
                timer_set = None;
            }
        })
        .await;
    }

    /// Flushes and closes all connections; returns whether all are gone.
    pub(crate) fn close_all(&self) -> bool {
        let mut worker = self.worker.borrow_mut();
        worker.end_pass();
        for (_, connection) in &mut worker.exchange.connections {
            connection.close(CloseReason::ServerShutdown);
        }
        worker.exchange.connections.is_empty()
    }
}

impl Worker {
    /// Runs the pump once the tasks that are ready now have had their turn.
    pub(crate) fn schedule_pass(&mut self) {
        if !self.pass_due {
            self.pass_due = true;
            if let Some(pump) = &self.pump {
                pump.wake_by_ref();
            }
        }
    }

    fn pump(&mut self, waker: &Waker) -> (Vec<Newcomer>, Vec<Request>) {
        if self
            .pump
            .as_ref()
            .is_none_or(|known| !known.will_wake(waker))
        {
            self.pump = Some(waker.clone());
        }
        // Every wake takes the registration with it.
        self.mailbox().register(waker);
        self.exchange.now = Instant::now();
        self.take_parcels();
        if self.pass_due {
            self.end_pass();
        }
        std::mem::take(&mut self.arrived)
    }

    /// What other workers have sent. Also taken between a read and what it asks for: whoever wrote after
    /// somebody was answered elsewhere must get what was delivered before that first. Taken before the
    /// read it could still come in between.
    pub(crate) fn take_parcels(&mut self) {
        if !self.mailbox().is_filled() {
            return;
        }
        let shared = Arc::clone(&self.exchange.shared);
        for parcel in shared.workers[self.exchange.worker].mailbox.take() {
            let (newcomers, requests) = self.exchange.receive(parcel);
            self.arrived.0.extend(newcomers);
            self.arrived.1.extend(requests);
            self.work_done += 1;
            self.schedule_pass();
        }
    }

    /// The handle again, for a task beside the one at work.
    pub(crate) fn handle(&self) -> WorkerHandle {
        let worker = self.this.upgrade();
        WorkerHandle {
            worker: worker.expect("whoever is at work is there"),
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.exchange.shared.workers[self.exchange.worker].mailbox
    }

    /// Services act, output goes out, counts are shown.
    fn end_pass(&mut self) {
        self.pass_due = false;
        self.run_services();
        self.tell_routes();
        self.exchange.flush();
        if self.work_seen != self.work_done {
            self.work_seen = self.work_done;
            self.worked.notify_one();
        }
        self.exchange.congested.clear();
        let shared = &self.exchange.shared;
        shared.workers[self.exchange.worker]
            .counters
            .show(&self.exchange.counters);
    }

    fn run_services(&mut self) {
        if !self.exchange.services.installed {
            return;
        }
        for _ in 0..MAX_SERVICE_ROUNDS {
            if !std::mem::take(&mut self.exchange.services.noted) {
                break;
            }
            let Some(mut internal) = self.exchange.services.internal.take() else {
                return;
            };
            std::mem::take(&mut self.exchange.services.deferred).deliver(&mut *internal);
            internal.end_of_pass(self);
            self.exchange.services.internal = Some(internal);
        }
        self.report_backlog();
        if self.exchange.services.noted {
            self.schedule_pass();
        }
    }

    /// Lets producers everywhere know how far the service is behind.
    fn report_backlog(&self) {
        if let Some(internal) = &self.exchange.services.internal {
            self.exchange
                .shared
                .internal
                .report(internal.backlog_bytes(), 0);
        }
    }

    /// Wakes the connections whose time has come; returns the next deadline.
    fn fire_timers(&mut self, now: Instant) -> Option<Instant> {
        while let Some((slot, id, kind, at)) = self.timers.due(now) {
            let connection = self.exchange.connections.get_mut(slot);
            if let Some(connection) = connection.filter(|one| one.peer.id == id) {
                connection.armed.fired(kind, at);
                connection.wake();
            }
        }
        self.timers.next()
    }

    /// Makes sure that the connection's task runs when its next deadlines come.
    pub(crate) fn arm_timers(&mut self, slot: usize) {
        if !self.exchange.connections.contains(slot) {
            return;
        }
        let limit = self.exchange.write_deadline(slot);
        let Some(connection) = self.exchange.connections.get_mut(slot) else {
            return;
        };
        let session = connection.phase.deadline();
        let session = session.unwrap_or_else(|| connection.liveness.next_tick());
        let session = connection
            .authenticate_by
            .map_or(session, |by| by.min(session));
        let deadlines = [
            (Deadline::Session, Some(session)),
            (Deadline::Write, connection.write_deadline(limit)),
            (Deadline::Pause, connection.paused_until),
        ];
        let id = connection.peer.id;
        let mut earlier = false;
        for (kind, at) in deadlines {
            if let Some(at) = at {
                earlier |= self.timers.arm(&mut connection.armed, kind, at, slot, id);
            }
        }
        if earlier && let Some(pump) = &self.pump {
            pump.wake_by_ref();
        }
    }

    /// A number in `0.0..1.0` to spread timers with.
    pub(crate) fn jitter(&self, of: u64) -> f64 {
        (self.hasher.hash_one(of) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Bus for Worker {
    fn subscribe(&mut self, subject: &[u8], handler: HandlerId) {
        let new = Arc::new(Subscription::new(
            subject,
            b"",
            b"",
            Target::Internal(handler),
        ));
        let exchange = &mut self.exchange;
        let old = exchange
            .services
            .subscriptions
            .insert(handler, Arc::clone(&new));
        let global = exchange.shared.accounts.global();
        exchange.shared.subscribe(global, new);
        exchange.shared.unsubscribe(global, old.as_slice());
    }

    fn unsubscribe(&mut self, handler: HandlerId) {
        let exchange = &mut self.exchange;
        let old = exchange.services.subscriptions.remove(&handler);
        let global = exchange.shared.accounts.global();
        exchange.shared.unsubscribe(global, old.as_slice());
    }

    fn publish(&mut self, subject: &[u8], reply: &[u8], payloads: &[[&[u8]; 2]]) -> bool {
        let shared = Arc::clone(&self.exchange.shared);
        let global = shared.accounts.global();
        let interest = self.cache.look_up(subject, global);
        if interest.is_empty() {
            return false;
        }
        let mut reached = 0;
        for run in payloads.chunks(MAX_RUN) {
            let messages: SmallVec<[_; MAX_RUN]> = run
                .iter()
                .map(|payload| ServiceMessage {
                    subject,
                    reply,
                    payload: *payload,
                })
                .collect();
            reached |= route(
                &interest,
                &messages,
                None,
                &mut self.dice,
                &mut self.exchange,
            );
        }
        self.exchange.end_exhausted(global);
        self.count_forwarded(global);
        self.schedule_pass();
        reached != 0
    }
}
