//! A private PostgreSQL server for tests: a fresh cluster in a temporary directory, on a random
//! loopback port, with `fsync` on. It ends with the value, after a panic too.

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

/// Where distributions put the server's programs, which are not on the search path.
const USUAL_DIRECTORIES: &[&str] = &[
    "/usr/lib/postgresql",
    "/usr/pgsql",
    "/opt/homebrew/opt/postgresql",
];

/// A server refuses to run as root; Debian's package makes this user.
const UNPRIVILEGED_USER: &str = "postgres";

const SUPERUSER: &str = "tester";

/// Seconds that `pg_ctl` waits for a start or a stop.
const PATIENCE: &str = "60";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("PostgreSQL is not installed: no initdb found; install the Debian package postgresql")]
    NotInstalled,
    #[error("{what} failed: {output}")]
    Program { what: &'static str, output: String },
    #[error("unable to {what}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// A running server with its own data directory.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Makes a cluster and starts it. Blocks for some seconds.
    ///
    /// # Errors
    /// PostgreSQL is missing, or does not start.
    pub fn start() -> Result<Self, ServerError> {
        Self::start_in(&env::temp_dir())
    }

    /// As [`Self::start`], with everything below this folder.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in(folder: &Path) -> Result<Self, ServerError> {
        let programs = find_programs().ok_or(ServerError::NotInstalled)?;
        let directory = make_directory(folder)?;
        let server = Self {
            programs,
            directory,
            port: free_port()?,
            databases: AtomicU32::new(0),
        };
        server.init()?;
        server.launch()?;
        Ok(server)
    }

    /// The server that tests of this process share as long as one of them holds it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn shared() -> Result<Arc<Self>, ServerError> {
        static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// A fresh database; its source string, over loopback TCP.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn create_database(&self) -> Result<String, ServerError> {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(format!(
            "host=127.0.0.1 port={} user={SUPERUSER} dbname={name} sslmode=disable",
            self.port
        ))
    }

    /// Runs statements in the database of a source string that `create_database` gave. What they
    /// return comes back as text, one row a line, columns separated by `|`.
    ///
    /// # Errors
    /// The statements fail.
    pub fn run(&self, source: &str, sql: &str) -> Result<String, ServerError> {
        let words = source
            .split(' ')
            .find_map(|word| word.strip_prefix("dbname="));
        self.psql(words.unwrap_or("postgres"), sql)
    }

    /// A program of the server's release, such as `pg_dump`.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Stops the server as an administrator would, in a hurry: sessions are ended.
    ///
    /// # Errors
    /// It does not stop in time.
    pub fn stop(&self) -> Result<(), ServerError> {
        let data = self.data();
        self.check(
            "stopping the server",
            self.program("pg_ctl")
                .args(["-D", &data, "-m", "fast", "-w", "-t", PATIENCE, "stop"]),
        )?;
        Ok(())
    }

    /// Starts a stopped or killed server again, on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub fn launch(&self) -> Result<(), ServerError> {
        let data = self.data();
        let log = self.directory.join("log");
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=on \
             -c max_connections=200 -c shared_buffers=64MB",
            self.port,
            self.directory.display()
        );
        let log = log.display().to_string();
        let mut start = self.program("pg_ctl");
        start.args([
            "-D", &data, "-l", &log, "-w", "-t", PATIENCE, "-o", &options, "start",
        ]);
        // The server inherits the descriptors of pg_ctl: with a pipe, reading its output would last
        // as long as the server does.
        let status = start
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|source| ServerError::Io {
                what: "run pg_ctl",
                source,
            })?;
        if status.success() {
            return Ok(());
        }
        Err(ServerError::Program {
            what: "starting the server",
            output: fs::read_to_string(self.directory.join("log")).unwrap_or_default(),
        })
    }

    /// Stops and starts.
    ///
    /// # Errors
    /// Either fails.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.stop()?;
        self.launch()
    }

    /// Kills the postmaster and its children with SIGKILL, as the end of the machine would. `launch` starts it again.
    ///
    /// # Errors
    /// There is no process to kill.
    pub fn kill(&self) -> Result<(), ServerError> {
        let pid_file = self.directory.join("data/postmaster.pid");
        let text = fs::read_to_string(&pid_file).map_err(|source| ServerError::Io {
            what: "read postmaster.pid",
            source,
        })?;
        let pid = text.lines().next().unwrap_or_default().to_owned();
        // Stopped first, so that it does not replace the children that are killed before it.
        self.check(
            "killing the server",
            Command::new("kill").args(["-STOP", &pid]),
        )?;
        let mut pids = children_of(&pid);
        pids.push(pid);
        self.check(
            "killing the server",
            Command::new("kill").arg("-KILL").args(&pids),
        )?;
        while pids.iter().any(|pid| is_running(pid)) {
            thread::sleep(Duration::from_millis(5));
        }
        // Where nobody reaps orphans the dead postmaster keeps its number, and the next one would take
        // it for alive. The lock of the socket may be gone already.
        let _ = fs::remove_file(self.directory.join(format!(".s.PGSQL.{}.lock", self.port)));
        fs::remove_file(&pid_file).map_err(|source| ServerError::Io {
            what: "remove postmaster.pid",
            source,
        })
    }

    /// Makes the server accept TLS with this certificate and key (PEM). Restarts it.
    ///
    /// # Errors
    /// The files cannot be written, or the server does not start with them.
    pub fn enable_tls(&self, certificate: &str, key: &str) -> Result<(), ServerError> {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.directory.join("data").join(name);
            let written = fs::write(&path, text)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)));
            written.map_err(|source| ServerError::Io {
                what: "write the certificate of the server",
                source,
            })?;
            hand_over(&path)?;
        }
        self.psql("postgres", "ALTER SYSTEM SET ssl = on")?;
        self.restart()
    }

    fn init(&self) -> Result<(), ServerError> {
        let data = self.data();
        self.check(
            "initdb",
            self.program("initdb").args([
                "-D",
                &data,
                "-U",
                SUPERUSER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ]),
        )?;
        Ok(())
    }

    fn psql(&self, database: &str, sql: &str) -> Result<String, ServerError> {
        let port = self.port.to_string();
        let mut command = Command::new(self.programs.join("psql"));
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            SUPERUSER,
            "-d",
            database,
            "-c",
            sql,
        ]);
        let output = self.check("psql", &mut command)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn data(&self) -> String {
        self.directory.join("data").display().to_string()
    }

    /// A program of the server, under a user that may run it.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args([
                &format!("--reuid={UNPRIVILEGED_USER}"),
                &format!("--regid={UNPRIVILEGED_USER}"),
                "--clear-groups",
                "--",
            ]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(&self.directory);
        command
    }

    fn check(&self, what: &'static str, command: &mut Command) -> Result<Output, ServerError> {
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ServerError::Io {
                what: "run a program of PostgreSQL",
                source,
            })?;
        if output.status.success() {
            return Ok(output);
        }
        let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stdout));
        Err(ServerError::Program { what, output: text })
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let data = self.data();
        // Immediate: nothing of the data is wanted any more. It may not be running.
        let _ = self
            .program("pg_ctl")
            .args(["-D", &data, "-m", "immediate", "-w", "-t", PATIENCE, "stop"])
            .output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The newest version found: what `pg_config` names, else the usual places.
