//! The lock's row in the broker's database, over a connection of our own.

use std::{collections::BTreeMap, env, future::Future, path::PathBuf, time::Duration};

use broker_store::{
    StoreError,
    postgres::Source,
    watch::{LockObserver, Row},
};
use certs::causes::one_line;
use tokio::time::timeout;

use super::{Rows, source::SqlSource};

/// For connecting and logging in.
const CONNECT: Duration = Duration::from_secs(5);
/// For one look over an open connection; looks are a second apart.
const ANSWER: Duration = Duration::from_millis(900);

/// Reads the row, and connects again whenever that failed. The configuration is read for every
/// connection, so that a changed password is taken up. Lives inside a tokio `LocalSet`.
#[derive(Debug)]
pub struct DatabaseRows {
    config: PathBuf,
    observer: Option<LockObserver>,
}

impl DatabaseRows {
    /// `config` is the broker's store configuration. Connects at the first look.
    pub fn new(config: PathBuf) -> Self {
        Self {
            config,
            observer: None,
        }
    }

    async fn connect(&self) -> Result<LockObserver, String> {
        let source = SqlSource::read(&self.config).map_err(|error| one_line(&error))?;
        let source =
            Source::parse(source.expose(), &environment()).map_err(|error| one_line(&error))?;
        bounded(CONNECT, LockObserver::connect(&source)).await
    }
}

impl Rows for DatabaseRows {
    async fn look(&mut self) -> Result<Row, String> {
        // Put back after a success only: a connection that failed or was cancelled is of no more use.
        let observer = match self.observer.take() {
            Some(observer) => observer,
            None => self.connect().await?,
        };
        let row = bounded(ANSWER, observer.observe()).await?;
        self.observer = Some(observer);
        Ok(row)
    }
}

async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(|error| one_line(&error)),
        Err(_) => Err(format!("the database did not answer in {limit:?}")),
    }
}

/// The variables that a source falls back to.
fn environment() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    env::vars_os()
        .filter_map(text)
        .filter(|(name, _)| name.starts_with("PG"))
        .collect()
}
