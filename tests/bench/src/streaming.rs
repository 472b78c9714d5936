//! A streaming client of the load: registers, subscribes, publishes and acknowledges over one connection, and shares
//! one thread with the others, so that the load leaves the rest of the machine to the server.

pub(crate) mod frames;
mod subscription;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use broker_proto::streaming::{
    ConnectRequest, ConnectResponse, StartPosition, SubscriptionRequest, SubscriptionResponse,
    UnsubscribeRequest,
};
use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{Client, PATIENCE};
use frames::{Acks, Guid, Next, Publication, Publisher};
use subscription::Subscription;

/// Streaming cluster of every server that is measured.
pub(crate) const CLUSTER: &str = "bench";

/// Read and written at once at most.
const READ_BYTES: usize = 256 * 1024;
const WRITE_BYTES: usize = 256 * 1024;

/// A server listens before it answers streaming requests: then asked again so often ...
const TRY: Duration = Duration::from_millis(100);
/// ... and so long.
const START: Duration = Duration::from_secs(10);
/// Name of durable subscriptions.
const DURABLE: &str = "load";
/// No test of redelivery: later than every pass.
const ACK_WAIT_SECONDS: i32 = 120;

/// Subscriptions of the connection; those to channels come after them.
const HEARTBEATS: usize = 1;
const ACKS: usize = 2;
const REPLIES: usize = 3;
const FIRST: usize = 4;

/// Every registration of a run has a number of its own.
static NEXT_CLIENT: AtomicU32 = AtomicU32::new(0);

/// What a subscription asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// With the next that is published.
    New,
    /// With this sequence.
    At(u64),
    /// The same, as a durable subscription: what it acknowledges is stored.
    DurablyAt(u64),
}

/// A registered client.
#[derive(Debug)]
pub(crate) struct StreamingClient {
    client: Client,
    number: u32,
    server: ConnectResponse,
    /// What is to be sent, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// Answer to the request that is under way.
    reply: Option<Vec<u8>>,
    subscriptions: Vec<Subscription>,
    publications: Vec<Publication>,
    guid: Guid,
    published: u64,
    acknowledged: u64,
    /// Marks of what was published, less those of what was acknowledged: 0 when these are the same.
    outstanding: u64,
    /// Numbers of publications in the order of their acknowledgements, while somebody wants to know.
    order: Option<Vec<u64>>,
}

