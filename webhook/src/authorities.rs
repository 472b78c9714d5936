//! Authorities that are kept in Secrets of the own namespace: that of all workloads, and that of the admission listener.
//!
//! Any number of replicas start at once. Whoever creates a Secret first wins and the others use it; changes are
//! replacements of the version that was read. No leader is needed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::authority::{Authority, AuthorityParams};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::tls::slots::{SecretData, Slots, Step};

/// Secret with the authority of all workloads; may be made beforehand, with an imported authority.
const WORKLOADS: &str = "stanchion-ca";
/// Secret with the authority of the admission listener.
const ADMISSION: &str = "stanchion-webhook-ca";
/// How often the Secrets are read again. Lives are months; this bounds how long an import goes unnoticed.
const REREAD: Duration = Duration::from_secs(30);

/// What is signed with, and what others have to trust.
#[derive(Debug, Clone)]
pub(crate) struct Signing {
    pub(crate) signer: Arc<Authority>,
    pub(crate) bundle_pem: String,
}

impl Signing {
    /// An authority whose bundle is its own.
    pub(crate) fn alone(authority: Authority) -> Self {
        Self {
            bundle_pem: authority.bundle_pem().to_owned(),
            signer: Arc::new(authority),
        }
    }
}

/// Reads or makes the authority of all workloads.
pub(crate) async fn workloads(secrets: &Api<Secret>) -> anyhow::Result<Signing> {
    let make = || {
        let authority =
            Authority::generate(&AuthorityParams::default(), OffsetDateTime::now_utc())?;
        Ok(SecretData::from([
            ("ca.pem".to_owned(), bytes(authority.bundle_pem())),
            ("ca-key.pem".to_owned(), bytes(&authority.key_pem())),
        ]))
    };
    let secret = read_or_create(secrets, WORKLOADS, make).await?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        let value = data
            .get(key)
            .with_context(|| format!("secret {WORKLOADS} has no {key}"))?;
        std::str::from_utf8(&value.0)
            .with_context(|| format!("{key} of secret {WORKLOADS} is not text"))
    };
    let authority = Authority::from_pem(text("ca.pem")?, text("ca-key.pem")?)
        .with_context(|| format!("secret {WORKLOADS}"))?;
    Ok(Signing::alone(authority))
}

/// Reads or makes the authority of the admission listener, and carries out what is due.
pub(crate) async fn admission(secrets: &Api<Secret>) -> anyhow::Result<Signing> {
    let now = OffsetDateTime::now_utc();
    let secret = read_or_create(secrets, ADMISSION, || Ok(Slots::generate(now)?.to_data())).await?;
    let mut slots = Slots::from_data(secret.data.as_ref().unwrap_or(&SecretData::new()))
        .with_context(|| format!("secret {ADMISSION}"))?;
    if slots.step(now) != Step::Keep {
        let advanced = slots.advanced(now)?;
        let changed = Secret {
            data: Some(advanced.to_data()),
            ..secret
        };
        // Carries the version that was read: of several replicas one succeeds, the others read again later.
        match secrets
            .replace(ADMISSION, &PostParams::default(), &changed)
            .await
        {
            Ok(_) => slots = advanced,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                return Err(error).with_context(|| format!("replacing secret {ADMISSION}"));
            }
        }
    }
    Ok(Signing {
        signer: slots.signer(now).clone(),
        bundle_pem: slots.bundle_pem(),
    })
}

/// Reads again and again with `read` until cancelled, and tells when something changed.
pub(crate) async fn follow<F>(
    name: &'static str,
    read: impl Fn() -> F,
    tell: watch::Sender<Signing>,
    token: CancellationToken,
) where
    F: Future<Output = anyhow::Result<Signing>>,
{
    while token
        .run_until_cancelled(tokio::time::sleep(REREAD))
        .await
        .is_some()
    {
        match read().await {
            Ok(signing) => {
                tell.send_if_modified(|known| {
                    let changed = known.bundle_pem != signing.bundle_pem
                        || known.signer.info().serial_hex != signing.signer.info().serial_hex;
                    if changed {
                        *known = signing;
                    }
                    changed
                });
            }
            Err(error) => tracing::warn!(name, "authority not read: {error:#}"),
        }
    }
}

async fn read_or_create(
    secrets: &Api<Secret>,
    name: &str,
    make: impl FnOnce() -> anyhow::Result<SecretData>,
) -> anyhow::Result<Secret> {
    let read = || async {
        secrets
            .get_opt(name)
            .await
            .with_context(|| format!("reading secret {name}"))
    };
    if let Some(secret) = read().await? {
        return Ok(secret);
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(make()?),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(created) => Ok(created),
        Err(kube::Error::Api(status)) if status.code == 409 => read()
            .await?
            .with_context(|| format!("secret {name} appeared and vanished")),
        Err(error) => Err(error).with_context(|| format!("creating secret {name}")),
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
