//! Who serves: activation, stand-by, stepping down, and the orderly end.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context;
use broker_core::{
    durable::Recovered,
    streaming::{Claim, Engine, EngineConfig},
};
use broker_proto::streaming::ServerInfo;
use broker_store::{Activation, StoreError};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    driver::{Shared, now},
    probe,
};
use crate::{banner, identity};

/// Pause between two looks of a standby at the store. Clients wait for a tenth of a second more after a clean stop, and
/// the database has ten small queries a second.
const LOOK: Duration = Duration::from_millis(100);

/// Pause before what has failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How long a stop waits for flushes under way. A store that does not answer by then keeps what it
/// has got; what was not acknowledged its publishers will send again.
const DRAIN: Duration = Duration::from_secs(10);

/// How long giving the store back may take; a lock that is not given back runs out.
const CLOSE: Duration = Duration::from_secs(5);

/// How long the owner before us may go on answering after it has lost the store.
const STEP_DOWN: Duration = Duration::from_secs(5);

/// What this process is to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Not yet tried, or ended.
    None,
    Standby,
    Active,
}

/// Serves whenever the store can be owned, with the settings of the moment, until the token is
/// cancelled; then gives the store back. Ends with an error only where trying again cannot help.
pub(crate) async fn supervise(
    shared: Rc<Shared>,
    config: watch::Receiver<EngineConfig>,
    state: watch::Sender<Ownership>,
    token: CancellationToken,
) -> anyhow::Result<()> {
    let outcome = take_turns(&shared, config, &state, &token).await;
    state.send_replace(Ownership::None);
    if timeout(CLOSE, shared.store.close()).await.is_err() {
        warn!("the store was not closed within {CLOSE:?}");
    }
    outcome
}

async fn take_turns(
    shared: &Rc<Shared>,
    mut config: watch::Receiver<EngineConfig>,
    state: &watch::Sender<Ownership>,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    let mut told_holder = String::new();
    loop {
        let activation = tokio::select! {
            () = token.cancelled() => return Ok(()),
            activation = shared.store.activate() => activation,
        };
        let pause = match &activation {
            Ok(Activation::Standby { .. }) => LOOK,
            Ok(Activation::Active(_)) | Err(_) => RETRY,
        };
        match activation {
            Ok(Activation::Active(recovered)) => {
                told_holder.clear();
                serve(shared, &mut config, recovered, state, token).await?;
            }
            Ok(Activation::Standby { holder }) => {
                let was = state.send_replace(Ownership::Standby);
                if was != Ownership::Standby || holder != told_holder {
                    banner::standby(&holder);
                    told_holder = holder;
                }
            }
            Err(error @ (StoreError::Config(_) | StoreError::Corrupt(_))) => {
                return Err(error.into());
            }
            Err(error) => error!(
                "unable to open the store, trying again: {:#}",
                anyhow::Error::from(error)
            ),
        }
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One activation, from recovery to the loss of ownership or the stop of the process.
async fn serve(
    shared: &Rc<Shared>,
    config: &mut watch::Receiver<EngineConfig>,
    recovered: Recovered,
    state: &watch::Sender<Ownership>,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    banner::recovering();
    banner::recovered(
        recovered
            .server_info
            .is_some()
            .then_some(recovered.channels.len()),
    );
    let seed = seed()?;
    let settings = config.borrow_and_update().clone();
    let was_standby = *state.borrow() == Ownership::Standby;
    let patience = if was_standby {
        STEP_DOWN
    } else {
        Duration::ZERO
    };
    if settings.partition.is_none() {
        let alone = ensure_alone(shared, &settings, recovered.server_info.as_ref(), patience);
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            alone = alone => alone?,
        }
    }
    let channels = settings.partitioned_channels().join(", ");
    let engine = Engine::new(settings, recovered, shared.store.lanes(), seed, now())?;
    shared.install(engine);
    // The engine's own record must be durable before a client is told of it; it is the first flush.
    shared.flushed().await;
    tokio::select! {
        () = shared.store.deposed() => {
            warn!("lost store lock, stepping down to standby");
            state.send_replace(Ownership::Standby);
        }
        served = serve_clients(shared, config, &channels, state, token) => served?,
    }
    shared.remove();
    shared.flushed().await;
    Ok(())
}

/// From the first request until the stop of the process. `channels` are those of partitioning.
async fn serve_clients(
    shared: &Rc<Shared>,
    config: &mut watch::Receiver<EngineConfig>,
    channels: &str,
    state: &watch::Sender<Ownership>,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    let mut claim = shared.claim();
    let begun = async {
        shared.host().settled().await;
        claim_is(&mut claim, |claim| *claim != Claim::Asking).await
    };
    tokio::select! {
        () = token.cancelled() => {}
        begun = begun => {
            begun?;
            state.send_replace(Ownership::Active);
            banner::ready(shared.store.kind());
            banner::partition(channels);
        }
    }
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            Ok(()) = config.changed() => {
                let settings = config.borrow_and_update().clone();
                shared.drive(|engine, now| engine.reconfigure(settings, now));
            }
            refused = claim_is(&mut claim, |claim| matches!(claim, Claim::Refused(_))) => refused?,
        }
    }
    shared.drive(Engine::stop);
    timeout(DRAIN, shared.flushed())
        .await
        .with_context(|| format!("the store did not finish within {DRAIN:?}"))?;
    banner::streaming_shutdown();
    Ok(())
}

/// Asks until nobody else answers, or for as long as one who lost the store to us may need to notice.
///
/// # Errors
/// Another streaming server answers for the cluster id.
async fn ensure_alone(
    shared: &Shared,
    settings: &EngineConfig,
    recorded: Option<&ServerInfo>,
    patience: Duration,
) -> anyhow::Result<()> {
    let discovery = match recorded {
        Some(info) => info.discovery.clone(),
        None => format!("{}.{}", settings.discover_prefix, settings.cluster_id),
    };
    let until = Instant::now() + patience;
    loop {
        let id = identity::streaming_id().context("the system gives no random numbers")?;
        let inbox = format!("_INBOX.{id}");
        match probe::ask(shared, &discovery, &settings.cluster_id, &inbox).await {
            Ok(()) => return Ok(()),
            Err(taken) if Instant::now() >= until => return Err(taken.into()),
            Err(taken) => warn!("{taken}, asking again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Waits until the claim on our channels is like that.
///
/// # Errors
/// Another server has one of them.
async fn claim_is(
    claim: &mut watch::Receiver<Claim>,
    wanted: impl FnMut(&Claim) -> bool,
) -> anyhow::Result<()> {
    let told = claim.wait_for(wanted).await;
    match &*told.context("the engine is gone")? {
        Claim::Refused(reason) => anyhow::bail!("Partitioning error: {reason}"),
        Claim::Asking | Claim::Held => Ok(()),
    }
}

fn seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(u64::from_ne_bytes(bytes))
}
