//! Faults, one after the other, each followed until everything works again.

use std::{cell::Cell, time::Duration};

use anyhow::Context as _;
use futures_util::future::join;
use rustix::process::{Pid, Signal, kill_process};
use tests::patience;
use tokio::time::sleep;

use crate::{
    load::Publisher,
    outage, own_disk,
    plan::{Fault, Plan, Strike, Way},
    proxy::{Proxy, Sprung},
    record::{Census, History, Micros, Turmoil},
    stage::{PATIENCE, Stage},
};

/// How long an insert is waited for that a trap is set for.
const TRAP: Duration = Duration::from_secs(5);

/// After a fault one of several servers serves when so much time has passed. It is asked no earlier: two that both begin to
/// answer and then both end are nobody.
const UNTIL_ONE_SERVES: Duration = Duration::from_secs(2);

/// Sessions of brokers and references at the database of a round.
pub(crate) const SESSIONS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'server-%'";

/// What a fault has cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Healed {
    /// From its end until a message was acknowledged that was published after it.
    pub(crate) recovery: Micros,
    /// Where another server has taken over: the longest time without any acknowledgement.
    pub(crate) takeover: Option<Micros>,
}

/// Plays all strikes of a plan.
///
/// # Errors
/// Something does not work again, or could not be broken.
pub(crate) async fn rage(
    stage: &mut Stage,
    plan: &Plan,
    prober: &Publisher,
) -> anyhow::Result<Vec<Healed>> {
    let mut healed = Vec::new();
    for strike in &plan.strikes {
        await_acks(stage, strike.after_acks).await?;
        let is_over = Cell::new(false);
        let striking = async {
            let struck = play(stage, strike).await;
            is_over.set(true);
            struck.with_context(|| format!("{:?}", strike.fault))
        };
        let (struck, probed) = join(striking, prober.probe(&is_over)).await;
        healed.push(struck?);
        probed?;
    }
    await_acks(stage, 100).await?;
    Ok(healed)
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

/// Strikes while somebody probes, until that one is heard again.
async fn play(stage: &mut Stage, strike: &Strike) -> anyhow::Result<Healed> {
    sleep(strike.pause).await;
    let began = stage.recorder.clock.now();
    let deaths = stage.recorder.read(|history| history.deaths.len());
    let turmoil = strike.fault.is_turmoil().then(|| begin_turmoil(stage));
    let deposed = inflict(stage, &strike.fault).await?;
    let ended = stage.recorder.clock.now();
    if strike.fault.is_contested() {
        sleep(UNTIL_ONE_SERVES).await;
        let answers = stage.census().await?;
        stage.recorder.write(|history, at| {
            history.censuses.push(Census { at, answers });
        });
    }
    patience::until("the prober is heard", PATIENCE, async || {
        stage.bury()?;
        let heard_since = stage.recorder.read(|history| history.heard_since);
        anyhow::ensure!(heard_since >= ended, "no acknowledgement");
        Ok(())
    })
    .await?;
    let recovered = stage.recorder.clock.now();
    let changes_hands = matches!(strike.fault, Fault::KillActive | Fault::StopActive);
    let takeover = (changes_hands || deposed.is_some()).then(|| {
        let silence = |history: &History| history.longest_silence(began, recovered);
        stage.recorder.read(silence)
    });
    if let Some(deposed) = deposed {
        deposed.judge(stage).await?;
    }
    stage.recorder.write(|history, now| {
        let ended = Some(now);
        if let Some(turmoil) = turmoil {
            history.turmoils[turmoil].ended = ended;
        } else if history.deaths.len() > deaths {
            history.turmoils.push(Turmoil { began, ended });
        }
    });
    Ok(Healed {
        recovery: recovered - ended,
        takeover,
    })
}

fn begin_turmoil(stage: &Stage) -> usize {
    stage.recorder.write(|history, began| {
        history.turmoils.push(Turmoil { began, ended: None });
        history.turmoils.len() - 1
    })
}

/// A server that lost the store while it could not notice, just before it is let go on.
struct Deposed {
    server: usize,
    /// Acknowledgements that it had sent.
    acks: usize,
}

impl Deposed {
    /// None: it owns the store still.
    async fn look(stage: &Stage, server: usize) -> anyhow::Result<Option<Self>> {
        if stage.holder().await? == Some(server) {
            return Ok(None);
        }
        let nats = stage.servers[server].nats.as_ref();
        let acks = nats.context("one of several servers")?.acks_when_still();
        Ok(Some(Self {
            server,
            acks: acks.await,
        }))
    }

    /// Notes what it has acknowledged since, unless it has got the store back.
    async fn judge(self, stage: &Stage) -> anyhow::Result<()> {
        let nats = stage.servers[self.server].nats.as_ref();
        let acks = nats.map_or(0, Proxy::acks) - self.acks;
        if stage.holder().await? != Some(self.server) {
            stage.recorder.write(|history, _| {
                history.deposed += 1;
                history.talkative += usize::from(acks > 0);
            });
        }
        Ok(())
    }
}

/// Does the harm; comes back when nobody is hindered any more.
async fn inflict(stage: &mut Stage, fault: &Fault) -> anyhow::Result<Option<Deposed>> {
    match fault {
        Fault::FreezeActive { for_ } => {
            let active = stage.active().await?;
            let frozen = stage.servers[active].freeze()?;
            sleep(*for_).await;
            let deposed = Deposed::look(stage, active).await?;
            drop(frozen);
            Ok(deposed)
        }
        Fault::IsolateActive { ticks_only, for_ } => {
            let active = stage.active().await?;
            let proxy = &stage.servers[active].proxy;
            match ticks_only {
                true => proxy.hold_ticks(),
                false => proxy.freeze(&[Way::Up, Way::Down]),
            }
            sleep(*for_).await;
            let deposed = Deposed::look(stage, active).await?;
            stage.servers[active].proxy.calm();
            Ok(deposed)
        }
        Fault::KillActive | Fault::StopActive => hand_over(stage, fault).await.map(|()| None),
        _ => inflict_alone(stage, fault).await.map(|()| None),
    }
}

/// Ends the server that holds the store, and starts it again when another one does.
async fn hand_over(stage: &mut Stage, fault: &Fault) -> anyhow::Result<()> {
    let active = stage.active().await?;
    if *fault == Fault::KillActive {
        stage.servers[active].kill();
    } else if let Some(words) = stage.servers[active].stop().await? {
        stage
            .recorder
            .write(|history, _| history.deaths.push(words));
    }
    stage.taken_over_from(active).await?;
    stage.servers[active].start()
}

/// Harm to the only server or to its database.
async fn inflict_alone(stage: &mut Stage, fault: &Fault) -> anyhow::Result<()> {
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
        Fault::LoseHost { away } => own_disk::lose(stage, *away).await,
        Fault::FillLog { for_ } => own_disk::fill(stage, *for_).await,
        Fault::Refuse { how, for_ } => outage::pass(stage, *how, *for_).await,
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
        _ => disturb_line(stage, fault).await,
    }
}

