//! The servers of a round: brokers or references, each behind a proxy towards the database, and a NATS server where
//! there are several.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use broker_proto::streaming::{ConnectRequest, ConnectResponse};
use futures_util::StreamExt as _;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use tests::{patience, ports, process::Process, programs};

use crate::{
    access::Access,
    load::CHANNEL,
    plan::Refusal,
    proxy::Proxy,
    record::Recorder,
    rig::{Database, Frozen, Rig},
    tables::{self, Tables},
};

/// For a start, a stop or an answer, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a second answer is waited for.
const SECOND_ANSWER: Duration = Duration::from_secs(1);

/// The line after which clients are answered.
const READY: &str = "Streaming Server is ready";

pub(crate) const CLUSTER_ID: &str = "faults";

/// Who is put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Broker,
    /// nats-streaming-server.
    Reference,
}

impl Program {
    fn path(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Broker => match env::var_os("BROKER") {
                Some(path) => Ok(path.into()),
                None => programs::ours("stanchion-broker"),
            },
            Self::Reference => programs::tool("nats-streaming-server"),
        }
    }
}

/// One server and its way to the database.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    program: Program,
    flags: Vec<String>,
    dir: PathBuf,
    pub(crate) access: Access,
    /// Towards the database.
    pub(crate) proxy: Proxy,
    /// Towards the NATS server, if it is not its own one.
    pub(crate) nats: Option<Proxy>,
    process: Option<Process>,
    starts: usize,
}

impl Server {
    /// Makes it one of several on a NATS server.
    fn join(&mut self, nats: Proxy) {
        let url = format!("nats://127.0.0.1:{}", nats.port);
        self.flags.extend(["-ns".to_owned(), url]);
        if self.program == Program::Reference {
            self.flags
                .extend(["-ft_group", "faults"].map(str::to_owned));
        }
        self.nats = Some(nats);
    }

    /// Starts it, again if it ran before; it may not be ready yet.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        let log = self.dir.join(format!("{}-{}.log", self.name, self.starts));
        let mut command = self.access.command(&self.program.path()?);
        command.args(&self.flags);
        self.process = Some(Process::start(&self.name, &mut command, &log)?);
        Ok(())
    }

    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        self.running()?.writes(READY, PATIENCE).await
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn freeze(&mut self) -> anyhow::Result<Frozen> {
        Ok(Frozen::all(vec![self.pid()?]))
    }

    /// Has it read its configuration again.
    pub(crate) fn reload(&mut self) -> anyhow::Result<()> {
        kill_process(self.pid()?, Signal::HUP).context("asking for a reload")
    }

    fn pid(&mut self) -> anyhow::Result<Pid> {
        let id = i32::try_from(self.running()?.id()).context("a process number")?;
        Pid::from_raw(id).context("a process number")
    }

    /// Asks it to end; what is wrong with the way it does, if anything.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<Option<String>> {
        let mut process = self.process.take().context("it does not run")?;
        let status = process.stop(PATIENCE).await?;
        // A reference that is standby ends as if the signal had ended it.
        let is_well = status.success() || self.program == Program::Reference;
        Ok((!is_well).then(|| format!("{}: {status}:\n{}", self.name, process.tail())))
    }

    /// The last words of a process that has ended by itself, once.
    pub(crate) fn death(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let status = process.ended()?;
        let words = format!("{}: {status}:\n{}", self.name, process.tail());
        self.process = None;
        Some(words)
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    fn running(&mut self) -> anyhow::Result<&mut Process> {
        let name = &self.name;
        let process = self.process.as_mut();
        process.with_context(|| format!("{name} does not run"))
    }
}

/// Everything that a round is played with.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) rig: Rig,
    pub(crate) database: Database,
    pub(crate) servers: Vec<Server>,
    pub(crate) recorder: Recorder,
    /// Where clients connect.
    pub(crate) url: String,
    censuses: usize,
    _nats: Option<Process>,
}

