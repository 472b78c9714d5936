//! A real Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager, private to one test.
//!
//! There is no scheduler and no container runtime; see [`crate::kubelet`] for what stands in their place.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use certs::profile::Profile;
use certs::reload::TlsFiles;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::process::Process;
use crate::{patience, ports, programs};

/// For the API server to answer, on a busy machine.
const START: Duration = Duration::from_secs(90);
/// The administrator's token. It guards nothing: everything listens on loopback and lives as long as a test.
const TOKEN: &str = "tests";
/// Enough to make pods from workloads, and no more.
const CONTROLLERS: [&str; 7] = [
    "deployment-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
];

/// A running control plane; ends when dropped, clients before servers.
pub struct ControlPlane {
    _controller_manager: Process,
    _api_server: Process,
    _etcd: Process,
    client: Client,
    kubeconfig: PathBuf,
    dir: TempDir,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane")
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Starts all three and waits until the API server is ready.
    ///
    /// # Errors
    /// When a program is not on this machine or does not come up, with its last lines.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = TempDir::new().context("making a directory")?;
        let certificates = Certificates::new(dir.path())?;
        let serving = certificates.grant("apiserver", Profile::Server)?;
        // Its key signs service account tokens; the certificate carries the public half.
        let accounts = certificates.grant("service-accounts", Profile::Client)?;
        let etcd_port = ports::free();
        let port = ports::free();

        let etcd = start_etcd(dir.path(), etcd_port)?;
        let mut api_server = start_api_server(dir.path(), port, etcd_port, &serving, &accounts)?;
        let kubeconfig = dir.path().join("kubeconfig");
        write_kubeconfig(&kubeconfig, port, &serving.ca)?;
        let client = client(&kubeconfig).await?;
        patience::until("the API server is ready", START, async || {
            api_server.check_alive()?;
            let ready = client.request_text(get("/readyz")?).await?;
            ensure!(ready == "ok", "{ready}");
            Ok(())
        })
        .await?;
        let controller_manager =
            start_controller_manager(dir.path(), &kubeconfig, &serving, &accounts)?;
        Ok(Self {
            _controller_manager: controller_manager,
            _api_server: api_server,
            _etcd: etcd,
            client,
            kubeconfig,
            dir,
        })
    }

    /// A client with all rights.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Access with all rights for programs.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// For files of those that use this control plane; gone with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs kubectl and gives back its standard output.
    ///
    /// # Errors
    /// With its standard error, when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(programs::tool("kubectl")?)
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            // Discovery is cached per server address, which another test may have had before.
            .arg(format!(
                "--cache-dir={}",
                self.dir.path().join("kubectl").display()
            ))
            .args(arguments)
            .output()
            .context("starting kubectl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {}: {errors}",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies a manifest of `tests/manifests`, with `NAME=value` replacements of `${NAME}`.
    ///
    /// # Errors
    /// With kubectl's words, when the API server refuses.
    pub fn apply(&self, manifest: &str, replacements: &[(&str, &str)]) -> anyhow::Result<String> {
        let source = programs::root().join("tests/manifests").join(manifest);
        let mut text = std::fs::read_to_string(&source)
            .with_context(|| format!("reading {}", source.display()))?;
        for (name, value) in replacements {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        ensure!(
            !text.contains("${"),
            "{manifest} has a variable without a value"
        );
        let filled = self.dir.path().join(manifest);
        std::fs::write(&filled, text)?;
        self.kubectl(&["apply", "--filename", &filled.display().to_string()])
    }

    /// How often the API server has called the webhook entry `name`.
    ///
    /// # Errors
    /// When its metrics cannot be read.
    pub async fn webhook_calls(&self, name: &str) -> anyhow::Result<u64> {
        let metrics = self.client.request_text(get("/metrics")?).await?;
        let label = format!("name=\"{name}\"");
        metrics
            .lines()
            .filter(|line| {
                line.starts_with("apiserver_admission_webhook_request_total{")
                    && line.contains(&label)
            })
            .map(|line| {
                let value = line.rsplit(' ').next().unwrap_or_default();
                value
                    .parse::<u64>()
                    .with_context(|| format!("a count in {line}"))
            })
            .sum()
    }
}

fn get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).context("reading the kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn write_kubeconfig(file: &Path, port: u16, ca: &Path) -> anyhow::Result<()> {
    // JSON is YAML.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": ca,
        }}],
        "users": [{"name": "tests", "user": {"token": TOKEN}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    });
    std::fs::write(file, config.to_string()).context("writing the kubeconfig")
}

fn start_etcd(dir: &Path, port: u16) -> anyhow::Result<Process> {
    let peers = format!("http://127.0.0.1:{}", ports::free());
    let clients = format!("http://127.0.0.1:{port}");
    let mut command = Command::new(programs::tool("etcd")?);
    command
        .arg(format!("--data-dir={}", dir.join("etcd").display()))
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"))
        .arg(format!("--listen-peer-urls={peers}"))
        .arg(format!("--initial-advertise-peer-urls={peers}"))
        .arg(format!("--initial-cluster=default={peers}"))
        // Nothing of it outlives the test.
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    Process::start("etcd", &mut command, &dir.join("etcd.log"))
}

fn start_api_server(
    dir: &Path,
    port: u16,
    etcd_port: u16,
    serving: &TlsFiles,
    accounts: &TlsFiles,
) -> anyhow::Result<Process> {
    let tokens = dir.join("tokens.csv");
    std::fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n"))?;
    let mut command = Command::new(programs::tool("kube-apiserver")?);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .args([
            "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.96.0.0/16",
        ])
        .arg(format!("--secure-port={port}"))
        .arg(format!("--tls-cert-file={}", serving.cert.display()))
        .arg(format!("--tls-private-key-file={}", serving.key.display()))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!(
            "--service-account-key-file={}",
            accounts.cert.display()
        ))
        .arg(format!(
            "--service-account-signing-key-file={}",
            accounts.key.display()
        ))
        .arg(format!("--token-auth-file={}", tokens.display()))
        .arg("--authorization-mode=Node,RBAC");
    Process::start("kube-apiserver", &mut command, &dir.join("apiserver.log"))
}

fn start_controller_manager(
    dir: &Path,
    kubeconfig: &Path,
    serving: &TlsFiles,
    accounts: &TlsFiles,
) -> anyhow::Result<Process> {
    let mut command = Command::new(programs::tool("kube-controller-manager")?);
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--controllers={}", CONTROLLERS.join(",")))
        .arg(format!("--root-ca-file={}", serving.ca.display()))
        .arg(format!(
            "--service-account-private-key-file={}",
            accounts.key.display()
        ))
        .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
        .arg(format!("--secure-port={}", ports::free()))
        .arg(format!(
            "--cert-dir={}",
            dir.join("controller-manager").display()
        ));
    Process::start(
        "kube-controller-manager",
        &mut command,
        &dir.join("controller-manager.log"),
    )
}
