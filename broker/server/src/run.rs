//! From the command line to a serving broker, and back to an exit code.
//!
//! The main thread holds signals, monitoring and metrics; the workers hold everything that moves
//! messages. A stop goes from the inside out: the engine flushes and gives the store back, then the
//! core flushes and closes connections, then monitoring ends.

use std::{process::ExitCode, rc::Rc, sync::Arc, time::Duration};

use anyhow::Context;
use broker_core::streaming::EngineConfig;
use broker_store::postgres::{Source, Sources};
use deploy_runtime::NatsLog;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::spawn_local,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    assemble::{self, LoadedTls},
    banner,
    config::{self, Bind, Command, Config, StoreKind},
    external::External,
    identity,
    lame_duck::LameDuck,
    launch::{BACKLOG, Core, MakeInternal, as_asked, take_address},
    metrics,
    monitor::{Facts, Identity, Monitor},
    panics,
    process_files::{self, Listeners, Listening, ProcessFiles},
    reload::Reloader,
    settings::NATS_VERSION,
    signals::{self, Order, Orders},
    store_command,
    streaming::{
        BrokerFigures, Host, Ownership, QueryDesk, Shared, StreamingService, query, supervise,
    },
};

/// Runs the program: 0 after a requested stop, 1 with one line on standard error otherwise.
#[must_use]
pub fn run() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let config = match config::read(&args, &|name| std::env::var(name).ok()) {
        Ok(Command::Run(config)) => config,
        Ok(Command::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Valid { text, config }) => {
            for warning in &config.warnings {
                eprintln!("stanchion-broker: {warning}");
            }
            if let Err(error) = LoadedTls::load(&config) {
                return failed(&error.into());
            }
            eprintln!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Store { task, config }) => {
            return match store_command::run(&task, &config) {
                Ok(code) => code,
                Err(error) => failed(&error),
            };
        }
        Ok(Command::Signal(request)) => {
            return match signals::send(&request) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error.into()),
            };
        }
        Err(error) => return failed(&error.into()),
    };
    match start(*config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("stanchion-broker: {error:#}");
    ExitCode::FAILURE
}

fn start(config: Config) -> anyhow::Result<()> {
    panics::end_the_process();
    let log = NatsLog::install(&process_files::log_settings(&config.log))?;
    let has_log_file = config.log.file.is_some();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(serve(config, log));
    if let Err(error) = &outcome
        && has_log_file
    {
        // Whoever reads the log does not see what goes to standard error.
        banner::fatal(error);
    }
    outcome
}

/// A reload, and lame duck mode behind it.
const WAITING_ORDERS: usize = 2;

/// Listens to signals for as long as the process lives, so that a second request to stop is heard
/// during the first; what takes longer than a moment is passed on.
async fn obey(mut orders: Orders, stop: CancellationToken, others: mpsc::Sender<Order>) {
    loop {
        match orders.next().await {
            Order::Stop => stop.cancel(),
            // One that is waiting will read the same configuration.
            Order::Reload if others.capacity() < WAITING_ORDERS => {}
            // There is a place: lame duck mode is ordered once, and reloads leave one.
            order => drop(others.try_send(order)),
        }
    }
}

/// The streaming side as the main thread sees it.
struct Streaming {
    /// Lets it begin, so that its log lines follow those of the start.
    begin: Option<oneshot::Sender<()>>,
    /// Of the engine, for those that come later too.
    settings: watch::Sender<EngineConfig>,
    /// Where the database is, for now and later.
    source: Option<watch::Sender<Arc<Source>>>,
    ownership: watch::Receiver<Ownership>,
    /// How supervision ended: an error only where the broker cannot go on.
    ended: BoxFuture<'static, Result<anyhow::Result<()>, oneshot::error::RecvError>>,
}

