//! A kubelet without container runtime: pods that the API server admitted run as processes of this machine.
//!
//! It binds a pod, makes its volumes as directories, starts its containers in the order that Kubernetes gives them
//! (restartable init containers wait for their startup probe), asks its probes and writes its status. In place of mount
//! and network namespaces, paths and ports in commands and variables are rewritten; in place of cluster DNS, so are the
//! addresses of Services that it was told. Images are names of programs. Users, resources and security contexts are not
//! applied; volumes are not refreshed.

mod rewrite;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Container, Node, Pod, Probe};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::process::Process;
use crate::{patience, probe};
use rewrite::{Names, PortMap};
use volumes::Volumes;

/// Name of the only node.
const NODE: &str = "tests";
/// For objects that a pod needs and others make, such as its trust bundle.
const OBJECTS: Duration = Duration::from_secs(60);
/// For a container to stop after the signal.
const GRACE: Duration = Duration::from_secs(30);

/// The only node of a control plane.
#[derive(Debug)]
pub struct Kubelet {
    access: Access,
    dir: PathBuf,
    images: BTreeMap<String, PathBuf>,
    services: Vec<(String, String)>,
}

/// `Client` has no `Debug`.
struct Access(Client);

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

impl Kubelet {
    /// Registers the node. `images` says which program an image is.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn register(
        plane: &ControlPlane,
        images: &[(&str, PathBuf)],
    ) -> anyhow::Result<Self> {
        let client = plane.client().clone();
        let node: Node = serde_json::from_value(json!({"metadata": {"name": NODE}}))?;
        Api::all(client.clone())
            .create(&PostParams::default(), &node)
            .await
            .context("registering the node")?;
        let images = images
            .iter()
            .map(|(name, program)| ((*name).to_owned(), program.clone()))
            .collect();
        Ok(Self {
            access: Access(client),
            dir: plane.dir().join("pods"),
            images,
            services: Vec::new(),
        })
    }

    /// From now on pods reach `address`, such as `broker.shop.svc:4222`, at a port of loopback.
    pub fn route(&mut self, address: &str, port: u16) {
        self.services
            .push((address.to_owned(), format!("127.0.0.1:{port}")));
    }

    /// Waits for a pod that a controller made, and runs it: all its containers are started when this returns.
    ///
    /// # Errors
    /// When no such pod is made, a volume cannot be had, or a container ends or does not pass its startup probe.
    pub async fn run(&self, namespace: &str, selector: &str) -> anyhow::Result<RunningPod> {
        let pods: Api<Pod> = Api::namespaced(self.access.0.clone(), namespace);
        let selected = ListParams::default().labels(selector);
        let what = format!("a pod of {selector} in {namespace}");
        let pod = patience::until(&what, OBJECTS, async || {
            pods.list(&selected)
                .await?
                .items
                .into_iter()
                .next()
                .context("none yet")
        })
        .await?;
        let name = pod.name_any();
        bind(&pods, &name)
            .await
            .with_context(|| format!("binding {name}"))?;
        let pod = pods.get(&name).await?;

        let dir = self
            .dir
            .join(pod.uid().context("a pod of the API server has a uid")?);
        let volumes = patience::until(&format!("volumes of {name}"), OBJECTS, async || {
            Volumes::make(&self.access.0, &pod, &dir.join("volumes")).await
        })
        .await?;
        let ports = PortMap::of(&pod);
        let mut running = RunningPod {
            pods,
            pod,
            ports,
            volumes,
            dir,
            containers: Vec::new(),
        };
        running.write_status("Pending", false).await?;
        self.start_containers(&mut running)
            .await
            .with_context(|| format!("pod {name}"))?;
        running.write_status("Running", false).await?;
        Ok(running)
    }

    async fn start_containers(&self, running: &mut RunningPod) -> anyhow::Result<()> {
        let spec = running.pod.spec.clone().unwrap_or_default();
        for container in spec.init_containers.iter().flatten() {
            self.start(running, container).await?;
            if container.restart_policy.as_deref() == Some("Always") {
                running
                    .passes(container, container.startup_probe.as_ref())
                    .await?;
            } else {
                running
                    .container(&container.name)?
                    .succeeds(OBJECTS)
                    .await?;
            }
        }
        for container in &spec.containers {
            self.start(running, container).await?;
        }
        Ok(())
    }

    async fn start(&self, running: &mut RunningPod, container: &Container) -> anyhow::Result<()> {
        let image = container.image.as_deref().unwrap_or_default();
        let program = self.images.get(image);
        let program = program.with_context(|| format!("no program for image {image}"))?;
        let names = Names {
            mounts: running.volumes.mounts(container)?,
            ports: &running.ports,
            services: &self.services,
        };
        let variables = volumes::variables(&self.access.0, &running.pod, container, &names).await?;
        let words = container
            .command
            .iter()
            .skip(1)
            .chain(&container.args)
            .flatten();
        let mut command = Command::new(program);
        command
            .args(words.map(|word| names.rewrite(&rewrite::expand(word, &variables))))
            .env_clear()
            .envs(&variables);
        let log = running.dir.join(format!("{}.log", container.name));
        let label = format!("{} of {}", container.name, running.pod.name_any());
        let process = Process::start(&label, &mut command, &log)?;
        running.containers.push((container.name.clone(), process));
        Ok(())
    }
}

