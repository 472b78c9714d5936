//! The writing thread: lock, recovery, flushes, tick.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use broker_core::durable::{Batch, ChannelId, FlushOutcome, Recovered, Row, Sequence, Totals};
use prost::Message;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use super::{recover, schema, sweep::Sweep, thread_gone, unavailable};
use crate::{
    Activation, StoreError,
    final_state::{
        FinalState, Removal, SubscriptionChange, SubscriptionNumbers, removals, surviving_rows,
    },
    records::{SCHEMA_VERSION, encode_sequences, from_column, to_column},
};

/// File whose lock keeps a second process out. It stays when the store is closed.
const LOCK_FILE: &str = "stanchion.lock";

/// Period of the tick in the lock row, as the reference's SQL store keeps it.
const TICK: Duration = Duration::from_secs(1);

/// Commands under way: a flush and a stop.
const QUEUE: usize = 4;

enum Command {
    Flush {
        batch: Arc<Batch>,
        reply: oneshot::Sender<FlushOutcome>,
    },
    Stop,
}

/// Handle of the thread. Dropping it stops the thread and waits for it.
#[derive(Debug)]
pub(super) struct Writer {
    commands: mpsc::SyncSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which makes the directory, takes the lock and recovers.
    pub(super) async fn start(
        directory: &Path,
        database: &Path,
        owner: &str,
        deposed: watch::Sender<bool>,
    ) -> Result<(Self, Activation), StoreError> {
        let (commands, queue) = mpsc::sync_channel(QUEUE);
        let (report, opened) = oneshot::channel();
        let place = Place {
            directory: directory.to_owned(),
            database: database.to_owned(),
            owner: owner.to_owned(),
        };
        let thread = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || run(&place, report, &queue, &deposed))
            .map_err(|error| unavailable("starting the writer of the file store", error))?;
        let writer = Self {
            commands,
            thread: Some(thread),
        };
        let activation = opened.await.map_err(|_| thread_gone("writer"))??;
        Ok((writer, activation))
    }

    pub(super) fn flush(&self, batch: Arc<Batch>) -> impl Future<Output = FlushOutcome> + use<> {
        let (reply, outcome) = oneshot::channel();
        let sent = self
            .commands
            .try_send(Command::Flush { batch, reply })
            .is_ok();
        async move {
            if !sent {
                return FlushOutcome::Deposed;
            }
            // A thread that ended without an answer has lost the store, one way or another.
            outcome.await.unwrap_or(FlushOutcome::Deposed)
        }
    }

    /// Gives the lock back and ends the thread.
    pub(super) async fn stop(mut self) {
        if let Some(thread) = self.thread.take() {
            let commands = self.commands.clone();
            let joined = tokio::task::spawn_blocking(move || {
                let _ = commands.send(Command::Stop);
                thread.join().is_ok()
            });
            if !matches!(joined.await, Ok(true)) {
                error!("the writer of the file store has panicked");
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Either may fail only because the thread has ended already.
            let _ = self.commands.send(Command::Stop);
            let _ = thread.join();
        }
    }
}

struct Place {
    directory: PathBuf,
    database: PathBuf,
    owner: String,
}

