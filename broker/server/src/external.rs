//! The streaming engine on somebody else's NATS servers: one connection to one of them takes the place of
//! the embedded core.
//!
//! One connection carries everything, where the reference has four. So whatever a client wrote on its own
//! connection comes in here in that order, whichever subscription it matched: a close finds the messages
//! and acks before it handled, and what we answer arrives after what it refers to. The connection is made
//! once at the start, which fails without it, and again and again whenever it is lost. While it is lost
//! nothing is kept to be sent later: clients would get old redeliveries after they acknowledged.

mod credentials;
mod dial;
mod input;
mod link;

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use self::dial::ConnectError;
use self::{
    dial::{Connected, Dialler},
    input::Input,
    link::{Link, Lost},
};
use crate::{
    banner,
    config::ExternalNats,
    internal::{Bus, Internal},
    transport::Transport,
};

/// Between two rounds of attempts to connect again, as with the reference (`createNatsClientConn`).
const RECONNECT_WAIT: Duration = Duration::from_millis(250);

/// Between two pings. A server that has gone without a word is noticed after twice to three times this;
/// streaming clients give up after some seconds to minutes.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Unanswered pings after which the connection is given up.
const MAX_PINGS: usize = 2;

/// Bytes that the engine may have taken in and not worked off before no more are read. What comes then
/// waits in the NATS server, which cuts us at its `max_pending`, 64 MB by default; publishers whose messages
/// go under with that get no acknowledgement.
const MAX_BACKLOG: usize = 32 << 20;

/// Bytes that may wait to be written before no more are read: without acks the engine falls silent.
const MAX_UNSENT: usize = 16 << 20;

/// How long the last bytes may take at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// See the module documentation. One thread, hence cells.
pub(crate) struct External {
    dialler: RefCell<Option<Dialler>>,
    link: RefCell<Link>,
    /// Taken out while it is at work.
    internal: RefCell<Option<Box<dyn Internal>>>,
    /// Notified when the connection is there again.
    up: Notify,
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").finish_non_exhaustive()
    }
}

/// The connection made at the start, to be served by [`External::run`].
#[derive(Debug)]
pub(crate) struct FirstConnection(Connected);

impl External {
    /// Connects to the first server that lets us in. `name` is what the server shows of us.
    ///
    /// # Errors
    /// None does, or files that are configured cannot be used.
    pub(crate) async fn connect(
        settings: ExternalNats,
        name: String,
        stop: &CancellationToken,
    ) -> Result<(Rc<Self>, FirstConnection), ConnectError> {
        let mut dialler = Dialler::new(settings, name, stop)?;
        let first = dialler.connect().await?;
        let external = Rc::new(Self {
            dialler: RefCell::new(Some(dialler)),
            link: RefCell::default(),
            internal: RefCell::new(None),
            up: Notify::new(),
        });
        Ok((external, FirstConnection(first)))
    }

    /// Puts the service in place that messages are for.
    pub(crate) fn install(&self, internal: Box<dyn Internal>) {
        *self.internal.borrow_mut() = Some(internal);
    }

    /// Runs a closure with the service; what it publishes is written when the tasks that are ready now
    /// have had their turn. `None` while the service is at work, or if there is none.
    pub(crate) fn with_internal<R>(
        &self,
        act: impl FnOnce(&mut dyn Internal, &mut dyn Bus) -> R,
    ) -> Option<R> {
        let mut internal = self.internal.borrow_mut().take()?;
        let mut link = self.link.borrow_mut();
        let result = act(&mut *internal, &mut *link);
        link.wake();
        *self.internal.borrow_mut() = Some(internal);
        Some(result)
    }

    /// Waits until a server has seen everything that was written before, over a connection that stands.
    /// Cancel-safe.
    pub(crate) async fn settled(&self) {
        loop {
            let answered = self.link.borrow_mut().ping_for_answer();
            match answered {
                Some(answered) => {
                    if answered.await.is_ok() {
                        return;
                    }
                }
                None => self.up.notified().await,
            }
        }
    }

