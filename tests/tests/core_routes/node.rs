//! A server of a cluster, ours or a nats-server of either age, that keeps its ports over restarts.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{
    patience, ports, process::Process, programs, streaming_server::CLUSTER_ID, wire::Wire,
};

/// For servers to meet, on a busy machine: in one test there are up to 21 of them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Broker,
    /// From before pools of routes.
    Old,
    New,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::New, Self::Old, Self::Broker];

    /// Clusters of three in every order, and one of ours alone.
    pub(crate) const TRIPLES: [[Self; 3]; 7] = [
        [Self::Broker, Self::Old, Self::New],
        [Self::Broker, Self::New, Self::Old],
        [Self::Old, Self::Broker, Self::New],
        [Self::Old, Self::New, Self::Broker],
        [Self::New, Self::Broker, Self::Old],
        [Self::New, Self::Old, Self::Broker],
        [Self::Broker; 3],
    ];

    /// Ours with each kind, itself included.
    pub(crate) const PAIRS: [[Self; 2]; 3] = [
        [Self::Broker, Self::Old],
        [Self::Broker, Self::New],
        [Self::Broker, Self::Broker],
    ];
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    /// For other servers.
    pub(crate) routes: u16,
    config: PathBuf,
    flags: Vec<String>,
    /// What it writes when clients are answered.
    ready: &'static str,
    process: Option<Process>,
}

impl Node {
    /// Starts one. `cluster` is what the cluster block says apart from where it listens.
    pub(crate) async fn start(kind: Kind, dir: &Path, cluster: &str) -> Self {
        Self::start_with(kind, dir, cluster, "").await
    }

    /// The same; `server` is what the configuration says outside of the cluster block.
    pub(crate) async fn start_with(kind: Kind, dir: &Path, cluster: &str, server: &str) -> Self {
        let mut node = Self::plan(kind, dir);
        node.run(cluster, server).await;
        node
    }

    /// One that does not run yet, to have others told where it will be.
    pub(crate) fn plan(kind: Kind, dir: &Path) -> Self {
        let port = ports::free();
        let flags: &[&str] = match kind {
            Kind::Broker => &["--streaming=false"],
            Kind::Old | Kind::New => &[],
        };
        Self {
            kind,
            port,
            routes: ports::free(),
            config: dir.join(format!("{port}.conf")),
            flags: flags.iter().copied().map(str::to_owned).collect(),
            ready: "Server is ready",
            process: None,
        }
    }

    /// A broker with streaming that keeps its messages, not running yet.
    pub(crate) fn plan_streaming(dir: &Path) -> Self {
        let store = dir.join("store").display().to_string();
        let flags = ["-cluster_id", CLUSTER_ID, "-store", "FILE", "-dir", &store];
        Self {
            flags: flags.map(str::to_owned).into(),
            ready: "Streaming Server is ready",
            ..Self::plan(Kind::Broker, dir)
        }
    }

    /// Starts one that is planned.
    pub(crate) async fn run(&mut self, cluster: &str, server: &str) {
        self.write_config(cluster, server);
        self.restart().await;
    }

