//! Behind a deleted channel: its messages go in pieces, then its row.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use broker_core::durable::ChannelId;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tracing::warn;

use super::{
    active::Task,
    current::Sources,
    lease::BACKOFF,
    messages::{Fenced, channel_column},
    session::{Failure, Session},
};

/// Messages of one statement: some milliseconds.
const PIECE: i64 = 5_000;

const FIRST: &str = "SELECT min(seq) FROM Messages WHERE id = $1";

const MESSAGES: &str = "
    WITH owner AS MATERIALIZED (SELECT 1 FROM StoreLock WHERE id = $1 FOR KEY SHARE),
    gone AS (
        DELETE FROM Messages WHERE id = $2 AND seq >= $3 AND seq < $4 AND EXISTS (SELECT FROM owner))
    SELECT count(*) FROM owner";

/// Subscriptions are left only where another server died between two of its statements. The rows of
/// the highest numbers stay, marked, so that nobody gives these again.
const REST: &str = "
    WITH owner AS MATERIALIZED (SELECT 1 FROM StoreLock WHERE id = $1 FOR KEY SHARE),
    pending AS (
        DELETE FROM SubsPending p USING Subscriptions s
        WHERE s.id = $2 AND p.subid = s.subid AND EXISTS (SELECT FROM owner)),
    highest_sub AS (
        UPDATE Subscriptions SET deleted = TRUE
        WHERE id = $2 AND subid = (SELECT max(subid) FROM Subscriptions) AND EXISTS (SELECT FROM owner)),
    subs AS (
        DELETE FROM Subscriptions
        WHERE id = $2 AND subid < (SELECT max(subid) FROM Subscriptions) AND EXISTS (SELECT FROM owner)),
    channel AS (
        DELETE FROM Channels
        WHERE id = $2 AND deleted AND id < (SELECT max(id) FROM Channels) AND EXISTS (SELECT FROM owner))
    SELECT count(*) FROM owner";

const TOTALS: &str = "
    DELETE FROM stanchion_totals WHERE id = $2 AND EXISTS (SELECT FROM StoreLock WHERE id = $1)";

/// Channels that are marked as deleted, each once an activation.
#[derive(Debug, Default)]
struct Work {
    channels: RefCell<VecDeque<ChannelId>>,
    added: Notify,
}

/// The task that sweeps, on a connection of its own, which it has only while there is work.
#[derive(Debug)]
pub(super) struct Sweep {
    work: Rc<Work>,
    _task: Task,
}

impl Sweep {
    /// `has_totals`: the table of totals is there.
    pub(super) fn start(
        sources: &Sources,
        owner: &str,
        has_totals: bool,
        lost: &watch::Sender<bool>,
    ) -> Self {
        let work = Rc::new(Work::default());
        let sweeper = Sweeper {
            sources: sources.clone(),
            owner: owner.to_owned(),
            has_totals,
            session: None,
        };
        let task = sweeper.run(lost.subscribe(), Rc::clone(&work));
        Self {
            work,
            _task: Task(tokio::task::spawn_local(task)),
        }
    }

    /// Channels that are marked as deleted.
    pub(super) fn add(&self, channels: impl IntoIterator<Item = ChannelId>) {
        self.work.channels.borrow_mut().extend(channels);
        self.work.added.notify_one();
    }
}

struct Sweeper {
    sources: Sources,
    owner: String,
    has_totals: bool,
    /// While there is work.
    session: Option<Session>,
}

impl Sweeper {
    async fn run(mut self, lost: watch::Receiver<bool>, work: Rc<Work>) {
        loop {
            let next = work.channels.borrow_mut().pop_front();
            let Some(channel) = next else {
                self.session = None;
                work.added.notified().await;
                continue;
            };
            let mut backoff = BACKOFF.0;
            loop {
                if *lost.borrow() {
                    return;
                }
                match self.sweep(channel).await {
                    Ok(Fenced::Done) => break,
                    Ok(Fenced::Deposed) => return,
                    Err(reason) => {
                        let id = channel.0;
                        warn!(
                            "removing what deleted channel {id} held is being repeated: {reason}"
                        );
                        self.session = None;
                    }
                }
                sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
    }

    async fn sweep(&mut self, channel: ChannelId) -> Result<Fenced, String> {
        if self.session.is_none() {
            let opened = Session::open(&self.sources, &self.owner).await;
            self.session = Some(opened.map_err(|error| error.to_string())?);
        }
        let Some(session) = &self.session else {
            return Ok(Fenced::Done);
        };
        let swept = self.sweep_on(session, channel_column(channel)).await;
        swept.map_err(|failure| failure.to_string())
    }

    async fn sweep_on(&self, session: &Session, channel: i32) -> Result<Fenced, Failure> {
        let owner = &self.owner;
        loop {
            let first: Option<i64> = session.query(FIRST, &[&channel]).await?[0].get(0);
            let Some(first) = first else { break };
            let began = Instant::now();
            let end = first.saturating_add(PIECE);
            let rows = session
                .query(MESSAGES, &[owner, &channel, &first, &end])
                .await?;
            if rows[0].get::<_, i64>(0) == 0 {
                return Ok(Fenced::Deposed);
            }
            // Flushes come first: at most half of the time is spent here.
            sleep(began.elapsed().max(Duration::from_millis(1))).await;
        }
        if self.has_totals {
            session.execute(TOTALS, &[owner, &channel]).await?;
        }
        let rows = session.query(REST, &[owner, &channel]).await?;
        Ok(match rows[0].get::<_, i64>(0) {
            0 => Fenced::Deposed,
            _ => Fenced::Done,
        })
    }
}
