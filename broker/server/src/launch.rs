//! Starts and steers the NATS core: the sockets, the worker threads, and what changes while they run.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    thread,
    time::Duration,
};

use broker_core::auth::AuthError;
use broker_proto::info::ServerInfo;
use futures_util::future::LocalBoxFuture;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::oneshot, task::LocalSet};
use tokio_util::sync::CancellationToken;

use crate::{
    identity,
    inspect::CoreDetails,
    internal::Internal,
    lame_duck::LameDuck,
    listener,
    routes::{self, ClusterError, Routes},
    settings::{CoreConfig, Settings},
    shared::Shared,
    spin,
    stats::Counters,
    worker::WorkerHandle,
};

/// Connections that may wait to be accepted; the kernel caps it.
pub(crate) const BACKLOG: i32 = 4096;

/// Address of a core that does not listen.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

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
    /// The users contradict each other.
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The running core.
pub(crate) struct Core {
    address: SocketAddr,
    route_address: Option<SocketAddr>,
    shared: Arc<Shared>,
    /// Ends the listening for clients; cancelled with the core as well.
    listening: CancellationToken,
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

/// A worker thread ended although nobody told it to; the log says why.
#[derive(Debug, thiserror::Error)]
#[error("a worker ended unexpectedly")]
pub(crate) struct WorkerLost;

/// Counts of the whole core at one time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) counters: Counters,
    /// Services included.
    pub(crate) subscriptions: usize,
    /// What clients are told of where to connect.
    pub(crate) connect_urls: Vec<String>,
    /// Empty without a cluster.
    pub(crate) cluster_name: String,
    pub(crate) is_lame_duck: bool,
}

/// Gives snapshots to monitoring; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StatsHandle(Arc<Shared>);

impl StatsHandle {
    /// Counts as of each worker's last pass.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let shown = self.0.workers.iter().map(|worker| &worker.counters);
        let accounts = self.0.accounts.list();
        let counts = accounts
            .iter()
            .map(|account| account.sublist.read(|list| list.len()));
        let settings = self.0.settings();
        Snapshot {
            counters: Counters::sum(shown),
            subscriptions: counts.sum(),
            connect_urls: settings.info.connect_urls.clone(),
            cluster_name: settings.info.cluster.clone(),
            is_lame_duck: self.0.is_lame_duck(),
        }
    }
}

