//! Files that tell others about this process: the pid file, the ports file, and the log file that
//! takes the place of standard error.

use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
};

use anyhow::Context;
use serde::Serialize;

/// A file that goes when this value is dropped.
#[derive(Debug)]
pub(crate) struct OwnedFile {
    path: PathBuf,
}

impl OwnedFile {
    fn write(path: PathBuf, text: &str) -> anyhow::Result<Self> {
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "removing a file of this process failed");
        }
    }
}

/// Writes the decimal process id.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_pid(path: &Path) -> anyhow::Result<OwnedFile> {
    OwnedFile::write(path.to_owned(), &process::id().to_string())
}

/// Content of the ports file, as `server/ports.go` has it.
#[derive(Debug, Serialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    monitoring: Vec<String>,
}

/// Writes `<program>_<pid>.ports` into a directory: where clients and monitoring really listen.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_ports(
    dir: &Path,
    client: SocketAddr,
    monitor: Option<SocketAddr>,
) -> anyhow::Result<OwnedFile> {
    let program = std::env::current_exe().context("finding the name of this program")?;
    let program = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let ports = Ports {
        nats: urls("nats", client),
        monitoring: monitor
            .map(|address| urls("http", address))
            .unwrap_or_default(),
    };
    let text = serde_json::to_string(&ports).context("writing down the ports")?;
    OwnedFile::write(
        dir.join(format!("{program}_{}.ports", process::id())),
        &text,
    )
}

/// A client on this machine cannot connect to "any address", but can to the loopback one.
fn urls(scheme: &str, address: SocketAddr) -> Vec<String> {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    vec![format!("{scheme}://{address}")]
}

/// Puts a file, opened for appending, in the place of standard error, so that panics land in it as
/// well as log lines. Called again it opens the file anew, which is how logs are rotated.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn log_to(path: &Path) -> anyhow::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening log file {}", path.display()))?;
    rustix::stdio::dup2_stderr(&file).context("putting the log file in the place of standard error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_and_ports_files_exist_as_long_as_they_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let pid_path = dir.path().join("x.pid");
        let pid = write_pid(&pid_path).unwrap();
        assert_eq!(
            fs::read_to_string(&pid_path).unwrap(),
            process::id().to_string()
        );

        let client = "0.0.0.0:4333".parse().unwrap();
        let monitor = "127.0.0.1:8333".parse().unwrap();
        let ports = write_ports(dir.path(), client, Some(monitor)).unwrap();
        let text = fs::read_to_string(&ports.path).unwrap();
        assert_eq!(
            text,
            r#"{"nats":["nats://127.0.0.1:4333"],"monitoring":["http://127.0.0.1:8333"]}"#
        );
        let name = ports
            .path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert!(
            name.ends_with(&format!("_{}.ports", process::id())),
            "{name}"
        );

        drop((pid, ports));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = write_pid(Path::new("/does/not/exist.pid"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "writing /does/not/exist.pid");
    }
}
