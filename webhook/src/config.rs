//! Everything that can be set, as flags and environment variables.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
