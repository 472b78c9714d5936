//! What the sidecar exports. Times are points in time and not "seconds left": a dead process would
//! keep exporting a wrong rest.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The sidecar's metrics; labels have a handful of values each.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Attempts to obtain a certificate, by profile and outcome.
    pub issued: IntCounterVec,
    /// Attempts that ended without a new generation on disk, by profile.
    pub renewals_failed: IntCounterVec,
    /// End of the certificate on disk, seconds since the Unix epoch, by profile.
    pub not_after: IntGaugeVec,
    /// 1 when the broker has been seen to serve the newest certificate, else 0.
    pub proven_serial_match: IntGauge,
    /// Attempts to prove a renewal, by outcome.
    pub proofs: IntCounterVec,
    /// 1 for the state that the store lock is in, 0 for all others.
    pub store_lock: IntGaugeVec,
}

impl Metrics {
    /// Makes the metrics and adds them to `registry`.
    ///
    /// # Errors
    /// When one of that name is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let proven_serial_match = IntGauge::new(
            "stanchion_sidecar_proven_serial_match",
            "1 when the broker has been seen to serve the newest certificate.",
        )?;
        registry.register(Box::new(proven_serial_match.clone()))?;
        Ok(Self {
            issued: counter(
                "stanchion_sidecar_issued_total",
                "Attempts to obtain a certificate, by outcome.",
                &["profile", "outcome"],
            )?,
            renewals_failed: counter(
                "stanchion_sidecar_renewals_failed_total",
                "Renewals that ended without a new certificate on disk.",
                &["profile"],
            )?,
            not_after: gauge(
                "stanchion_sidecar_not_after_seconds",
                "End of the certificate on disk, seconds since the Unix epoch.",
                &["profile"],
            )?,
            proven_serial_match,
            proofs: counter(
                "stanchion_sidecar_proofs_total",
                "Attempts to see the newest certificate served, by outcome.",
                &["outcome"],
            )?,
            store_lock: gauge(
                "stanchion_sidecar_store_lock",
                "1 for the state that the store lock is in.",
                &["state"],
            )?,
        })
    }
}
