//! Effects of the engine to the bus, the store and the timer, and their outcomes back.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use broker_core::{
    Now,
    durable::FlushOutcome,
    effect::{Effect, HandlerId},
    streaming::{Claim, Engine},
};
use broker_proto::upstream::is_no_responders;
use broker_store::Store;
use tokio::{
    sync::{Notify, oneshot, watch},
    task::spawn_local,
};

use super::{
    host::Host,
    probe::{self, Answer},
};
use crate::{
    internal::{Bus, Internal},
    monitor::FlushFigures,
};

/// Reads both clocks.
pub(crate) fn now() -> Now {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        monotonic: Instant::now(),
        unix_nanos: i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX),
    }
}

/// What the tasks of one broker's streaming side share. One thread, hence cells.
pub(crate) struct Shared {
    /// None while this process is standby.
    engine: RefCell<Option<Engine>>,
    pub(super) store: Rc<dyn Store>,
    host: Host,
    began: Instant,
    /// Who waits for an answer to the start-up check.
    probe: Cell<Option<oneshot::Sender<Answer>>>,
    /// Handlers in force on the bus, so that a deposed engine leaves nothing behind.
    handlers: RefCell<HashSet<HandlerId>>,
    /// The clocks as read for the pass under way.
    pass_now: Cell<Option<Now>>,
    /// Wakes the timer task: the earliest deadline may have changed.
    timer: Notify,
    /// Deadline that the timer task sleeps for.
    armed: Cell<Option<Instant>>,
    /// Flushes under way; the store may be closed when there is none.
    flushing: Cell<usize>,
    flush_ended: Notify,
    /// Whether the engine may have its channels.
    claim: watch::Sender<Claim>,
    flush_figures: Cell<FlushFigures>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(store: Rc<dyn Store>, host: Host) -> Rc<Self> {
        let shared = Rc::new(Self {
            engine: RefCell::new(None),
            store,
            host,
            began: Instant::now(),
            probe: Cell::new(None),
            handlers: RefCell::default(),
            pass_now: Cell::new(None),
            timer: Notify::new(),
            armed: Cell::new(None),
            flushing: Cell::new(0),
            flush_ended: Notify::new(),
            claim: watch::Sender::new(Claim::Asking),
            flush_figures: Cell::default(),
        });
        spawn_local(run_timers(Rc::clone(&shared)));
        shared
    }

    /// Puts an engine in charge and performs its first effects.
    pub(super) fn install(self: &Rc<Self>, engine: Engine) {
        self.claim.send_replace(Claim::Asking);
        *self.engine.borrow_mut() = Some(engine);
        self.pass();
    }

    /// Takes the engine out of charge: no effect of it is performed any more, nothing listens.
    pub(super) fn remove(self: &Rc<Self>) {
        *self.engine.borrow_mut() = None;
        let handlers: Vec<_> = self.handlers.borrow_mut().drain().collect();
        self.host.with_internal(|_, bus| {
            for handler in handlers {
                bus.unsubscribe(handler);
            }
        });
    }

    /// Something happened outside a read pass: tell the engine, then perform what it wants.
    pub(super) fn drive(self: &Rc<Self>, tell: impl FnOnce(&mut Engine, Now)) {
        if let Some(engine) = self.engine.borrow_mut().as_mut() {
            tell(engine, now());
        }
        self.pass();
    }

    /// Reads from the engine without driving it.
    pub(super) fn inspect<R>(&self, look: impl FnOnce(&Engine) -> R) -> Option<R> {
        self.engine.borrow().as_ref().map(look)
    }

    /// Sums over the life of the process.
    pub(super) fn flush_figures(&self) -> FlushFigures {
        self.flush_figures.get()
    }

    /// What the engine stands on.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// When the process began to bring the engine up.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The next message for [`probe::HANDLER`] goes there.
    pub(super) fn await_answer(&self, waiting: oneshot::Sender<Answer>) {
        self.probe.set(Some(waiting));
    }

    /// The engine's claim as it changes; see [`Engine::claim`].
    pub(super) fn claim(&self) -> watch::Receiver<Claim> {
        self.claim.subscribe()
    }

    fn tell_claim(&self, engine: &Engine) {
        self.claim.send_if_modified(|told| {
            let is_new = *told != *engine.claim();
            if is_new {
                told.clone_from(engine.claim());
            }
            is_new
        });
    }

    /// Waits until no flush is under way.
    pub(super) async fn flushed(&self) {
        while self.flushing.get() > 0 {
            self.flush_ended.notified().await;
        }
    }

    fn pass(&self) {
        self.host
            .with_internal(|internal, bus| internal.end_of_pass(bus));
    }

    fn now_of_pass(&self) -> Now {
        self.pass_now.get().unwrap_or_else(|| {
            let read = now();
            self.pass_now.set(Some(read));
            read
        })
    }

