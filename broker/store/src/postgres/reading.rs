//! The thread that reads messages. Replays would otherwise take half of the time of the engine's thread, and cost only a
//! hop a page here.
//!
//! Who reads a channel from page to page finds the next one read already, so that the database is at work all the time.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    thread,
};

use broker_core::durable::{ChannelId, Sequence, StoredRange};
use futures_util::future::LocalBoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, LocalSet, spawn_local},
};

use super::{
    current::{Renewable, Sources, renew},
    reads::{Reader, Wanted, remember},
};
use crate::StoreError;

type Request = Box<dyn FnOnce(Rc<Ahead>) -> LocalBoxFuture<'static, ()> + Send>;

/// Pages read ahead of all readers together; the oldest go first.
const MAX_PAGES: usize = 8;

/// Requests that have not been taken up; more wait on the asking side.
const QUEUE: usize = 64;

/// Handle of the thread, which ends soon after this is dropped.
#[derive(Debug)]
pub(super) struct ReadingThread {
    requests: mpsc::Sender<Request>,
}

impl ReadingThread {
    pub(super) fn start(sources: Sources, owner: String) -> Result<Self, StoreError> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        thread::Builder::new()
            .name("sql-reader".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, serve(sources, owner, queue)))
            .map_err(failed)?;
        Ok(Self { requests })
    }

    /// As [`crate::Store::read`].
    pub(super) async fn range(&self, wanted: Wanted) -> Result<StoredRange, StoreError> {
        self.ask(async move |ahead| ahead.range(wanted).await).await
    }

    /// As [`crate::Store::sequence_at`].
    pub(super) async fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> Result<Option<Sequence>, StoreError> {
        self.ask(async move |ahead| ahead.reader.sequence_at(channel, timestamp).await)
            .await
    }

    async fn ask<T, Q>(&self, question: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: AsyncFnOnce(Rc<Ahead>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request: Request = Box::new(move |ahead| {
            Box::pin(async move {
                // The asker may have lost interest.
                let _ = reply.send(question(ahead).await);
            })
        });
        // Refused only when the thread has ended, which the missing answer shows.
        let _ = self.requests.send(request).await;
        answer.await.unwrap_or_else(|_| Err(failed("it has ended")))
    }
}

async fn serve(sources: Sources, owner: String, mut queue: mpsc::Receiver<Request>) {
    let connection = Rc::new(Renewable::default());
    spawn_local(renew(
        sources.clone(),
        owner.clone(),
        vec![Rc::clone(&connection)],
        "reading",
    ));
    let ahead = Rc::new(Ahead {
        reader: Reader::new(sources, owner, connection),
        pages: RefCell::default(),
        ends: RefCell::default(),
    });
    while let Some(request) = queue.recv().await {
        spawn_local(request(Rc::clone(&ahead)));
    }
}

/// Pages that are being read before anybody has asked for them.
struct Ahead {
    reader: Reader,
    /// Oldest first.
    pages: RefCell<VecDeque<(Wanted, JoinHandle<Option<StoredRange>>)>>,
    /// Where the last page of a channel ended.
    ends: RefCell<HashMap<ChannelId, Sequence>>,
}

impl Ahead {
    async fn range(self: Rc<Self>, wanted: Wanted) -> Result<StoredRange, StoreError> {
        let range = match self.take(wanted) {
            Some(page) => page.await.ok().flatten(),
            None => None,
        };
        let (range, has_more) = match range {
            Some(range) => (range, true),
            None => self.reader.range(wanted).await?,
        };
        if let Some(last) = range.last() {
            let before = remember(&mut self.ends.borrow_mut(), wanted.channel, last);
            if has_more && before.is_some_and(|end| end.next() == wanted.from) {
                let from = last.next();
                self.begin(Wanted { from, ..wanted });
            }
        }
        Ok(range)
    }

    fn take(&self, wanted: Wanted) -> Option<JoinHandle<Option<StoredRange>>> {
        let mut pages = self.pages.borrow_mut();
        let place = pages.iter().position(|(page, _)| *page == wanted)?;
        Some(pages.remove(place)?.1)
    }

    /// Keeps a page only if more than it was there: nothing is ever written between its messages any more.
    fn begin(self: Rc<Self>, wanted: Wanted) {
        let reading = Rc::clone(&self);
        let page = spawn_local(async move {
            let (range, has_more) = reading.reader.range(wanted).await.ok()?;
            has_more.then_some(range)
        });
        let mut pages = self.pages.borrow_mut();
        pages.push_back((wanted, page));
        if pages.len() > MAX_PAGES {
            pages.pop_front();
        }
    }
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable {
        context: "the thread that reads messages".to_owned(),
        source: source.into(),
    }
}
