//! The server under test, and several of them in a cluster.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::ensure;
use tempfile::TempDir;
use tests::{patience, ports, process::Process, programs, wire::Wire};

/// For one step, on a busy machine with several virtual machines and interpreters at work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Names another program to play the scenarios against, such as nats-server: to prove the scenarios themselves.
const OTHER_SERVER: &str = "STANCHION_CORE_SERVER";

/// A server on a port of loopback.
pub(crate) struct Server {
    pub(crate) port: u16,
    program: PathBuf,
    process: Process,
    _dir: TempDir,
}

impl Server {
    /// With a configuration, to which the port is added.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_at(ports::free(), config).await
    }

    pub(crate) async fn start_at(port: u16, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.conf");
        fs::write(&file, format!("listen: \"127.0.0.1:{port}\"\n{config}\n")).unwrap();
        let (program, flags) = match env::var_os(OTHER_SERVER) {
            Some(program) => (program.into(), [].as_slice()),
            None => (
                programs::ours("stanchion-broker").unwrap(),
                ["--streaming=false"].as_slice(),
            ),
        };
        let mut command = Command::new(&program);
        command.args(flags).arg("--config").arg(file);
        let log = dir.path().join("server.log");
        let mut process = Process::start("the server", &mut command, &log).unwrap();
        process.writes("Server is ready", PATIENCE).await.unwrap();
        Self {
            port,
            program,
            process,
            _dir: dir,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends it without warning (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends its clients away.
    pub(crate) fn enter_lame_duck_mode(&self) {
        let mut command = Command::new(&self.program);
        command.arg(format!("--signal=ldm={}", self.process.id()));
        assert!(command.status().unwrap().success());
    }

    /// Waits until clients are told of the other server.
    pub(crate) async fn knows(&self, other: &Self) {
        let announced = patience::until("the other server is announced", PATIENCE, async || {
            let info = Wire::connect(self.port).await?.info;
            let other = format!("127.0.0.1:{}", other.port);
            let urls = info["connect_urls"].as_array();
            let known = urls.is_some_and(|urls| urls.contains(&other.as_str().into()));
            ensure!(known, "{info}");
            Ok(())
        });
        announced.await.unwrap();
    }
}

/// Configurations of two servers that are to find each other by routes.
pub(crate) fn cluster(first_more: &str) -> [String; 2] {
    let routes = [ports::free(), ports::free()];
    let section = |own: u16, other: u16| {
        format!(
            "cluster {{ name: shared, listen: \"127.0.0.1:{own}\"\n\
             routes: [\"nats-route://127.0.0.1:{other}\"] }}\n"
        )
    };
    let [first, second] = routes;
    [section(first, second) + first_more, section(second, first)]
}
