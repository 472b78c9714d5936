//! A proxy between a broker and what it is connected to, which delays, freezes and cuts.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, oneshot, watch},
    task::JoinSet,
};

use crate::{
    plan::Way,
    wire::{Acks, Answer, Requests},
};

/// Bytes that are read at once; a statement of some messages fits.
const CHUNK_BYTES: usize = 1 << 16;

/// What is on its way on this machine has come after so long.
const STILL: Duration = Duration::from_millis(50);

/// What the statements are recognised by that write messages.
const INSERT: &[u8] = b"INTO Messages";

/// What the statement is recognised by that keeps the store.
const TICK: &[u8] = b"tick = tick + 1";

/// The database's answer to an insert of one row that was prepared before.
const CONFIRMED: &[u8] = b"2\0\0\0\x04C\0\0\0\x0fINSERT 0 1\0Z\0\0\0\x05I";

/// What was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sprung {
    Cut,
    /// The answer was over before, and went through: so many bytes.
    Whole(usize),
}

/// How it is on the line.
#[derive(Clone, Debug, Default)]
struct Weather {
    frozen: Vec<Way>,
    delay: Duration,
    /// Ticks wait, and what follows them on their connection.
    holds_ticks: bool,
    /// New connections are closed at once.
    is_closed: bool,
    /// Connections made before this many cuts are gone.
    cuts: u64,
}

/// What becomes of the insert that is waited for.
#[derive(Clone, Copy, Debug)]
enum Snare {
    /// The connection is cut after so many bytes that way.
    Cut(Way, usize),
    /// Nothing of it passes, and it is confirmed.
    Lie,
}

/// Waits for the next insert on any connection.
#[derive(Debug)]
struct Trap {
    snare: Snare,
    sprung: oneshot::Sender<Sprung>,
}

#[derive(Debug)]
struct Line {
    target: u16,
    weather: watch::Sender<Weather>,
    trap: Mutex<Option<Trap>>,
    /// Bytes that went up, and acknowledgements among them.
    bytes: AtomicUsize,
    acks: AtomicUsize,
}

/// Listens on a port of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    line: Arc<Line>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// # Errors
    /// No port is free.
    pub(crate) async fn start(target: u16) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, 0, target).await
    }

    /// At this address and port; 0 is any port.
    ///
    /// # Errors
    /// It is taken.
    pub(crate) async fn start_at(
        address: Ipv4Addr,
        port: u16,
        target: u16,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, port)).await;
        let listener = listener.context("listening for a proxy")?;
        let port = listener.local_addr()?.port();
        let line = Arc::new(Line {
            target,
            weather: watch::Sender::default(),
            trap: Mutex::default(),
            bytes: AtomicUsize::new(0),
            acks: AtomicUsize::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&line)));
        Ok(Self {
            port,
            line,
            _accepting: accepting,
        })
    }

    /// Nothing passes these ways until [`Self::calm`].
    pub(crate) fn freeze(&self, ways: &[Way]) {
        let ways = ways.to_vec();
        self.change(|weather| weather.frozen = ways);
    }

    /// No tick passes until [`Self::calm`].
    pub(crate) fn hold_ticks(&self) {
        self.change(|weather| weather.holds_ticks = true);
    }

    /// Everything passes this much later until [`Self::calm`].
    pub(crate) fn delay(&self, by: Duration) {
        self.change(|weather| weather.delay = by);
    }

    /// Ends all connections, and new ones until [`Self::calm`].
    pub(crate) fn cut(&self) {
        self.change(|weather| {
            weather.cuts += 1;
            weather.is_closed = true;
        });
    }

    /// Everything passes again.
    pub(crate) fn calm(&self) {
        self.change(|weather| {
            *weather = Weather {
                cuts: weather.cuts,
                ..Weather::default()
            }
        });
    }

    /// Cuts the connection of the next insert when so many bytes of it, or of its answer, have passed.
    pub(crate) fn cut_insert(&self, way: Way, bytes: usize) -> oneshot::Receiver<Sprung> {
        self.set(Snare::Cut(way, bytes))
    }

    /// Swallows the next insert and confirms it.
    pub(crate) fn lie(&self) -> oneshot::Receiver<Sprung> {
        self.set(Snare::Lie)
    }

    fn set(&self, snare: Snare) -> oneshot::Receiver<Sprung> {
        let (sprung, receiver) = oneshot::channel();
        *self.line.trap() = Some(Trap { snare, sprung });
        receiver
    }

    /// Acknowledgements of publishes that went up so far, when nothing more comes for a while.
    pub(crate) async fn acks_when_still(&self) -> usize {
        loop {
            let before = self.line.bytes.load(Relaxed);
            tokio::time::sleep(STILL).await;
            if self.line.bytes.load(Relaxed) == before {
                return self.acks();
            }
        }
    }

    /// Acknowledgements of publishes that went up so far.
    pub(crate) fn acks(&self) -> usize {
        self.line.acks.load(Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.line.weather.send_modify(change);
    }
}

