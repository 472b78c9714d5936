//! Waiting on a condition, with a deadline and a description of what was waited for.

use std::time::{Duration, Instant};

use anyhow::Context;

/// Pause between two attempts: short beside everything that is waited for, long enough to leave the processor to it.
const PAUSE: Duration = Duration::from_millis(25);

/// Repeats `attempt` until it succeeds. Each failure is only the reason why it is not so yet.
///
/// # Errors
/// With `what`, the time and the last reason, when the deadline passes first.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        // An attempt that hangs is bounded by the same deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        let reason = match tokio::time::timeout(left.max(PAUSE), attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => reason,
            Err(_) => anyhow::anyhow!("the last attempt did not end"),
        };
        if Instant::now() >= deadline {
            return Err(reason).with_context(|| format!("not within {within:?}: {what}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