async fn serve(config: Config, log: NatsLog) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (passed_on, mut orders) = mpsc::channel(WAITING_ORDERS);
    let listening = Orders::listen(log.clone())?;
    tokio::spawn(obey(listening, stop.clone(), passed_on));
    // The core outlives the engine, so that last answers still leave.
    let core_stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    let tls = LoadedTls::load(&config)?;
    tls.watch(&tasks, &core_stop);
    let pages = Pages::bind(&config)?;

    let (query, desk) = query();
    let streaming_id = identity::streaming_id().context("the system gives no random numbers")?;
    let (make_internal, mut streaming) = streaming(&config, &streaming_id, desk, stop.clone())?;
    let core_config = assemble::core_config(&config, &tls);
    let mut core = Core::start(core_config, make_internal, &core_stop)?;

    let identity = identify(&config, streaming_id, &core, &pages)?;
    announce_start(&config, &identity);
    core.accepting().await?;
    if let Some(Ok(Err(error))) = (&mut streaming.ended).now_or_never() {
        // There is no store, or no NATS server.
        return Err(error);
    }
    if config.external.is_none() {
        let shown = as_asked(&config.client.bind.host, core.address());
        banner::listening(shown, config.client.tls.is_some());
    }

    let listeners = listeners(&config, &core, &identity);
    let files = ProcessFiles::leave(&config.process_files, &listeners)?;
    let figures = BrokerFigures {
        stats: core.stats(),
        details: core.details(),
        tls: tls.clone(),
        query,
        ownership: streaming.ownership.clone(),
        stopping: stop.clone(),
    };
    let monitor = Monitor::new(Facts::new(&config, identity.clone()), Box::new(figures));
    pages.serve(&monitor, &tasks, &core_stop, &tls)?;
    if config.external.is_none() {
        banner::nats_ready();
    }
    // An error means that the store could not be made, which `ended` tells.
    let _ = streaming.begin.take().map(|begin| begin.send(()));

    let mut reloader = Reloader {
        config,
        tls,
        log,
        files,
        listeners,
        identity,
        monitor,
        tasks: tasks.clone(),
        core_stop: core_stop.clone(),
        engine: streaming.settings.clone(),
        source: streaming.source.clone(),
    };
    let outcome = loop {
        tokio::select! {
            outcome = &mut streaming.ended => {
                break outcome.context("streaming ended unexpectedly").flatten();
            }
            lost = core.ended() => break lost.map_err(Into::into),
            Some(order) = orders.recv() => match order {
                Order::Stop => stop.cancel(),
                Order::Reload => reloader.reload(&core),
                Order::LameDuck => {
                    let client = &reloader.config.client;
                    let times = (client.lame_duck_grace_period, client.lame_duck_duration);
                    tokio::spawn(go_lame(core.lame_duck(), times, stop.clone()));
                }
            },
        }
    };
    banner::shutting_down();
    core_stop.cancel();
    core.ended().await?;
    tasks.close();
    tasks.wait().await;
    banner::exiting();
    outcome
}

/// Lets the clients go, then stops. `times` are the grace period and the duration of the whole.
async fn go_lame(duck: LameDuck, times: (Duration, Duration), stop: CancellationToken) {
    banner::lame_duck();
    let (grace, whole) = times;
    if duck.begin() {
        tokio::time::sleep(grace).await;
        banner::closing_clients();
        duck.close_clients(whole.saturating_sub(grace)).await;
    }
    stop.cancel();
}

fn announce_start(config: &Config, identity: &Identity) {
    banner::starting(config, &identity.streaming_id);
    if config.external.is_none() {
        banner::nats_starting(
            identity.nats_version,
            &identity.server_name,
            &identity.server_id,
        );
    }
    if config.streaming_enabled {
        banner::limits(&config.streaming.limits);
    }
}

fn listeners(config: &Config, core: &Core, identity: &Identity) -> Listeners {
    let cluster = config.cluster.as_ref();
    Listeners {
        nats: config.external.is_none().then(|| Listening {
            address: core.address(),
            tls: config.client.tls.is_some(),
        }),
        monitoring: identity.monitor.map(|address| Listening {
            address,
            tls: config.monitor_tls,
        }),
        cluster: core.route_address().map(|address| Listening {
            address,
            tls: cluster.is_some_and(|port| port.tls.is_some()),
        }),
    }
}

