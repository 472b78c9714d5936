//! Faults, one after the other, each followed until everything works again.

use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Signal, kill_process};
use tests::patience;
use tokio::time::sleep;

use crate::{
    load::Publisher,
    plan::{Fault, Plan, Strike},
    record::{Census, Micros, Turmoil},
    stage::{PATIENCE, Stage},
};

/// How long an insert is waited for that a trap is set for.
const TRAP: Duration = Duration::from_secs(5);

/// Sessions of brokers and references at the database of a round.
const SESSIONS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'server-%'";

/// How long after the end of a fault a message was acknowledged again.
pub(crate) type Recoveries = Vec<Micros>;

/// Plays all strikes of a plan.
///
/// # Errors
/// Something does not work again, or could not be broken.
pub(crate) async fn rage(
    stage: &mut Stage,
    plan: &Plan,
    prober: &Publisher,
) -> anyhow::Result<Recoveries> {
    let mut recoveries = Vec::new();
    for strike in &plan.strikes {
        recoveries.push(
            play(stage, strike, prober)
                .await
                .with_context(|| format!("{:?}", strike.fault))?,
        );
    }
    await_acks(stage, 100).await?;
    Ok(recoveries)
}

/// Waits for so many further acknowledgements.
async fn await_acks(stage: &Stage, count: usize) -> anyhow::Result<()> {
    let acked = || stage.recorder.read(|history| history.acked());
    let enough = acked() + count;
    let what = format!("{count} further acknowledgements");
    patience::until(&what, PATIENCE, async || {
        let acked = acked();
        anyhow::ensure!(acked >= enough, "{acked} of {enough}");
        Ok(())
    })
    .await
}

async fn play(stage: &mut Stage, strike: &Strike, prober: &Publisher) -> anyhow::Result<Micros> {
    await_acks(stage, strike.after_acks).await?;
    sleep(strike.pause).await;
    let turmoil = strike.fault.is_turmoil().then(|| begin_turmoil(stage));
    inflict(stage, &strike.fault).await?;
    let ended = stage.recorder.clock.now();
    if strike.fault.is_contested() {
        let answers = stage.census().await?;
        stage.recorder.write(|history, at| {
            history.censuses.push(Census { at, answers });
        });
    }
    patience::until("the prober is heard", PATIENCE, async || {
        stage.bury()?;
        anyhow::ensure!(prober.publish().await?, "no acknowledgement");
        Ok(())
    })
    .await?;
    let recovered = stage.recorder.clock.now();
    if let Some(turmoil) = turmoil {
        stage.recorder.write(|history, now| {
            history.turmoils[turmoil].ended = Some(now);
        });
    }
    Ok(recovered - ended)
}

fn begin_turmoil(stage: &Stage) -> usize {
    stage.recorder.write(|history, began| {
        history.turmoils.push(Turmoil { began, ended: None });
        history.turmoils.len() - 1
    })
}

/// Does the harm; comes back when nobody is hindered any more.
async fn inflict(stage: &mut Stage, fault: &Fault) -> anyhow::Result<()> {
    match fault {
        Fault::KillBroker { away } => {
            stage.servers[0].kill();
            sleep(*away).await;
            stage.servers[0].start()
        }
        Fault::KillBoth { away } => {
            kill_database(stage).await?;
            stage.servers[0].kill();
            sleep(*away).await;
            stage.rig.launch().await?;
            stage.servers[0].start()
        }
        Fault::KillDatabase { away } => {
            kill_database(stage).await?;
            sleep(*away).await;
            stage.rig.launch().await
        }
        Fault::KillPostmaster { away } => stage.rig.replace_postmaster(Signal::KILL, *away).await,
        Fault::ImmediateStop { away } => stage.rig.replace_postmaster(Signal::QUIT, *away).await,
        Fault::FastStop { away } => stage.rig.replace_postmaster(Signal::INT, *away).await,
        Fault::KillBackend => kill_backend(stage).await,
        Fault::Terminate { all } => {
            let limit = if *all {
                ""
            } else {
                "ORDER BY random() LIMIT 1"
            };
            terminate(stage, &format!("SELECT pid {SESSIONS} {limit}")).await
        }
        Fault::TerminateAgain { times } => {
            let again = format!(
                "DO $$ BEGIN FOR i IN 1..{times} LOOP
                     PERFORM pg_terminate_backend(pid) {SESSIONS};
                     PERFORM pg_stat_clear_snapshot();
                     PERFORM pg_sleep(0.05);
                 END LOOP; END $$"
            );
            stage.database.run(&again).await?;
            Ok(())
        }
        Fault::FreezeDatabase { for_ } => {
            let frozen = stage.rig.freeze()?;
            sleep(*for_).await;
            drop(frozen);
            Ok(())
        }
        Fault::Cut { away } => {
            on_the_line(stage, *away, |stage| stage.servers[0].proxy.cut()).await
        }
        Fault::FreezeNetwork { ways, for_ } => {
            on_the_line(stage, *for_, |stage| stage.servers[0].proxy.freeze(ways)).await
        }
        Fault::Delay { by, for_ } => {
            on_the_line(stage, *for_, |stage| stage.servers[0].proxy.delay(*by)).await
        }
        Fault::CutInsert { way, bytes } => {
            let sprung = stage.servers[0].proxy.cut_insert(*way, *bytes);
            // Publishers may all be waiting for what a former fault has swallowed.
            let _ = tokio::time::timeout(TRAP, sprung).await;
            Ok(())
        }
        Fault::FreezeActive { for_ } => {
            let active = stage.active().await?;
            let frozen = stage.servers[active].freeze()?;
            sleep(*for_).await;
            drop(frozen);
            Ok(())
        }
        Fault::IsolateActive { for_ } => {
            use crate::plan::Way::{Down, Up};
            let active = stage.active().await?;
            stage.servers[active].proxy.freeze(&[Up, Down]);
            sleep(*for_).await;
            stage.servers[active].proxy.calm();
            Ok(())
        }
        Fault::KillActive => {
            let active = stage.active().await?;
            stage.servers[active].kill();
            stage.taken_over_from(active).await?;
            stage.servers[active].start()
        }
        Fault::StopActive => {
            let active = stage.active().await?;
            if let Some(words) = stage.servers[active].stop().await? {
                stage
                    .recorder
                    .write(|history, _| history.deaths.push(words));
            }
            stage.taken_over_from(active).await?;
            stage.servers[active].start()
        }
    }
}

async fn on_the_line(
    stage: &Stage,
    for_: Duration,
    disturb: impl FnOnce(&Stage),
) -> anyhow::Result<()> {
    disturb(stage);
    sleep(for_).await;
    stage.servers[0].proxy.calm();
    Ok(())
}

async fn kill_database(stage: &Stage) -> anyhow::Result<()> {
    let postgres = stage.rig.postgres.clone();
    let killed = tokio::task::spawn_blocking(move || postgres.kill());
    Ok(killed.await??)
}

/// The postmaster then ends all others and recovers.
async fn kill_backend(stage: &Stage) -> anyhow::Result<()> {
    let one = format!("SELECT pid {SESSIONS} ORDER BY random() LIMIT 1");
    let pid = stage.database.run(&one).await?;
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(())
}

async fn terminate(stage: &Stage, pids: &str) -> anyhow::Result<()> {
    let ended = format!("SELECT count(pg_terminate_backend(pid)) FROM ({pids}) AS sessions");
    stage.database.run(&ended).await?;
    Ok(())
}
