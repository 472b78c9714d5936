//! What is counted. The names are part of the product's interface: alerts refer to them.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, histogram_opts,
};

use crate::review::Decision;

/// Upper ends of the latency buckets, seconds. An API server waits at most 5 s for us; most answers take under 1 ms.
const LATENCY_BUCKETS: [f64; 8] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.1, 1.0];

/// All metrics of the program. Cloning gives another handle on the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    refusals: IntCounterVec,
    latency: Histogram,
    certificates: IntCounterVec,
    not_after: IntGaugeVec,
    ca_bundle_current: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When the registry already has one of the names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let requests = counter(
            "stanchion_webhook_requests_total",
            "Reviews by outcome (left, injected, refused) and role of the pod.",
            &["outcome", "role"],
        )?;
        let refusals = counter(
            "stanchion_webhook_refusals_total",
            "Refused reviews by reason.",
            &["reason"],
        )?;
        let certificates = counter(
            "stanchion_issuer_certificates_total",
            "Requests for certificates by profile and outcome.",
            &["profile", "outcome"],
        )?;
        let options: HistogramOpts = histogram_opts!(
            "stanchion_webhook_review_seconds",
            "Time from the whole review to its answer.",
            LATENCY_BUCKETS.to_vec()
        );
        let latency = Histogram::with_opts(options)?;
        registry.register(Box::new(latency.clone()))?;
        let not_after = IntGaugeVec::new(
            Opts::new(
                "stanchion_webhook_serving_not_after_seconds",
                "End of the served certificate, Unix time.",
            ),
            &["listener"],
        )?;
        registry.register(Box::new(not_after.clone()))?;
        let ca_bundle_current = IntGauge::new(
            "stanchion_webhook_ca_bundle_current",
            "1 while the registered caBundle is the one in use.",
        )?;
        registry.register(Box::new(ca_bundle_current.clone()))?;
        Ok(Self {
            requests,
            refusals,
            latency,
            certificates,
            not_after,
            ca_bundle_current,
        })
    }

    /// Counts an answered review.
    pub(crate) fn answered(&self, decision: Decision, took: Duration) {
        let (outcome, role) = match decision {
            Decision::Left => ("left", "none"),
            Decision::Injected { role } => ("injected", role),
            Decision::Refused { reason } => {
                self.refusals.with_label_values(&[reason]).inc();
                ("refused", "none")
            }
        };
        self.requests.with_label_values(&[outcome, role]).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// Counts a request for a certificate.
    pub(crate) fn certificate(&self, profile: &str, outcome: &str) {
        self.certificates
            .with_label_values(&[profile, outcome])
            .inc();
    }

    /// Notes the end of a served certificate, Unix seconds.
    pub(crate) fn serving_until(&self, listener: &str, not_after: i64) {
        self.not_after.with_label_values(&[listener]).set(not_after);
    }

    /// Notes whether the registered bundle is the one in use.
    pub(crate) fn ca_bundle(&self, current: bool) {
        self.ca_bundle_current.set(i64::from(current));
    }
}