/// Harm to what lies between the only server and its database.
async fn disturb_line(stage: &Stage, fault: &Fault) -> anyhow::Result<()> {
    match fault {
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
            if let Ok(Ok(Sprung::Cut)) = tokio::time::timeout(TRAP, sprung).await {
                stage.recorder.write(|history, _| history.cuts += 1);
            }
            Ok(())
        }
        Fault::Lie => {
            let sprung = stage.servers[0].proxy.lie();
            let sprung = tokio::time::timeout(PATIENCE, sprung).await;
            sprung.context("nothing is inserted")??;
            Ok(())
        }
        Fault::CutEveryByte => cut_every_byte(stage).await,
        _ => anyhow::bail!("this is no fault of a line"),
    }
}

/// Answers differ by the digits of a number of rows, so that more than one must have been whole.
async fn cut_every_byte(stage: &Stage) -> anyhow::Result<()> {
    const ENOUGH_WHOLE: usize = 3;
    let mut whole = 0;
    for bytes in 0.. {
        let sprung = stage.servers[0].proxy.cut_insert(Way::Down, bytes);
        let sprung = tokio::time::timeout(PATIENCE, sprung).await;
        match sprung.context("nothing is inserted")?? {
            Sprung::Cut => stage.recorder.write(|history, _| history.cuts += 1),
            Sprung::Whole(length) => {
                anyhow::ensure!(length < bytes, "{length} bytes passed, {bytes} should have");
                whole += 1;
            }
        }
        if whole == ENOUGH_WHOLE {
            break;
        }
    }
    Ok(())
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
    let Some(killed) = pid.parse().ok().and_then(Pid::from_raw) else {
        // All have just been ended otherwise.
        return Ok(());
    };
    // It may have ended meanwhile.
    let _ = kill_process(killed, Signal::KILL);
    let listed = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    patience::until("the database answers again", PATIENCE, async || {
        let listed = stage.database.run(&listed).await?;
        anyhow::ensure!(listed == "0", "it has not noticed");
        Ok(())
    })
    .await
}

pub(crate) async fn terminate(stage: &Stage, pids: &str) -> anyhow::Result<()> {
    let ended = format!("SELECT count(pg_terminate_backend(pid)) FROM ({pids}) AS sessions");
    stage.database.run(&ended).await?;
    Ok(())
}
