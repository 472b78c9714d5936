//! What the engine sees of the connection: subscriptions that outlive it, and what waits to be written.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSlice},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use ahash::RandomState;
use broker_core::effect::HandlerId;
use broker_proto::{
    encode::{PING, PONG, Sink},
    op::ParseError,
    upstream::{self, UpstreamInfo, UpstreamOp},
};
use bytes::{Buf, BufMut, BytesMut};
use tokio::sync::oneshot;
use tracing::warn;

use crate::{
    internal::{Bus, Internal},
    transport::Transport,
};

/// A complaint of the server that is repeated is logged again after this time.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the NATS server closed the connection")]
    Closed,
    /// The server said why.
    #[error("the NATS server closed the connection: {0}")]
    Told(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("what the NATS server sent is not understood: {0}")]
    Protocol(#[from] ParseError),
    #[error("the NATS server does not answer")]
    Stale,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Without a connection nothing is kept to be written.
    is_up: bool,
    unsent: Unsent,
    /// Bytes of a payload that the server takes.
    max_payload: usize,
    /// All servers of its cluster, as it told last.
    connect_urls: Vec<String>,
    subscriptions: HashMap<HandlerId, Subscription, RandomState>,
    /// What the server calls the subscriptions: numbers that are never used again.
    handlers: HashMap<u64, HandlerId, RandomState>,
    last_sid: u64,
    /// One for each `PING` that is not answered yet, and who waits for that.
    pings: VecDeque<Option<oneshot::Sender<()>>>,
    /// Of the task that reads and writes.
    waker: Option<Waker>,
    complaint: Option<Complaint>,
}

#[derive(Debug)]
struct Subscription {
    sid: u64,
    subject: Box<[u8]>,
}

/// `-ERR`.
#[derive(Debug)]
struct Complaint {
    text: String,
    at: Instant,
}

/// Bytes to be written.
#[derive(Debug, Default)]
struct Unsent(BytesMut);

impl Sink for Unsent {
    fn put(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }
}

impl Link {
    /// A connection stands: everything is subscribed to again.
    pub(super) fn begin(&mut self, info: &UpstreamInfo) {
        self.is_up = true;
        self.learn(info);
        for subscription in self.subscriptions.values() {
            upstream::put_subscribe(&subscription.subject, subscription.sid, &mut self.unsent);
        }
    }

    /// The connection is lost, and what was not written is lost with it.
    pub(super) fn end(&mut self) {
        self.is_up = false;
        self.unsent = Unsent::default();
        self.pings.clear();
        self.complaint = None;
    }

    fn learn(&mut self, info: &UpstreamInfo) {
        self.max_payload = usize::try_from(info.max_payload).unwrap_or(usize::MAX);
        self.connect_urls.clone_from(&info.connect_urls);
    }

    /// `host:port` of the servers of the cluster.
    pub(super) fn connect_urls(&self) -> &[String] {
        &self.connect_urls
    }