impl Core {
    /// Takes the addresses, starts the workers, and begins to accept once `make_internal` has finished
    /// on worker 0. Until then the ports are ours, but connections are refused. When the token is
    /// cancelled, the sockets are closed and connections are flushed and closed.
    ///
    /// # Errors
    /// An address cannot be had, users contradict each other, or the system gives no threads or random
    /// numbers.
    pub(crate) fn start(
        config: CoreConfig,
        make_internal: MakeInternal,
        token: &CancellationToken,
    ) -> Result<Self, StartError> {
        let clients = config.listens.then(|| bind(&config.host, config.port));
        let clients = clients.transpose()?;
        let cluster = config.cluster.as_ref();
        if let Some(port) = cluster {
            routes::check(&port.settings)?;
        }
        let routes = cluster
            .map(|port| bind(&port.host, port.port))
            .transpose()?;
        let (clients, address) = match clients {
            Some((socket, address)) => (Some(socket), address),
            None => (None, NOWHERE),
        };
        let route_address = routes.as_ref().map(|bound| bound.1);
        let shared = Arc::new(share(config, address)?);
        let listening = token.child_token();
        let (accepting_sender, accepting) = oneshot::channel();
        let mut first = Some(First {
            clients,
            routes,
            make_internal,
            accepting: accepting_sender,
            listening: listening.clone(),
        });
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
            route_address,
            shared,
            listening,
            accepting: Some(accepting),
            ended,
        })
    }

    /// Where clients connect to; port 0 if they cannot.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where other servers connect to.
    pub(crate) fn route_address(&self) -> Option<SocketAddr> {
        self.route_address
    }

    /// The server's id, an nkey.
    pub(crate) fn server_id(&self) -> &str {
        &self.shared.identity.server_id
    }

    /// Puts other settings in force, and treats those who are connected as they say. What belongs to
    /// sockets and threads stays as it was at the start.
    ///
    /// # Errors
    /// The users contradict each other, or the cluster block cannot be used; nothing has changed.
    pub(crate) fn reload(&self, config: CoreConfig) -> Result<(), StartError> {
        if let Some(port) = &config.cluster {
            routes::check(&port.settings)?;
        }
        let new = Settings::new(config, &self.shared.identity)?;
        self.shared.change_settings(|old| new.succeeding(old));
        Ok(())
    }

    /// For lame duck mode, which outlives this borrow.
    pub(crate) fn lame_duck(&self) -> LameDuck {
        LameDuck::new(Arc::clone(&self.shared), self.listening.clone())
    }

    /// Monitoring's view of connections.
    pub(crate) fn details(&self) -> CoreDetails {
        CoreDetails::new(Arc::clone(&self.shared))
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

fn bind(host: &str, port: i32) -> Result<(Socket, SocketAddr), StartError> {
    let bound = take_address(host, port);
    bound.map_err(|source| StartError::Listen {
        host: host.to_owned(),
        port,
        source,
    })
}

/// Takes an address without listening on it yet. All addresses of IPv4 are all of IPv6 as well, as with
/// the reference, where the machine has IPv6.
pub(crate) fn take_address(host: &str, port: i32) -> io::Result<(Socket, SocketAddr)> {
    let port = u16::try_from(port.max(0)).map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let socket = match address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        true => bound(everywhere).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            _ => bound(address),
        })?,
        false => bound(address)?,
    };
    let bound = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, bound))
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A bound address as it was asked for: a socket that takes IPv6 too is called by the IPv4 address that
/// stands for all.
pub(crate) fn as_asked(host: &str, bound: SocketAddr) -> SocketAddr {
    match host.parse() {
        Ok(Ipv4Addr::UNSPECIFIED) => (Ipv4Addr::UNSPECIFIED, bound.port()).into(),
        _ => bound,
    }
}

fn share(config: CoreConfig, address: SocketAddr) -> Result<Shared, StartError> {
    let server_id = identity::server_id().map_err(|_| StartError::System {
        what: "random numbers",
    })?;
    let server_name = if config.server_name.is_empty() {
        server_id.clone()
    } else {
        config.server_name.clone()
    };
    let identity = ServerInfo {
        server_id,
        server_name,
        port: address.port(),
        ..ServerInfo::default()
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = config.workers.unwrap_or(cores).max(1);
    let settings = Settings::new(config, &identity)?;
    Ok(Shared::new(settings, identity, address, workers))
}

/// What worker 0 alone has to do.
struct First {
    clients: Option<Socket>,
    routes: Option<(Socket, SocketAddr)>,
    make_internal: MakeInternal,
    accepting: oneshot::Sender<()>,
    listening: CancellationToken,
}

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
        if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
            tokio::task::spawn_local(spin::look_for_work(worker.clone()));
        }
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
    let Some(first) = first else {
        return token.cancelled().await;
    };
    let making = (first.make_internal)(worker.clone());
    let internal = tokio::select! {
        internal = making => internal,
        () = token.cancelled() => return,
    };
    if let Some(internal) = internal {
        worker.install(internal);
    }
    let routes = first.routes.as_ref().map(|(socket, _)| socket);
    let mut sockets = first.clients.iter().chain(routes);
    if let Err(error) = sockets.try_for_each(|socket| socket.listen(BACKLOG)) {
        tracing::error!("unable to listen: {error}");
        return;
    }
    // Nobody may be waiting for it.
    let _ = first.accepting.send(());
    let clients = async {
        if let Some(socket) = first.clients {
            listener::accept(socket.into(), false, worker, shared, &first.listening).await;
        }
        // In lame duck mode everything else goes on.
        token.cancelled().await;
    };
    let routes = async {
        if let Some((socket, address)) = first.routes {
            Routes::begin(worker, shared, address);
            listener::accept(socket.into(), true, worker, shared, token).await;
        }
    };
    tokio::join!(clients, routes);
}