fn run(
    place: &Place,
    report: oneshot::Sender<Result<Activation, StoreError>>,
    queue: &mpsc::Receiver<Command>,
    deposed: &watch::Sender<bool>,
) {
    let (mut open, recovered) = match Open::activate(place) {
        Ok(Opened::Active(open, recovered)) => (open, recovered),
        Ok(Opened::Standby(holder)) => {
            let _ = report.send(Ok(Activation::Standby { holder }));
            return;
        }
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
    if report.send(Ok(Activation::Active(*recovered))).is_ok() {
        open.serve(queue, deposed);
    }
    open.release();
}

enum Opened {
    Active(Box<Open>, Box<Recovered>),
    Standby(String),
}

/// The open database of the owner. The lock file is locked as long as this lives.
struct Open {
    connection: Connection,
    owner: String,
    numbers: SubscriptionNumbers,
    last_pending_row: i64,
    sweep: Sweep,
    _lock: File,
}

/// Why a transaction was rolled back.
enum Abort {
    Deposed,
    Foreign(ChannelId),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Abort {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

impl Open {
    fn activate(place: &Place) -> Result<Opened, StoreError> {
        let directory = place.directory.display();
        fs::create_dir_all(&place.directory)
            .map_err(|error| unavailable(format!("making the directory {directory}"), error))?;
        let lock_file = place.directory.join(LOCK_FILE);
        let Some(lock) = lock(&lock_file)
            .map_err(|error| unavailable(format!("locking {}", lock_file.display()), error))?
        else {
            return Ok(Opened::Standby(format!(
                "another process (it holds the lock on {})",
                lock_file.display()
            )));
        };
        let connection = schema::open(&place.database)?;
        schema::ensure(&connection)?;
        // The file lock has decided; what the row says of a former owner is out of date.
        connection
            .execute(
                "UPDATE StoreLock SET id = ?1, tick = 1",
                params![place.owner],
            )
            .map_err(|error| unavailable("taking the store lock", error))?;
        let read = recover::read(&connection)?;
        let recovered = read.rows.assemble()?;
        let open = Self {
            connection,
            owner: place.owner.clone(),
            numbers: read.numbers,
            last_pending_row: read.last_pending_row,
            sweep: Sweep::new(read.deleted_channels),
            _lock: lock,
        };
        Ok(Opened::Active(Box::new(open), Box::new(recovered)))
    }

    fn serve(&mut self, queue: &mpsc::Receiver<Command>, deposed: &watch::Sender<bool>) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let due = self.sweep.due().map_or(next_tick, |due| due.min(next_tick));
            let wait = due.saturating_duration_since(Instant::now());
            match queue.recv_timeout(wait) {
                Ok(Command::Flush { batch, reply }) => {
                    let outcome = self.flush(&batch);
                    if outcome == FlushOutcome::Deposed {
                        deposed.send_replace(true);
                    }
                    let _ = reply.send(outcome);
                }
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < next_tick => {
                    self.sweep.go_on(&mut self.connection, &self.owner);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    next_tick = Instant::now() + TICK;
                    if !self.tick() {
                        deposed.send_replace(true);
                    }
                }
                Ok(Command::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether the lock row is still ours, as far as is known.
    fn tick(&self) -> bool {
        let ticked = self.connection.execute(
            "UPDATE StoreLock SET tick = tick + 1 WHERE id = ?1",
            params![self.owner],
        );
        match ticked {
            Ok(rows) => rows > 0,
            Err(error) => {
                warn!("unable to update store lock: {error}");
                true
            }
        }
    }

    fn release(&self) {
        let released = self.connection.execute(
            "UPDATE StoreLock SET id = '', tick = 0 WHERE id = ?1",
            params![self.owner],
        );
        if let Err(error) = released {
            warn!("unable to release store lock: {error}");
        }
    }

    fn flush(&mut self, batch: &Batch) -> FlushOutcome {
        let state = FinalState::of(&batch.changes);
        let numbers = self.numbers.after(&state);
        match self.write(batch, &state, &numbers) {
            Ok(()) => {
                self.numbers = numbers;
                self.sweep.add(state.channels_gone.iter().copied());
                FlushOutcome::Stored
            }
            Err(Abort::Deposed) => FlushOutcome::Deposed,
            Err(Abort::Foreign(channel)) => self.foreign(channel),
            // The transaction is rolled back, so nothing of the batch was stored.
            Err(Abort::Failed(error)) => FlushOutcome::Refused {
                reason: error.to_string(),
            },
        }
    }

    fn write(
        &mut self,
        batch: &Batch,
        state: &FinalState,
        numbers: &SubscriptionNumbers,
    ) -> Result<(), Abort> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_owner = transaction
            .prepare_cached("SELECT 1 FROM StoreLock WHERE id = ?1")?
            .exists(params![self.owner])?;
        if !is_owner {
            return Err(Abort::Deposed);
        }
        if !state.is_empty() {
            write_state(&transaction, state, numbers, &mut self.last_pending_row)?;
            for (channel, id) in self.numbers.purged_by(numbers) {
                delete_subscription(&transaction, channel, id)?;
            }
        }
        for (channel, totals) in &state.totals {
            write_totals(&transaction, *channel, totals)?;
        }
        let removals = removals(batch);
        for row in surviving_rows(batch, &removals) {
            insert(&transaction, row, &batch.data[row.start..row.end])?;
        }
        trim(&transaction, &removals)?;
        transaction.commit()?;
        Ok(())
    }

    fn foreign(&self, channel: ChannelId) -> FlushOutcome {
        let last = self.connection.query_row(
            "SELECT coalesce(max(seq), 0) FROM Messages WHERE id = ?1",
            params![channel.0],
            |row| row.get(0),
        );
        match last {
            Ok(last) => FlushOutcome::Foreign {
                last: vec![(channel, Sequence(from_column(last)))],
            },
            Err(error) => FlushOutcome::Refused {
                reason: error.to_string(),
            },
        }
    }
}

/// The locked file; None if another process (or another store of this one) has locked it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn insert(transaction: &Transaction<'_>, row: &Row, data: &[u8]) -> Result<(), Abort> {
    let key = params![row.channel.0, to_column(row.sequence.0)];
    let size = i64::try_from(data.len()).unwrap_or(i64::MAX);
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO Messages (id, seq, timestamp, size, data) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            row.channel.0,
            to_column(row.sequence.0),
            row.timestamp,
            size,
            data
        ]);
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            let stored: Option<Vec<u8>> = transaction
                .prepare_cached("SELECT data FROM Messages WHERE id = ?1 AND seq = ?2")?
                .query_row(key, |row| row.get(0))
                .optional()?;
            if stored.as_deref() == Some(data) {
                return Ok(());
            }
            Err(Abort::Foreign(row.channel))
        }
        Err(error) => Err(error.into()),
    }
}