/// What worker 0 needs to bring the streaming side up on its own thread.
fn streaming(
    config: &Config,
    streaming_id: &str,
    desk: QueryDesk,
    stop: CancellationToken,
) -> anyhow::Result<(MakeInternal, Streaming)> {
    if !config.streaming_enabled {
        return Ok(without_streaming(stop));
    }
    let source = assemble::source(&config.store)?.map(watch::channel);
    let (source, sources) = source.unzip();
    let sources = sources.map(Sources::from);
    let (settings, engine) = watch::channel(assemble::engine_config(config, streaming_id));
    let (kind, encryption) = (config.store.clone(), config.encryption.clone());
    let (state, ownership) = watch::channel(Ownership::None);
    let (ended_sender, ended) = oneshot::channel();
    let (begin, begun) = oneshot::channel();
    let external = config.external.clone();
    let name = format!("_NSS-{}-general", config.streaming.cluster_id);
    let make: MakeInternal = Box::new(move |worker| {
        async move {
            let made = async {
                let store = assemble::store(&kind, sources, encryption.as_ref())?;
                let (host, first) = match external {
                    None => (Host::Embedded(worker), None),
                    Some(settings) => {
                        let (external, first) = External::connect(settings, name, &stop).await?;
                        (Host::External(external), Some(first))
                    }
                };
                anyhow::Ok((store, host, first))
            };
            let (store, host, first) = match made.await {
                Ok(made) => made,
                Err(error) => {
                    // The main thread may have given up already.
                    let _ = ended_sender.send(Err(error));
                    return None;
                }
            };
            let shared = Shared::new(store, host.clone());
            spawn_local(desk.answer(Rc::clone(&shared)));
            let service = Box::new(StreamingService::new(Rc::clone(&shared)));
            let finishing = host.clone();
            spawn_local(async move {
                if begun.await.is_err() {
                    // The main thread has given up.
                    return;
                }
                let outcome = supervise(shared, engine, state, stop).await;
                finishing.finish().await;
                let _ = ended_sender.send(outcome);
            });
            if let (Host::External(external), Some(first)) = (&host, first) {
                external.install(service);
                spawn_local(Rc::clone(external).run(first));
                return None;
            }
            Some(service as Box<dyn crate::internal::Internal>)
        }
        .boxed_local()
    });
    Ok((
        make,
        Streaming {
            begin: Some(begin),
            settings,
            source,
            ownership,
            ended: ended.boxed(),
        },
    ))
}

/// The NATS server alone, until it is stopped.
fn without_streaming(stop: CancellationToken) -> (MakeInternal, Streaming) {
    let streaming = Streaming {
        begin: None,
        settings: watch::channel(EngineConfig::default()).0,
        source: None,
        ownership: watch::channel(Ownership::None).1,
        ended: stop.cancelled_owned().map(|()| Ok(Ok(()))).boxed(),
    };
    (Box::new(|_| async { None }.boxed_local()), streaming)
}

fn identify(
    config: &Config,
    streaming_id: String,
    core: &Core,
    pages: &Pages,
) -> anyhow::Result<Identity> {
    let server_id = core.server_id().to_owned();
    Ok(Identity {
        server_name: config
            .client
            .server_name
            .clone()
            .unwrap_or_else(|| server_id.clone()),
        streaming_id,
        server_id,
        nats_version: NATS_VERSION,
        store: match config.store {
            StoreKind::Memory => "MEMORY",
            StoreKind::File { .. } => "FILE",
            StoreKind::Sql { .. } => "SQL",
        },
        client: core.address(),
        routes: core.route_address(),
        monitor: pages
            .monitor
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?,
        workers: core.workers(),
    })
}

/// The sockets of monitoring and metrics, taken before anything starts.
struct Pages {
    monitor: Option<TcpListener>,
    /// As it was asked for.
    monitor_host: String,
    metrics: Option<TcpListener>,
}

impl Pages {
    fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            monitor: listen(config.monitor.as_ref())?,
            monitor_host: config
                .monitor
                .as_ref()
                .map(|bind| bind.host.clone())
                .unwrap_or_default(),
            metrics: listen(config.metrics.as_ref())?,
        })
    }

    fn serve(
        self,
        monitor: &Arc<Monitor>,
        tasks: &TaskTracker,
        token: &CancellationToken,
        tls: &LoadedTls,
    ) -> anyhow::Result<()> {
        if let Some(socket) = self.monitor {
            let monitor = Arc::clone(monitor);
            let address = as_asked(&self.monitor_host, socket.local_addr()?);
            if let Some(tls) = &tls.monitor {
                banner::monitoring_tls(address);
                tasks.spawn(monitor.serve_tls(socket, Arc::clone(tls), token.clone()));
            } else {
                banner::monitoring(address);
                tasks.spawn(monitor.serve(socket, token.clone()));
            }
        }
        if let Some(socket) = self.metrics {
            banner::metrics(socket.local_addr()?);
            tasks.spawn(metrics::serve(Arc::clone(monitor), socket, token.clone()));
        }
        Ok(())
    }
}

fn listen(bind: Option<&Bind>) -> anyhow::Result<Option<TcpListener>> {
    let Some(Bind { host, port }) = bind else {
        return Ok(None);
    };
    let socket = take_address(host, (*port).into()).and_then(|(socket, _)| {
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    });
    socket
        .with_context(|| format!("unable to listen on {host}:{port}"))
        .map(Some)
}