    fn perform(self: &Rc<Self>, engine: &mut Engine, effect: Effect, bus: &mut dyn Bus, now: Now) {
        match effect {
            Effect::Subscribe { subject, handler } => {
                self.handlers.borrow_mut().insert(handler);
                bus.subscribe(&subject, handler);
            }
            Effect::Unsubscribe { handler } => {
                self.handlers.borrow_mut().remove(&handler);
                bus.unsubscribe(handler);
            }
            Effect::Publish {
                subject,
                reply,
                payload,
                request,
            } => {
                let pieces = [&payload.body[..], &payload.tail[..]];
                let interest = bus.publish(&subject, &reply, &[pieces]);
                if let (false, Some(request)) = (interest, request) {
                    engine.no_responders(request, now);
                }
            }
            Effect::Acknowledge(answers) => {
                for (subject, acks) in answers.runs() {
                    let acks: Vec<[&[u8]; 2]> = acks.map(|ack| [ack, b""]).collect();
                    bus.publish(subject, b"", &acks);
                }
            }
            Effect::Flush { lane, batch } => {
                let shared = Rc::clone(self);
                self.flushing.set(self.flushing.get() + 1);
                spawn_local(async move {
                    let rows = batch.rows.len();
                    let began = Instant::now();
                    let outcome = shared.store.flush(lane, batch).await;
                    shared.record_flush(rows, began, &outcome);
                    shared.drive(|engine, now| engine.flushed(lane, outcome, now));
                });
            }
            Effect::Load {
                load,
                channel,
                from,
                max_rows,
                max_bytes,
            } => {
                let shared = Rc::clone(self);
                spawn_local(async move {
                    let read = shared.store.read(channel, from, max_rows, max_bytes).await;
                    let read = read.map_err(|error| error.to_string());
                    shared.drive(|engine, now| engine.loaded(load, read, now));
                });
            }
            Effect::Count {
                load,
                channel,
                up_to,
            } => {
                let shared = Rc::clone(self);
                spawn_local(async move {
                    let counted = shared.store.count(channel, up_to).await;
                    let counted = counted.map_err(|error| error.to_string());
                    shared.drive(|engine, now| engine.counted(load, counted, now));
                });
            }
            Effect::FindSequence {
                load,
                channel,
                timestamp,
            } => {
                let shared = Rc::clone(self);
                spawn_local(async move {
                    let found = shared.store.sequence_at(channel, timestamp).await;
                    let found = found.map_err(|error| error.to_string());
                    shared.drive(|engine, now| engine.found(load, found, now));
                });
            }
        }
    }

    fn record_flush(&self, rows: usize, began: Instant, outcome: &FlushOutcome) {
        self.flushing.set(self.flushing.get() - 1);
        self.flush_ended.notify_waiters();
        let mut figures = self.flush_figures.get();
        figures.flushes += 1;
        figures.seconds += began.elapsed().as_secs_f64();
        if *outcome == FlushOutcome::Stored {
            figures.rows += rows as u64;
        }
        self.flush_figures.set(figures);
    }
}

/// Sleeps until the engine's earliest deadline, then lets it act. Never ends by itself: it goes
/// with worker 0.
async fn run_timers(shared: Rc<Shared>) {
    loop {
        let deadline = shared.armed.get();
        let changed = shared.timer.notified();
        match deadline {
            None => changed.await,
            Some(at) => {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at.into()) => {
                        shared.armed.set(None);
                        shared.drive(Engine::tick);
                    }
                }
            }
        }
    }
}

/// The engine as the worker sees it.
#[derive(Debug)]
pub(crate) struct StreamingService {
    shared: Rc<Shared>,
}

impl StreamingService {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared }
    }
}

impl Internal for StreamingService {
    fn deliver(
        &mut self,
        handler: HandlerId,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) {
        let nobody = is_no_responders(headers, payload);
        if handler == probe::HANDLER {
            let answer = match nobody {
                true => Answer::NoResponders,
                false => Answer::Payload(payload.to_vec()),
            };
            // Whoever asked may have gone.
            let _ = self.shared.probe.take().map(|waiting| waiting.send(answer));
            return;
        }
        let now = self.shared.now_of_pass();
        if let Some(engine) = self.shared.engine.borrow_mut().as_mut() {
            match nobody {
                true => engine.no_responders_on(subject, now),
                false => engine.message(handler, subject, reply, payload, now),
            }
        }
    }

    fn end_of_pass(&mut self, bus: &mut dyn Bus) {
        let now = self.shared.now_of_pass();
        self.shared.pass_now.set(None);
        let mut guard = self.shared.engine.borrow_mut();
        let Some(engine) = guard.as_mut() else { return };
        engine.end_of_pass(now);
        for notice in engine.take_notices() {
            tracing::warn!(target: "streaming", "STREAM: {notice}");
        }
        while let Some(effect) = engine.next_effect() {
            self.shared.perform(engine, effect, bus, now);
        }
        self.shared.tell_claim(engine);
        let deadline = engine.next_deadline();
        if deadline != self.shared.armed.get() {
            self.shared.armed.set(deadline);
            self.shared.timer.notify_one();
        }
    }

    fn servers_changed(&mut self) {
        let now = self.shared.now_of_pass();
        if let Some(engine) = self.shared.engine.borrow_mut().as_mut() {
            engine.servers_changed(now);
        }
    }

    fn backlog_bytes(&self) -> usize {
        self.shared.inspect(Engine::backlog_bytes).unwrap_or(0)
    }
}
