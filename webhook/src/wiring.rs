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
    /// Ends of channels that have to stay open.
    told: Vec<watch::Sender<Signing>>,
    /// Stops everything but the listeners' last requests.
    stop: CancellationToken,
}

/// Whether peers are known to trust an authority.
type Trusted = Box<dyn Fn(&Authority) -> bool + Send>;

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
        told: Vec::new(),
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
        admin,
        mut tasks,
        told: _told,
        ..
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
        let signing = self.admission_signing(cluster).await?;
        let configuration = self.args.webhook_configuration.as_str();
        let trusted = match cluster {
            Some(cluster) if !configuration.is_empty() => {
                self.keep_registration(cluster, configuration, &signing)
            }
            // Nobody but whoever wrote the registration knows what it says.
            Some(_) | None => Box::new(|_: &Authority| true),
        };
        let native_sidecars = cluster.is_none_or(|cluster| cluster.native_sidecars);
        let admission = Admission {
            facts: match cluster {
                Some(cluster) => cluster.cache.clone() as Arc<dyn Facts>,
                None => Arc::new(offline::facts(self.args.namespaces.as_deref(), &[])?),
            },
            config: self.args.injection.injection(native_sidecars),
            metrics: self.metrics.clone(),
        };
        let listener = bind(self.args.listen, "admission").await?;
        let router = serve::router(admission);
        self.listen("admission", listener, router, signing, trusted)
    }

    /// The authority of the admission listener: of the directory, or of the Secret with two slots.
    async fn admission_signing(
        &mut self,
        cluster: Option<&Cluster>,
    ) -> anyhow::Result<watch::Receiver<Signing>> {
        if let Some(signing) = self.directory()? {
            return Ok(self.tell(signing).1);
        }
        let cluster = cluster.context("--offline needs --authority-dir")?;
        let secrets = self.secrets(cluster);
        let (tell, signing) = self.tell(authorities::admission(&secrets).await?);
        let stop = self.stop.clone();
        self.spawn("the admission authority", async move {
            let read = || authorities::admission(&secrets);
            authorities::follow("admission", read, tell, stop).await;
        });
        Ok(signing)
    }

    /// The authority of all workloads: of the directory, or of the Secret.
    async fn workload_signing(
        &mut self,
        cluster: &Cluster,
    ) -> anyhow::Result<watch::Receiver<Signing>> {
        if let Some(signing) = self.directory()? {
            return Ok(self.tell(signing).1);
        }
        let secrets = self.secrets(cluster);
        let (tell, signing) = self.tell(authorities::workloads(&secrets).await?);
        let stop = self.stop.clone();
        self.spawn("the workload authority", async move {
            let read = || authorities::workloads(&secrets);
            authorities::follow("workloads", read, tell, stop).await;
        });
        Ok(signing)
    }

    /// A channel whose first value is `signing`. It stays open as long as the process lives: to its receivers the end
    /// of a channel is the end of the program.
    fn tell(&mut self, signing: Signing) -> (watch::Sender<Signing>, watch::Receiver<Signing>) {
        let (tell, told) = watch::channel(signing);
        self.told.push(tell.clone());
        (tell, told)
    }

    /// Keeps the caBundle of the registration; returns whether an authority is in it.
    fn keep_registration(
        &mut self,
        cluster: &Cluster,
        configuration: &str,
        signing: &watch::Receiver<Signing>,
    ) -> Trusted {
        let (see, seen) = watch::channel(String::new());
        let follow = ca_bundle::keep(
            cluster.client.clone(),
            configuration.to_owned(),
            signing.clone(),
            see,
            self.metrics.clone(),
            self.stop.clone(),
        );
        self.spawn("the caBundle", follow);
        let ready = self.admin.readiness("ca-bundle");
        let watching = watch_bundle(ready, seen.clone(), signing.clone(), self.stop.clone());
        self.spawn("the caBundle's readiness", watching);
        Box::new(move |authority| seen.borrow().contains(authority.bundle_pem().trim()))
    }

    async fn issuer(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let signing = self.workload_signing(cluster).await?;
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
        )
    }

    /// Serves a router with a certificate that is kept fresh.
    fn listen(
        &mut self,
        name: &'static str,
        listener: TcpListener,
        router: Router,
        signing: watch::Receiver<Signing>,
        trusted: Trusted,
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
