//! Starts the NATS core: the socket, the worker threads, and what they share.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use broker_core::{peer::Peer, session::PingPolicy, sublist::SharedSublist};
use broker_proto::info::ServerInfo;
use futures_util::future::LocalBoxFuture;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::oneshot, task::LocalSet};
use tokio_util::sync::CancellationToken;

use crate::{
    identity,
    internal::Internal,
    listener,
    mailbox::Mailbox,
    stats::{Counters, Shown},
    worker::WorkerHandle,
};

/// What nats-streaming-server 0.25.6 shows in `INFO`; clients read features off it.
pub(crate) const NATS_VERSION: &str = "2.9.24";
/// Connections that may wait to be accepted; the kernel caps it.
const BACKLOG: i32 = 4096;

/// Settings of the core. The defaults are those of nats-server.
#[derive(Clone, Debug)]
pub(crate) struct CoreConfig {
    /// Name or address to listen on.
    pub(crate) host: String,
    /// 0 or -1: any free port.
    pub(crate) port: i32,
    /// Empty: the server's id.
    pub(crate) server_name: String,
    /// `host:port` that clients are told instead of where we listen.
    pub(crate) client_advertise: Option<(String, u16)>,
    /// Bytes of a body, inclusive.
    pub(crate) max_payload: usize,
    /// Bytes of arguments in a line.
    pub(crate) max_control_line: usize,
    /// Bytes waiting for a consumer above which it is cut.
    pub(crate) max_pending: usize,
    /// `None`: no limit.
    pub(crate) max_connections: Option<usize>,
    pub(crate) ping_interval: Duration,
    /// The first ping after `CONNECT`, if the interval is not shorter.
    pub(crate) first_ping: Duration,
    /// Unanswered pings after which a client is given up.
    pub(crate) ping_max: u32,
    /// Within which a flush must come to an end.
    pub(crate) write_deadline: Duration,
    /// Within which a TLS handshake must come to an end, counted from the accept.
    pub(crate) tls_timeout: Duration,
    /// Clients must show a certificate; told in `INFO`. The TLS configuration enforces it.
    pub(crate) tls_verify: bool,
    /// `None`: one for each core this process may use.
    pub(crate) workers: Option<usize>,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".into(),
            port: 4222,
            server_name: String::new(),
            client_advertise: None,
            max_payload: 1 << 20,
            max_control_line: 4096,
            max_pending: 64 << 20,
            max_connections: Some(65_536),
            ping_interval: Duration::from_secs(120),
            first_ping: Duration::from_secs(2),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            tls_timeout: Duration::from_secs(2),
            tls_verify: false,
            workers: None,
        }
    }
}

/// Gives the TLS configuration for one handshake, so that a renewed certificate counts from the next
/// one on. Never waits.
pub(crate) type TlsHandle = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// Makes the service of worker 0, on its thread and in its `LocalSet`, before connections are
/// accepted.
pub(crate) type MakeInternal =
    Box<dyn FnOnce(WorkerHandle) -> LocalBoxFuture<'static, Option<Box<dyn Internal>>> + Send>;

/// The core cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The address is taken, not ours, or not an address.
    #[error("unable to listen on {host}:{port}")]
    Listen {
        host: String,
        port: i32,
        #[source]
        source: io::Error,
    },
    /// The system refuses threads or random numbers.
    #[error("the system refused {what}")]
    System { what: &'static str },
}

/// What all workers share.
///
/// Locks: the sublist's, each mailbox's, and the gate in each [`Peer`]. All are held for a few lines
/// only, and nobody who holds one takes another.
pub(crate) struct Shared {
    pub(crate) config: CoreConfig,
    pub(crate) sublist: SharedSublist,
    pub(crate) workers: Vec<WorkerPort>,
    /// Stands for the services on worker 0 where producers have to hold back.
    pub(crate) internal: Arc<Peer>,
    pub(crate) tls: Option<TlsHandle>,
    info: ServerInfo,
    next_id: AtomicU64,
    connections: AtomicUsize,
}

