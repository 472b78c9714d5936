//! HTTPS for an axum router, with a TLS configuration that is looked up for every connection: a
//! renewed certificate needs neither a restart nor a signal.

use std::sync::Arc;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Limits};

/// Serves `router` until `token` is cancelled, then finishes the requests under way and closes.
///
/// `current` is called once a connection, for instance `|| server_tls.current()`. Handlers find the
/// peer's address as `axum::extract::ConnectInfo<SocketAddr>`. Layers for the size of a body and the
/// time of a request belong to `router`.
pub async fn serve<C>(
    listener: TcpListener,
    router: Router,
    current: C,
    limits: Limits,
    token: CancellationToken,
) where
    C: Fn() -> Arc<ServerConfig>,
{
    http::serve(listener, router, limits, token, |stream| {
        // One small answer a request: waiting to fill a segment only adds latency.
        let _ = stream.set_nodelay(true);
        TlsAcceptor::from(current()).accept(stream)
    })
    .await;
}
