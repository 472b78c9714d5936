//! Looking at the store lock from outside: what a sidecar reports of the database that its broker uses.
//!
//! It only reads; what counts as held and as given up is what a standby broker acts on.

mod judge;

use crate::{
    StoreError,
    postgres::{Observer, Source},
};

pub use judge::{Claim, Judge, LockState, Row};

/// A connection that reads the lock row. Lives on one thread, inside a tokio `LocalSet`.
#[derive(Debug)]
pub struct LockObserver {
    observer: Observer,
}

impl LockObserver {
    /// Connects. The tables are not touched, nor need they exist yet.
    ///
    /// # Errors
    /// The database cannot be reached or refuses the login.
    pub async fn connect(source: &Source) -> Result<Self, StoreError> {
        let observer = Observer::connect(source).await?;
        Ok(Self { observer })
    }

    /// Reads the row. Cancel-safe. After an error, connect again.
    ///
    /// # Errors
    /// The connection broke, or there is no lock table.
    pub async fn observe(&self) -> Result<Row, StoreError> {
        let (owner_id, tick) = self.observer.lock_row().await?;
        Ok(Row { owner_id, tick })
    }
}
