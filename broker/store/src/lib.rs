//! Durable state of the broker behind one contract, with a conformance suite that every store
//! passes (`conformance`).
//!
//! # The contract
//!
//! * A store is used by one engine, on one thread, inside a tokio `LocalSet`; its futures are not
//!   `Send`. The sockets that writes go through live on that thread, because a hop to another one costs two
//!   wakes on every single publish; reads, a page each, may have a thread of their own.
//! * [`Store::activate`] comes first. It opens the store, makes or upgrades the schema, takes the
//!   lock and reads everything back. Not being able to take the lock is not an error.
//! * [`Store::flush`] makes a batch durable. The driver keeps at most one flush a lane under way;
//!   channels are divided over lanes by `channel % lanes`, everything that belongs to no channel
//!   goes through lane 0. When the future is ready the outcome is *known*: a broken connection is
//!   repaired inside, and the batch is repeated or proven stored.
//! * A batch may be flushed again after it was stored (its owner may not know): rows that stand there
//!   byte for byte count as written. Rows that its own trims remove are never written.
//! * A flush ends as `Foreign` only if nothing of its rows was stored. Its changes may have been:
//!   they come first, and writing them again changes nothing.
//! * A trim that may remove the newest message of a channel records the last sequence beside it.
//! * What was flushed is seen by [`Store::read`] at once. What was trimmed may be seen by it still.
//! * A row that the store itself can see to be damaged (a wrong size, no data, a seal that does not open) is told as
//!   such by [`Store::read`], among the good ones; whether a message is what its row says is for the reader to judge.
//! * A deleted channel is only marked by the flush. Its messages go behind that, in pieces that keep no
//!   flush waiting for long, and after a restart the sweep goes on. What nats-streaming-server had marked
//!   and not finished is swept with it.
//! * No activation counts all there is. A store keeps the totals it is given (`Change::PutTotals`), adds what came
//!   behind them where that is little, and says of the others that they are not counted; [`Store::count`] does it
//!   when asked.
//! * After `Deposed` the store stays silent until it is activated again. A new owner id is taken at
//!   every activation, so a statement of the former one that was delayed in the network fails.

#![warn(clippy::cast_possible_truncation)]

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
mod final_state;
mod memory;
mod owner;
mod page;
pub mod postgres;
mod records;
mod sealed;
#[cfg(feature = "sqlite")]
mod sqlite;
mod standing;
pub mod verify;
pub mod watch;

use std::{fmt, sync::Arc};

use broker_core::durable::{
    Batch, ChannelId, FlushOutcome, Recovered, Sequence, StoredRange, Totals,
};
use futures_util::future::LocalBoxFuture;

pub use error::StoreError;
pub use memory::MemoryStore;
pub use postgres::{PostgresConfig, PostgresStore};
pub use sealed::{Cipher, SealedStore, UnknownCipher};

#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// Result of [`Store::activate`].
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once for an activation and taken apart at once"
)]
pub enum Activation {
    /// This process owns the store now.
    Active(Recovered),
    /// Somebody else does; try again later. `holder` is what is known of them, for logs.
    Standby { holder: String },
}

/// See the crate documentation for the rules that hold over all methods.
pub trait Store: fmt::Debug {
    /// `MEMORY`, `FILE` or `SQL`, as monitoring and the start-up log show it.
    fn kind(&self) -> &'static str;

    /// Number of flushes that may be under way at once; fixed for the life of the store.
    fn lanes(&self) -> usize;

    /// Name under which this activation owns the store (`StoreLock.id`, at most 30 characters);
    /// empty when not active or when the store has no lock.
    fn owner(&self) -> String;

    /// Opens, locks, recovers. Cancel-safe: a dropped future leaves the store inactive, and the lock,
    /// if it had been taken, is given back or runs out.
    fn activate(&self) -> LocalBoxFuture<'_, Result<Activation, StoreError>>;

    /// Makes a batch durable. Not cancel-safe: poll it to the end.
    fn flush(&self, lane: usize, batch: Arc<Batch>) -> LocalBoxFuture<'_, FlushOutcome>;

    /// Rows of a channel with sequence >= `from`, ascending: at most `max_rows`, and no further one once `max_bytes`
    /// are reached (at least one row if there is any). Empty at the end. Fewer than asked for do not mean the end.
    fn read(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'_, Result<StoredRange, StoreError>>;

    /// The smallest sequence whose timestamp is >= `timestamp` (nanoseconds since the Unix epoch).
    fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> LocalBoxFuture<'_, Result<Option<Sequence>, StoreError>>;

    /// What a channel holds up to and including `up_to`, counted. May take long, and nothing else waits for it.
    fn count(
        &self,
        channel: ChannelId,
        up_to: Sequence,
    ) -> LocalBoxFuture<'_, Result<Totals, StoreError>>;

    /// Ready when ownership has been lost (never, for a store without lock). Cancel-safe.
    fn deposed(&self) -> LocalBoxFuture<'_, ()>;

    /// Gives the lock back if it is still ours and closes. Idempotent; all flushes must have ended.
    fn close(&self) -> LocalBoxFuture<'_, ()>;
}
