//! A database of its own for each test.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use broker_core::durable::{ChannelId, Sequence};
use broker_store::{
    PostgresConfig, PostgresStore, Store,
    conformance::{StoreFactory, postgres_server::PostgresServer},
    postgres::Source,
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::time::sleep;

#[derive(Clone)]
pub(crate) struct Database {
    server: Arc<PostgresServer>,
    pub(crate) source: String,
}

impl Database {
    /// On the server that the tests share.
    pub(crate) fn new() -> Self {
        Self::on(PostgresServer::shared().unwrap())
    }

    pub(crate) fn on(server: Arc<PostgresServer>) -> Self {
        let source = server.create_database().unwrap();
        Self { server, source }
    }

    pub(crate) fn server(&self) -> &PostgresServer {
        &self.server
    }

    pub(crate) fn source(&self) -> Source {
        Source::parse(&self.source, &BTreeMap::new()).unwrap()
    }

    pub(crate) fn name(&self) -> &str {
        let words = self.source.split(' ');
        words
            .filter_map(|word| word.strip_prefix("dbname="))
            .next()
            .unwrap()
    }

    /// Statements from outside; rows as `psql` prints them unaligned.
    pub(crate) fn run(&self, sql: &str) -> String {
        self.server.run(&self.source, sql).unwrap()
    }

    /// As another program connects, without a name.
    pub(crate) async fn connect(
        &self,
    ) -> (
        tokio_postgres::Client,
        tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>,
    ) {
        tokio_postgres::connect(&self.source, tokio_postgres::NoTls)
            .await
            .unwrap()
    }

    pub(crate) fn open_as(&self, user: &str) -> Rc<dyn Store> {
        let source = self.source.replace("user=tester", &format!("user={user}"));
        let source = Source::parse(&source, &BTreeMap::new()).unwrap();
        Rc::new(PostgresStore::new(PostgresConfig {
            sources: source.into(),
        }))
    }

    /// Ends every session of the database but the one that asks.
    pub(crate) fn cut(&self) {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.run(sql);
    }

    /// Until the task is aborted.
    pub(crate) fn cut_again_and_again(&self) -> impl Future<Output = ()> + 'static {
        let database = self.clone();
        async move {
            loop {
                sleep(Duration::from_millis(150)).await;
                let database = database.clone();
                tokio::task::spawn_blocking(move || database.cut())
                    .await
                    .unwrap();
            }
        }
    }
}

impl StoreFactory for Database {
    fn open(&self) -> Rc<dyn Store> {
        let source = self.source();
        Rc::new(PostgresStore::new(PostgresConfig {
            sources: source.into(),
        }))
    }

    fn has_lock(&self) -> bool {
        true
    }

    fn depose(&self) -> LocalBoxFuture<'_, ()> {
        async {
            self.run("UPDATE StoreLock SET id = 'somebody', tick = 1");
        }
        .boxed_local()
    }

    fn intrude<'a>(
        &'a self,
        channel: ChannelId,
        sequence: Sequence,
        data: &'a [u8],
    ) -> LocalBoxFuture<'a, ()> {
        async move {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            self.run(&format!(
                "INSERT INTO Messages VALUES ({}, {sequence}, 1, {}, '\\x{hex}')",
                channel.0,
                data.len()
            ));
        }
        .boxed_local()
    }
}
