//! Lame duck mode: the server takes no new clients, tells those it has, and lets them go one by one, so
//! that they do not all come to the next server at the same time.

use std::{sync::Arc, time::Duration};

use broker_proto::info::ServerInfo;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    close_reason::CloseReason,
    connection::Role,
    shared::Shared,
    worker::{Worker, WorkerHandle},
};

/// Longest pause between two clients.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct LameDuck {
    shared: Arc<Shared>,
    listening: CancellationToken,
}

/// Place and number of a client.
type Place = (usize, usize, u64);

impl LameDuck {
    pub(crate) fn new(shared: Arc<Shared>, listening: CancellationToken) -> Self {
        Self { shared, listening }
    }

    /// Stops to listen and tells everybody. Returns whether there are clients at all.
    pub(crate) fn begin(&self) -> bool {
        self.shared.begin_lame_duck();
        self.listening.cancel();
        let shared = Arc::clone(&self.shared);
        // Other servers first: what clients are told afterwards no longer names this one.
        let request = move |handle: &WorkerHandle| {
            handle.with(Worker::announce_to_routes);
            for worker in 0..shared.workers.len() {
                let request = |handle: &WorkerHandle| handle.with(Worker::announce_lame_duck);
                shared.ask(worker, Box::new(request));
            }
        };
        self.shared.ask(0, Box::new(request));
        self.shared.clients() > 0
    }

    /// Closes all clients within `duration`, at random moments. Ends when all are gone.
    pub(crate) async fn close_clients(&self, duration: Duration) {
        let mut places = Vec::new();
        for worker in 0..self.shared.workers.len() {
            let (sender, list) = oneshot::channel();
            let request = move |handle: &WorkerHandle| {
                // Whoever asked may have gone.
                let _ = sender.send(handle.with(|worker| worker.client_places()));
            };
            self.shared.ask(worker, Box::new(request));
            places.extend(list.await.unwrap_or_default());
        }
        let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
        let Some(pause) = duration.checked_div(count) else {
            return;
        };
        let pause = pause.min(LONGEST_PAUSE);
        let last = places.len() - 1;
        for (index, (worker, slot, id)) in places.into_iter().enumerate() {
            let request = move |handle: &WorkerHandle| {
                handle.with(|worker| worker.close_client(slot, id));
            };
            self.shared.ask(worker, Box::new(request));
            if index < last {
                tokio::time::sleep(self.between_half_and(pause)).await;
            }
        }
    }

    fn between_half_and(&self, pause: Duration) -> Duration {
        let mut byte = [0];
        // Without random numbers they go evenly.
        let _ = getrandom::fill(&mut byte);
        pause / 2 + (pause / 2).mul_f64(f64::from(byte[0]) / 256.0)
    }
}

impl Worker {
    /// Clients learn which other servers there are.
    fn announce_lame_duck(&mut self) {
        self.announce(|info| info.ldm = true);
    }

    /// Sends `INFO` with a change to every client that takes one at any time.
    pub(crate) fn announce(&mut self, change: impl Fn(&mut ServerInfo)) {
        let settings = Arc::clone(&self.exchange.settings);
        let mut texts = Vec::new();
        for (slot, connection) in &self.exchange.connections {
            if connection
                .client()
                .is_some_and(|client| client.takes_info())
            {
                let nonce = &connection.nonce;
                let mut info = settings.info(connection.peer.id, connection.address, nonce);
                change(&mut info);
                texts.push((slot, info.to_line()));
            }
        }
        for (slot, text) in texts {
            self.reply(slot, &text);
        }
    }

    fn client_places(&self) -> Vec<Place> {
        let worker = self.exchange.worker;
        let clients = self.exchange.connections.iter();
        clients
            .filter(|(_, one)| matches!(one.role, Role::Client(_)))
            .map(|(slot, one)| (worker, slot, one.peer.id))
            .collect()
    }

    fn close_client(&mut self, slot: usize, id: u64) {
        let connection = self.exchange.connections.get_mut(slot);
        if let Some(connection) = connection.filter(|one| one.peer.id == id) {
            connection.close(CloseReason::ServerShutdown);
        }
    }
}
