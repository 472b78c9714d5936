//! Everything that can be set, as flags and environment variables.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use deploy_runtime::LogFormat;

use crate::inject::Injection;

/// Mutating admission webhook and issuer of certificates for Stanchion.
#[derive(Debug, Parser)]
#[command(name = "stanchion-webhook", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Inject pods and pod templates in YAML documents, without a cluster
    Inject(InjectArgs),
    /// Serve admission and issue certificates
    Serve(Box<ServeArgs>),
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleFlag {
    /// Answers reviews.
    Admission,
    /// Issues certificates and publishes the trust bundle.
    Issuer,
}

/// What is injected, the same for every pod.
#[derive(Debug, Clone, Args)]
pub struct InjectionArgs {
    /// Image of the sidecar
    #[arg(long, env = "STANCHION_WEBHOOK_SIDECAR_IMAGE", default_value = concat!("stanchion-sidecar:", env!("CARGO_PKG_VERSION")))]
    pub sidecar_image: String,
    /// Where sidecars obtain certificates
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_ISSUER_URL",
        default_value = "https://stanchion-webhook.stanchion-system.svc:8444"
    )]
    pub issuer_url: String,
    /// ConfigMap with the trust bundle, in every namespace that takes part
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_TRUST_CONFIG_MAP",
        default_value = "stanchion-trust"
    )]
    pub trust_config_map: String,
}

impl InjectionArgs {
    /// The settings of injection; `native_sidecars` says whether the API server is 1.29 or later.
    pub fn injection(&self, native_sidecars: bool) -> Injection {
        Injection {
            sidecar_image: self.sidecar_image.clone(),
            issuer_url: self.issuer_url.clone(),
            trust_config_map: self.trust_config_map.clone(),
            native_sidecars,
        }
    }
}

/// `inject`.
#[derive(Debug, Args)]
pub struct InjectArgs {
    /// File with YAML documents, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", required = true)]
    pub files: Vec<PathBuf>,
    /// File with Namespaces and brokers' StatefulSets that are not among the documents
    #[arg(long)]
    pub namespaces: Option<PathBuf>,
    /// Namespace of documents that name none
    #[arg(short = 'n', long, default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    /// What is injected.
    pub injection: InjectionArgs,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// What this process does
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_ROLES",
        value_delimiter = ',',
        default_value = "admission,issuer"
    )]
    pub roles: Vec<RoleFlag>,
    /// Serve admission without any API server
    #[arg(long)]
    pub offline: bool,
    /// File with Namespaces and brokers' StatefulSets (with --offline)
    #[arg(long, requires = "offline")]
    pub namespaces: Option<PathBuf>,
    /// Directory with ca.pem and ca-key.pem, made on first use, in place of the Secrets
    #[arg(long, env = "STANCHION_WEBHOOK_AUTHORITY_DIR")]
    pub authority_dir: Option<PathBuf>,
    /// Kubeconfig; by default KUBECONFIG, ~/.kube/config or the pod's own account
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of this program and its Secrets
    #[arg(long, env = "POD_NAMESPACE", default_value = "stanchion-system")]
    pub system_namespace: String,
    /// MutatingWebhookConfiguration whose caBundle is kept; empty for none
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_CONFIGURATION",
        default_value = "stanchion"
    )]
    pub webhook_configuration: String,
    /// DNS name or address in the serving certificates, beside those of the Service; may be repeated
    #[arg(long, env = "STANCHION_WEBHOOK_SERVING_NAME", value_delimiter = ',')]
    pub serving_name: Vec<String>,
    /// Name of the Service of this program
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_SERVICE",
        default_value = "stanchion-webhook"
    )]
    pub service: String,
    /// DNS domain of the Kubernetes cluster
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_CLUSTER_DOMAIN",
        default_value = "cluster.local"
    )]
    pub cluster_domain: String,
    /// Trust domain of client identities
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_TRUST_DOMAIN",
        default_value = "cluster.local"
    )]
    pub trust_domain: String,
    /// Life of issued certificates, such as 24h or 5m
    #[arg(long, env = "STANCHION_WEBHOOK_LIFETIME", default_value = "24h", value_parser = parse_duration)]
    pub lifetime: Duration,
    /// Life of the certificates that this program serves
    #[arg(long, env = "STANCHION_WEBHOOK_SERVING_LIFETIME", default_value = "24h", value_parser = parse_duration)]
    pub serving_lifetime: Duration,
    /// Address of the admission listener
    #[arg(long, env = "STANCHION_WEBHOOK_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Address of the issuer
    #[arg(
        long,
        env = "STANCHION_WEBHOOK_ISSUER_LISTEN",
        default_value = "0.0.0.0:8444"
    )]
    pub issuer_listen: SocketAddr,
    /// Address of probes and metrics
    #[arg(long, env = "STANCHION_WEBHOOK_ADMIN", default_value = "0.0.0.0:9443")]
    pub admin: SocketAddr,
    /// How long requests are still accepted after the signal to stop, until the API server has noticed
    #[arg(long, env = "STANCHION_WEBHOOK_DRAIN_DELAY", default_value = "5s", value_parser = parse_duration)]
    pub drain_delay: Duration,
    /// text or json
    #[arg(long, env = "STANCHION_WEBHOOK_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log filter, such as info or webhook=debug
    #[arg(long, env = "STANCHION_WEBHOOK_LOG", default_value = "info")]
    pub log: String,
    #[command(flatten)]
    /// What is injected.
    pub injection: InjectionArgs,
}

