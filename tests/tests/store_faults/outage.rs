//! Times in which the database runs and does not do what it is asked to.

use std::{mem, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, ensure};
use tests::patience;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    crowd::Crowd,
    plan::Refusal,
    proxy::Proxy,
    stage::{PATIENCE, Stage},
    storm::{SESSIONS, terminate},
};

/// Where nobody listens, and where the database is afterwards, if it goes elsewhere.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Sessions of brokers in any database.
const ANY_SESSIONS: &str = "FROM pg_stat_activity WHERE application_name LIKE 'server-%'";

/// For an ended session to leave its place.
const LEAVING: Duration = Duration::from_millis(5);

/// One that has begun.
#[derive(Debug)]
pub(crate) enum Outage {
    DiskFull,
    TooManyClients(Crowd),
    ReadOnly,
    InRecovery,
    Password { new: String, in_file: bool },
    Address { port: u16, by_name: bool },
}

impl Outage {
    /// # Errors
    /// The database does not even refuse.
    pub(crate) async fn begin(stage: &mut Stage, how: Refusal) -> anyhow::Result<Self> {
        match how {
            Refusal::DiskFull => {
                stage.rig.small_disk()?.fill()?;
                Ok(Self::DiskFull)
            }
            Refusal::TooManyClients => {
                let port = stage.database.port();
                let crowded = spawn_blocking(move || crowd_out(port));
                Ok(Self::TooManyClients(crowded.await??))
            }
            Refusal::ReadOnly { ends_sessions } => {
                let on = "ALTER SYSTEM SET default_transaction_read_only = on";
                reconfigure(stage, on, "on").await?;
                if ends_sessions {
                    terminate(stage, &format!("SELECT pid {SESSIONS}")).await?;
                }
                Ok(Self::ReadOnly)
            }
            Refusal::InRecovery => {
                stage.rig.demote().await?;
                Ok(Self::InRecovery)
            }
            Refusal::Password { in_file } => {
                let new = stage.servers[0].access.change_password().await?;
                terminate(stage, &format!("SELECT pid {SESSIONS}")).await?;
                Ok(Self::Password { new, in_file })
            }
            Refusal::Address { by_name } => {
                let database = stage.database.port();
                let server = &mut stage.servers[0];
                let proxy = if by_name {
                    server.access.lead_to(NOWHERE)?;
                    Proxy::start_at(ELSEWHERE, server.proxy.port, database).await?
                } else {
                    Proxy::start(database).await?
                };
                let port = proxy.port;
                // Connections end with the former one.
                drop(mem::replace(&mut server.proxy, proxy));
                Ok(Self::Address { port, by_name })
            }
        }
    }

    /// # Errors
    /// Something cannot be put right.
    pub(crate) async fn end(self, stage: &mut Stage) -> anyhow::Result<()> {
        match self {
            Self::DiskFull => stage.rig.small_disk()?.free(),
            Self::TooManyClients(crowd) => {
                drop(crowd);
                Ok(())
            }
            Self::ReadOnly => {
                let off = "ALTER SYSTEM RESET default_transaction_read_only";
                reconfigure(stage, off, "off").await
            }
            Self::InRecovery => stage.rig.promote().await,
            Self::Password { new, in_file } => {
                let server = &mut stage.servers[0];
                server.access.learn(new);
                server.access.write()?;
                match in_file {
                    true => Ok(()),
                    false => server.reload(),
                }
            }
            Self::Address { port, by_name } => {
                let server = &mut stage.servers[0];
                if by_name {
                    return server.access.lead_to(ELSEWHERE);
                }
                server.access.port = port;
                server.access.write()?;
                server.reload()
            }
        }
    }
}

/// Takes all connections, also those that the broker has.
fn crowd_out(port: u16) -> anyhow::Result<Crowd> {
    /// Brokers come back while places are free.
    const TIMES: usize = 500;
    let mut crowd = Crowd::gather(port, "tester")?;
    for _ in 0..TIMES {
        let ended = crowd.run(&format!("SELECT pg_terminate_backend(pid) {ANY_SESSIONS}"))?;
        if ended == 0 {
            return Ok(crowd);
        }
        std::thread::sleep(LEAVING);
        crowd.grow()?;
    }
    anyhow::bail!("brokers always get a connection")
}

/// Changes whether transactions may write, and waits until that is so.
async fn reconfigure(stage: &Stage, statement: &str, expected: &str) -> anyhow::Result<()> {
    stage.database.run(statement).await?;
    stage.database.run("SELECT pg_reload_conf()").await?;
    patience::until("the database is configured anew", PATIENCE, async || {
        let shown = stage.database.run("SHOW default_transaction_read_only");
        let shown = shown.await?;
        ensure!(shown == expected, "it is {shown}");
        Ok(())
    })
    .await
}

/// Plays one to its end.
///
/// # Errors
/// It could not be begun or ended.
pub(crate) async fn pass(stage: &mut Stage, how: Refusal, for_: Duration) -> anyhow::Result<()> {
    let outage = Outage::begin(stage, how).await?;
    sleep(for_).await;
    outage.end(stage).await.context("ending it")
}