    /// One operation of the server.
    pub(super) fn receive(
        &mut self,
        op: UpstreamOp<'_>,
        internal: Option<&mut (dyn Internal + 'static)>,
    ) {
        match op {
            UpstreamOp::Message { sid, publication } => {
                if let (Some(handler), Some(internal)) = (self.handlers.get(&sid), internal) {
                    internal.deliver(
                        *handler,
                        publication.subject,
                        publication.reply,
                        publication.headers(),
                        publication.payload(),
                    );
                }
            }
            UpstreamOp::Ping => self.unsent.put(PONG),
            UpstreamOp::Pong => {
                if let Some(Some(waiting)) = self.pings.pop_front() {
                    // Whoever asked may have gone.
                    let _ = waiting.send(());
                }
            }
            UpstreamOp::Info(json) => {
                if let Ok(info) = UpstreamInfo::from_json(json) {
                    self.learn(&info);
                    if let Some(internal) = internal {
                        internal.servers_changed();
                    }
                }
            }
            UpstreamOp::Error(text) => self.complain(&text.escape_ascii().to_string()),
            UpstreamOp::Ignored => {}
        }
    }

    /// Logs what the server does not like, but not for every message anew.
    fn complain(&mut self, text: &str) {
        let now = Instant::now();
        let known = self.complaint.as_ref();
        if known.is_some_and(|known| known.text == text && now < known.at + COMPLAINT_PAUSE) {
            return;
        }
        warn!(target: "streaming", "STREAM: NATS server: {text}");
        self.complaint = Some(Complaint {
            text: text.to_owned(),
            at: now,
        });
    }

    /// Why the other end may have closed.
    pub(super) fn closed(&mut self) -> Lost {
        let told = self.complaint.take();
        // Permissions are a matter of single subjects.
        let fatal = told.filter(|one| !one.text.starts_with("Permissions Violation"));
        fatal.map_or(Lost::Closed, |one| Lost::Told(one.text))
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self) {
        self.send_ping(None);
    }

    /// Told when the server has seen everything before; `None` without a connection, and an error when
    /// that is lost.
    pub(super) fn ping_for_answer(&mut self) -> Option<oneshot::Receiver<()>> {
        let (sender, receiver) = oneshot::channel();
        self.is_up.then(|| {
            self.send_ping(Some(sender));
            receiver
        })
    }

    fn send_ping(&mut self, waiting: Option<oneshot::Sender<()>>) {
        self.unsent.put(PING);
        self.pings.push_back(waiting);
        self.wake();
    }

    pub(super) fn unanswered_pings(&self) -> usize {
        self.pings.len()
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent.0.len()
    }

    pub(super) fn set_waker(&mut self, waker: &Waker) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            self.waker = Some(waker.clone());
        }
    }

    /// Lets the task that reads and writes look again.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Writes as far as the socket takes it, and has the task woken when it takes more.
    pub(super) fn write(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Result<(), Lost> {
        while !self.unsent.0.is_empty() || transport.has_unsent() {
            let outcome = match self.unsent.0.is_empty() {
                true => transport.send_accepted().map(|()| 0),
                false => transport.try_write_vectored(&[IoSlice::new(&self.unsent.0)]),
            };
            match outcome {
                Ok(written) => self.unsent.0.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            let blocked = transport.has_unsent() || !self.unsent.0.is_empty();
            if blocked && transport.poll_write_ready(cx)?.is_pending() {
                break;
            }
        }
        Ok(())
    }
}

impl Bus for Link {
    fn subscribe(&mut self, subject: &[u8], handler: HandlerId) {
        self.unsubscribe(handler);
        self.last_sid += 1;
        let sid = self.last_sid;
        self.handlers.insert(sid, handler);
        let subscription = Subscription {
            sid,
            subject: subject.into(),
        };
        self.subscriptions.insert(handler, subscription);
        if self.is_up {
            upstream::put_subscribe(subject, sid, &mut self.unsent);
        }
    }

    fn unsubscribe(&mut self, handler: HandlerId) {
        let Some(Subscription { sid, .. }) = self.subscriptions.remove(&handler) else {
            return;
        };
        self.handlers.remove(&sid);
        if self.is_up {
            upstream::put_unsubscribe(sid, &mut self.unsent);
        }
    }

    /// Who is interested the server knows, and says later ([`upstream::is_no_responders`]); without a
    /// connection nobody is.
    fn publish(&mut self, subject: &[u8], reply: &[u8], payloads: &[[&[u8]; 2]]) -> bool {
        if !self.is_up {
            return false;
        }
        for payload in payloads {
            if payload[0].len() + payload[1].len() > self.max_payload {
                let limit = self.max_payload;
                // The server would close the connection.
                self.complain(&format!(
                    "a message of more than max_payload ({limit} bytes) is not sent"
                ));
                continue;
            }
            upstream::put_publish(subject, reply, payload, &mut self.unsent);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: HandlerId = HandlerId(3);

    fn up() -> Link {
        let mut link = Link::default();
        link.begin(&UpstreamInfo::default());
        link
    }

    fn written(link: &mut Link) -> String {
        String::from_utf8(link.unsent.0.split().to_vec()).unwrap()
    }

    fn payload(text: &str) -> [[&[u8]; 2]; 1] {
        [[text.as_bytes(), b""]]
    }

    #[test]
    fn subscriptions_outlive_the_connection_and_publications_do_not() {
        let mut link = up();
        link.subscribe(b"a", HANDLER);
        link.subscribe(b"b", HandlerId(4));
        assert!(link.publish(b"x", b"r", &payload("hi")));
        link.unsubscribe(HandlerId(4));
        assert_eq!(
            written(&mut link),
            "SUB a 1\r\nSUB b 2\r\nPUB x r 2\r\nhi\r\nUNSUB 2\r\n"
        );
        assert!(link.publish(b"x", b"", &payload("lost")));
        link.end();
        assert!(!link.publish(b"x", b"", &payload("not kept")));
        assert!(link.ping_for_answer().is_none());
        link.subscribe(b"c", HANDLER);
        link.begin(&UpstreamInfo::default());
        assert_eq!(written(&mut link), "SUB c 3\r\n");
    }

    #[test]
    fn who_waits_for_an_answer_hears_of_the_answer_or_of_the_loss() {
        let mut link = up();
        link.ping();
        let mut answered = link.ping_for_answer().unwrap();
        let mut lost = link.ping_for_answer().unwrap();
        link.receive(UpstreamOp::Pong, None);
        assert!(answered.try_recv().is_err());
        link.receive(UpstreamOp::Pong, None);
        assert_eq!(answered.try_recv(), Ok(()));
        link.end();
        assert_eq!(lost.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn what_would_close_the_connection_is_not_sent() {
        let mut link = up();
        link.receive(UpstreamOp::Info(br#"{"max_payload":3}"#), None);
        assert!(link.publish(b"x", b"", &payload("four")));
        assert!(link.publish(b"x", b"", &payload("two")));
        assert_eq!(written(&mut link), "PUB x 3\r\ntwo\r\n");
    }

    #[test]
    fn the_end_tells_what_the_server_said_about_it() {
        let mut link = up();
        assert_eq!(
            link.closed().to_string(),
            "the NATS server closed the connection"
        );
        link.receive(
            UpstreamOp::Error(b"Permissions Violation for Publish to \"x\""),
            None,
        );
        assert!(matches!(link.closed(), Lost::Closed));
        link.receive(UpstreamOp::Error(b"Stale Connection"), None);
        assert!(matches!(link.closed(), Lost::Told(text) if text == "Stale Connection"));
    }
}