fn write_totals(
    transaction: &Transaction<'_>,
    channel: ChannelId,
    totals: &Totals,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO stanchion_totals (id, first, last, messages, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            channel.0,
            to_column(totals.first.0),
            to_column(totals.last.0),
            to_column(totals.messages),
            to_column(totals.bytes)
        ])?;
    Ok(())
}

fn trim(
    transaction: &Transaction<'_>,
    removals: &BTreeMap<ChannelId, Removal>,
) -> rusqlite::Result<()> {
    for (channel, removal) in removals {
        transaction
            .prepare_cached("DELETE FROM Messages WHERE id = ?1 AND seq >= ?2 AND seq <= ?3")?
            .execute(params![
                channel.0,
                to_column(removal.from.0),
                to_column(removal.to.0)
            ])?;
        if removal.may_empty {
            transaction
                .prepare_cached("UPDATE Channels SET maxseq = max(maxseq, ?2) WHERE id = ?1")?
                .execute(params![channel.0, to_column(removal.to.0)])?;
        }
    }
    Ok(())
}

fn write_state(
    transaction: &Transaction<'_>,
    state: &FinalState,
    numbers: &SubscriptionNumbers,
    last_pending_row: &mut i64,
) -> rusqlite::Result<()> {
    if let Some(info) = &state.server_info {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO ServerInfo (uniquerow, id, proto, version) VALUES (1, ?1, ?2, ?3)")?
            .execute(params![info.cluster_id, info.encode_to_vec(), SCHEMA_VERSION])?;
    }
    for (id, client) in &state.clients {
        match client {
            Some(info) => transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO Clients (id, hbinbox, proto) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![id, info.hb_inbox, info.encode_to_vec()])?,
            None => transaction
                .prepare_cached("DELETE FROM Clients WHERE id = ?1")?
                .execute(params![id])?,
        };
    }
    for (id, (name, limits)) in &state.channels {
        transaction
            .prepare_cached(
                "INSERT INTO Channels (id, name, maxmsgs, maxbytes, maxage) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, maxmsgs = excluded.maxmsgs,
                     maxbytes = excluded.maxbytes, maxage = excluded.maxage",
            )?
            .execute(params![
                id.0,
                name,
                to_column(limits.max_msgs),
                to_column(limits.max_bytes),
                to_column(limits.max_age_nanos)
            ])?;
    }
    for id in &state.channels_gone {
        transaction
            .prepare_cached("UPDATE Channels SET deleted = 1 WHERE id = ?1")?
            .execute(params![id.0])?;
    }
    for (id, change) in &state.subscriptions {
        write_subscription(transaction, *id, change, numbers, last_pending_row)?;
    }
    Ok(())
}

fn write_subscription(
    transaction: &Transaction<'_>,
    id: u64,
    change: &SubscriptionChange,
    numbers: &SubscriptionNumbers,
    last_pending_row: &mut i64,
) -> rusqlite::Result<()> {
    let column = to_column(id);
    let keeps_number = id == numbers.highest;
    if change.deleted && !keeps_number {
        return delete_subscription(transaction, change.channel, id);
    }
    if let Some(record) = &change.record {
        transaction
            .prepare_cached(
                "INSERT INTO Subscriptions (id, subid, lastsent, proto) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id, subid) DO UPDATE
                 SET lastsent = max(lastsent, excluded.lastsent), proto = excluded.proto",
            )?
            .execute(params![
                change.channel.0,
                column,
                to_column(record.last_sent),
                record.encode_to_vec()
            ])?;
    }
    if change.deleted {
        transaction
            .prepare_cached("UPDATE Subscriptions SET deleted = 1 WHERE id = ?1 AND subid = ?2")?
            .execute(params![change.channel.0, column])?;
        return delete_pending(transaction, id);
    }
    let Some(pending) = &change.pending else {
        return Ok(());
    };
    delete_pending(transaction, id)?;
    let last_sent = to_column(pending.last_sent.0);
    if pending.pending.is_empty() {
        transaction
            .prepare_cached(
                "UPDATE Subscriptions SET lastsent = max(lastsent, ?3) WHERE id = ?1 AND subid = ?2",
            )?
            .execute(params![change.channel.0, column, last_sent])?;
    } else {
        *last_pending_row += 1;
        transaction
            .prepare_cached(
                "INSERT INTO SubsPending (subid, row, lastsent, pending) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                column,
                *last_pending_row,
                last_sent,
                encode_sequences(&pending.pending)
            ])?;
    }
    Ok(())
}

fn delete_subscription(
    transaction: &Transaction<'_>,
    channel: ChannelId,
    id: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM Subscriptions WHERE id = ?1 AND subid = ?2")?
        .execute(params![channel.0, to_column(id)])?;
    delete_pending(transaction, id)
}

fn delete_pending(transaction: &Transaction<'_>, id: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM SubsPending WHERE subid = ?1")?
        .execute(params![to_column(id)])?;
    Ok(())
}
