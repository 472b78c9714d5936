//! Opening connections to other servers.

use std::{io, net::SocketAddr, time::Duration};

use broker_core::cluster::{
    mesh::{DialFailure, TargetId},
    settings::RouteUrl,
};
use tokio::net::{TcpStream, lookup_host};
use tracing::debug;

use crate::{
    listener::{Newcomer, Origin},
    worker::WorkerHandle,
};

/// Longest that another server may take to accept, its name included.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whom a connection was opened to.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) target: TargetId,
    /// As configured or heard, for the other end's certificate to be checked against.
    pub(crate) host: String,
}

/// Opens a connection beside everything else; the worker adopts it, or hears that nothing came of it.
pub(super) fn begin(worker: WorkerHandle, target: TargetId, url: RouteUrl, avoid: Vec<SocketAddr>) {
    tokio::task::spawn_local(async move {
        let opened = tokio::time::timeout(PATIENCE, open(&url, &avoid)).await;
        let failure = match opened {
            Ok(Ok(Some((socket, address)))) => {
                let dialled = Dialled {
                    target,
                    host: url.host,
                };
                return worker.adopt(Newcomer {
                    socket,
                    address,
                    origin: Origin::Dialled(dialled),
                });
            }
            Ok(Ok(None)) => DialFailure::OnlyOwnAddresses,
            Ok(Err(error)) => {
                debug!("route to {}:{}: {error}", url.host, url.port);
                DialFailure::Unreachable
            }
            Err(_) => DialFailure::Unreachable,
        };
        worker.with(|worker| worker.dial_ended(target, failure));
    });
}

/// `None`: the name leads to nobody but ourselves.
async fn open(
    url: &RouteUrl,
    avoid: &[SocketAddr],
) -> io::Result<Option<(std::net::TcpStream, SocketAddr)>> {
    let mut failed = None;
    for address in lookup_host((url.host.as_str(), url.port)).await? {
        if avoid.contains(&address) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                // Out of this runtime's hands, as those that were accepted are.
                return Ok(Some((socket.into_std()?, address)));
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(None), Err)
}