/// A pod whose containers have been started. Dropping it kills them, the last started first.
#[derive(Debug)]
pub struct RunningPod {
    pods: Api<Pod>,
    pod: Pod,
    ports: PortMap,
    volumes: Volumes,
    dir: PathBuf,
    containers: Vec<(String, Process)>,
}

impl RunningPod {
    /// Where a port of the pod is on loopback.
    ///
    /// # Errors
    /// When neither a container nor a probe nor a known flag names the port.
    pub fn port(&self, declared: u16) -> anyhow::Result<u16> {
        self.ports
            .get(declared)
            .with_context(|| format!("the pod has no port {declared}"))
    }

    /// The directory of a volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes.directory(name)
    }

    /// The process of a container.
    ///
    /// # Errors
    /// When the pod has no such container.
    pub fn container(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        let mut all = self.containers.iter_mut();
        let found = all.find(|(known, _)| known == name);
        Ok(&mut found.with_context(|| format!("no container {name}"))?.1)
    }

    /// Waits until startup and readiness probes of all main containers pass, and writes that down.
    ///
    /// # Errors
    /// With the answer of the probe that does not.
    pub async fn becomes_ready(&mut self) -> anyhow::Result<()> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        for container in &spec.containers {
            self.passes(container, container.startup_probe.as_ref())
                .await?;
            self.passes(container, container.readiness_probe.as_ref())
                .await?;
        }
        self.write_status("Running", true).await
    }

    /// Stops main containers, then init containers, each after those that were started after it.
    ///
    /// # Errors
    /// When one does not stop in time.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        while let Some((_, mut process)) = self.containers.pop() {
            process.stop(GRACE).await?;
        }
        Ok(())
    }

    async fn passes(&mut self, container: &Container, probe: Option<&Probe>) -> anyhow::Result<()> {
        let Some(get) = probe.and_then(|probe| probe.http_get.as_ref()) else {
            return Ok(());
        };
        let port = rewrite::number(&get.port, container)?;
        let port = self.port(port)?;
        let path = get.path.as_deref().unwrap_or("/");
        let what = format!("{} answers {path} with success", container.name);
        let process = self.container(&container.name)?;
        patience::until(&what, OBJECTS, async || {
            process.check_alive()?;
            let answer = probe::get(port, path).await?;
            let passes = (200..400).contains(&answer.status);
            ensure!(
                passes,
                "{} {}\n{}",
                answer.status,
                answer.body,
                process.tail()
            );
            Ok(())
        })
        .await
    }

    async fn write_status(&self, phase: &str, ready: bool) -> anyhow::Result<()> {
        let truth = |value: bool| if value { "True" } else { "False" };
        let condition = |kind: &str, value: bool| json!({"type": kind, "status": truth(value)});
        let running = phase == "Running";
        let spec = self
            .pod
            .spec
            .as_ref()
            .context("a pod of the API server has a spec")?;
        let container = |container: &Container| {
            json!({
                "name": container.name, "image": container.image, "imageID": container.image,
                "ready": ready, "started": ready, "restartCount": 0, "state": {"running": {}},
            })
        };
        let containers: Vec<_> = spec
            .containers
            .iter()
            .filter(|_| running)
            .map(container)
            .collect();
        let status = json!({"status": {
            "phase": phase, "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [
                condition("PodScheduled", true), condition("Initialized", running),
                condition("ContainersReady", ready), condition("Ready", ready),
            ],
            "containerStatuses": containers,
        }});
        let name = self.pod.name_any();
        let patch = Patch::Merge(status);
        self.pods
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("writing the status of {name}"))?;
        Ok(())
    }
}

impl Drop for RunningPod {
    fn drop(&mut self) {
        while self.containers.pop().is_some() {}
    }
}

async fn bind(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    });
    let _: serde_json::Value = pods
        .create_subresource("binding", name, &PostParams::default(), &binding)
        .await?;
    Ok(())
}