impl Line {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().expect("nobody panics while holding it")
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                connections.spawn(carry(client, Arc::clone(&line)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, to its end on either side.
async fn carry(client: TcpStream, line: Arc<Line>) {
    let mut weather = line.weather.subscribe();
    let (cuts, is_closed) = {
        let now = weather.borrow();
        (now.cuts, now.is_closed)
    };
    if is_closed {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", line.target)).await else {
        return;
    };
    // Without it the sockets are only slower.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let passage = Passage {
        line: &line,
        limit: Mutex::default(),
        end: Notify::new(),
        lie: Notify::new(),
    };
    tokio::select! {
        () = passage.up(from_client, to_server) => {}
        () = passage.down(from_server, to_client) => {}
        () = passage.end.notified() => {}
        _ = weather.wait_for(|weather| weather.cuts > cuts) => {}
    }
}

/// What both directions of a connection share.
struct Passage<'a> {
    line: &'a Line,
    /// The answer that is cut, from its first byte on.
    limit: Mutex<Option<Limit>>,
    end: Notify,
    lie: Notify,
}

impl Passage<'_> {
    async fn up(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut weather = self.line.weather.subscribe();
        let mut requests = Requests::new(INSERT);
        let mut ticks = Requests::new(TICK);
        let mut acks = Acks::default();
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Some(length) = read(&mut from, &mut chunk, Way::Up, &mut weather).await {
            let bytes = &chunk[..length];
            let mut passing = bytes;
            self.line.bytes.fetch_add(length, Relaxed);
            self.line.acks.fetch_add(acks.read(bytes), Relaxed);
            if ticks.read(bytes)
                && weather
                    .wait_for(|weather| !weather.holds_ticks)
                    .await
                    .is_err()
            {
                return;
            }
            if requests.read(bytes)
                && let Some(trap) = self.line.trap().take()
            {
                match trap.snare {
                    Snare::Cut(Way::Down, bytes) => self.limit(trap, bytes),
                    Snare::Cut(Way::Up, most) => {
                        passing = &bytes[..most.min(length)];
                        // Whoever waits for it may have given up.
                        let _ = trap.sprung.send(Sprung::Cut);
                        self.end.notify_one();
                    }
                    Snare::Lie => {
                        let _ = trap.sprung.send(Sprung::Cut);
                        self.lie.notify_one();
                        continue;
                    }
                }
            }
            if to.write_all(passing).await.is_err() || passing.len() < length {
                return;
            }
        }
    }

    async fn down(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut weather = self.line.weather.subscribe();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            // Nothing else is under way on a connection that waits for the answer to an insert.
            let length = tokio::select! {
                () = self.lie.notified() => {
                    if to.write_all(CONFIRMED).await.is_err() {
                        return;
                    }
                    continue;
                }
                length = read(&mut from, &mut chunk, Way::Down, &mut weather) => length,
            };
            let Some(length) = length else { return };
            let cut_at = self.cut_at(&chunk[..length]);
            let passing = &chunk[..cut_at.unwrap_or(length)];
            if to.write_all(passing).await.is_err() || cut_at.is_some() {
                return;
            }
        }
    }

    fn limit(&self, trap: Trap, bytes: usize) {
        *self.limited() = Some(Limit {
            bytes,
            answer: Answer::new(),
            sprung: trap.sprung,
        });
    }

    fn limited(&self) -> MutexGuard<'_, Option<Limit>> {
        self.limit.lock().expect("nobody panics while holding it")
    }

    /// How many of these bytes may pass before the connection is cut, if it is.
    fn cut_at(&self, bytes: &[u8]) -> Option<usize> {
        let mut limited = self.limited();
        let (sprung, passing) = limited.as_mut()?.read(bytes)?;
        let limit = limited.take()?;
        // Whoever waits for it may have given up.
        let _ = limit.sprung.send(sprung);
        (sprung == Sprung::Cut).then_some(passing)
    }
}

/// How much of an answer may pass.
#[derive(Debug)]
struct Limit {
    bytes: usize,
    answer: Answer,
    sprung: oneshot::Sender<Sprung>,
}

impl Limit {
    /// Takes bytes of the answer in; what became of it, once that is known, and how many of these bytes belong to it.
    fn read(&mut self, bytes: &[u8]) -> Option<(Sprung, usize)> {
        if self.bytes == 0 {
            return Some((Sprung::Cut, 0));
        }
        bytes.iter().zip(1..).find_map(|(byte, passed)| {
            let is_over = self.answer.read(*byte);
            let length = self.answer.length();
            if length == self.bytes {
                return Some((Sprung::Cut, passed));
            }
            is_over.then_some((Sprung::Whole(length), passed))
        })
    }
}

/// The next bytes that may pass, late if the weather says so. None: the connection is over.
async fn read(
    from: &mut OwnedReadHalf,
    chunk: &mut [u8],
    way: Way,
    weather: &mut watch::Receiver<Weather>,
) -> Option<usize> {
    loop {
        let delay = weather.wait_for(|weather| !weather.frozen.contains(&way));
        let delay = delay.await.ok()?.delay;
        tokio::select! {
            biased;
            changed = weather.changed() => changed.ok()?,
            length = from.read(chunk) => {
                tokio::time::sleep(delay).await;
                return length.ok().filter(|length| *length > 0);
            }
        }
    }
}
