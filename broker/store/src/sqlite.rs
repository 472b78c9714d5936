//! The embedded store: one SQLite database in a directory, with the tables of the SQL store.
//!
//! SQLite blocks, so a writer and two reader threads own a connection each; all end with the store.
//! A commit is in the write-ahead log and on the disk (`synchronous=FULL`) before a flush ends.

mod reader;
mod recover;
mod schema;
mod sweep;
mod writer;

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use broker_core::durable::{Batch, ChannelId, FlushOutcome, Sequence, StoredRange, Totals};
use futures_util::future::{self, FutureExt, LocalBoxFuture};
use tokio::sync::watch;

use self::{reader::Reader, writer::Writer};
use crate::{Activation, Store, StoreError, owner::fresh_owner_id};

/// File in the store's directory.
const DATABASE: &str = "stanchion.db";

/// A store in a directory of its own. A lock file keeps a second process out; the lock row of the
/// schema is held and ticked as well, for whoever looks at the tables.
#[derive(Debug)]
pub struct SqliteStore {
    directory: PathBuf,
    active: RefCell<Option<Active>>,
}

#[derive(Debug)]
struct Active {
    owner: String,
    writer: Writer,
    reader: Reader,
    /// Counting takes long, and readers are in a hurry.
    counter: Reader,
    deposed: watch::Receiver<bool>,
}

impl SqliteStore {
    /// A store in `directory`, which is made when the store is activated.
    ///
    /// # Errors
    /// The directory holds a file store of the reference server, whose files this store cannot read.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        if directory.as_os_str().is_empty() {
            return Err(StoreError::Config(
                "no directory for the file store".to_owned(),
            ));
        }
        refuse_reference_files(&directory)?;
        Ok(Self {
            directory,
            active: RefCell::new(None),
        })
    }

    async fn open(&self) -> Result<Activation, StoreError> {
        self.stop().await;
        refuse_reference_files(&self.directory)?;
        let owner = fresh_owner_id()
            .ok_or_else(|| StoreError::Config("the system gives no random numbers".to_owned()))?;
        let (deposed, watched) = watch::channel(false);
        let database = self.directory.join(DATABASE);
        let (writer, activation) =
            Writer::start(&self.directory, &database, &owner, deposed).await?;
        if let Activation::Active(_) = activation {
            let reader = Reader::start(&database, "sqlite-reader")?;
            let counter = Reader::start(&database, "sqlite-counter")?;
            *self.active.borrow_mut() = Some(Active {
                owner,
                writer,
                reader,
                counter,
                deposed: watched,
            });
        }
        Ok(activation)
    }

    async fn stop(&self) {
        let active = self.active.borrow_mut().take();
        if let Some(active) = active {
            // The readers first: the writer's last checkpoint then finds no other connection.
            drop(active.reader);
            drop(active.counter);
            active.writer.stop().await;
        }
    }
}

impl Store for SqliteStore {
    fn kind(&self) -> &'static str {
        "FILE"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn owner(&self) -> String {
        let active = self.active.borrow();
        active
            .as_ref()
            .map_or_else(String::new, |active| active.owner.clone())
    }

    fn activate(&self) -> LocalBoxFuture<'_, Result<Activation, StoreError>> {
        self.open().boxed_local()
    }

    fn flush(&self, _lane: usize, batch: Arc<Batch>) -> LocalBoxFuture<'_, FlushOutcome> {
        let active = self.active.borrow();
        match active.as_ref() {
            Some(active) => active.writer.flush(batch).boxed_local(),
            None => future::ready(FlushOutcome::Deposed).boxed_local(),
        }
    }

    fn read(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'_, Result<StoredRange, StoreError>> {
        match self.active.borrow().as_ref() {
            Some(active) => active
                .reader
                .read(channel, from, max_rows, max_bytes)
                .boxed_local(),
            None => future::ready(Err(not_active())).boxed_local(),
        }
    }

    fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> LocalBoxFuture<'_, Result<Option<Sequence>, StoreError>> {
        match self.active.borrow().as_ref() {
            Some(active) => active.reader.sequence_at(channel, timestamp).boxed_local(),
            None => future::ready(Err(not_active())).boxed_local(),
        }
    }

    fn count(
        &self,
        channel: ChannelId,
        up_to: Sequence,
    ) -> LocalBoxFuture<'_, Result<Totals, StoreError>> {
        match self.active.borrow().as_ref() {
            Some(active) => active.counter.count(channel, up_to).boxed_local(),
            None => future::ready(Err(not_active())).boxed_local(),
        }
    }

    fn deposed(&self) -> LocalBoxFuture<'_, ()> {
        let watched = self
            .active
            .borrow()
            .as_ref()
            .map(|active| active.deposed.clone());
        async move {
            let lost = match watched {
                Some(mut watched) => watched.wait_for(|lost| *lost).await.is_ok(),
                None => false,
            };
            // Closed in order rather than lost: nothing to tell.
            if !lost {
                future::pending::<()>().await;
            }
        }
        .boxed_local()
    }

    fn close(&self) -> LocalBoxFuture<'_, ()> {
        self.stop().boxed_local()
    }
}

/// Refuses a directory in which nats-streaming-server keeps a file store.
fn refuse_reference_files(directory: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(unavailable(
                "reading the directory of the file store",
                error,
            ));
        }
    };
    for entry in entries {
        let entry =
            entry.map_err(|error| unavailable("reading the directory of the file store", error))?;
        let name = entry.file_name();
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "dat")
        {
            return Err(StoreError::Config(format!(
                "{} holds a file store of nats-streaming-server ({}), which cannot be opened; choose an empty directory",
                directory.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

fn unavailable(
    context: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Unavailable {
        context: context.into(),
        source: source.into(),
    }
}

fn not_active() -> StoreError {
    unavailable("reading from the file store", "the store is not active")
}

/// A thread of the store has ended while it was needed.
fn thread_gone(name: &str) -> StoreError {
    unavailable(
        format!("asking the {name} of the file store"),
        "its thread has ended",
    )
}
