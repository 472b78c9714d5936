//! A server under test, ours or the reference, with a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use tempfile::TempDir;
use tests::{patience, ports, process::Process, programs, wire::Wire};

/// For anything that a server does, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Broker,
    Reference,
}

/// The reference first: where it fails, the question is wrong.
pub(crate) const BOTH: [Program; 2] = [Program::Reference, Program::Broker];

impl Program {
    pub(crate) fn path(self) -> PathBuf {
        match self {
            Self::Broker => programs::ours("stanchion-broker"),
            Self::Reference => programs::tool("nats-server"),
        }
        .unwrap()
    }

    /// The last line of its start: nothing comes behind it that nobody has asked for.
    fn ready(self) -> &'static str {
        match self {
            Self::Broker => "Streaming Server is ready",
            Self::Reference => "Server is ready",
        }
    }
}

/// A server with a folder of its own.
pub(crate) struct Server {
    pub(crate) program: PathBuf,
    pub(crate) process: Process,
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
}

impl Server {
    /// `args` are made from the folder; a configuration in it is used when there is one.
    pub(crate) async fn start(
        program: Program,
        prepare: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_as(program, program.path(), dir, prepare).await
    }

    /// The program lies elsewhere.
    pub(crate) async fn start_as(
        kind: Program,
        program: PathBuf,
        dir: TempDir,
        prepare: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let port = ports::free();
        let args = prepare(dir.path());
        let mut command = Command::new(&program);
        command.args(["-p", &port.to_string()]).args(args);
        let output = dir.path().join("output");
        let process = Process::start("the server", &mut command, &output).unwrap();
        let mut server = Self {
            program,
            process,
            dir,
            port,
        };
        server.logs(kind.ready()).await;
        server
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The log file where there is one, else standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_else(|_| self.process.output())
    }

    pub(crate) async fn logs(&mut self, text: &str) {
        let what = format!("{text:?} in the log");
        let seen = patience::until(&what, PATIENCE, async || {
            self.process.check_alive()?;
            let log = self.log();
            anyhow::ensure!(log.contains(text), "{log}");
            Ok(())
        });
        seen.await.unwrap();
    }

    /// The process id that its lines begin with.
    pub(crate) fn pid(&self) -> u32 {
        let log = self.log();
        let pid = log.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        pid.expect("a line of the log").0.parse().unwrap()
    }

    pub(crate) fn signal(&self, what: &str) -> Output {
        let mut command = Command::new(&self.program);
        command.args(["--signal", what]).output().unwrap()
    }

    /// As [`Self::signal`], which has to work and has nothing to say.
    pub(crate) fn signalled(&self, what: &str) {
        let output = self.signal(what);
        assert!(output.status.success(), "{what}: {output:?}");
        assert_eq!(output.stderr, b"", "{what}");
    }

    pub(crate) async fn ends_with_success(&mut self) {
        self.process.succeeds(PATIENCE).await.unwrap();
    }
}

/// A client whose connection has begun.
pub(crate) async fn client(server: &Server, protocol: u8) -> Wire {
    let mut client = Wire::connect(server.port).await.unwrap();
    let connect = format!("CONNECT {{\"verbose\":false,\"protocol\":{protocol}}}\r\n");
    client.send(connect.as_bytes()).await.unwrap();
    client.answers().await.unwrap();
    client
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

pub(crate) fn flag(name: &str, path: &Path) -> [String; 2] {
    [name.to_owned(), path.display().to_string()]
}