impl Stage {
    /// Starts everything, the servers one after the other: the first one has the store before the next begins. Files are
    /// below `dir`.
    ///
    /// # Errors
    /// Something does not start.
    pub(crate) async fn set(
        rig: &Rig,
        programs: &[Program],
        refusals: &[Refusal],
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let database = tokio::task::spawn_blocking({
            let rig = rig.clone();
            move || rig.database()
        });
        let database = database.await??;
        if refusals.contains(&Refusal::DiskFull) {
            database.move_to_small_disk().await?;
        }
        let port = ports::free();
        let address = ["-a", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
        let url = format!("nats://127.0.0.1:{port}");
        let mut nats = None;
        let are_several = programs.len() > 1;
        if are_several {
            let mut command = Command::new(programs::tool("nats-server")?);
            command.args(&address);
            let mut process = Process::start("nats-server", &mut command, &dir.join("nats.log"))?;
            process.writes("Server is ready", PATIENCE).await?;
            nats = Some(process);
        }
        let mut stage = Self {
            rig: rig.clone(),
            database,
            servers: Vec::new(),
            recorder: Recorder::start(),
            url,
            censuses: 0,
            _nats: nats,
        };
        for (number, program) in programs.iter().enumerate() {
            let mut server = stage.server(*program, number, refusals, dir).await?;
            if are_several {
                let nats = Proxy::start(port).await?;
                server.join(nats);
            } else {
                server.flags.extend_from_slice(&address);
            }
            server.start()?;
            if number == 0 {
                server.ready().await?;
            }
            stage.servers.push(server);
        }
        Ok(stage)
    }

    async fn server(
        &self,
        program: Program,
        number: usize,
        refusals: &[Refusal],
        dir: &Path,
    ) -> anyhow::Result<Server> {
        let name = format!("server-{number}");
        let dir = dir.join(&name);
        std::fs::create_dir(&dir).context("making a server's folder")?;
        let proxy = Proxy::start(self.database.port()).await?;
        let access = Access::new(&self.database, &name, &dir, proxy.port, refusals).await?;
        let mut flags: Vec<String> = ["-cluster_id", CLUSTER_ID, "-store", "SQL", "-sc"]
            .map(str::to_owned)
            .into();
        flags.push(access.write()?.display().to_string());
        // Often enough that a client which is forgotten is forgotten soon; a busy machine answers all the same.
        flags.extend(["-hbi", "1s", "-hbt", "5s", "-hbf", "20"].map(str::to_owned));
        Ok(Server {
            name,
            program,
            flags,
            dir,
            access,
            proxy,
            nats: None,
            process: None,
            starts: 0,
        })
    }

    /// The place of the server that holds the store.
    pub(crate) async fn holder(&self) -> anyhow::Result<Option<usize>> {
        let (postgres, source) = (self.rig.postgres.clone(), self.database.source.clone());
        let name = tokio::task::spawn_blocking(move || tables::holder(&postgres, &source));
        let Some(name) = name.await?? else {
            return Ok(None);
        };
        let first = name.split(' ').next().unwrap_or_default();
        Ok(self.servers.iter().position(|server| server.name == first))
    }

    /// Waits until one holds the store.
    ///
    /// # Errors
    /// Nobody does in time.
    pub(crate) async fn active(&self) -> anyhow::Result<usize> {
        patience::until("somebody holds the store", PATIENCE, async || {
            self.holder().await?.context("nobody does")
        })
        .await
    }

    /// Waits until another one holds the store.
    ///
    /// # Errors
    /// Nobody does in time.
    pub(crate) async fn taken_over_from(&self, former: usize) -> anyhow::Result<()> {
        patience::until("another one holds the store", PATIENCE, async || {
            let holder = self.holder().await?.context("nobody does")?;
            ensure!(holder != former, "the former one does");
            Ok(())
        })
        .await
    }

    /// Notes processes that have ended by themselves, and starts them again as a supervisor would.
    pub(crate) fn bury(&mut self) -> anyhow::Result<()> {
        for server in &mut self.servers {
            if let Some(words) = server.death() {
                self.recorder.write(|history, _| history.deaths.push(words));
            }
            if !server.runs() {
                server.start()?;
            }
        }
        Ok(())
    }

    /// Asks who serves until somebody does, and notes how many; nobody, if all have ended.
    pub(crate) async fn census(&mut self) -> anyhow::Result<usize> {
        let nats = async_nats::connect(&self.url).await?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.censuses += 1;
            let answers = ask_who_serves(&nats, &format!("census-{}", self.censuses)).await?;
            for server in &mut self.servers {
                if let Some(words) = server.death() {
                    self.recorder.write(|history, _| history.deaths.push(words));
                }
            }
            let somebody_runs = self.servers.iter().any(Server::runs);
            if answers > 0 || !somebody_runs || tokio::time::Instant::now() >= deadline {
                return Ok(answers);
            }
        }
    }

    /// The last sequence of a channel.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) async fn last_sequence(&self, channel: &str) -> anyhow::Result<u64> {
        let last = format!(
            "SELECT max(seq) FROM Messages WHERE id = (SELECT id FROM Channels WHERE name = '{channel}')"
        );
        let last = self.database.run(&last).await?;
        last.parse().context("there is no message")
    }

    /// What the database holds.
    ///
    /// # Errors
    /// The database does not answer, or holds what makes no sense.
    pub(crate) async fn read(&self) -> anyhow::Result<Tables> {
        let (postgres, source) = (self.rig.postgres.clone(), self.database.source.clone());
        let read = tokio::task::spawn_blocking(move || tables::read(&postgres, &source, CHANNEL));
        read.await?
    }

    /// Removes the database: a small disk has no room for many.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        self.database.remove().await
    }

    /// Stops all that run and notes who does not end well.
    ///
    /// # Errors
    /// One does not end.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        for server in &mut self.servers {
            if let Some(words) = server.death() {
                self.recorder.write(|history, _| history.deaths.push(words));
            } else if server.runs()
                && let Some(words) = server.stop().await?
            {
                self.recorder.write(|history, _| history.deaths.push(words));
            }
        }
        Ok(())
    }
}

/// How many accept a new client.
async fn ask_who_serves(nats: &async_nats::Client, client_id: &str) -> anyhow::Result<usize> {
    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await?;
    let request = ConnectRequest {
        client_id: client_id.to_owned(),
        heartbeat_inbox: nats.new_inbox(),
        protocol: 1,
        conn_id: nats.new_inbox().into(),
        ..ConnectRequest::default()
    };
    let subject = format!("_STAN.discover.{CLUSTER_ID}");
    let request = request.encode_to_vec().into();
    nats.publish_with_reply(subject, inbox, request).await?;
    nats.flush().await?;
    let mut accepted = 0;
    while let Ok(Some(answer)) = tokio::time::timeout(SECOND_ANSWER, answers.next()).await {
        // Without anybody the NATS server itself answers, with a status and no body.
        if answer.status.is_some() {
            break;
        }
        let answer = ConnectResponse::decode(answer.payload).context("an answer")?;
        ensure!(answer.error.is_empty(), "not accepted: {}", answer.error);
        accepted += 1;
    }
    Ok(accepted)
}
