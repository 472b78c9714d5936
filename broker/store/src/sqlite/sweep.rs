//! Behind a deleted channel: its messages go in pieces between flushes, then its row.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use broker_core::durable::ChannelId;
use rusqlite::{Connection, TransactionBehavior, params};
use tracing::warn;

/// Messages of one transaction: a few milliseconds, which a flush may have to wait.
const PIECE: i64 = 1_000;

/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// The channels that are marked as deleted.
#[derive(Debug)]
pub(super) struct Sweep {
    channels: VecDeque<ChannelId>,
    /// Not before: flushes come first, and at most half of the time is spent here.
    next: Instant,
}

impl Sweep {
    pub(super) fn new(channels: Vec<ChannelId>) -> Self {
        Self {
            channels: channels.into(),
            next: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, channels: impl IntoIterator<Item = ChannelId>) {
        self.channels.extend(channels);
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.channels.is_empty()).then_some(self.next)
    }

    /// Removes a piece. What fails is tried again later.
    pub(super) fn go_on(&mut self, connection: &mut Connection, owner: &str) {
        let Some(channel) = self.channels.front().copied() else {
            return;
        };
        let began = Instant::now();
        match piece(connection, owner, channel) {
            Ok(is_done) => {
                if is_done {
                    self.channels.pop_front();
                }
                self.next = Instant::now() + began.elapsed();
            }
            Err(error) => {
                let id = channel.0;
                warn!("removing what deleted channel {id} held is being repeated: {error}");
                self.next = Instant::now() + PAUSE;
            }
        }
    }
}

/// Whether nothing is left. The rows of the highest numbers stay, marked, so that nobody gives these
/// again.
fn piece(connection: &mut Connection, owner: &str, channel: ChannelId) -> rusqlite::Result<bool> {
    let id = channel.0;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_owner = transaction
        .prepare_cached("SELECT 1 FROM StoreLock WHERE id = ?1")?
        .exists(params![owner])?;
    if !is_owner {
        // The next owner finds the mark.
        return Ok(true);
    }
    let gone = transaction
        .prepare_cached(
            "DELETE FROM Messages WHERE id = ?1 AND seq IN
                 (SELECT seq FROM Messages WHERE id = ?1 ORDER BY seq LIMIT ?2)",
        )?
        .execute(params![id, PIECE])?;
    let is_done = i64::try_from(gone).is_ok_and(|gone| gone < PIECE);
    if is_done {
        for sql in [
            "DELETE FROM SubsPending WHERE subid IN (SELECT subid FROM Subscriptions WHERE id = ?1)",
            "DELETE FROM Subscriptions WHERE id = ?1 AND subid < (SELECT max(subid) FROM Subscriptions)",
            "UPDATE Subscriptions SET deleted = 1 WHERE id = ?1",
            "DELETE FROM stanchion_totals WHERE id = ?1",
            "DELETE FROM Channels WHERE id = ?1 AND deleted <> 0 AND id < (SELECT max(id) FROM Channels)",
        ] {
            transaction.prepare_cached(sql)?.execute(params![id])?;
        }
    }
    transaction.commit()?;
    Ok(is_done)
}
