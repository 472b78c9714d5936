//! The sidecar: keeps certificates next to a broker or an application fresh, proves that the broker
//! took them, and watches the broker's store lock. This file only wires.

pub mod config;
pub mod issuer;
pub mod lock;
pub mod metrics;
pub mod plan;
pub mod prove;
pub mod publish;
pub mod rotator;

use std::{
    collections::hash_map::RandomState,
    future::ready,
    hash::{BuildHasher, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use axum::{Router, extract::ConnectInfo, http::StatusCode, routing::post};
use certs::profile::Profile;
use deploy_runtime::admin::AdminServer;
use prometheus::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{JoinSet, LocalSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use config::{Config, Output, Source, WatchedStore};
use issuer::{HttpIssuer, Issuer, LocalIssuer};
use lock::{DatabaseRows, LockWatch};
use metrics::Metrics;
use plan::Policy;
use prove::{Identity, Prover};
use rotator::Rotator;

/// What tasks may take to notice the end; after it they are dropped. Nothing on disk is ever half
/// written, so there is nothing to wait for.
const STOP: Duration = Duration::from_millis(500);

/// Runs until `token` is cancelled. `listener` is the admin listener. The future stays on its thread,
/// as connections to a database do.
///
/// # Errors
/// When signals cannot be received, or when a part of the sidecar ends without having been asked to.
pub async fn run(
    config: Config,
    listener: TcpListener,
    token: CancellationToken,
) -> anyhow::Result<()> {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).context("registering metrics")?;
    let mut admin = AdminServer::new(registry);
    let (ask, asked) = watch::channel(0_u64);
    let ask = Arc::new(ask);
    admin.merge(rotate_route(Arc::clone(&ask)));

    let local = LocalSet::new();
    let mut sidecar = Sidecar {
        parts: JoinSet::new(),
        token,
        admin,
        metrics,
    };
    sidecar
        .parts
        .spawn(rotate_on_signal(ask, sidecar.token.clone())?);
    let server_serial = sidecar.add_rotators(&config, &asked);
    if let (Some(address), Some(serial)) = (config.prove.clone(), server_serial) {
        sidecar.add_prover(address, identity(&config.outputs), serial);
    }
    if let Some(store) = config.store {
        sidecar.add_lock_watch(store, &local);
    }
    tracing::info!(admin = %listener.local_addr().unwrap_or(config.admin), role = ?config.role,
        "sidecar is running");
    let Sidecar {
        mut parts,
        token,
        admin,
        ..
    } = sidecar;
    parts.spawn(admin.serve(listener, token.clone()));
    local.run_until(supervise(parts, &token)).await
}

/// The sidecar while it is put together.
struct Sidecar {
    parts: JoinSet<()>,
    token: CancellationToken,
    admin: AdminServer,
    metrics: Metrics,
}

impl Sidecar {
    /// One an output. Gives back where the serial of the server certificate is told, if there is one.
    fn add_rotators(
        &mut self,
        config: &Config,
        asked: &watch::Receiver<u64>,
    ) -> Option<watch::Receiver<Option<String>>> {
        let issuer = make_issuer(&config.source);
        let policy = Policy { spread: chance() };
        let mut server_serial = None;
        for output in &config.outputs {
            let (published, serial) = watch::channel(None);
            if output.profile == Profile::Server {
                server_serial = Some(serial);
            }
            let condition = format!("{} certificate", output.profile);
            let rotator = Rotator {
                output: output.clone(),
                issuer: Arc::clone(&issuer),
                policy,
                key_group: config.key_group,
                asked: asked.clone(),
                published,
                metrics: self.metrics.clone(),
                started: self.admin.startup(&condition),
                ready: self.admin.readiness(&condition),
            };
            self.parts.spawn(rotator.run(self.token.clone()));
        }
        server_serial
    }

    fn add_prover(
        &mut self,
        address: String,
        own: Identity,
        expected: watch::Receiver<Option<String>>,
    ) {
        let ready = self.admin.readiness("proof");
        // Nothing is due yet: the broker may start after us.
        ready.set(true);
        let metrics = self.metrics.clone();
        let prover = Prover {
            address,
            own,
            within: prove::WITHIN,
            expected,
            metrics,
            ready,
        };
        self.parts.spawn(prover.run(self.token.clone()));
    }

    fn add_lock_watch(&mut self, store: WatchedStore, local: &LocalSet) {
        let watch = LockWatch {
            rows: DatabaseRows::new(store.config),
            monitor: store.monitor,
            metrics: self.metrics.clone(),
            ready: self.admin.readiness("store lock"),
        };
        self.parts
            .spawn_local_on(watch.run(self.token.clone()), local);
    }
}

/// Waits for the end, which has to be asked for; a part that ends by itself is a failure.
async fn supervise(mut parts: JoinSet<()>, token: &CancellationToken) -> anyhow::Result<()> {
    let early = tokio::select! {
        // In this order: once the end has been asked for, parts end as they should.
        biased;
        () = token.cancelled() => None,
        ended = parts.join_next() => ended,
    };
    token.cancel();
    let all = async { while parts.join_next().await.is_some() {} };
    if timeout(STOP, all).await.is_err() {
        parts.shutdown().await;
    }
    match early {
        Some(Err(error)) => Err(error).context("a part of the sidecar failed"),
        Some(Ok(())) => anyhow::bail!("a part of the sidecar ended without being asked to"),
        None => Ok(()),
    }
}

fn make_issuer(source: &Source) -> Arc<dyn Issuer> {
    match source.clone() {
        Source::Local {
            authority_dir,
            subject,
            lifetime,
        } => Arc::new(LocalIssuer::new(authority_dir, subject, lifetime)),
        Source::Issuer {
            url,
            ca,
            token_file,
            common_name,
        } => Arc::new(HttpIssuer::new(url, ca, token_file, common_name)),
    }
}

/// The leaf to show when looking at the broker: one that is good for clients, if there is any.
fn identity(outputs: &[Output]) -> Identity {
    let by = |profile| {
        outputs
            .iter()
            .find(|output: &&Output| output.profile == profile)
    };
    match by(Profile::Client).or_else(|| by(Profile::Route)) {
        Some(output) => Identity::Certificate(output.files()),
        None => Identity::Anonymous(outputs[0].files()),
    }
}

/// `POST /rotate` renews now; from this machine only, as it costs the issuer work.
fn rotate_route(ask: Arc<watch::Sender<u64>>) -> Router {
    let rotate = move |ConnectInfo(peer): ConnectInfo<SocketAddr>| {
        ready(if peer.ip().to_canonical().is_loopback() {
            ask.send_modify(|count| *count += 1);
            (StatusCode::ACCEPTED, "renewal asked for\n")
        } else {
            (StatusCode::FORBIDDEN, "only from this machine\n")
        })
    };
    Router::new().route("/rotate", post(rotate))
}

/// SIGUSR1 does the same.
fn rotate_on_signal(
    ask: Arc<watch::Sender<u64>>,
    token: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = signal(SignalKind::user_defined1()).context("installing SIGUSR1")?;
    Ok(async move {
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                signal = signals.recv() => match signal {
                    Some(()) => {
                        tracing::info!("SIGUSR1: renewing now");
                        ask.send_modify(|count| *count += 1);
                    }
                    None => return,
                },
            }
        }
    })
}

/// Uniform in `0.0..1.0`, for jitter; nothing secret depends on it.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    // 53 bits are what a float holds exactly.
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn part_that_ends_early_is_a_failure_and_one_that_was_asked_to_is_not() {
        for _ in 0..64 {
            let token = CancellationToken::new();
            let mut parts = JoinSet::new();
            parts.spawn(ready(()));
            assert!(supervise(parts, &token).await.is_err());
            assert!(token.is_cancelled());

            let mut parts = JoinSet::new();
            parts.spawn(ready(()));
            tokio::task::yield_now().await;
            assert!(supervise(parts, &token).await.is_ok());
        }
    }
}
