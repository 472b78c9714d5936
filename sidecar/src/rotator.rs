//! Keeps one directory supplied: asks the plan what is due, carries it out, retries.

use std::{sync::Arc, time::Duration};

use certs::{
    causes::one_line, inspect::CertificateInfo, key::PrivateKey, reload::ClientTls,
    validity::remaining,
};
use deploy_runtime::admin::ReadyHandle;
use time::OffsetDateTime;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    chance,
    config::Output,
    issuer::{IssueError, Issuer},
    metrics::Metrics,
    plan::{self, Policy, Step, Validity, plan},
    publish::{self, Material, PublishError},
};

/// Longest sleep between two looks at the wall clock. Timers stand still while a machine is
/// suspended, so no sleep may last until a renewal is due.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the certificate of one output fresh.
#[derive(Debug)]
pub struct Rotator {
    pub output: Output,
    pub issuer: Arc<dyn Issuer>,
    pub policy: Policy,
    pub key_group: Option<u32>,
    /// Changes whenever a renewal is asked for out of turn.
    pub asked: watch::Receiver<u64>,
    /// Told the serial of every certificate that is on disk.
    pub published: watch::Sender<Option<String>>,
    pub metrics: Metrics,
    /// `/startupz`: files are there.
    pub started: ReadyHandle,
    /// `/readyz`: the certificate is valid.
    pub ready: ReadyHandle,
}

/// Why an attempt left no new generation on disk.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Rotator {
    /// Runs until `token` is cancelled. A renewal under way is dropped then; what is on disk is
    /// whole at any time.
    pub async fn run(mut self, token: CancellationToken) {
        let mut leaf = self.held();
        if let Some(leaf) = &leaf {
            tracing::info!(profile = %self.output.profile, serial = leaf.serial_hex,
                not_after = %leaf.not_after, "keeping the certificate of an earlier run");
            self.announce(leaf);
        }
        let mut failures = 0;
        let mut wanted = false;
        loop {
            let now = OffsetDateTime::now_utc();
            self.report(leaf.as_ref(), now);
            wanted |= self.asked.has_changed().unwrap_or(false);
            self.asked.mark_unchanged();
            let step = plan(now, leaf.as_ref().map(validity), self.policy);
            let pause = match step {
                Step::Keep { until } if !wanted => remaining(until, now).min(LOOK),
                step => {
                    let renewed = tokio::select! {
                        () = token.cancelled() => return,
                        renewed = self.renew() => renewed,
                    };
                    match renewed {
                        Ok(renewed) => {
                            (failures, wanted) = (0, false);
                            self.announce(&renewed);
                            leaf = Some(renewed);
                            Duration::ZERO
                        }
                        Err(error) => {
                            failures += 1;
                            self.failed(&error, leaf.as_ref(), step, failures)
                        }
                    }
                }
            };
            tokio::select! {
                () = token.cancelled() => return,
                Ok(()) = self.asked.changed() => wanted = true,
                () = sleep(pause) => {}
            }
        }
    }

    /// One attempt, with a key of its own that exists in memory and, on success, in the files.
    async fn renew(&self) -> Result<CertificateInfo, RenewError> {
        let profile = self.output.profile;
        let outcome = self.obtain().await;
        let label = outcome.as_ref().map_or_else(IssueError::outcome, |_| "ok");
        self.metrics
            .issued
            .with_label_values(&[profile.as_str(), label])
            .inc();
        let material = outcome?;
        let leaf = material.leaf.clone();
        let (dir, group) = (self.output.dir.clone(), self.key_group);
        // Flushing waits for a disk where the directory is not in memory.
        let write = tokio::task::spawn_blocking(move || {
            publish::publish(&dir, profile, &material, group, OffsetDateTime::now_utc())
        });
        let generation = write
            .await
            .map_err(|error| IssueError::Request(error.to_string()))??;
        tracing::info!(%profile, serial = leaf.serial_hex, generation, not_after = %leaf.not_after,
            "certificate renewed");
        Ok(leaf)
    }

    async fn obtain(&self) -> Result<Material, IssueError> {
        let profile = self.output.profile;
        let key = PrivateKey::generate().map_err(|error| IssueError::Request(one_line(&error)))?;
        let granted = self.issuer.issue(profile, &key).await?;
        let leaf = granted.check(profile, &key, OffsetDateTime::now_utc())?;
        Ok(Material {
            key,
            chain_pem: granted.chain_pem,
            bundle_pem: granted.bundle_pem,
            leaf,
        })
    }

    /// The certificate of an earlier run, if all of its files are sound and it is still what is
    /// wanted: a restarted container does not bother the issuer.
    fn held(&self) -> Option<CertificateInfo> {
        publish::read_meta(&self.output.dir)?;
        match ClientTls::load(self.output.files().client()) {
            Ok(tls) => tls.leaf().filter(|leaf| self.issuer.still_wanted(leaf)),
            Err(error) => {
                tracing::warn!(profile = %self.output.profile, error = one_line(&error),
                    "the certificate of an earlier run cannot be used");
                None
            }
        }
    }

    fn announce(&self, leaf: &CertificateInfo) {
        let not_after = leaf.not_after.unix_timestamp();
        self.metrics
            .not_after
            .with_label_values(&[self.output.profile.as_str()])
            .set(not_after);
        self.published.send_replace(Some(leaf.serial_hex.clone()));
        self.started.set(true);
    }

    fn report(&self, leaf: Option<&CertificateInfo>, now: OffsetDateTime) {
        match leaf {
            None => self.ready.set_with_reason(false, "not yet obtained"),
            Some(leaf) if leaf.not_after <= now => {
                self.ready
                    .set_with_reason(false, format!("expired at {}", leaf.not_after));
            }
            Some(_) => self.ready.set(true),
        }
    }

    /// Tells of a failed attempt and gives the pause before the next.
    fn failed(
        &self,
        error: &RenewError,
        leaf: Option<&CertificateInfo>,
        step: Step,
        failures: u32,
    ) -> Duration {
        let profile = self.output.profile;
        self.metrics
            .renewals_failed
            .with_label_values(&[profile.as_str()])
            .inc();
        let now = OffsetDateTime::now_utc();
        let left = leaf.map_or(Duration::ZERO, |leaf| remaining(leaf.not_after, now));
        let retry_in = plan::retry_delay(failures, left, chance());
        let error = one_line(error);
        if step == Step::Alarm {
            tracing::error!(%profile, failures, ?left, ?retry_in, error,
                "renewal is overdue and failed, the certificate is about to expire or has expired");
        } else {
            tracing::warn!(%profile, failures, ?left, ?retry_in, error, "renewal failed");
        }
        retry_in
    }
}

fn validity(leaf: &CertificateInfo) -> Validity {
    Validity {
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    }
}
