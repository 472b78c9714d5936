//! A server of a cluster, ours or a nats-server of either age, that keeps its ports over restarts.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use tests::{patience, ports, process::Process, programs, wire::Wire};

/// For servers to meet, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Broker,
    /// From before pools of routes.
    Old,
    New,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::New, Self::Old, Self::Broker];
}

#[derive(Debug)]
pub(crate) struct Node {
    kind: Kind,
    pub(crate) port: u16,
    /// For other servers.
    pub(crate) routes: u16,
    config: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// Starts one. `cluster` is what the cluster block says apart from where it listens.
    pub(crate) async fn start(kind: Kind, dir: &Path, cluster: &str) -> Self {
        Self::start_with(kind, dir, cluster, "").await
    }

    /// The same; `server` is what the configuration says outside of the cluster block.
    pub(crate) async fn start_with(kind: Kind, dir: &Path, cluster: &str, server: &str) -> Self {
        let (port, routes) = (ports::free(), ports::free());
        let mut node = Self {
            kind,
            port,
            routes,
            config: dir.join(format!("{port}.conf")),
            process: None,
        };
        node.write_config(cluster, server);
        node.restart().await;
        node
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
        let pid = Pid::from_raw(process.id().cast_signed()).expect("a process");
        kill_process(pid, Signal::HUP).unwrap();
        let reloaded = patience::until(done, PATIENCE, async || {
            process.check_alive()?;
            ensure!(process.output().matches(done).count() > before);
            Ok(())
        });
        reloaded.await.unwrap();
    }

    /// Kills it without warning if it runs, and starts it.
    pub(crate) async fn restart(&mut self) {
        self.process = None;
        let (program, mine): (_, &[&str]) = match self.kind {
            Kind::Broker => (programs::ours("stanchion-broker"), &["--streaming=false"]),
            Kind::Old => (programs::tool("nats-server-2.9.24"), &[]),
            Kind::New => (programs::tool("nats-server"), &[]),
        };
        let mut command = Command::new(program.unwrap());
        command.args(mine).arg("-c").arg(&self.config);
        let name = format!("{:?} on {}", self.kind, self.port);
        let log = self.config.with_extension("log");
        let mut process = Process::start(&name, &mut command, &log).unwrap();
        process.writes("Server is ready", PATIENCE).await.unwrap();
        self.process = Some(process);
    }

    /// What it has written since it was started last.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().expect("it runs").output()
    }

    pub(crate) async fn client(&self) -> Wire {
        let mut client = Wire::connect(self.port).await.unwrap();
        let connect =
            br#"CONNECT {"verbose":false,"protocol":1,"headers":true,"no_responders":true}"#;
        client.send(connect).await.unwrap();
        client.send(b"\r\n").await.unwrap();
        client.answers().await.unwrap();
        client
    }
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