impl StreamingClient {
    /// Connects and registers, as soon as the server can.
    ///
    /// # Errors
    /// When the server refuses or does not answer in time.
    pub(crate) fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        Self::connect_asking(server, TRY, START)
    }

    /// The same, asking anew when no answer has come for `again`, and giving up after `patience`.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) fn connect_asking(
        server: SocketAddr,
        again: Duration,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + patience;
        loop {
            // A new number each time: that an answer is late does not mean that the registration is not made.
            let number = NEXT_CLIENT.fetch_add(1, Ordering::Relaxed);
            if let Some(client) = Self::register(server, number, again)? {
                return Ok(client);
            }
            ensure!(
                Instant::now() < deadline,
                "no streaming server answers within {patience:?}"
            );
        }
    }

    /// `None` when nobody answers.
    fn register(
        server: SocketAddr,
        number: u32,
        patience: Duration,
    ) -> anyhow::Result<Option<Self>> {
        let mut client = Client::connect(server, None)?;
        client.read_much(READ_BYTES);
        for sid in [HEARTBEATS, ACKS, REPLIES] {
            let inbox = frames::inbox(number, sid);
            client.send(format!("SUB {inbox} {sid}\r\n").as_bytes())?;
        }
        client.ping()?;
        client.wait(false)?;
        let mut client = Self {
            client,
            number,
            server: ConnectResponse::default(),
            out: Vec::with_capacity(2 * WRITE_BYTES),
            sent: 0,
            reply: None,
            subscriptions: Vec::new(),
            publications: Vec::new(),
            guid: Guid::first(),
            published: 0,
            acknowledged: 0,
            outstanding: 0,
            order: None,
        };
        let request = ConnectRequest {
            client_id: client.id(),
            heartbeat_inbox: frames::inbox(number, HEARTBEATS),
            protocol: 1,
            conn_id: client.conn_id().into(),
            ..ConnectRequest::default()
        };
        let subject = format!("_STAN.discover.{CLUSTER}");
        let Some(answer) = client.ask(&subject, &request, patience)? else {
            return Ok(None);
        };
        let answer = ConnectResponse::decode(&answer[..]).context("reading the registration")?;
        ensure!(answer.error.is_empty(), "registering: {}", answer.error);
        client.server = answer;
        Ok(Some(client))
    }

    fn id(&self) -> String {
        format!("load-{:08}", self.number)
    }

    /// As long as those of real clients.
    fn conn_id(&self) -> Vec<u8> {
        format!("{:022}", self.number).into_bytes()
    }

    /// From now on publications go to these channels, by turns.
    pub(crate) fn publish_to(&mut self, channels: &[String], payload_bytes: usize) {
        let (client_id, conn_id) = (self.id(), self.conn_id());
        let acks = frames::inbox(self.number, ACKS);
        let publisher = Publisher {
            client_id: &client_id,
            conn_id: &conn_id,
            prefix: &self.server.pub_prefix,
            acks: &acks,
            payload_bytes,
        };
        let publications = channels
            .iter()
            .map(|channel| Publication::new(&publisher, channel));
        self.publications = publications.collect();
    }

    /// Begins up to `most` publications; less when much waits to be sent.
    pub(crate) fn publish(&mut self, most: u64) {
        let turns = self.publications.len() as u64;
        for _ in 0..most {
            let publication = &self.publications[(self.published % turns) as usize];
            if self.out.len() + publication.bytes() > WRITE_BYTES {
                return;
            }
            publication.put(&mut self.out, &self.guid);
            self.outstanding = self.outstanding.wrapping_add(self.guid.mark());
            self.guid.advance();
            self.published += 1;
        }
    }

    /// Begins publications until there are `end`, as far as the socket takes them: afterwards there is something to wait
    /// for in any case.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) fn publish_up_to(&mut self, end: u64) -> anyhow::Result<()> {
        while self.published < end && self.out.is_empty() {
            self.publish(end - self.published);
            self.write()?;
        }
        Ok(())
    }

    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Fails unless exactly what was published has been acknowledged.
    ///
    /// # Errors
    /// See above.
    pub(crate) fn expect_all_acknowledged(&self) -> anyhow::Result<()> {
        let (published, acknowledged) = (self.published, self.acknowledged);
        ensure!(
            published == acknowledged && self.outstanding == 0,
            "{acknowledged} acknowledgements for {published} messages, or not of the same"
        );
        Ok(())
    }

    /// Which publications, counted from 0, have been acknowledged since the last call; from the first call on.
    pub(crate) fn take_order(&mut self) -> Vec<u64> {
        self.order.replace(Vec::new()).unwrap_or_default()
    }

    /// Messages that the subscription made as number `at` was given so far.
    pub(crate) fn delivered(&self, at: usize) -> u64 {
        self.subscriptions[at].delivered()
    }

    /// Subscribes and acknowledges each message from then on; its number for [`Self::delivered`].
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) fn subscribe(
        &mut self,
        channel: &str,
        start: Start,
        max_in_flight: i32,
    ) -> anyhow::Result<usize> {
        let at = self.subscriptions.len();
        let sid = FIRST + at;
        let inbox = frames::inbox(self.number, sid);
        let line = format!("SUB {inbox} {sid}\r\n");
        self.out.extend_from_slice(line.as_bytes());
        let (start_position, start_sequence) = match start {
            Start::New => (StartPosition::NewOnly, 0),
            Start::At(sequence) | Start::DurablyAt(sequence) => {
                (StartPosition::SequenceStart, sequence)
            }
        };
        let durable = matches!(start, Start::DurablyAt(_));
        self.subscriptions.push(Subscription::new(match start {
            Start::New => None,
            Start::At(sequence) | Start::DurablyAt(sequence) => Some(sequence),
        }));
        let request = SubscriptionRequest {
            client_id: self.id(),
            subject: channel.to_owned(),
            inbox,
            max_in_flight,
            ack_wait_in_secs: ACK_WAIT_SECONDS,
            start_position: start_position.into(),
            start_sequence,
            durable_name: if durable {
                DURABLE.to_owned()
            } else {
                String::new()
            },
            ..SubscriptionRequest::default()
        };
        let answer = self.request(&self.server.sub_requests.clone(), &request)?;
        let answer = SubscriptionResponse::decode(&answer[..]).context("reading the answer")?;
        ensure!(answer.error.is_empty(), "subscribing: {}", answer.error);
        let acks = Acks::new(&answer.ack_inbox, channel);
        self.subscriptions[at].confirm(acks, answer.ack_inbox, &mut self.out);
        Ok(at)
    }

    /// Ends the subscription that was made last.
    ///
    /// # Errors
    /// When there is none, or the server refuses.
    pub(crate) fn unsubscribe(&mut self, channel: &str) -> anyhow::Result<()> {
        let subscription = self.subscriptions.last().context("no subscription")?;
        let request = UnsubscribeRequest {
            client_id: self.id(),
            subject: channel.to_owned(),
            inbox: subscription.ack_inbox().to_owned(),
            ..UnsubscribeRequest::default()
        };
        let answer = self.request(&self.server.unsub_requests.clone(), &request)?;
        let answer = SubscriptionResponse::decode(&answer[..]).context("reading the answer")?;
        ensure!(answer.error.is_empty(), "unsubscribing: {}", answer.error);
        self.subscriptions.pop();
        let sid = FIRST + self.subscriptions.len();
        self.out
            .extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
        Ok(())
    }

    fn request(&mut self, subject: &str, request: &impl Message) -> anyhow::Result<Vec<u8>> {
        let answer = self.ask(subject, request, PATIENCE)?;
        answer.with_context(|| format!("no answer on {subject} within {PATIENCE:?}"))
    }

    /// A request and its answer; `None` when none comes for so long.
    fn ask(
        &mut self,
        subject: &str,
        request: &impl Message,
        patience: Duration,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let reply = frames::inbox(self.number, REPLIES);
        let payload = request.encode_to_vec();
        let line = format!("PUB {subject} {reply} {}\r\n", payload.len());
        for part in [line.as_bytes(), &payload, b"\r\n"] {
            self.out.extend_from_slice(part);
        }
        let deadline = Instant::now() + patience;
        while self.reply.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            turn(std::slice::from_mut(self), left)?;
        }
        Ok(self.reply.take())
    }

    /// Publishes one message and waits for its acknowledgement, in as few system calls as can be: the socket waits.
    ///
    /// # Errors
    /// When the server refuses or falls silent.
    pub(crate) fn publish_and_wait(&mut self) -> anyhow::Result<()> {
        self.publish(1);
        while self.acknowledged < self.published {
            self.write()?;
            self.read()?;
        }
        Ok(())
    }

    /// Whether reading and writing wait; they do not at first.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn wait(&self, wait: bool) -> anyhow::Result<()> {
        self.client.wait(wait)
    }

    fn wants(&self) -> PollFlags {
        match self.sent < self.out.len() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        }
    }

    /// Sends as much of what waits as there is room for.
    fn write(&mut self) -> anyhow::Result<()> {
        while self.sent < self.out.len() {
            match self.client.write(&self.out[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("writing to the server"),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads once, and takes everything that is whole.
    fn read(&mut self) -> anyhow::Result<()> {
        match self.client.read() {
            Ok(true) => self.take(),
            Ok(false) => bail!("the server closed the connection"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("reading from the server"),
        }
    }

    fn take(&mut self) -> anyhow::Result<()> {
        let unread = self.client.unread();
        let mut taken = 0;
        loop {
            let rest = &unread[taken..];
            let (sid, payload, bytes) = match frames::next(rest) {
                Next::Message {
                    sid,
                    payload,
                    bytes,
                } => (sid, payload, bytes),
                Next::Other => {
                    let Some(bytes) = control(rest, &mut self.out)? else {
                        break;
                    };
                    taken += bytes;
                    continue;
                }
                Next::Partial => break,
            };
            let payload = &rest[payload];
            taken += bytes;
            match sid {
                ACKS => {
                    let mark = frames::stored(payload);
                    let mark = mark.with_context(|| refused(payload))?;
                    self.outstanding = self.outstanding.wrapping_sub(mark);
                    if let Some(order) = &mut self.order {
                        order.push(frames::number_of(mark));
                    }
                    self.acknowledged += 1;
                }
                REPLIES => self.reply = Some(payload.to_vec()),
                // A message may be on its way when its subscription ends.
                sid if sid >= FIRST + self.subscriptions.len() => {}
                sid if sid >= FIRST => {
                    self.subscriptions[sid - FIRST].deliver(payload, &mut self.out)?;
                }
                sid => bail!("a message for subscription {sid}"),
            }
        }
        self.client.skip(taken);
        Ok(())
    }
}

fn refused(ack: &[u8]) -> String {
    format!("a publication was refused: {}", ack.escape_ascii())
}

/// Takes a line that is no message without reply, and gives its length; `None` when it is not whole.
fn control(rest: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<usize>> {
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line = rest[..end].trim_ascii_end();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    match words[..] {
        [b"PING"] => out.extend_from_slice(b"PONG\r\n"),
        [b"PONG"] | [b"INFO", ..] => {}
        // A heartbeat has no payload.
        [b"MSG", _, _, reply, b"0"] => {
            let whole = end + 1 + b"\r\n".len();
            if rest.len() < whole {
                return Ok(None);
            }
            out.extend_from_slice(&[b"PUB ", reply, b" 0\r\n\r\n"].concat());
            return Ok(Some(whole));
        }
        _ => bail!("the server says {}", line.escape_ascii()),
    }
    Ok(Some(end + 1))
}

/// Sends what waits on all `clients` and takes what came, after waiting for something for up to `patience`; false when
/// nothing came and nothing could be sent.
///
/// # Errors
/// When the server refuses something, or closes a connection.
pub(crate) fn turn(clients: &mut [StreamingClient], patience: Duration) -> anyhow::Result<bool> {
    for client in clients.iter_mut() {
        client.write()?;
    }
    let mut sockets: Vec<PollFd<'_>> = clients
        .iter()
        .map(|client| PollFd::new(client.client.socket(), client.wants()))
        .collect();
    let patience = Timespec::try_from(patience).context("waiting for so long")?;
    let news = poll(&mut sockets, Some(&patience)).context("waiting for input")? > 0;
    let ready: Vec<bool> = sockets
        .iter()
        .map(|socket| !socket.revents().difference(PollFlags::OUT).is_empty())
        .collect();
    for (client, ready) in clients.iter_mut().zip(ready) {
        if ready {
            client.read()?;
        }
    }
    Ok(news)
}
