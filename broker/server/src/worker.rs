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
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use broker_core::{
    effect::{HandlerId, Payload},
    interest::InterestCache,
    peer::Peer,
    router::{Dice, route},
    session::Session,
    subscription::{Subscription, Target},
};
use broker_proto::{encode, op::ServerError};
use tokio::time::{Sleep, sleep_until};
use tracing::{debug, warn};

use crate::{
    connection::{CloseReason, Connection, Phase},
    exchange::{Exchange, ServiceMessage},
    internal::{Bus, Internal},
    launch::Shared,
    mailbox::{Mailbox, Newcomer},
    timers::{Deadline, Timers},
    transport::Transport,
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
    timers: Timers,
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
        let worker = Worker {
            dice: Dice::new(hasher.hash_one(index)),
            exchange: Exchange::new(index, shared),
            cache: InterestCache::default(),
            read_buffer: vec![0; TAIL_ROOM + READ_BYTES],
            timers: Timers::default(),
            pass_due: false,
            pump: None,
            hasher,
        };
        Self {
            worker: Rc::new(RefCell::new(worker)),
        }
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
    pub(crate) fn adopt(&self, socket: TcpStream, address: SocketAddr) {
        let adopted = self.worker.borrow_mut().admit(socket, address);
        let Some((slot, connection)) = adopted else {
            return;
        };
        let handle = self.clone();
        tokio::task::spawn_local(poll_fn(move |cx| {
            handle.worker.borrow_mut().drive(slot, connection, cx)
        }));
    }

    /// Gives a connection to a worker, perhaps this one.
    pub(crate) fn assign(&self, worker: usize, socket: TcpStream, address: SocketAddr) {
        let here = self.worker.borrow().exchange.worker;
        if worker == here {
            self.adopt(socket, address);
        } else {
            let mut this = self.worker.borrow_mut();
            this.exchange.pass_on(worker, (socket, address));
            this.schedule_pass();
        }
    }

    /// Runs for as long as the worker does: ends passes, takes parcels in, wakes connections whose time
    /// has come.
    pub(crate) async fn pump(&self) {
        let mut timer: std::pin::Pin<Box<Sleep>> = Box::pin(sleep_until(Instant::now().into()));
        let mut timer_set = None;
        poll_fn(|cx| {
            let newcomers = self.worker.borrow_mut().pump(cx.waker());
            for (socket, address) in newcomers {
                self.adopt(socket, address);
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
    /// Makes a place for a connection and greets it.
    fn admit(&mut self, socket: TcpStream, address: SocketAddr) -> Option<(usize, u64)> {
        let shared = Arc::clone(&self.exchange.shared);
        let now = Instant::now();
        self.exchange.now = now;
        let socket = match tokio::net::TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                warn!("{address} - unable to serve: {error}");
                shared.release_connection();
                return None;
            }
        };
        let id = shared.next_id();
        let slot = self.exchange.connections.vacant_key();
        let peer = Arc::new(Peer::new(id, self.exchange.worker, slot));
        let phase = match &shared.tls {
            Some(_) => Phase::Greeting {
                deadline: now + shared.config.tls_timeout,
            },
            None => Phase::Open,
        };
        let session = Session::new(&shared.pings(), now);
        let mut connection = Connection::new(peer, address, Transport::new(socket), session, phase);
        connection.put(&shared.info(id, address).to_line(), &mut self.exchange.pool);
        if shared.is_full() {
            let error = Some(ServerError::MaxConnections);
            connection.refuse(error, CloseReason::MaxConnections, &mut self.exchange.pool);
        }
        connection.flush(now, &mut self.exchange.pool);
        debug!("{address} - cid:{id} - Client connection created");
        self.exchange.connections.insert(connection);
        self.exchange.counters.connections += 1;
        self.exchange.counters.total_connections += 1;
        self.schedule_pass();
        Some((slot, id))
    }

    /// Takes a connection out, with everything that others know of it.
    pub(crate) fn release(&mut self, slot: usize) {
        let mut connection = self.exchange.connections.remove(slot);
        let reason = connection.closing.unwrap_or(CloseReason::ClientClosed);
        connection.peer.depart();
        self.remove_subscriptions(&connection.session.close());
        connection.output.clear(&mut self.exchange.pool);
        connection.transport.close();
        self.exchange.counters.connections -= 1;
        if reason == CloseReason::StaleConnection {
            self.exchange.counters.stale_connections += 1;
        }
        self.exchange.shared.release_connection();
        debug!(
            "{} - cid:{} - Client connection closed: {reason}",
            connection.address, connection.peer.id
        );
        self.schedule_pass();
    }

    pub(crate) fn remove_subscriptions(&self, subscriptions: &[Arc<Subscription>]) {
        if !subscriptions.is_empty() {
            self.exchange.shared.sublist.change(|list| {
                for subscription in subscriptions {
                    list.remove(subscription);
                }
            });
        }
    }

    /// Runs the pump once the tasks that are ready now have had their turn.
    pub(crate) fn schedule_pass(&mut self) {
        if !self.pass_due {
            self.pass_due = true;
            if let Some(pump) = &self.pump {
                pump.wake_by_ref();
            }
        }
    }

    fn pump(&mut self, waker: &Waker) -> Vec<Newcomer> {
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
        let mut newcomers = Vec::new();
        let shared = Arc::clone(&self.exchange.shared);
        for parcel in shared.workers[self.exchange.worker].mailbox.take() {
            newcomers.extend(self.exchange.receive(parcel));
            self.pass_due = true;
        }
        if self.pass_due {
            self.end_pass();
        }
        newcomers
    }

    fn mailbox(&self) -> &Mailbox {
        &self.exchange.shared.workers[self.exchange.worker].mailbox
    }

    /// Services act, output goes out, counts are shown.
    fn end_pass(&mut self) {
        self.pass_due = false;
        self.run_services();
        self.exchange.end_exhausted();
        self.exchange.flush();
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
        let limit = self.exchange.shared.config.write_deadline;
        let Some(connection) = self.exchange.connections.get_mut(slot) else {
            return;
        };
        let session = match connection.phase {
            Phase::Greeting { deadline } | Phase::Handshake { deadline } => deadline,
            Phase::Open => connection.session.next_tick(),
        };
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

    /// Tells a publisher on its own inbox that its request reached nobody.
    pub(crate) fn answer_no_responders(&mut self, slot: usize, subject: &[u8], reply: &[u8]) {
        let shared = Arc::clone(&self.exchange.shared);
        let id = self.exchange.connections[slot].peer.id;
        let matches = shared.sublist.read(|list| list.matches(reply));
        let own = matches
            .plain
            .into_iter()
            .find(|one| one.connection() == Some(id));
        let Some(own) = own else { return };
        let granted = own.allowance.claim(1);
        if granted.messages == 1 {
            let prefix = encode::delivery_prefix(reply, &own.sid);
            let connection = &mut self.exchange.connections[slot];
            let mut writer = connection.output.writer(&mut self.exchange.pool);
            encode::no_responders(&prefix, subject, &mut writer);
            self.exchange.touched(slot);
            self.schedule_pass();
        }
        if granted.exhausted {
            self.exchange.exhausted.push(own);
            self.exchange.end_exhausted();
        }
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
        let subscriptions = &mut self.exchange.services.subscriptions;
        let old = subscriptions.insert(handler, Arc::clone(&new));
        self.exchange.shared.sublist.change(|list| {
            if let Some(old) = old {
                list.remove(&old);
            }
            list.insert(new);
        });
    }

    fn unsubscribe(&mut self, handler: HandlerId) {
        if let Some(old) = self.exchange.services.subscriptions.remove(&handler) {
            self.exchange
                .shared
                .sublist
                .change(|list| list.remove(&old));
        }
    }

    fn publish(&mut self, subject: &[u8], reply: &[u8], payload: &Payload) -> bool {
        let interest = self.cache.look_up(subject, &self.exchange.shared.sublist);
        if interest.is_empty() {
            return false;
        }
        let message = ServiceMessage {
            subject,
            reply,
            payload,
        };
        let reached = route(
            &interest,
            &[message],
            None,
            &mut self.dice,
            &mut self.exchange,
        );
        self.exchange.end_exhausted();
        self.schedule_pass();
        reached != 0
    }
}
