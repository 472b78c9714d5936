//! The streaming server under test, with its own NATS server or beside another one, without TLS or with it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use certs::{profile::Profile, reload::TlsFiles};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::{
    certificates::Certificates, ports, process::Process, programs, streaming_server::CLUSTER_ID,
};

/// For one step, on a busy machine with several virtual machines and interpreters at work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Names another program to play the scenarios against, such as nats-streaming-server: to prove the scenarios
/// themselves.
const OTHER_SERVER: &str = "STANCHION_STREAMING_SERVER";

/// Which NATS server the applications connect to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nats {
    /// The streaming server's own.
    Embedded,
    /// This program, of which the streaming server is a client.
    External(&'static str),
}

#[derive(Debug)]
pub(crate) struct Server {
    /// Where applications connect.
    pub(crate) port: u16,
    /// What applications show and trust, with TLS.
    pub(crate) tls: Option<TlsFiles>,
    streaming: Process,
    _nats: Option<Process>,
    pub(crate) dir: TempDir,
}

impl Server {
    pub(crate) async fn start(nats: Nats, secure: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(dir.path()).unwrap();
        let grant = |name, profile| certificates.grant(name, profile).unwrap();
        let served = secure.then(|| grant("server", Profile::Server));
        let tls = secure.then(|| grant("application", Profile::Client));
        let port = ports::free();
        let mut streaming = Command::new(streaming_program());
        streaming.args(["-cluster_id", CLUSTER_ID, "-store", "MEMORY"]);
        if let Some(files) = &tls {
            let config = dir.path().join("streaming.conf");
            fs::write(&config, client_section(files)).unwrap();
            streaming.arg("-sc").arg(config);
        }
        let nats = match nats {
            Nats::Embedded => {
                listen(&mut streaming, port, served.as_ref(), dir.path());
                None
            }
            Nats::External(program) => {
                let mut command = Command::new(programs::tool(program).unwrap());
                listen(&mut command, port, served.as_ref(), dir.path());
                let log = dir.path().join("nats.log");
                streaming.args(["-nats_server", &format!("nats://127.0.0.1:{port}")]);
                Some(ready(program, &mut command, "Server is ready", &log).await)
            }
        };
        let (name, log) = ("the streaming server", dir.path().join("server.log"));
        Self {
            streaming: ready(name, &mut streaming, "Streaming Server is ready", &log).await,
            _nats: nats,
            port,
            tls,
            dir,
        }
    }

    /// It does nothing any more, and its connections stay.
    pub(crate) fn freeze(&self) {
        let pid = i32::try_from(self.streaming.id())
            .ok()
            .and_then(Pid::from_raw);
        let pid = pid.expect("a process has a positive number");
        kill_process(pid, Signal::STOP).unwrap();
    }
}

fn streaming_program() -> PathBuf {
    match env::var_os(OTHER_SERVER) {
        Some(program) => program.into(),
        None => programs::ours("stanchion-broker").unwrap(),
    }
}

/// Where clients connect, and what a server shows and trusts there.
fn listen(command: &mut Command, port: u16, tls: Option<&TlsFiles>, dir: &Path) {
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    if let Some(TlsFiles { ca, cert, key }) = tls {
        // Virtual machines that all start at once take their time for the handshake. There is no flag for that.
        let seconds = PATIENCE.as_secs();
        let config = dir.join("listen.conf");
        let text = format!(
            "tls {{ ca_file: {ca:?}, cert_file: {cert:?}, key_file: {key:?}, verify: true, timeout: {seconds} }}\n"
        );
        fs::write(&config, text).unwrap();
        command.arg("-c").arg(config);
    }
}

/// Starts a server and waits until it says that it is ready.
async fn ready(name: &str, command: &mut Command, line: &str, log: &Path) -> Process {
    let mut process = Process::start(name, command, log).unwrap();
    process.writes(line, PATIENCE).await.unwrap();
    process
}

/// What a streaming server shows and trusts as a client of a NATS server; the reference is one of its own server, too.
/// It has flags for this, but takes them for a wish to listen with TLS.
fn client_section(files: &TlsFiles) -> String {
    let TlsFiles { ca, cert, key } = files;
    format!(
        "streaming: {{ tls: {{\n  client_cert: {cert:?}\n  client_key: {key:?}\n  client_ca: {ca:?}\n}} }}\n"
    )
}
