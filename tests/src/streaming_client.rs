//! Applications of streaming on the real client libraries: the `streaming` programs of `tests/clients`, one for each
//! language, and the scenarios that they play with every option of their library.

use std::{fmt, path::Path, process::Command};

use certs::reload::TlsFiles;

use crate::{player::Player, programs, streaming_server::CLUSTER_ID};

/// A client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// stan.go.
    Go,
    /// node-nats-streaming.
    Node,
    /// asyncio-nats-streaming.
    Python,
    /// java-nats-streaming.
    Java,
}

/// Every library that there is a program for.
pub const LIBRARIES: [Library; 4] = [Library::Go, Library::Node, Library::Python, Library::Java];

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "go",
            Self::Node => "node",
            Self::Python => "python",
            Self::Java => "java",
        })
    }
}

impl Library {
    fn command(self) -> anyhow::Result<Command> {
        let source = programs::root()
            .join("tests/clients")
            .join(self.to_string());
        Ok(match self {
            Self::Go => Command::new(programs::obtained("client-go/streaming")?),
            Self::Node => {
                let packages = programs::obtained("client-node/node_modules")?;
                let mut command = Command::new("node");
                command.env("STANCHION_NODE_PACKAGES", packages);
                command.arg(source.join("streaming.js"));
                command
            }
            Self::Python => {
                let mut command = Command::new(programs::obtained("client-python/bin/python")?);
                // It shares a module with another program; what is compiled of that is not left in the source tree.
                command.arg("-B").arg(source.join("streaming.py"));
                command
            }
            Self::Java => programs::java("client-java-streaming", "Streaming")?,
        })
    }
}

/// A running application.
pub type StreamingClient = Player<Library>;

impl StreamingClient {
    /// Starts one that plays `scenario` at a server on this port of loopback, with a client ID and channels of its own.
    /// Its output goes to a file in `dir`.
    ///
    /// # Errors
    /// When the library's program is not on this machine.
    pub fn start(
        library: Library,
        scenario: &str,
        port: u16,
        tls: Option<&TlsFiles>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = library.command()?;
        let scheme = if tls.is_some() { "tls" } else { "nats" };
        command
            .arg(format!("--scenario={scenario}"))
            .arg(format!("--url={scheme}://127.0.0.1:{port}"))
            .arg(format!("--cluster={CLUSTER_ID}"))
            .arg(format!("--prefix={library}-{scenario}"));
        if let Some(files) = tls {
            command
                .arg(format!("--ca={}", files.ca.display()))
                .arg(format!("--cert={}", files.cert.display()))
                .arg(format!("--key={}", files.key.display()));
        }
        Self::begin(library, scenario, &mut command, dir)
    }
}
