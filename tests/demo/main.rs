//! `make demo`: the product does its main job on this machine, visibly, with nothing but what cargo
//! built: certificates, broker, webhook, 20,000 messages through two rotations, and a table.
//!
//! With `ONCE=1` it ends after the table, with exit code 0 only if nothing was lost; otherwise it
//! stays up until Ctrl-C and prints where to connect.

mod admission;
mod screen;
mod stage;
mod traffic;

use std::process::ExitCode;

use anyhow::Context;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen::failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was acknowledged was read back.
async fn run() -> anyhow::Result<bool> {
    let once = std::env::var_os("ONCE").is_some_and(|value| value == "1");
    let stage = stage::Stage::set()
        .await
        .context("unable to set the stage")?;

    screen::step("a pod asks, the webhook answers");
    admission::show(&stage)
        .await
        .context("the webhook did not do its part")?;

    screen::step("20,000 messages while certificates rotate twice");
    let outcome = traffic::run(&stage).await.context("the traffic stopped")?;
    screen::table(&outcome.rows());
    let whole = outcome.is_whole();
    if once || !whole {
        return Ok(whole);
    }
    stage.print_addresses();
    tokio::signal::ctrl_c().await?;
    Ok(true)
}