/// The side of a worker that others reach.
#[derive(Debug, Default)]
pub(crate) struct WorkerPort {
    pub(crate) mailbox: Mailbox,
    pub(crate) counters: Shown,
}

impl Shared {
    /// A number for a new connection; the first few are the reference's own.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    pub(crate) fn pings(&self) -> PingPolicy {
        PingPolicy {
            interval: self.config.ping_interval,
            first: self.config.first_ping,
            max_outstanding: self.config.ping_max,
        }
    }

    /// `INFO` for one connection.
    pub(crate) fn info(&self, client_id: u64, address: SocketAddr) -> ServerInfo {
        ServerInfo {
            client_id,
            client_ip: canonical(address.ip()),
            ..self.info.clone()
        }
    }

    /// A connection has been accepted.
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A connection has ended.
    pub(crate) fn release_connection(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// There are more connections than allowed, the one just counted included.
    pub(crate) fn is_full(&self) -> bool {
        let limit = self.config.max_connections;
        limit.is_some_and(|limit| self.connections.load(Relaxed) > limit)
    }
}

/// IPv4 in its own form even where it came in over an IPv6 socket.
fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// The running core.
pub(crate) struct Core {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<oneshot::Receiver<()>>,
    ended: Vec<oneshot::Receiver<()>>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A worker thread ended although nobody told it to: it panicked.
#[derive(Debug, thiserror::Error)]
#[error("a worker ended unexpectedly")]
pub(crate) struct WorkerLost;

/// Counts of the whole core at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) counters: Counters,
    /// Services included.
    pub(crate) subscriptions: usize,
}

/// Gives snapshots to monitoring; cheap to clone.
#[derive(Clone)]
pub(crate) struct StatsHandle(Arc<Shared>);

impl fmt::Debug for StatsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsHandle").finish_non_exhaustive()
    }
}

impl StatsHandle {
    /// Counts as of each worker's last pass.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let shown = self.0.workers.iter().map(|worker| &worker.counters);
        Snapshot {
            counters: Counters::sum(shown),
            subscriptions: self.0.sublist.read(|list| list.len()),
        }
    }
}

impl Core {
    /// Takes the address, starts the workers, and begins to accept once `make_internal` has finished on
    /// worker 0. Until then the port is ours, but connections are refused. When the token is
    /// cancelled, the socket is closed and connections are flushed and closed.
    ///
    /// # Errors
    /// The address cannot be had, or the system gives no threads or random numbers.
    pub(crate) fn start(
        config: CoreConfig,
        tls: Option<TlsHandle>,
        make_internal: MakeInternal,
        token: &CancellationToken,
    ) -> Result<Self, StartError> {
        let (socket, address) = bind(&config).map_err(|source| StartError::Listen {
            host: config.host.clone(),
            port: config.port,
            source,
        })?;
        let shared = Arc::new(share(config, tls, address)?);
        let (accepting_sender, accepting) = oneshot::channel();
        let mut first = Some((socket, make_internal, accepting_sender));
        let mut ended = Vec::new();
        for index in 0..shared.workers.len() {
            let (ended_sender, ended_receiver) = oneshot::channel();
            ended.push(ended_receiver);
            let (shared, token, first) = (Arc::clone(&shared), token.clone(), first.take());
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    run_worker(index, &shared, first, &token);
                    // Nobody may be waiting for it.
                    let _ = ended_sender.send(());
                })
                .map_err(|_| StartError::System { what: "a thread" })?;
        }
        Ok(Self {
            address,
            shared,
            accepting: Some(accepting),
            ended,
        })
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's id, an nkey.
    pub(crate) fn server_id(&self) -> &str {
        &self.shared.info.server_id
    }

    /// Threads that serve connections.
    pub(crate) fn workers(&self) -> usize {
        self.shared.workers.len()
    }

    /// For monitoring.
    pub(crate) fn stats(&self) -> StatsHandle {
        StatsHandle(Arc::clone(&self.shared))
    }

    /// Waits until connections are accepted. Cancel-safe.
    ///
    /// # Errors
    /// Worker 0 ended before.
    pub(crate) async fn accepting(&mut self) -> Result<(), WorkerLost> {
        if let Some(accepting) = &mut self.accepting {
            accepting.await.map_err(|_| WorkerLost)?;
            self.accepting = None;
        }
        Ok(())
    }

    /// Waits until all workers have ended, which they do when the token is cancelled. Cancel-safe.
    ///
    /// # Errors
    /// One ended by itself; the others may still run.
    pub(crate) async fn ended(&mut self) -> Result<(), WorkerLost> {
        while let Some(ended) = self.ended.last_mut() {
            ended.await.map_err(|_| WorkerLost)?;
            self.ended.pop();
        }
        Ok(())
    }
}

