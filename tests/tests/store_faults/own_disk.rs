//! What the database's own disk can do: be lost with the whole machine, and be full with nowhere to write the log to.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Signal, kill_process};
use tests::patience;
use tokio::time::sleep;

use crate::{
    rig::{Frozen, is_running, with_children},
    stage::{PATIENCE, Stage},
};

/// Loses the machine and has it back after a while, with the only server on it.
///
/// # Errors
/// Something does not end, or does not come back.
pub(crate) async fn lose(stage: &mut Stage, away: Duration) -> anyhow::Result<()> {
    // Nobody does anything between the loss of the disk and its own end: a commit is synchronised, or it never was. The
    // postmaster first, so that it has no further child.
    let postmaster = stage.rig.postmaster()?;
    let server = stage.servers[0].freeze()?;
    let parent = Frozen::all(vec![postmaster]);
    let processes = with_children(postmaster)?;
    let children = Frozen::all(processes.clone());
    stage.rig.whole_disk()?.lose_power()?;
    stage.servers[0].kill();
    for process in &processes {
        // It may have ended before.
        let _ = kill_process(*process, Signal::KILL);
    }
    drop((server, parent, children));
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

/// Leaves the database no room for its log, upon which it ends itself, and gives it room again after a while.
///
/// # Errors
/// It does not notice, or does not come back.
pub(crate) async fn fill(stage: &Stage, for_: Duration) -> anyhow::Result<()> {
    let postmaster = stage.rig.postmaster()?;
    let disk = stage.rig.whole_disk()?;
    disk.fill()?;
    stage.rig.exhaust_log().await?;
    sleep(for_).await;
    disk.free()?;
    stage.rig.revive(postmaster).await
}
