//! Applications of core NATS on the real client libraries: the `core` programs of `tests/clients`, one for each
//! language, and the scenarios that they play.

use std::{fmt, path::Path, process::Command};

use crate::{player::Player, programs};

/// A client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// async-nats.
    Rust,
    /// nats.go.
    Go,
    /// nats.js for Node.
    Node,
    /// nats-py.
    Python,
    /// jnats.
    Java,
}

/// Every library that there is a program for.
pub const LIBRARIES: [Library; 5] = [
    Library::Rust,
    Library::Go,
    Library::Node,
    Library::Python,
    Library::Java,
];

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "rust",
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
            Self::Rust => Command::new(programs::ours("core-client")?),
            Self::Go => Command::new(programs::obtained("client-go/core")?),
            Self::Node => {
                let packages = programs::obtained("client-node/node_modules")?;
                let mut command = Command::new("node");
                command.env("STANCHION_NODE_PACKAGES", packages);
                command.arg(source.join("core.js"));
                command
            }
            Self::Python => {
                let python = programs::obtained("client-python-core/bin/python")?;
                let mut command = Command::new(python);
                command.arg(source.join("core.py"));
                command
            }
            Self::Java => programs::java("client-java", "Core")?,
        })
    }
}

/// A running application.
pub type CoreClient = Player<Library>;

impl CoreClient {
    /// Starts one that plays `scenario`. `name` is the first token of its subjects and names the file in `dir` that its
    /// output goes to.
    ///
    /// # Errors
    /// When the library's program is not on this machine.
    pub fn start(
        library: Library,
        scenario: &str,
        url: &str,
        flags: &[String],
        name: &str,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = library.command()?;
        command
            .arg(format!("--scenario={scenario}"))
            .arg(format!("--url={url}"))
            .arg(format!("--prefix={name}"))
            .args(flags);
        Self::begin(library, &format!("{scenario}-{name}"), &mut command, dir)
    }
}
