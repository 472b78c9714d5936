//! SIGTERM and SIGINT become a cancelled token; what a stop means is decided by whoever holds it.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT.
///
/// A second signal ends the process at once with code 130: an operator who asks twice does not want
/// to wait for the drain. Must be called inside a tokio runtime; the listening task lives as long as
/// the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate =
        signal(SignalKind::terminate()).context("installing the SIGTERM handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("installing the SIGINT handler")?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "asked to stop");
        stop.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("asked to stop a second time, ending at once");
        std::process::exit(130);
    });
    Ok(token)
}
