//! What the tests of the sidecar share: waiting for a condition, reading the admin listener, and a
//! server that greets as NATS servers do.

use std::{
    future::{Future, ready},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use certs::reload::ServerTls;
use sidecar::{config::Config, publish::read_meta};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// Waits until the directory holds a certificate other than `before`.
pub(crate) async fn next_serial(dir: &Path, before: &str) -> String {
    eventually("a new certificate on disk", || async {
        read_meta(dir)
            .map(|meta| meta.serial)
            .filter(|serial| serial != before)
    })
    .await
}

/// One request to the admin listener; the whole answer.
pub(crate) async fn http(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until `path` answers with `text` in it.
pub(crate) async fn shows(address: SocketAddr, path: &str, text: &str) {
    eventually(text, || async {
        http(address, "GET", path)
            .await
            .contains(text)
            .then_some(())
    })
    .await;
}

/// A server on a port of its own that sends INFO and upgrades to TLS, with whatever certificate is
/// current in `tls`.
pub(crate) async fn nats_like_server(tls: Arc<ServerTls>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(tls.current());
            tokio::spawn(async move {
                let info =
                    "INFO {\"server_id\":\"T\",\"tls_required\":true,\"tls_verify\":true}\r\n";
                stream.write_all(info.as_bytes()).await?;
                let mut stream = acceptor.accept(stream).await?;
                stream.read_to_end(&mut Vec::new()).await
            });
        }
    });
    address
}

/// A sidecar on a thread of its own, as in a process of its own.
pub(crate) struct Running {
    pub(crate) admin: SocketAddr,
    stop: CancellationToken,
    ended: thread::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind(config.admin).await.unwrap();
        let admin = listener.local_addr().unwrap();
        let listener = listener.into_std().unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let ended = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                sidecar::run(config, TcpListener::from_std(listener)?, token).await
            })
        });
        Self { admin, stop, ended }
    }

    /// Asks it to end and expects success.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        eventually("the end", || ready(self.ended.is_finished().then_some(()))).await;
        self.ended.join().unwrap().unwrap();
    }
}
