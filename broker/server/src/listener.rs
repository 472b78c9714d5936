//! Accepts connections on worker 0: clients go to the worker with the fewest, other servers stay.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustix::net::{SocketFlags, acceptfrom_with, sockopt::set_tcp_nodelay};
use tokio::io::{Interest, unix::AsyncFd};
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
    listener: TcpListener,
    routes: bool,
    worker: &WorkerHandle,
    shared: &Arc<Shared>,
    token: &CancellationToken,
) {
    let listener = match watched(listener) {
        Ok(listener) => listener,
        Err(error) => return error!("unable to wait for connections: {error}"),
    };
    let mut last = shared.workers.len() - 1;
    loop {
        let accepted = tokio::select! {
            accepted = listener.async_io(Interest::READABLE, accept_one) => accepted,
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
        if routes {
            worker.adopt(Newcomer {
                socket,
                address,
                origin: Origin::RoutePort,
            });
            continue;
        }
        let newcomer = Newcomer {
            socket,
            address,
            origin: Origin::ClientPort,
        };
        last = shared.place_client(last);
        worker.assign(last, newcomer);
    }
}

#[expect(
    deprecated,
    reason = "sound for a socket of the standard library, whose descriptor never changes"
)]
fn watched(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // What is accepted inherits it.
    set_tcp_nodelay(&listener, true)?;
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// Without the runtime, which would watch the socket although it may belong to another worker.
fn accept_one(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, address) = acceptfrom_with(listener, flags)?;
    let address = address.and_then(|address| address.try_into().ok());
    let address: SocketAddr = address.ok_or(io::ErrorKind::ConnectionAborted)?;
    // IPv4 in its own form even where it came in over an IPv6 socket.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    Ok((socket.into(), address))
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