    fn write_config(&self, cluster: &str, server: &str) {
        let Self { port, routes, .. } = self;
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nserver_name: \"s{port}\"\n{server}\n\
             cluster {{ listen: \"127.0.0.1:{routes}\"\n{cluster}\n}}\n"
        );
        std::fs::write(&self.config, text).unwrap();
    }

    /// Puts another configuration in force while it runs.
    pub(crate) async fn reload(&mut self, cluster: &str, server: &str) {
        self.write_config(cluster, server);
        let process = self.process.as_mut().expect("it runs");
        let done = "Reloaded server configuration";
        let before = process.output().matches(done).count();
        signal(process, Signal::HUP);
        let reloaded = patience::until(done, PATIENCE, async || {
            process.check_alive()?;
            ensure!(process.output().matches(done).count() > before);
            Ok(())
        });
        reloaded.await.unwrap();
    }

    /// Kills it without warning if it runs, and starts it.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let program = match self.kind {
            Kind::Broker => programs::ours("stanchion-broker"),
            Kind::Old => programs::tool("nats-server-2.9.24"),
            Kind::New => programs::tool("nats-server"),
        };
        let mut command = Command::new(program.unwrap());
        command.args(&self.flags).arg("-c").arg(&self.config);
        let name = format!("{:?} on {}", self.kind, self.port);
        let log = self.config.with_extension("log");
        let mut process = Process::start(&name, &mut command, &log).unwrap();
        process.writes(self.ready, PATIENCE).await.unwrap();
        // The reference says before that it is ready.
        let listens = "Listening for route connections on";
        process.writes(listens, PATIENCE).await.unwrap();
        self.process = Some(process);
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.stop(PATIENCE).await.unwrap();
    }

    /// Holds it, so that it neither reads nor writes, until [`Self::resume`].
    pub(crate) fn hold(&self) {
        signal(self.process.as_ref().expect("it runs"), Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        signal(self.process.as_ref().expect("it runs"), Signal::CONT);
    }

    /// Waits until it has written a text since it was started last.
    pub(crate) async fn writes(&mut self, text: &str) {
        let process = self.process.as_mut().expect("it runs");
        process.writes(text, PATIENCE).await.unwrap();
    }

    /// What it has written since it was started last.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().expect("it runs").output()
    }

    /// Processor time that it has spent since it was started last.
    pub(crate) fn processor_time(&self) -> Duration {
        let process = self.process.as_ref().expect("it runs");
        process.processor_time().unwrap()
    }

    pub(crate) async fn client(&self) -> Wire {
        self.client_with(json!({})).await
    }

    /// A client of this name, whose password is the same.
    pub(crate) async fn client_as(&self, user: &str) -> Wire {
        self.client_with(json!({"user": user, "pass": user})).await
    }

    async fn client_with(&self, login: Value) -> Wire {
        let mut client = Wire::connect(self.port).await.unwrap();
        let mut connect =
            json!({"verbose": false, "protocol": 1, "headers": true, "no_responders": true});
        for (member, value) in login.as_object().expect("members") {
            connect[member] = value.clone();
        }
        let connect = format!("CONNECT {connect}\r\n");
        client.send(connect.as_bytes()).await.unwrap();
        client.answers().await.unwrap();
        client
    }
}

fn signal(process: &Process, signal: Signal) {
    let pid = Pid::from_raw(process.id().cast_signed()).expect("a process");
    kill_process(pid, signal).unwrap();
}

/// Three servers of cluster `c`, of which the first is the seed of the others. `server` is what all of them
/// are told beside the cluster block.
pub(crate) async fn cluster(kinds: [Kind; 3], dir: &Path, server: &str) -> [Node; 3] {
    let seed = Node::start_with(kinds[0], dir, "name: c", server).await;
    let config = routes(&[&seed], "");
    let second = Node::start_with(kinds[1], dir, &config, server).await;
    let third = Node::start_with(kinds[2], dir, &config, server).await;
    [seed, second, third]
}

/// A cluster block that dials others with these credentials.
pub(crate) fn routes(to: &[&Node], credentials: &str) -> String {
    let urls: Vec<String> = to
        .iter()
        .map(|node| format!("\"nats-route://{credentials}127.0.0.1:{}\"", node.routes))
        .collect();
    format!("name: c\nroutes: [{}]\n", urls.join(", "))
}

/// Publishes on `subject` until `to` gets one, which shows that what `to` wanted before is known there too.
pub(crate) async fn meets(from: &mut Wire, to: &mut Wire, subject: &str) {
    let publish = format!("PUB {subject} 0\r\n\r\n");
    let what = format!("{subject} arrives");
    let arrived = patience::until(&what, PATIENCE, async || {
        from.send(publish.as_bytes()).await?;
        from.answers().await?;
        ensure!(to.answers().await?.contains(subject), "nothing came");
        Ok(())
    });
    arrived.await.unwrap();
}
