//! One AdmissionReview in, one AdmissionReview out: pure, and there is always an answer.
//!
//! A request that cannot be understood is refused in the same form, so that its author sees a sentence instead of a
//! broken connection. A dry run is answered like any other request, since nothing here has side effects.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::facts::Facts;
use crate::inject::{self, Injection, Outcome, Refusal, Request};

/// Largest review that is read. Bytes; what controller-runtime accepts, and above what an API server sends.
pub const MOST_REVIEW_BYTES: usize = 7 * 1024 * 1024;

/// An answer, and what the metrics say about it.
#[derive(Debug)]
pub struct Answer {
    /// The AdmissionReview to send.
    pub review: Value,
    /// What was decided.
    pub decision: Decision,
}

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Admitted as it is.
    Left,
    /// Admitted with changes.
    Injected {
        /// Role of the pod.
        role: &'static str,
    },
    /// Refused.
    Refused {
        /// A word of a fixed small set.
        reason: &'static str,
    },
}

/// Answers a review as it came from the wire.
pub fn answer(body: &[u8], facts: &dyn Facts, config: &Injection) -> Answer {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return misunderstood("", &format!("the review is not JSON: {error}")),
    };
    let request = &review["request"];
    let Some(uid) = request["uid"].as_str() else {
        return misunderstood("", "the review has no request with a uid");
    };
    if review["apiVersion"] != "admission.k8s.io/v1" {
        return misunderstood(uid, "only admission.k8s.io/v1 is understood");
    }
    judge(uid, request, facts, config)
}

/// Answers a review that was too large to be read.
pub fn too_large() -> Answer {
    let text = format!("the review is larger than {MOST_REVIEW_BYTES} bytes");
    refuse("", 413, "RequestEntityTooLarge", &text, "too_large")
}

fn judge(uid: &str, request: &Value, facts: &dyn Facts, config: &Injection) -> Answer {
    let kind = &request["kind"];
    let creates_pod =
        request["operation"] == "CREATE" && kind["kind"] == "Pod" && kind["group"] == "";
    if !creates_pod {
        return admit(uid, Decision::Left, &[], None);
    }
    let name = request["namespace"].as_str().unwrap_or_default();
    let Some(namespace) = facts.own_namespace(name) else {
        // The namespace is newer than the cache. Admitting the pod could leave it without protection.
        let text = format!("namespace {name:?} is not known here yet; try again");
        return refuse(uid, 503, "ServiceUnavailable", &text, "cache_behind");
    };
    let pod = &request["object"];
    let asked = Request {
        pod,
        namespace: &namespace,
        workload: None,
    };
    match inject::desired(&asked, facts, config) {
        Ok(Outcome::Left { warnings, .. }) => admit(uid, Decision::Left, &warnings, None),
        Ok(Outcome::Injected {
            patch,
            role,
            warnings,
        }) => admit(uid, Decision::Injected { role }, &warnings, Some(&patch)),
        Err(refusal) => refused_pod(uid, &refusal),
    }
}

fn admit(
    uid: &str,
    decision: Decision,
    warnings: &[String],
    patch: Option<&json_patch::Patch>,
) -> Answer {
    let mut response = json!({"uid": uid, "allowed": true});
    if let Some(patch) = patch.filter(|patch| !patch.is_empty()) {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(json!(patch).to_string()));
    }
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    if let Decision::Injected { role } = decision {
        response["auditAnnotations"] = json!({"injected": role});
    }
    Answer {
        review: wrap(&response),
        decision,
    }
}

fn refused_pod(uid: &str, refusal: &Refusal) -> Answer {
    refuse(uid, 422, "Invalid", &refusal.to_string(), refusal.reason())
}

fn misunderstood(uid: &str, text: &str) -> Answer {
    refuse(uid, 400, "BadRequest", text, "malformed")
}

fn refuse(uid: &str, code: u16, status_reason: &str, text: &str, reason: &'static str) -> Answer {
    let status =
        json!({"status": "Failure", "code": code, "reason": status_reason, "message": text});
    Answer {
        review: wrap(&json!({"uid": uid, "allowed": false, "status": status})),
        decision: Decision::Refused { reason },
    }
}

fn wrap(response: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[cfg(test)]
mod tests;
