//! The admission listener: `POST /mutate`, one review for each request, within bounds of size and time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;

use crate::facts::Facts;
use crate::inject::Injection;
use crate::metrics::Metrics;
use crate::review::{self, MOST_REVIEW_BYTES};

/// Time for a review to arrive. The API server gives up after the `timeoutSeconds` of the registration, 5 s.
const ARRIVAL: Duration = Duration::from_secs(5);

/// What the handler needs.
pub struct Admission {
    /// What is known of the cluster.
    pub facts: Arc<dyn Facts>,
    /// What is injected.
    pub config: Injection,
    /// Where it is counted.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The routes of the admission listener.
pub fn router(admission: Admission) -> Router {
    Router::new()
        .route("/mutate", post(mutate))
        .with_state(Arc::new(admission))
}

/// Never redirects, and answers even what it cannot read with a review.
async fn mutate(State(admission): State<Arc<Admission>>, request: Request<Body>) -> Response {
    let arrival = tokio::time::timeout(ARRIVAL, to_bytes(request.into_body(), MOST_REVIEW_BYTES));
    let Ok(body) = arrival.await else {
        return StatusCode::REQUEST_TIMEOUT.into_response();
    };
    let begun = Instant::now();
    // The only way to fail with a whole connection is the limit; without one nobody reads the answer.
    let answer = body.map_or_else(
        |_| review::too_large(),
        |body| review::answer(&body, admission.facts.as_ref(), &admission.config),
    );
    admission.metrics.answered(answer.decision, begun.elapsed());
    if let review::Decision::Refused { reason } = answer.decision {
        let message = answer.review["response"]["status"]["message"]
            .as_str()
            .unwrap_or_default();
        tracing::info!(reason, "refused: {message}");
    }
    Json(answer.review).into_response()
}
