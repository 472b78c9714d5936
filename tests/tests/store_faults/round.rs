//! One round from an empty database to a verdict.

use std::{
    cell::Cell,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::Context as _;
use fastrand::Rng;
use futures_util::future::{join, join_all, try_join, try_join_all};

use crate::{
    checker::{self, Findings},
    load::{CHANNEL, Durable, Goal, Ground, Publisher},
    plan::Plan,
    record::History,
    rig::Rig,
    stage::{Program, Stage},
    storm::{self, Healed},
    tables::Tables,
};

/// What a round has brought.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) findings: Findings,
    pub(crate) acked: usize,
    pub(crate) deliveries: usize,
    pub(crate) takeovers: usize,
    pub(crate) cuts: usize,
    pub(crate) deposed: usize,
    pub(crate) talkative: usize,
    pub(crate) healed: Vec<Healed>,
}

/// Plays a plan; where something is wrong, everything that is known of it is left in a folder.
///
/// # Errors
/// The round could not be played to its end.
pub(crate) async fn play(rig: &Rig, programs: &[Program], plan: &Plan) -> anyhow::Result<Played> {
    let dir = tempfile::tempdir().context("making a round's folder")?;
    let mut stage = Stage::set(rig, programs, &plan.refusals(), dir.path()).await?;
    let healed = match perform(&mut stage, plan).await {
        Ok(healed) => healed,
        Err(error) => {
            let kept = keep(plan, dir.path(), &stage.recorder.take(), &Tables::default())?;
            // The reason why the round ended is worth more than this one.
            let _ = stage.clear().await;
            return Err(error.context(format!("what happened is in {}", kept.display())));
        }
    };
    let tables = stage.read().await?;
    stage.clear().await?;
    let history = stage.recorder.take();
    let findings = checker::check(&history, &tables);
    if !findings.is_empty() {
        let kept = keep(plan, dir.path(), &history, &tables)?;
        println!(
            "what happened in round {} is in {}",
            plan.seed,
            kept.display()
        );
    }
    Ok(Played {
        findings,
        acked: history.acked(),
        deliveries: history.deliveries.len(),
        takeovers: takeovers(&tables),
        cuts: history.cuts,
        deposed: history.deposed,
        talkative: history.talkative,
        healed,
    })
}

/// How often somebody took the store after the first.
fn takeovers(tables: &Tables) -> usize {
    let taken = tables.terms.iter().filter(|term| term.holder.is_some());
    taken.count().saturating_sub(1)
}

/// Load and storm, then the end in order.
async fn perform(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Vec<Healed>> {
    let ground = Ground {
        url: stage.url.clone(),
        recorder: stage.recorder.clone(),
    };
    let mut rng = Rng::with_seed(plan.seed ^ 1);
    let goal: Goal = Rc::default();
    let consumers = plan.consumers.iter();
    let durables: Vec<_> = consumers.map(|plan| Durable::new(&ground, plan)).collect();
    let mut consuming = Vec::new();
    for (durable, plan) in durables.iter().zip(&plan.consumers) {
        for member in 0..plan.members.unwrap_or(1) {
            consuming.push(durable.consume(member, rng.fork(), &goal));
        }
    }
    let publishing = async {
        let healed = publish(stage, &ground, plan, rng.fork()).await?;
        goal.set(Some(stage.last_sequence(CHANNEL).await?));
        Ok(healed)
    };
    let (healed, _) = try_join(publishing, try_join_all(consuming)).await?;
    stage.stop().await?;
    Ok(healed)
}

/// Publishes through the storm. Afterwards nothing is under way.
async fn publish(
    stage: &mut Stage,
    ground: &Ground,
    plan: &Plan,
    mut rng: Rng,
) -> anyhow::Result<Vec<Healed>> {
    let connecting = plan.publishers.iter().enumerate();
    let connecting = connecting
        .map(|(number, plan)| Publisher::connect(ground, number, plan.window, plan.payload_bytes));
    let publishers = try_join_all(connecting).await?;
    let prober = Publisher::prober(ground, publishers.len()).await?;
    let stop = Cell::new(false);
    let publishing = publishers.iter().zip(&plan.publishers);
    let publishing: Vec<_> = publishing
        .map(|(publisher, plan)| publisher.run(plan, rng.fork(), &stop))
        .collect();
    let raging = async {
        let raged = storm::rage(stage, plan, &prober).await;
        stop.set(true);
        raged
    };
    let (raged, published) = join(raging, try_join_all(publishing)).await;
    let healed = raged?;
    published?;
    prober.publish_until_acked().await?;
    join_all(publishers.into_iter().map(Publisher::leave)).await;
    prober.leave().await;
    Ok(healed)
}

/// Leaves what is known of a round for whoever looks for the reason.
fn keep(plan: &Plan, dir: &Path, history: &History, tables: &Tables) -> anyhow::Result<PathBuf> {
    let name = format!("store_faults-{:?}-{}", plan.kind, plan.seed);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&kept)?;
    fs::write(kept.join("plan"), format!("{plan:#?}"))?;
    let mut text = String::new();
    let lines = history.publishes.iter().map(|line| format!("{line:?}"));
    let lines = lines.chain(history.openings.iter().map(|line| format!("{line:?}")));
    let lines = lines.chain(history.deliveries.iter().map(|line| format!("{line:?}")));
    let lines = lines.chain(history.turmoils.iter().map(|line| format!("{line:?}")));
    let lines = lines.chain(history.censuses.iter().map(|line| format!("{line:?}")));
    for line in lines {
        writeln!(text, "{line}")?;
    }
    fs::write(kept.join("history"), text)?;
    let mut text = String::new();
    for row in &tables.messages {
        writeln!(text, "{row:?}")?;
    }
    for term in &tables.terms {
        writeln!(text, "{term:?}")?;
    }
    writeln!(text, "{:?}", tables.positions)?;
    fs::write(kept.join("tables"), text)?;
    for server in fs::read_dir(dir)?.flatten() {
        for file in fs::read_dir(server.path()).into_iter().flatten().flatten() {
            // The configuration has no password; logs are what is wanted.
            fs::copy(file.path(), kept.join(file.file_name()))?;
        }
    }
    Ok(kept)
}
