//! The two servers as processes: how each is started, and when it listens.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::streaming::CLUSTER;
use crate::tls::Tls;

/// For a server to listen. Both need milliseconds.
const START: Duration = Duration::from_secs(10);
/// Between two tries to connect: short beside every start, and long enough to leave the processor to the server.
const TRY: Duration = Duration::from_micros(200);

/// Below the range from which the kernel takes ports of outgoing connections: a try to connect to a free port of that
/// range can meet itself.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port of loopback that was free a moment ago.
///
/// # Errors
/// When there is none.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let turn = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + start.wrapping_add(turn) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST_PORT} on");
}

const OURS: &str = "stanchion-broker";

/// A program that is measured.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    flags: Vec<String>,
}

/// The memory store with as many channels and subscriptions as are wanted; the reference takes the same flags.
const STREAMING: [&str; 8] = [
    "-store",
    "MEMORY",
    "-cluster_id",
    CLUSTER,
    "-max_channels",
    "0",
    "-max_subs",
    "0",
];

/// Every message is kept, unless told otherwise.
const UNLIMITED: [&str; 10] = [
    "-cluster_id",
    CLUSTER,
    "-max_channels",
    "0",
    "-max_subs",
    "0",
    "-max_msgs",
    "0",
    "-max_bytes",
    "0",
];

impl Contender {
    /// Our broker, as a NATS server alone where it can be told so: the reference has no streaming either.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub(crate) fn ours(program: &Path) -> anyhow::Result<Self> {
        let program = runnable(program, "cargo build --release -p broker-server")?;
        let help = Command::new(&program).arg("--help").output();
        let help = help.with_context(|| format!("running {}", program.display()))?;
        let flags = match String::from_utf8_lossy(&help.stdout).contains("-streaming ") {
            true => vec!["--streaming=false".to_owned()],
            false => Vec::new(),
        };
        Ok(Self {
            name: OURS,
            program,
            flags,
        })
    }

    /// # Errors
    /// When it is not on this machine.
    pub(crate) fn reference(program: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            name: "nats-server",
            program: runnable(program, "tests/tools/obtain nats")?,
            flags: Vec::new(),
        })
    }

    /// Our broker with streaming on the memory store.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub(crate) fn our_streaming(program: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            name: OURS,
            program: runnable(program, "make dist")?,
            flags: STREAMING.map(str::to_owned).into(),
        })
    }

    /// nats-streaming-server on its memory store.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub(crate) fn streaming_reference(program: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            name: "nats-streaming-server",
            program: runnable(program, "tests/tools/obtain nats")?,
            flags: STREAMING.map(str::to_owned).into(),
        })
    }

    /// Our broker with streaming on a store that [`Self::on`] names.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub(crate) fn our_durable(program: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            name: OURS,
            program: runnable(program, "make dist")?,
            flags: UNLIMITED.map(str::to_owned).into(),
        })
    }

    /// nats-streaming-server in the same way; `bulk` is how many rows it inserts in a statement, 0 for one at a time.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub(crate) fn durable_reference(
        name: &'static str,
        program: &Path,
        bulk: u32,
    ) -> anyhow::Result<Self> {
        let mut flags: Vec<String> = UNLIMITED.map(str::to_owned).into();
        flags.extend(["-sql_bulk_insert_limit".to_owned(), bulk.to_string()]);
        Ok(Self {
            name,
            program: runnable(program, "tests/tools/obtain nats")?,
            flags,
        })
    }

    /// The same with more flags.
    pub(crate) fn with<'a>(&self, flags: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = self.flags.clone();
        all.extend(flags.into_iter().map(str::to_owned));
        Self {
            flags: all,
            program: self.program.clone(),
            ..*self
        }
    }

    /// The same, keeping so many messages of a channel.
    pub(crate) fn keeping(&self, messages: u64) -> Self {
        self.with(["-max_msgs", &messages.to_string()])
    }

    /// Starts it on a free port of loopback and waits until it takes connections. Its log is added to a file in
    /// `logs`.
    ///
    /// # Errors
    /// When it ends or does not listen in time.
    pub(crate) fn start(&self, tls: Option<&Tls>, logs: &Path) -> anyhow::Result<Server> {
        let path = logs.join(format!("{}.log", self.name));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let port = free_port()?;
        let mut command = Command::new(&self.program);
        command
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log file")?)
            .stderr(log);
        if let Some(tls) = tls {
            let (cert, key) = tls.server_files();
            command.arg("--tls").arg("--tlscert").arg(cert);
            command.arg("--tlskey").arg(key);
        }
        let began = Instant::now();
        let child = command.spawn();
        let child = child.with_context(|| format!("starting {}", self.program.display()))?;
        let mut server = Server {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            came_up: Duration::ZERO,
        };
        while TcpStream::connect(server.address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status}; see {}", self.name, path.display());
            }
            ensure!(
                began.elapsed() < START,
                "{} does not listen within {START:?}; see {}",
                self.name,
                path.display()
            );
            std::thread::sleep(TRY);
        }
        server.came_up = began.elapsed();
        Ok(server)
    }
}

fn runnable(program: &Path, how: &str) -> anyhow::Result<PathBuf> {
    let path = program.canonicalize();
    path.with_context(|| format!("{} is missing: run `{how}`", program.display()))
}

/// Killed when dropped: nothing of a run is worth keeping.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From before exec until the first connection was accepted.
    pub(crate) came_up: Duration,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Server {
    /// Asks it to stop and waits until it has: what it holds in memory is then in its store.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process has a number")?, Signal::TERM)?;
        let deadline = Instant::now() + START;
        while self.child.try_wait()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "it does not stop within {START:?}"
            );
            std::thread::sleep(TRY);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
