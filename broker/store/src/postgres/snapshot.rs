//! What is stored, read beside an owner that may be at work: no lock, no writes.

use std::rc::Rc;

use broker_core::durable::{ChannelId, Recovered, Sequence, StoredRange};

use super::{
    current::{Renewable, Sources},
    reads::{Reader, Wanted},
    recover, schema,
    session::Session,
    source::Source,
};
use crate::StoreError;

/// Last word of its sessions' names. No owner has it.
const NAME: &str = "verify";

/// See the module documentation. Lives on one thread, inside a tokio `LocalSet`.
#[derive(Debug)]
pub struct Snapshot {
    reader: Reader,
    /// As an owner would have recovered it at that moment.
    pub recovered: Recovered,
}

impl Snapshot {
    /// # Errors
    /// The database cannot be reached, has no tables, or holds what cannot be recovered.
    pub async fn open(source: &Source) -> Result<Self, StoreError> {
        let sources = Sources::from(source.clone());
        let session = Session::open(&sources, NAME).await?;
        if !schema::is_there(&session).await? {
            return Err(StoreError::Config(
                "the database has no tables of a store".to_owned(),
            ));
        }
        let has_totals = schema::has_totals(&session).await?;
        let recovered = recover::read(&session, has_totals).await?.rows.assemble()?;
        let connection = Rc::new(Renewable::new(Rc::new(session)));
        Ok(Self {
            reader: Reader::new(sources, NAME.to_owned(), connection),
            recovered,
        })
    }

    /// As [`crate::Store::read`].
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn read(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<StoredRange, StoreError> {
        let wanted = Wanted {
            channel,
            from,
            max_rows,
            max_bytes,
        };
        Ok(self.reader.range(wanted).await?.0)
    }
}
