//! Publishing: a window of messages under way, each with its own outcome.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use broker_proto::streaming::{PubAck, PubMsg};
use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::sleep_until,
};

use super::Shared;

/// Why a publish was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The server stored nothing, in its own words.
    #[error("the server refused the message: {0}")]
    Refused(String),
    /// No acknowledgement came in time: the message may be stored or not.
    #[error("no acknowledgement within {0:?}")]
    Unknown(Duration),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

/// A publish under way; resolves when its outcome is known.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<(), PublishError>>);

impl Future for Pending {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|outcome| outcome.unwrap_or(Err(PublishError::Closed)))
    }
}

/// Publishes that wait for their acknowledgement.
#[derive(Debug)]
pub(super) struct Window {
    /// Where acknowledgements arrive.
    inbox: String,
    ack_wait: Duration,
    room: Arc<Semaphore>,
    next_guid: AtomicU64,
    waiting: Mutex<Waiting>,
    /// The first deadline came to be.
    began: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    by_guid: HashMap<String, Entry>,
    /// In the order of publishing, which is the order of deadlines; answered ones stay until their time.
    deadlines: VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Entry {
    outcome: oneshot::Sender<Result<(), PublishError>>,
    _room: OwnedSemaphorePermit,
}

impl Window {
    pub(super) fn new(inbox: String, size: usize, ack_wait: Duration) -> Self {
        Self {
            inbox,
            ack_wait,
            room: Arc::new(Semaphore::new(size)),
            next_guid: AtomicU64::new(1),
            waiting: Mutex::default(),
            began: Notify::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding it")
    }

    fn resolve(&self, guid: &str, outcome: Result<(), PublishError>) {
        let entry = self.waiting().by_guid.remove(guid);
        if let Some(entry) = entry {
            // Whoever dropped the pending publish does not want to know.
            let _ = entry.outcome.send(outcome);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.waiting().deadlines.front().map(|(at, _)| *at)
    }

    fn expire(&self, now: Instant) {
        loop {
            let guid = {
                let mut waiting = self.waiting();
                if waiting.deadlines.front().is_none_or(|(at, _)| *at > now) {
                    return;
                }
                waiting.deadlines.pop_front()
            };
            if let Some((_, guid)) = guid {
                self.resolve(&guid, Err(PublishError::Unknown(self.ack_wait)));
            }
        }
    }
}

pub(super) async fn send(
    shared: &Shared,
    channel: &str,
    payload: Bytes,
) -> Result<Pending, PublishError> {
    let window = &shared.window;
    let room = Arc::clone(&window.room)
        .acquire_owned()
        .await
        .map_err(|_| PublishError::Closed)?;
    // The inbox is unique to this connection, and so is the guid then.
    let nr = window.next_guid.fetch_add(1, Ordering::Relaxed);
    let guid = format!("{}-{nr}", window.inbox);
    let message = PubMsg {
        client_id: shared.options.client_id.clone(),
        guid: guid.clone(),
        subject: channel.to_owned(),
        data: payload,
        conn_id: shared.conn_id.clone(),
        ..PubMsg::default()
    };
    let (outcome, pending) = oneshot::channel();
    {
        let mut waiting = window.waiting();
        let entry = Entry {
            outcome,
            _room: room,
        };
        waiting.by_guid.insert(guid.clone(), entry);
        let first = waiting.deadlines.is_empty();
        waiting
            .deadlines
            .push_back((Instant::now() + window.ack_wait, guid));
        if first {
            window.began.notify_one();
        }
    }
    let subject = format!("{}.{channel}", shared.subjects.pub_prefix);
    let sent = shared.nats.publish_with_reply(
        subject,
        window.inbox.clone(),
        message.encode_to_vec().into(),
    );
    sent.await.map_err(|_| PublishError::Closed)?;
    Ok(Pending(pending))
}

/// Resolves publishes as their acknowledgements arrive or their time is over.
pub(super) async fn take_acks(shared: Arc<Shared>, mut acks: async_nats::Subscriber) {
    let window = &shared.window;
    loop {
        let deadline = window.next_deadline();
        // All arms are cancel-safe: a stream, a notification that is kept, a timer.
        tokio::select! {
            message = acks.next() => {
                let Some(message) = message else { return };
                // What is no acknowledgement acknowledges nothing: its publish runs into the deadline.
                let Ok(ack) = PubAck::decode(message.payload) else { continue };
                let outcome = if ack.error.is_empty() {
                    Ok(())
                } else {
                    Err(PublishError::Refused(ack.error))
                };
                window.resolve(&ack.guid, outcome);
            }
            () = window.began.notified() => {}
            () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                window.expire(Instant::now());
            }
        }
    }
}
