//! Builds the parts that the flags ask for, joins them, and stops them in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use certs::authority::{Authority, AuthorityParams};
use deploy_runtime::Limits;
use deploy_runtime::admin::{AdminServer, ReadyHandle};
use deploy_runtime::tls_serve;
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use prometheus::Registry;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::authorities::{self, Signing};
use crate::ca_bundle;
use crate::cache::{Askers, Cache};
use crate::config::{RoleFlag, ServeArgs};
use crate::facts::Facts;
use crate::issuer::{self, Domains, Issuer, Pods};
use crate::metrics::Metrics;
use crate::offline;
use crate::serve::{self, Admission};
use crate::tls::{self, ServingIdentity, ServingTls};
use crate::trust::Publisher;

/// First minor version of Kubernetes 1 that keeps `restartPolicy` on init containers.
const NATIVE_SIDECARS_SINCE: u32 = 29;

/// What all parts share.
struct Parts<'a> {
    args: &'a ServeArgs,
    metrics: Metrics,
    admin: AdminServer,
    tasks: JoinSet<&'static str>,
    /// Stops everything but the listeners' last requests.
    stop: CancellationToken,
}

/// The API server, and what is kept of it.
struct Cluster {
    client: Client,
    cache: Arc<Cache>,
    native_sidecars: bool,
}

