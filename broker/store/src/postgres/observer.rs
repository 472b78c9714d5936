//! A session that only reads the lock row.

use super::{current::Sources, session::Session, source::Source};
use crate::StoreError;

const ROW: &str = "SELECT id, tick FROM StoreLock LIMIT 1";

/// Last word of the session's name. No owner has it, so no taker ends the session.
const NAME: &str = "observer";

#[derive(Debug)]
pub(crate) struct Observer {
    session: Session,
}

impl Observer {
    pub(crate) async fn connect(source: &Source) -> Result<Self, StoreError> {
        let session = Session::open(&Sources::from(source.clone()), NAME).await?;
        Ok(Self { session })
    }

    /// Owner and tick; an empty table counts as released.
    pub(crate) async fn lock_row(&self) -> Result<(String, i64), StoreError> {
        let rows = self
            .session
            .query(ROW, &[])
            .await
            .map_err(|failure| failure.into_store_error("reading the store lock"))?;
        Ok(rows.first().map_or_else(Default::default, |row| {
            let id: Option<String> = row.get(0);
            let tick: Option<i64> = row.get(1);
            (id.unwrap_or_default(), tick.unwrap_or(0))
        }))
    }
}
