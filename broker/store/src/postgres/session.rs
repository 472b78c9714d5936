//! One connection to the database with the settings that correctness or speed depend on.

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    Client, NoTls, Row, RowStream, SimpleQueryMessage, Socket, Statement,
    config::SslMode as Negotiation,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use super::{
    current::Sources,
    source::Source,
    sqlstate::{self, Verdict},
};
use crate::StoreError;

/// How long an answer may take unless the source says otherwise. Far above a slow commit, far below
/// what the kernel needs to give a silent peer up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Settings of every session.
///
/// * READ COMMITTED: the fence re-reads the lock row in its newest version; stricter levels fail.
/// * `jit`: compiling the flush statement at each execution makes it 13 times slower.
/// * the last one: an owner that freezes inside a transaction must not keep the lock row for ever.
const SETTINGS: &str = "
    SET default_transaction_isolation = 'read committed';
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET client_min_messages = warning;
    SET idle_in_transaction_session_timeout = '5s'";

/// An acknowledged message must be on the disk, whatever the default of the server. Stricter values
/// than `on` are left alone.
const DURABLE_COMMITS: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'";

/// Longest `application_name` that the server keeps whole.
const APPLICATION_NAME_LENGTH: usize = 63;

const APPLICATION_NAME: &str = "stanchion-broker";

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer from the database within {0:?}")]
    TimedOut(Duration),
    #[error("no connection to the database")]
    NotConnected,
    #[error("{}", describe(.0))]
    Database(#[source] tokio_postgres::Error),
}

impl Failure {
    pub(super) fn verdict(&self) -> Verdict {
        let Self::Database(error) = self else {
            return Verdict::Lost;
        };
        let Some(code) = error.code() else {
            // Without a SQLSTATE the database has not spoken, except when a value could not even be
            // encoded for it.
            return if error.is_closed() || !is_encoding(error) {
                Verdict::Lost
            } else {
                Verdict::Refused
            };
        };
        sqlstate::verdict(code)
    }

    /// For reads and openings, where the caller decides about a repetition.
    pub(super) fn into_store_error(self, context: &str) -> StoreError {
        StoreError::Unavailable {
            context: context.to_owned(),
            source: Box::new(self),
        }
    }

    pub(super) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(state))
    }
}

/// A parameter that did not fit its type: the statement was never sent.
fn is_encoding(error: &tokio_postgres::Error) -> bool {
    error.to_string().starts_with("error serializing parameter")
}

/// The database's own words where it has spoken, and what can be done; the cause behind the bare "db error" otherwise.
fn describe(error: &tokio_postgres::Error) -> String {
    let Some(database) = error.as_db_error() else {
        return error.to_string();
    };
    let (message, code) = (database.message(), database.code());
    match sqlstate::advice(code) {
        Some(advice) => format!("{message} ({}); {advice}", code.code()),
        None => format!("{message} ({})", code.code()),
    }
}

/// A connection. Dropping it closes the socket at once, as the end of the process would.
pub(super) struct Session {
    client: Client,
    driver: JoinHandle<()>,
    /// Process id of the backend, to end it from another session.
    pub(super) backend: i32,
    statements: RefCell<HashMap<&'static str, Statement>>,
    answer_timeout: Duration,
    /// That it was made with.
    source: Arc<Source>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects. The session's name ends with `owner`, by which others find it.
    pub(super) async fn open(sources: &Sources, owner: &str) -> Result<Self, StoreError> {
        let source = sources.current();
        let mut config = source.login();
        config.application_name(application_name(&source, owner));
        let (client, driver) = if config.get_ssl_mode() == Negotiation::Disable {
            connect(&config, NoTls).await
        } else {
            let tls = source
                .client_config()
                .map_err(|error| StoreError::Unavailable {
                    context: "preparing tls towards the database".to_owned(),
                    source: Box::new(error),
                })?;
            connect(&config, MakeRustlsConnect::new((*tls).clone())).await
        }
        .map_err(|failure| failure.into_store_error("connecting to the database"))?;
        let mut session = Self {
            client,
            driver,
            backend: 0,
            statements: RefCell::default(),
            answer_timeout: source.answer_timeout.unwrap_or(ANSWER_TIMEOUT),
            source: Arc::clone(&source),
        };
        session
            .set_up(&source)
            .await
            .map_err(|failure| failure.into_store_error("setting up a database session"))?;
        Ok(session)
    }

