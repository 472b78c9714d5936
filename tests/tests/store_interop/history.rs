//! One history, from an empty database to the end of the third server.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use broker_store::conformance::postgres_server::PostgresServer;

use crate::{
    judge::Judge,
    plan::{Plan, Turn},
    play::Player,
    rig::Rig,
};

/// What somebody does to the database between two servers, told the turn that is over.
pub(crate) type Between<'a> = &'a dyn Fn(usize, &mut Rig) -> anyhow::Result<()>;

/// Nobody does anything.
pub(crate) fn nothing(_turn: usize, _rig: &mut Rig) -> anyhow::Result<()> {
    Ok(())
}

/// Plays a history on a database of its own; what is wrong.
///
/// # Errors
/// When a server or the database does not do what it must.
pub(crate) async fn play(
    plan: &Plan,
    patience: Duration,
    between: Between<'_>,
) -> anyhow::Result<Vec<String>> {
    let postgres = PostgresServer::shared()?;
    let source = postgres.create_database()?;
    play_on(Rig::new(postgres, &source)?, plan, patience, between).await
}

/// Plays a history; what is wrong.
///
/// # Errors
/// When a server or the database does not do what it must.
pub(crate) async fn play_on(
    mut rig: Rig,
    plan: &Plan,
    patience: Duration,
    between: Between<'_>,
) -> anyhow::Result<Vec<String>> {
    let mut judge = Judge::default();
    let mut player = Player::new(plan, rig.url(), patience);
    // What each server has left, as a help where the judge finds faults.
    let mut found = Vec::new();
    for (nr, turn) in plan.turns.iter().enumerate() {
        let next = plan.turns.get(nr + 1);
        let faults = take_turn(&mut rig, &mut judge, &mut player, (nr, turn), next).await;
        let faults = faults.with_context(|| format!("turn {nr} of {:?}", turn.program))?;
        if !faults.is_empty() {
            let faults = faults.into_iter().map(|text| format!("turn {nr}: {text}"));
            return Ok(faults.chain(found).chain([rig.describe()?]).collect());
        }
        found.push(rig.describe()?);
        between(nr, &mut rig)?;
    }
    let verified = rig.verify().await?;
    Ok(verified.into_iter().collect())
}

/// From the start of a server to its end.
async fn take_turn(
    rig: &mut Rig,
    judge: &mut Judge,
    player: &mut Player<'_>,
    (nr, turn): (usize, &Turn),
    next: Option<&Turn>,
) -> anyhow::Result<Vec<String>> {
    judge.begin(turn);
    rig.start(turn).await?;
    let mut faults = player.play(nr, turn, rig, judge).await?;
    faults.extend(rig.end(turn.end).await?);
    player.notices_the_end().await?;
    let (ledger, tables) = (player.ledger(), rig.tables()?);
    if faults.is_empty() {
        faults = judge.handed_over(&ledger, &tables, Instant::now());
    }
    player.hands_over(&tables);
    player.expect(nr + 1);
    judge.adopt(&ledger, &tables, next);
    Ok(faults)
}
