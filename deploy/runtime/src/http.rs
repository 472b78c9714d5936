//! The accept loop below the admin listener and HTTPS: HTTP/1.1, bounded, drained on request.

mod deadline;

use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::deadline::WriteDeadline;

/// Bounds on what peers may take from a listener. Body size and the time of a request are bounded by
/// layers of the caller's router, which knows its own requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the head of a request to arrive; also how long an idle keep-alive connection stays.
    pub head: Duration,
    /// Connections open at once. Above it new ones wait in the backlog of the kernel.
    pub max_connections: usize,
    /// How long requests under way may go on after the token has been cancelled.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(30),
            max_connections: 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Longest that a peer may take to read what it was sent before it loses its connection, and with it
/// its place among `max_connections`.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `token` is cancelled, then lets requests under way end, within `limits.drain`.
///
/// `secure` turns an accepted socket into the stream that HTTP is spoken on. Handlers find the
/// peer's address as `ConnectInfo<SocketAddr>`.
pub async fn serve<A, F, S>(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    token: CancellationToken,
    secure: A,
) where
    A: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let slot = tokio::select! {
            () = token.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let (stream, peer) = tokio::select! {
            () = token.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let secured = secure(stream);
        let router = router.clone();
        let token = token.clone();
        connections.spawn(async move {
            let _slot = slot;
            match timeout(limits.handshake, secured).await {
                Ok(Ok(stream)) => speak(stream, peer, router, limits, token).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                Err(_) => tracing::debug!(%peer, "handshake timed out"),
            }
        });
    }
    drop(listener);
    let drained = timeout(limits.drain, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cutting connections that did not drain in time"
        );
    }
    connections.shutdown().await;
}

async fn speak<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    token: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = routes.call(request);
        async move { Ok::<_, Infallible>(response.await.unwrap_or_else(|never| match never {})) }
    });
    let stream = WriteDeadline::new(stream, WRITE_DEADLINE);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Notify,
    };

    use super::*;

    const LIMITS: Limits = Limits {
        handshake: Duration::from_secs(5),
        head: Duration::from_secs(5),
        max_connections: 8,
        drain: Duration::from_secs(10),
    };

    async fn ask(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
            .await
            .unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// A route that says when it was entered and answers when it may.
    fn slow(entered: &Arc<Notify>, may_answer: &Arc<Notify>) -> Router {
        let (entered, may_answer) = (Arc::clone(entered), Arc::clone(may_answer));
        let handler = move || {
            let (entered, may_answer) = (Arc::clone(&entered), Arc::clone(&may_answer));
            async move {
                entered.notify_one();
                may_answer.notified().await;
                "done"
            }
        };
        Router::new().route("/", get(handler))
    }

    #[tokio::test]
    async fn request_under_way_is_answered_after_the_stop_and_its_connection_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (entered, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let token = CancellationToken::new();
        let routes = slow(&entered, &may_answer);
        let serving = tokio::spawn(serve(listener, routes, LIMITS, token.clone(), |stream| {
            ready(Ok(stream))
        }));
        let stream = ask(address).await;
        entered.notified().await;
        token.cancel();
        may_answer.notify_one();
        // Reads to the end, so the connection was closed although it asked for keep-alive.
        let text = answer(stream).await;
        assert!(
            text.starts_with("HTTP/1.1 200") && text.ends_with("done"),
            "{text}"
        );
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn request_that_outlasts_the_drain_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (entered, never) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let token = CancellationToken::new();
        let limits = Limits {
            drain: Duration::from_millis(20),
            ..LIMITS
        };
        let routes = slow(&entered, &never);
        let serving = tokio::spawn(serve(listener, routes, limits, token.clone(), |stream| {
            ready(Ok(stream))
        }));
        let stream = ask(address).await;
        entered.notified().await;
        token.cancel();
        serving.await.unwrap();
        assert_eq!(answer(stream).await, "");
    }

    /// More than the buffers of both ends of a connection hold.
    const LARGE_BYTES: usize = 64 << 20;

    /// Nobody else gets a place while those have one who ask and never read.
    #[tokio::test]
    async fn peers_that_never_read_their_answers_lose_their_places() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/", get(|| async { vec![b'x'; LARGE_BYTES] }))
            .route("/small", get(|| async { "small" }));
        let token = CancellationToken::new();
        let limits = Limits {
            max_connections: 2,
            ..LIMITS
        };
        let serving = tokio::spawn(serve(listener, routes, limits, token.clone(), |stream| {
            ready(Ok(stream))
        }));
        let _deaf = [ask(address).await, ask(address).await];
        let began = std::time::Instant::now();
        let mut probe = TcpStream::connect(address).await.unwrap();
        let request = b"GET /small HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
        probe.write_all(request).await.unwrap();
        let answered = timeout(WRITE_DEADLINE * 3, answer(probe)).await;
        assert!(answered.unwrap().ends_with("small"));
        assert!(
            began.elapsed() > WRITE_DEADLINE / 2,
            "the places were taken"
        );
        token.cancel();
        serving.await.unwrap();
    }
}