    async fn set_up(&mut self, source: &Source) -> Result<(), Failure> {
        self.batch(SETTINGS).await?;
        self.batch(DURABLE_COMMITS).await?;
        for (name, value) in &source.parameters {
            self.query("SELECT set_config($1, $2, false)", &[name, value])
                .await?;
        }
        self.backend = self.ask_backend("SELECT pg_backend_pid()").await?;
        Ok(())
    }

    /// Whether a new one would be made in the same way.
    pub(super) fn is_made_with(&self, sources: &Sources) -> bool {
        Arc::ptr_eq(&self.source, &sources.current())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Rows of a statement that is prepared at its first use. Cancel-safe; the statement may have
    /// been executed.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.in_time(self.query_unhurried(sql, parameters)).await?
    }

    /// As [`Self::query`], for statements that may take as long as they want.
    pub(super) async fn query_unhurried(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let statement = self.statement(sql).await?;
        self.client
            .query(&statement, parameters)
            .await
            .map_err(Failure::Database)
    }

    /// Rows of a statement, handed over as they come. Of a stream that is dropped early the connection throws the rest
    /// away. The caller keeps the time, with [`Self::in_time`].
    pub(super) async fn stream(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<RowStream, Failure> {
        let statement = self.statement(sql).await?;
        self.client
            .query_raw(&statement, parameters.iter().copied())
            .await
            .map_err(Failure::Database)
    }

    /// Number of rows that a statement changed.
    pub(super) async fn execute(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        self.in_time(async {
            let statement = self.statement(sql).await?;
            self.client
                .execute(&statement, parameters)
                .await
                .map_err(Failure::Database)
        })
        .await?
    }

    /// Several statements without parameters, not prepared.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.in_time(self.client.batch_execute(sql))
            .await?
            .map_err(Failure::Database)
    }

    /// Which backend answers, after statements without parameters. Asked without a prepared statement, which would be
    /// lost where sessions are shared.
    pub(super) async fn ask_backend(&self, sql: &str) -> Result<i32, Failure> {
        let answers = self.in_time(self.client.simple_query(sql)).await?;
        let answers = answers.map_err(Failure::Database)?;
        let backend = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        Ok(backend.unwrap_or(0))
    }

    /// Prepares statements for their first use, all in one round trip.
    pub(super) async fn prepare(
        &self,
        statements: impl IntoIterator<Item = &'static str>,
    ) -> Result<(), Failure> {
        let prepared = statements.into_iter().map(|sql| self.statement(sql));
        self.in_time(try_join_all(prepared)).await?.map(drop)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await.map_err(Failure::Database)?;
        self.statements.borrow_mut().insert(sql, statement.clone());
        Ok(statement)
    }

    /// Bounds how long an answer may take.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        timeout(self.answer_timeout, work)
            .await
            .map_err(|_| Failure::TimedOut(self.answer_timeout))
    }
}

/// `<name> <owner>`: the owner is always the last word and never cut off.
fn application_name(source: &Source, owner: &str) -> String {
    let name = source
        .application_name
        .as_deref()
        .unwrap_or(APPLICATION_NAME);
    let room = APPLICATION_NAME_LENGTH - owner.len() - 1;
    let mut end = room.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} {owner}", &name[..end])
}

async fn connect<T>(
    config: &tokio_postgres::Config,
    tls: T,
) -> Result<(Client, JoinHandle<()>), Failure>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: 'static,
    T::TlsConnect: TlsConnect<Socket>,
{
    // The time-out of the configuration covers the TCP handshake alone.
    let (client, connection) = timeout(ANSWER_TIMEOUT, config.connect(tls))
        .await
        .map_err(|_| Failure::TimedOut(ANSWER_TIMEOUT))?
        .map_err(Failure::Database)?;
    let driver = tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            debug!("database connection ended: {}", describe(&error));
        }
    });
    Ok((client, driver))
}

/// Ends a session of ours that may still be at work although its connection is lost, and waits
/// until it is gone. Returns whether it is.
pub(super) async fn end_former(
    session: &Rc<Session>,
    backend: i32,
    owner: &str,
) -> Result<bool, Failure> {
    const LISTED: &str = "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE pid = $1 AND right(application_name, length($2::text)) = $2::text";
    /// Looks at the list, at 20 ms each; a backend ends at its next check for interrupts.
    const LOOKS: usize = 50;
    for _ in 0..LOOKS {
        if session.query(LISTED, &[&backend, &owner]).await?.is_empty() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(false)
}
