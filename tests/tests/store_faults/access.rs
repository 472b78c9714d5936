//! How a server is told where the database is and how to log in, and told again.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use tests::streaming_server::Store;

use crate::{
    plan::Refusal,
    rig::{Database, KEEPER},
};

/// Stands for the database where its address changes.
const NAME: &str = "database.stanchion.test";

/// Runs a program with a file of names of its own, which is given first. Disks that tests have mounted are left behind: they
/// could not be taken away while a process holds them in a namespace of its own.
const WITH_NAMES: &str = "sed -n 's,^/dev/loop[^ ]* \\([^ ]*\\) .*,\\1,p' /proc/mounts | xargs -r umount; \
     mount --bind \"$0\" /etc/hosts && exec \"$@\"";

/// What one server knows of its database.
#[derive(Debug)]
pub(crate) struct Access {
    dir: PathBuf,
    database: Database,
    session_name: String,
    pub(crate) port: u16,
    /// The server finds the database by a name.
    by_name: bool,
    login: Option<Login>,
}

/// Of the role that needs a password.
#[derive(Debug)]
struct Login {
    password: String,
    /// In a password file rather than in the source.
    in_file: bool,
}

impl Access {
    /// For a server that is about to meet these refusals. Writes files into its folder.
    ///
    /// # Errors
    /// They cannot be written, or the role cannot be made ready.
    pub(crate) async fn new(
        database: &Database,
        session_name: &str,
        dir: &Path,
        port: u16,
        refusals: &[Refusal],
    ) -> anyhow::Result<Self> {
        let mut access = Self {
            dir: dir.to_owned(),
            database: database.clone(),
            session_name: session_name.to_owned(),
            port,
            by_name: false,
            login: None,
        };
        for refusal in refusals {
            match refusal {
                Refusal::Password { in_file } => {
                    let password = access.change_password().await?;
                    access.login = Some(Login {
                        password,
                        in_file: *in_file,
                    });
                }
                Refusal::Address { by_name: true } => {
                    access.by_name = true;
                    fs::write(access.names(), "").context("making a file of names")?;
                    access.lead_to(Ipv4Addr::LOCALHOST)?;
                }
                Refusal::Address { by_name: false }
                | Refusal::DiskFull
                | Refusal::TooManyClients
                | Refusal::ReadOnly { .. }
                | Refusal::InRecovery => {}
            }
        }
        access.write()?;
        Ok(access)
    }

    /// The file that the server is configured with.
    pub(crate) fn write(&self) -> anyhow::Result<PathBuf> {
        let host = match self.by_name {
            true => NAME,
            false => "127.0.0.1",
        };
        let mut source = self.database.through(host, self.port, &self.session_name);
        if let Some(Login { password, in_file }) = &self.login {
            source = source.replace("user=tester", &format!("user={KEEPER}"));
            if *in_file {
                let file = self.write_passfile(password)?;
                source += &format!(" passfile={}", file.display());
            } else {
                source += &format!(" password={password}");
            }
        }
        match Store::sql(&self.dir, &source)? {
            Store::Sql { config } => Ok(config),
            Store::Memory | Store::Files => anyhow::bail!("not a database"),
        }
    }

    /// Under another name first, so that nobody reads half of it.
    fn write_passfile(&self, password: &str) -> anyhow::Result<PathBuf> {
        let file = self.dir.join("pgpass");
        let next = self.dir.join("pgpass.next");
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(true).mode(0o600);
        let written = open
            .open(&next)
            .and_then(|mut next| writeln!(next, "*:*:*:{KEEPER}:{password}"));
        written.context("writing a password file")?;
        fs::rename(&next, &file).context("replacing a password file")?;
        Ok(file)
    }

    /// Gives the role another password, of which the server is not told yet.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) async fn change_password(&self) -> anyhow::Result<String> {
        let password = format!("{:016x}", fastrand::u64(..));
        let change = format!("ALTER ROLE {KEEPER} PASSWORD '{password}'");
        self.database.run(&change).await?;
        Ok(password)
    }

    /// Has the password for the next time that the configuration is written.
    pub(crate) fn learn(&mut self, password: String) {
        if let Some(login) = &mut self.login {
            login.password = password;
        }
    }

    fn names(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// Where the database's name leads from now on. Written in place and in equal length, so that whoever looks it up
    /// meanwhile finds one or the other.
    ///
    /// # Errors
    /// The file of names cannot be written.
    pub(crate) fn lead_to(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        let mut open = OpenOptions::new();
        let file = open.write(true).open(self.names());
        let mut file = file.context("opening a file of names")?;
        file.write_all(format!("{address} {NAME}\n").as_bytes())
            .context("writing a file of names")
    }

    /// What starts a program so that it finds the database.
    pub(crate) fn command(&self, program: &Path) -> Command {
        if !self.by_name {
            return Command::new(program);
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", WITH_NAMES]);
        command.arg(self.names()).arg(program);
        command
    }
}
