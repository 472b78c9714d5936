//! Accepts connections on worker 0: clients are dealt out to the workers in turn, other servers stay.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{routes::Dialled, shared::Shared, worker::WorkerHandle};

/// Pause after an accept failed for lack of descriptors or memory; trying at once would spin.
const RETRY: Duration = Duration::from_millis(50);

/// A connection just made, not waiting on reads, and its other end.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) socket: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) origin: Origin,
}

/// How a connection came about.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Accepted on the port of clients.
    ClientPort,
    /// Accepted on the port of other servers.
    RoutePort,
    /// Opened by us to another server.
    Dialled(Dialled),
}

/// Runs until the token is cancelled; the socket is closed then.
pub(crate) async fn accept(
    listener: std::net::TcpListener,
    routes: bool,
    worker: &WorkerHandle,
    shared: &Arc<Shared>,
    token: &CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!("unable to wait for connections: {error}"),
    };
    let workers = shared.workers.len();
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                warn!("unable to accept: {error}");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        // Out of this runtime: the connection may belong to another worker.
        let socket = socket.set_nodelay(true).and_then(|()| socket.into_std());
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                warn!("{address} - unable to serve: {error}");
                continue;
            }
        };
        if routes {
            worker.adopt(Newcomer {
                socket,
                address,
                origin: Origin::RoutePort,
            });
            continue;
        }
        shared.count_connection();
        let newcomer = Newcomer {
            socket,
            address,
            origin: Origin::ClientPort,
        };
        worker.assign(turn, newcomer);
        turn = (turn + 1) % workers;
    }
}

/// The client went away before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