/// Runs until `signal`, then drains: listeners go on for the delay in which the API server learns of the end.
pub(crate) async fn run(args: &ServeArgs, signal: CancellationToken) -> anyhow::Result<()> {
    let registry = Registry::new();
    let stop = CancellationToken::new();
    let mut parts = Parts {
        args,
        metrics: Metrics::register(&registry).context("registering metrics")?,
        admin: AdminServer::new(registry),
        tasks: JoinSet::new(),
        stop: stop.clone(),
    };
    let cluster = if args.offline {
        None
    } else {
        Some(parts.connect().await?)
    };
    if args.does(RoleFlag::Admission) {
        parts.admission(cluster.as_ref()).await?;
    }
    if args.does(RoleFlag::Issuer) {
        let cluster = cluster.as_ref().context("the issuer needs an API server")?;
        parts.issuer(cluster).await?;
    }
    let Parts {
        admin, mut tasks, ..
    } = parts;
    let listener = bind(args.admin, "admin").await?;
    // The probes outlive the rest, so that the end is not taken for a failure.
    let probes = CancellationToken::new();
    let probing = tokio::spawn(admin.serve(listener, probes.clone()));
    let early = tokio::select! {
        () = signal.cancelled() => None,
        ended = tasks.join_next() => ended,
    };
    if early.is_none() {
        tracing::info!(delay = ?args.drain_delay, "stopping");
        tokio::time::sleep(args.drain_delay).await;
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    probes.cancel();
    probing.await.context("the admin listener failed")?;
    match early {
        None => Ok(()),
        Some(Ok(part)) => bail!("{part} ended by itself"),
        Some(Err(error)) => Err(error).context("a part failed"),
    }
}

impl Parts<'_> {
    fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            part.await;
            name
        });
    }

    async fn connect(&mut self) -> anyhow::Result<Cluster> {
        let config = match &self.args.kubeconfig {
            None => kube::Config::infer()
                .await
                .context("finding the API server")?,
            Some(file) => {
                let file = Kubeconfig::read_from(file)
                    .with_context(|| format!("reading {}", file.display()))?;
                let options = KubeConfigOptions::default();
                kube::Config::from_custom_kubeconfig(file, &options)
                    .await
                    .context("finding the API server")?
            }
        };
        let client =
            Client::try_from(config).context("preparing the connection to the API server")?;
        let version = client
            .apiserver_version()
            .await
            .context("asking the API server for its version")?;
        let minor = version
            .minor
            .trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .unwrap_or(0);
        let native_sidecars = version.major != "1" || minor >= NATIVE_SIDECARS_SINCE;
        tracing::info!(version = version.git_version, native_sidecars, "API server");
        let cache = Arc::new(Cache::default());
        self.spawn(
            "the cache",
            cache.clone().follow(client.clone(), self.stop.clone()),
        );
        let ready = self.admin.readiness("cache");
        let (filled, stop) = (cache.clone(), self.stop.clone());
        self.spawn("the cache's readiness", async move {
            if stop.run_until_cancelled(filled.ready()).await.is_some() {
                ready.set(true);
                stop.cancelled().await;
            }
        });
        Ok(Cluster {
            client,
            cache,
            native_sidecars,
        })
    }

    /// The authority of a directory, if one is given.
    fn directory(&self) -> anyhow::Result<Option<Signing>> {
        let Some(directory) = &self.args.authority_dir else {
            return Ok(None);
        };
        let now = OffsetDateTime::now_utc();
        let authority = Authority::load_or_create(directory, &AuthorityParams::default(), now)
            .with_context(|| format!("the authority in {}", directory.display()))?;
        Ok(Some(Signing::alone(authority)))
    }

    fn secrets(&self, cluster: &Cluster) -> Api<Secret> {
        Api::namespaced(cluster.client.clone(), &self.args.system_namespace)
    }

    async fn admission(&mut self, cluster: Option<&Cluster>) -> anyhow::Result<()> {
        let (tell, signing) = match (self.directory()?, cluster) {
            (Some(signing), _) => watch::channel(signing),
            (None, None) => bail!("--offline needs --authority-dir"),
            (None, Some(cluster)) => {
                let secrets = self.secrets(cluster);
                let channel = watch::channel(authorities::admission(&secrets).await?);
                let (tell, stop) = (channel.0.clone(), self.stop.clone());
                self.spawn("the admission authority", async move {
                    authorities::follow(
                        "admission",
                        || authorities::admission(&secrets),
                        tell,
                        stop,
                    )
                    .await;
                });
                channel
            }
        };
        let (see, seen) = watch::channel(String::new());
        let configuration = self.args.webhook_configuration.clone();
        let registered = cluster.filter(|_| !configuration.is_empty());
        if let Some(cluster) = registered {
            let (client, metrics, stop) = (
                cluster.client.clone(),
                self.metrics.clone(),
                self.stop.clone(),
            );
            let follow =
                ca_bundle::keep(client, configuration, signing.clone(), see, metrics, stop);
            self.spawn("the caBundle", follow);
            let ready = self.admin.readiness("ca-bundle");
            self.spawn(
                "the caBundle's readiness",
                watch_bundle(ready, seen.clone(), signing.clone(), self.stop.clone()),
            );
        }
        let trusted: Box<dyn Fn(&Authority) -> bool + Send> = match registered {
            None => Box::new(|_| true),
            Some(_) => {
                Box::new(move |authority| seen.borrow().contains(authority.bundle_pem().trim()))
            }
        };
        let admission = Admission {
            facts: match cluster {
                Some(cluster) => cluster.cache.clone() as Arc<dyn Facts>,
                None => Arc::new(offline::facts(self.args.namespaces.as_deref(), &[])?),
            },
            config: self
                .args
                .injection
                .injection(cluster.is_none_or(|cluster| cluster.native_sidecars)),
            metrics: self.metrics.clone(),
        };
        let listener = bind(self.args.listen, "admission").await?;
        self.listen(
            "admission",
            listener,
            serve::router(admission),
            signing,
            trusted,
        )?;
        // Kept for the life of the process: a channel without sender would look like an end.
        self.hold(tell);
        Ok(())
    }

    async fn issuer(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let (tell, signing) = match self.directory()? {
            Some(signing) => watch::channel(signing),
            None => {
                let secrets = self.secrets(cluster);
                let channel = watch::channel(authorities::workloads(&secrets).await?);
                let (tell, stop) = (channel.0.clone(), self.stop.clone());
                self.spawn("the workload authority", async move {
                    authorities::follow(
                        "workloads",
                        || authorities::workloads(&secrets),
                        tell,
                        stop,
                    )
                    .await;
                });
                channel
            }
        };
        let askers = Arc::new(Askers::default());
        self.spawn(
            "the watch of pods",
            askers
                .clone()
                .follow(cluster.client.clone(), self.stop.clone()),
        );
        let publisher = Publisher {
            client: cluster.client.clone(),
            config_map: self.args.injection.trust_config_map.clone(),
            cache: cluster.cache.clone(),
            askers,
            signing: signing.clone(),
        };
        self.spawn("the trust bundle", publisher.run(self.stop.clone()));
        let issuer = Issuer {
            pods: Pods::new(cluster.client.clone()),
            facts: cluster.cache.clone(),
            signing: signing.clone(),
            domains: Domains {
                cluster: self.args.cluster_domain.clone(),
                trust: self.args.trust_domain.clone(),
            },
            lifetime: self.args.lifetime,
            metrics: self.metrics.clone(),
        };
        let listener = bind(self.args.issuer_listen, "issuer").await?;
        // Sidecars trust the bundle that this very authority publishes.
        self.listen(
            "issuer",
            listener,
            issuer::router(issuer),
            signing,
            Box::new(|_| true),
        )?;
        self.hold(tell);
        Ok(())
    }

    /// Serves a router with a certificate that is kept fresh.
    fn listen(
        &mut self,
        name: &'static str,
        listener: TcpListener,
        router: Router,
        signing: watch::Receiver<Signing>,
        trusted: Box<dyn Fn(&Authority) -> bool + Send>,
    ) -> anyhow::Result<()> {
        let (dns_names, ip_addresses) = self.args.serving_names();
        let identity = ServingIdentity {
            listener: name,
            dns_names,
            ip_addresses,
            lifetime: self.args.serving_lifetime,
        };
        let signer = signing.borrow().signer.clone();
        let tls = Arc::new(ServingTls::new(
            identity,
            signer,
            OffsetDateTime::now_utc(),
        )?);
        let address = listener
            .local_addr()
            .context("asking for the own address")?;
        tracing::info!(listener = name, %address, "serving");
        let current = tls.clone();
        let stop = self.stop.clone();
        self.spawn(name, async move {
            let limits = Limits {
                drain: Duration::from_secs(5),
                ..Limits::default()
            };
            tls_serve::serve(listener, router, move || current.current(), limits, stop).await;
        });
        self.spawn(
            "renewal",
            tls::keep(
                tls,
                signing,
                trusted,
                self.metrics.clone(),
                self.stop.clone(),
            ),
        );
        Ok(())
    }

    fn hold<T: Send + 'static>(&mut self, held: T) {
        let stop = self.stop.clone();
        self.spawn("holding", async move {
            stop.cancelled().await;
            drop(held);
        });
    }
}

/// Ready once the registration has what we are signed by.
async fn watch_bundle(
    ready: ReadyHandle,
    mut seen: watch::Receiver<String>,
    signing: watch::Receiver<Signing>,
    stop: CancellationToken,
) {
    loop {
        let current = seen
            .borrow_and_update()
            .contains(signing.borrow().signer.bundle_pem().trim());
        ready.set_with_reason(current, "the registered caBundle is not the one in use");
        match stop.run_until_cancelled(seen.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) => return stop.cancelled().await,
            None => return,
        }
    }
}

async fn bind(address: std::net::SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listening for {what} on {address}"))
}