impl ServeArgs {
    /// Refuses combinations that mean nothing, before anything is opened.
    ///
    /// # Errors
    /// With a sentence that names the flags.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.offline {
            ensure!(
                !self.does(RoleFlag::Issuer),
                "the issuer needs an API server: use --roles admission with --offline"
            );
            ensure!(
                self.authority_dir.is_some(),
                "--offline needs --authority-dir"
            );
        }
        Ok(())
    }

    /// Whether the process has a role.
    pub fn does(&self, role: RoleFlag) -> bool {
        self.roles.contains(&role)
    }

    /// Names and addresses of the serving certificates.
    pub fn serving_names(&self) -> (Vec<String>, Vec<IpAddr>) {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for name in &self.serving_name {
            match name.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => names.push(name.clone()),
            }
        }
        names.extend(certs::names::service_names(
            &self.service,
            &self.system_namespace,
            &self.cluster_domain,
        ));
        (names, addresses)
    }
}

/// A number with `s`, `m`, `h` or `d`.
fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let split = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(split).unwrap_or_default();
    let seconds_each = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => bail!("expected a number with s, m, h or d"),
    };
    let number: u64 = number
        .parse()
        .context("expected a number with s, m, h or d")?;
    let seconds = number.checked_mul(seconds_each).context("too long")?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(line: &str) -> ServeArgs {
        let words = ["stanchion-webhook", "serve"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Serve(args) => *args,
            Command::Inject(_) => unreachable!("the line says serve"),
        }
    }

    #[test]
    fn offline_serves_admission_only_and_needs_an_authority() {
        assert!(
            serve("--offline --roles admission --authority-dir /ca")
                .check()
                .is_ok()
        );
        assert!(serve("--offline --authority-dir /ca").check().is_err());
        assert!(serve("--offline --roles admission").check().is_err());
    }

    #[test]
    fn serving_names_are_told_from_addresses() {
        let (names, addresses) = serve("--serving-name 127.0.0.1,hook.test").serving_names();
        assert_eq!(addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(names.contains(&"hook.test".to_owned()));
        assert!(names.contains(&"stanchion-webhook.stanchion-system.svc".to_owned()));
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("5m").unwrap(), Duration::from_secs(300));
        for wrong in ["", "5", "m", "-5m", "5 m", "\u{e9}"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