fn find_programs() -> Option<PathBuf> {
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if directory.join("initdb").exists() {
            return Some(directory);
        }
    }
    let mut found: Vec<(u32, PathBuf)> = USUAL_DIRECTORIES
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            let programs = path.join("bin");
            programs
                .join("initdb")
                .exists()
                .then_some((version, programs))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, programs)| programs)
}

/// A directory that the server's user owns.
fn make_directory(folder: &Path) -> Result<PathBuf, ServerError> {
    let output = Command::new("mktemp")
        .args(["-d", "-p"])
        .arg(folder)
        .arg("stanchion-pg.XXXXXXXX")
        .output()
        .map_err(|source| ServerError::Io {
            what: "run mktemp",
            source,
        })?;
    let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let prepared = fs::set_permissions(&directory, fs::Permissions::from_mode(0o755));
    prepared.map_err(|source| ServerError::Io {
        what: "make a temporary directory",
        source,
    })?;
    hand_over(&directory)?;
    Ok(directory)
}

/// Gives a file or folder to the user that the server runs under.
///
/// # Errors
/// There is no such user.
pub fn hand_over(path: &Path) -> Result<(), ServerError> {
    if is_root() {
        let owner = format!("{UNPRIVILEGED_USER}:");
        let changed = Command::new("chown").arg(owner).arg(path).status();
        if !changed.is_ok_and(|status| status.success()) {
            return Err(ServerError::NotInstalled);
        }
    }
    Ok(())
}

/// Whether this process runs as root. `/proc/self` belongs to the effective user.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Process ids of the children of a process, from `/proc`.
fn children_of(pid: &str) -> Vec<String> {
    let parent = format!("PPid:\t{pid}\n");
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|name| {
            fs::read_to_string(format!("/proc/{name}/status"))
                .is_ok_and(|status| status.contains(&parent))
        })
        .collect()
}

/// Whether a process exists and is no zombie.
fn is_running(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| !status.contains("\nState:\tZ"))
}

/// A port that was free a moment ago. It lies below those that the kernel gives to outgoing connections: one of these
/// would be in the way when the server is started again, even an attempt to connect to the server itself.
fn free_port() -> Result<u16, ServerError> {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different places.
    let start = u16::try_from(process::id() % u32::from(COUNT)).unwrap_or_default();
    let mut last = None;
    for _ in 0..COUNT {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + turn) % COUNT;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(ServerError::Io {
        what: "find a free port",
        source: last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()),
    })
}
