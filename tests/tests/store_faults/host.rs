//! The loss of the whole machine: broker and database end at once, and what the disk has not got is gone.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Signal, kill_process};
use tests::patience;
use tokio::time::sleep;

use crate::{
    rig::is_running,
    stage::{PATIENCE, Stage},
};

/// Loses the machine and has it back after a while, with the only server on it.
///
/// # Errors
/// Something does not end, or does not come back.
pub(crate) async fn lose(stage: &mut Stage, away: Duration) -> anyhow::Result<()> {
    let processes = stage.rig.processes()?;
    // Nobody does anything between the loss of the disk and its own end: a commit is synchronised, or it never was.
    let frozen = (stage.servers[0].freeze()?, stage.rig.freeze()?);
    stage.rig.whole_disk()?.lose_power()?;
    stage.servers[0].kill();
    for process in &processes {
        // It may have ended before.
        let _ = kill_process(*process, Signal::KILL);
    }
    drop(frozen);
    patience::until("the database's processes end", PATIENCE, async || {
        let left = processes.iter().filter(|pid| is_running(**pid)).count();
        ensure!(left == 0, "{left} of them are there");
        Ok(())
    })
    .await?;
    sleep(away).await;
    patience::until("the disk is back", PATIENCE, async || {
        stage.rig.whole_disk()?.regain_power()
    })
    .await?;
    stage.rig.forget_dead_postmaster();
    stage.rig.launch().await?;
    stage.servers[0].start()
}