fn bind(config: &CoreConfig) -> io::Result<(Socket, SocketAddr)> {
    let port = u16::try_from(config.port.max(0)).map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = (config.host.as_str(), port)
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let bound = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, bound))
}

fn share(
    config: CoreConfig,
    tls: Option<TlsHandle>,
    address: SocketAddr,
) -> Result<Shared, StartError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let server_id =
        identity::server_id(provider.secure_random).map_err(|_| StartError::System {
            what: "random numbers",
        })?;
    let server_name = if config.server_name.is_empty() {
        server_id.clone()
    } else {
        config.server_name.clone()
    };
    let (host, port) = match &config.client_advertise {
        Some((host, port)) => (host.clone(), *port),
        None => (config.host.clone(), address.port()),
    };
    let info = ServerInfo {
        server_id,
        server_name,
        version: NATS_VERSION.into(),
        proto: 1,
        go: "rust".into(),
        host,
        port,
        headers: true,
        max_payload: config.max_payload as i64,
        tls_required: tls.is_some(),
        tls_verify: tls.is_some() && config.tls_verify,
        ..ServerInfo::default()
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = config.workers.unwrap_or(cores).max(1);
    Ok(Shared {
        sublist: SharedSublist::default(),
        workers: (0..workers).map(|_| WorkerPort::default()).collect(),
        internal: Arc::new(Peer::internal(0)),
        tls,
        info,
        next_id: AtomicU64::new(4),
        connections: AtomicUsize::new(0),
        config,
    })
}

type First = (Socket, MakeInternal, oneshot::Sender<()>);

/// The life of a worker thread.
fn run_worker(index: usize, shared: &Arc<Shared>, first: Option<First>, token: &CancellationToken) {
    let (parking, unparking) = (Arc::clone(shared), Arc::clone(shared));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || parking.workers[index].mailbox.sleep())
        .on_thread_unpark(move || unparking.workers[index].mailbox.wake_up())
        .build()
        .expect("epoll and timers are there on every system we support");
    let local = LocalSet::new();
    let worker = WorkerHandle::new(index, Arc::clone(shared));
    local.block_on(&runtime, async {
        let pumping = worker.clone();
        let pump = tokio::task::spawn_local(async move { pumping.pump().await });
        let serving = serve(&worker, shared, first, token);
        tokio::select! {
            () = serving => {}
            // The pump ends only by a panic, which ends the worker.
            _ = pump => return,
        }
        let gone = async {
            while !worker.close_all() {
                tokio::time::sleep(CLOSE_POLL).await;
            }
        };
        // Whoever does not take its last bytes by then does without.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, gone).await;
    });
}

/// Longest that a worker waits for its connections to take their last bytes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// How often a worker that stops looks whether its connections are gone.
const CLOSE_POLL: Duration = Duration::from_millis(5);

async fn serve(
    worker: &WorkerHandle,
    shared: &Arc<Shared>,
    first: Option<First>,
    token: &CancellationToken,
) {
    let Some((socket, make_internal, accepting)) = first else {
        return token.cancelled().await;
    };
    let making = make_internal(worker.clone());
    let internal = tokio::select! {
        internal = making => internal,
        () = token.cancelled() => return,
    };
    if let Some(internal) = internal {
        worker.install(internal);
    }
    if let Err(error) = socket.listen(BACKLOG) {
        tracing::error!("unable to listen: {error}");
        return;
    }
    // Nobody may be waiting for it.
    let _ = accepting.send(());
    listener::accept(socket.into(), worker, shared, token).await;
}