    /// Writes what is left, at the end.
    pub(crate) async fn finish(&self) {
        // Whoever does not take it by then does without.
        let _ = timeout(CLOSE_PATIENCE, self.settled()).await;
    }

    /// Serves the connection, and connects again whenever it is lost. Never ends by itself: it goes with
    /// its thread.
    pub(crate) async fn run(self: Rc<Self>, first: FirstConnection) {
        let dialler = self.dialler.borrow_mut().take();
        let mut dialler = dialler.expect("it runs once");
        let mut connected = first.0;
        loop {
            let server = connected.server.clone();
            let lost = self.serve(connected).await;
            {
                let mut link = self.link.borrow_mut();
                link.end();
                dialler.discover(&server, link.connect_urls());
            }
            banner::nats_lost(dialler.name(), &lost);
            connected = reconnect(&mut dialler).await;
            banner::nats_again(dialler.name(), &connected.server.address());
        }
    }

    /// One connection, until it is lost.
    async fn serve(&self, connected: Connected) -> Lost {
        let Connected {
            mut transport,
            mut input,
            info,
            ..
        } = connected;
        self.link.borrow_mut().begin(&info);
        self.up.notify_waiters();
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            tokio::select! {
                lost = poll_fn(|cx| self.drive(&mut transport, &mut input, cx)) => return lost,
                _ = pings.tick() => {
                    let mut link = self.link.borrow_mut();
                    // Whoever does not read cannot see the answer.
                    if link.unanswered_pings() >= MAX_PINGS && !self.is_full(&link) {
                        return Lost::Stale;
                    }
                    link.ping();
                }
            }
        }
    }

    /// Reads, lets the service act, writes: as far as that goes without waiting.
    fn drive(
        &self,
        transport: &mut Transport,
        input: &mut Input,
        cx: &mut Context<'_>,
    ) -> Poll<Lost> {
        self.link.borrow_mut().set_waker(cx.waker());
        let lost = match self.read(transport, input, cx) {
            Poll::Ready(Ok(())) => {
                // There may be more; others have their turn first.
                cx.waker().wake_by_ref();
                None
            }
            Poll::Ready(Err(lost)) => Some(lost),
            Poll::Pending => None,
        };
        let written = self.link.borrow_mut().write(transport, cx);
        match (lost, written) {
            (Some(lost), _) | (None, Err(lost)) => Poll::Ready(lost),
            (None, Ok(())) => Poll::Pending,
        }
    }

    /// One pass: takes in what has come, hands it to the service, and lets that act.
    fn read(
        &self,
        transport: &mut Transport,
        input: &mut Input,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Lost>> {
        if self.is_full(&self.link.borrow()) {
            return Poll::Pending;
        }
        let ended = match ready!(input.fill(transport, cx)) {
            Ok(ended) => ended,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        let mut internal = self.internal.borrow_mut().take();
        let mut link = self.link.borrow_mut();
        let outcome = input.take(|op| link.receive(op, internal.as_deref_mut()));
        if let Some(internal) = internal.as_deref_mut() {
            internal.end_of_pass(&mut *link);
        }
        *self.internal.borrow_mut() = internal;
        Poll::Ready(match outcome {
            Ok(()) if ended => Err(link.closed()),
            Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }

    /// The service or the connection is behind.
    fn is_full(&self, link: &Link) -> bool {
        let internal = self.internal.borrow();
        let backlog = internal.as_ref().map_or(0, |one| one.backlog_bytes());
        backlog > MAX_BACKLOG || link.unsent_bytes() > MAX_UNSENT
    }
}

/// Tries until a server lets us in.
async fn reconnect(dialler: &mut Dialler) -> Connected {
    let mut told = String::new();
    loop {
        match dialler.connect().await {
            Ok(connected) => return connected,
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::from(error));
                // Once for each cause: there are four attempts a second.
                if text != told {
                    warn!(target: "streaming", "STREAM: {text}");
                    told = text;
                }
            }
        }
        sleep(RECONNECT_WAIT).await;
    }
}
