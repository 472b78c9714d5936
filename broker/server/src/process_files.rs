//! Files that tell others about this process: the pid file and the ports file; and the log, as the
//! configuration wants it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
};

use anyhow::Context;
use deploy_runtime::{LogFileSettings, NatsLogSettings};
use serde::Serialize;

use crate::{
    config::{self, LogSettings},
    interfaces,
};

/// A file that goes when this value is dropped.
#[derive(Debug)]
pub(crate) struct OwnedFile {
    path: PathBuf,
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            // Somebody tidied up before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "removing a file of this process failed");
            }
        }
    }
}

/// Where one kind of connection is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening {
    /// Bound to; may be all interfaces.
    pub(crate) address: SocketAddr,
    /// Nothing but TLS is spoken there.
    pub(crate) tls: bool,
}

/// All listening sockets that the ports file shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) nats: Option<Listening>,
    pub(crate) monitoring: Option<Listening>,
    pub(crate) cluster: Option<Listening>,
}

/// The files of this process. They go with the value, which is how a program that ends leaves nothing
/// behind that names it.
#[derive(Debug)]
pub(crate) struct ProcessFiles {
    pid: Option<OwnedFile>,
    ports: Option<OwnedFile>,
}

impl ProcessFiles {
    /// Writes the files that are asked for.
    ///
    /// # Errors
    /// One cannot be written.
    pub(crate) fn leave(
        settings: &config::ProcessFiles,
        listeners: &Listeners,
    ) -> anyhow::Result<Self> {
        let mut files = Self {
            pid: None,
            ports: None,
        };
        files.update(settings, listeners)?;
        Ok(files)
    }

    /// Writes the files again where they are asked for now, and removes those that are asked for no
    /// longer.
    ///
    /// # Errors
    /// One cannot be written; the one that was there before stays.
    pub(crate) fn update(
        &mut self,
        settings: &config::ProcessFiles,
        listeners: &Listeners,
    ) -> anyhow::Result<()> {
        let pid = settings.pid_file.as_deref();
        if let Some(path) = pid {
            fs::write(path, process::id().to_string())
                .with_context(|| format!("writing pid file {}", path.display()))?;
        }
        own(&mut self.pid, pid);
        let ports = settings.ports_file_dir.as_deref();
        let ports = ports.map(ports_path).transpose()?;
        if let Some(path) = &ports {
            write_at_once(path, &ports_text(listeners)?)
                .with_context(|| format!("writing ports file {}", path.display()))?;
        }
        own(&mut self.ports, ports.as_deref());
        Ok(())
    }
}

/// From now on the file at `path` is ours, which has been written; one elsewhere is removed.
fn own(slot: &mut Option<OwnedFile>, path: Option<&Path>) {
    if slot.as_ref().map(|file| file.path.as_path()) != path {
        *slot = path.map(|path| OwnedFile {
            path: path.to_owned(),
        });
    }
}

/// Whoever waits for the file finds it whole.
fn write_at_once(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// `<program>_<pid>.ports`.
fn ports_path(dir: &Path) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("finding the name of this program")?;
    let program = program.file_name().unwrap_or_default().to_string_lossy();
    Ok(dir.join(format!("{program}_{}.ports", process::id())))
}

/// Content of the ports file, as `server/ports.go` has it; an address for each of this machine.
fn ports_text(listeners: &Listeners) -> anyhow::Result<String> {
    let urls = |listening: Option<Listening>, clear: &str, tls: &str| match listening {
        None => Ok(Vec::new()),
        Some(listening) => {
            let scheme = if listening.tls { tls } else { clear };
            let addresses = interfaces::reachable_at(listening.address)
                .context("finding the addresses of this machine")?;
            let urls = addresses.iter().map(|at| format!("{scheme}://{at}"));
            anyhow::Ok(urls.collect())
        }
    };
    let ports = Ports {
        nats: urls(listeners.nats, "nats", "tls")?,
        monitoring: urls(listeners.monitoring, "http", "https")?,
        cluster: urls(listeners.cluster, "nats", "tls")?,
    };
    serde_json::to_string(&ports).context("writing down the ports")
}

#[derive(Debug, Serialize)]
struct Ports {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    monitoring: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cluster: Vec<String>,
}

/// The log that the configuration asks for.
pub(crate) fn log_settings(settings: &LogSettings) -> NatsLogSettings {
    NatsLogSettings {
        filter: settings.filter(),
        file: settings.file.as_ref().map(|path| LogFileSettings {
            path: path.clone(),
            size_limit: settings.file_size_limit,
            max_files: settings.file_max_num,
        }),
        time: settings.time,
        utc: settings.time_utc,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pid_file: Option<PathBuf>, ports_dir: Option<&Path>) -> config::ProcessFiles {
        config::ProcessFiles {
            pid_file,
            ports_file_dir: ports_dir.map(Path::to_owned),
        }
    }

    fn listening(address: &str, tls: bool) -> Option<Listening> {
        let address = address.parse().unwrap();
        Some(Listening { address, tls })
    }

    #[test]
    fn files_exist_as_long_as_they_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let pid_path = dir.path().join("x.pid");
        let listeners = Listeners {
            nats: listening("10.0.0.1:4333", true),
            monitoring: listening("127.0.0.1:8333", false),
            cluster: listening("[::1]:6333", false),
        };
        let settings = settings(Some(pid_path.clone()), Some(dir.path()));
        let files = ProcessFiles::leave(&settings, &listeners).unwrap();
        assert_eq!(
            fs::read_to_string(&pid_path).unwrap(),
            process::id().to_string()
        );
        let ports = &files.ports.as_ref().unwrap().path;
        assert_eq!(
            fs::read_to_string(ports).unwrap(),
            r#"{"nats":["tls://10.0.0.1:4333"],"monitoring":["http://127.0.0.1:8333"],"cluster":["nats://[::1]:6333"]}"#
        );
        let name = ports.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            name.ends_with(&format!("_{}.ports", process::id())),
            "{name}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(files);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_server_on_all_interfaces_shows_an_address_of_each() {
        let listeners = Listeners {
            nats: listening("0.0.0.0:4333", false),
            ..Listeners::default()
        };
        let text = ports_text(&listeners).unwrap();
        assert!(text.contains("\"nats://127.0.0.1:4333\""), "{text}");
        assert!(!text.contains("0.0.0.0"), "{text}");
    }

    #[test]
    fn a_reload_moves_files_and_brings_lost_ones_back() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.pid"), dir.path().join("two.pid"));
        let nowhere = Listeners::default();
        let first = settings(Some(one.clone()), None);
        let mut files = ProcessFiles::leave(&first, &nowhere).unwrap();
        fs::remove_file(&one).unwrap();
        files.update(&first, &nowhere).unwrap();
        assert!(one.exists());
        files
            .update(&settings(Some(two.clone()), None), &nowhere)
            .unwrap();
        assert!(!one.exists() && two.exists());
        files.update(&settings(None, None), &nowhere).unwrap();
        assert!(!two.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let nowhere = Listeners::default();
        let mut files = ProcessFiles::leave(&settings(Some(path.clone()), None), &nowhere).unwrap();
        let missing = settings(Some("/does/not/exist.pid".into()), None);
        let error = files.update(&missing, &nowhere).unwrap_err().to_string();
        assert_eq!(error, "writing pid file /does/not/exist.pid");
        assert!(path.exists());
    }
}
