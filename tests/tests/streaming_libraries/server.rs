//! The streaming server under test, without TLS or with it.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use certs::{profile::Profile, reload::TlsFiles};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::{
    certificates::Certificates, ports, process::Process, programs, streaming_server::CLUSTER_ID,
};

/// For one step, on a busy machine with several virtual machines and interpreters at work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Names another program to play the scenarios against, such as nats-streaming-server: to prove the scenarios
/// themselves.
const OTHER_SERVER: &str = "STANCHION_STREAMING_SERVER";

#[derive(Debug)]
pub(crate) struct Server {
    /// Where applications connect.
    pub(crate) port: u16,
    /// What applications show and trust, with TLS.
    pub(crate) tls: Option<TlsFiles>,
    streaming: Process,
    pub(crate) dir: TempDir,
}

impl Server {
    pub(crate) async fn start(secure: bool) -> Self {
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
        streaming.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        if let Some(files) = &served {
            streaming.args(["--tls", "--tlsverify", "--tlscert"]);
            streaming.arg(&files.cert).arg("--tlskey").arg(&files.key);
            streaming.arg("--tlscacert").arg(&files.ca);
        }
        let log = dir.path().join("server.log");
        let mut streaming = Process::start("the streaming server", &mut streaming, &log).unwrap();
        let ready = streaming.writes("Streaming Server is ready", PATIENCE);
        ready.await.unwrap();
        Self {
            streaming,
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

/// What the reference shows and trusts as a client of its own NATS server; ours is none.
fn client_section(files: &TlsFiles) -> String {
    let TlsFiles { ca, cert, key } = files;
    format!(
        "streaming: {{ tls: {{\n  client_cert: {cert:?}\n  client_key: {key:?}\n  client_ca: {ca:?}\n}} }}\n"
    )
}
