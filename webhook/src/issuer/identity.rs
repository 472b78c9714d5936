//! Who asks: the pod behind a projected token, as the API server knows it now.
//!
//! A token is bound to one pod by name and uid, and to us by its audience. The API server may still accept the token of
//! a pod that is gone for some seconds, so the live pod is read and its uid compared.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};

/// Audience of the tokens that are accepted; the same that injection asks the kubelet for.
const AUDIENCE: &str = crate::inject::TOKEN_AUDIENCE;
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A pod that has proven who it is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) pod_name: String,
    /// As it is now.
    pub(crate) pod: Pod,
}

/// The caller is nobody that we know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnknownCaller {
    #[error("a bearer token is missing")]
    NoToken,
    #[error("the token is not valid for audience {AUDIENCE}")]
    NotAuthenticated,
    #[error("the token is not that of a service account in a pod")]
    NotAPod,
    #[error("the pod of the token no longer exists")]
    Gone,
    #[error("the API server could not be asked")]
    Api(#[source] kube::Error),
}

/// Access to tokens and pods.
#[derive(Clone)]
pub(crate) struct Pods {
    client: Client,
}

impl Pods {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The pod behind a token. Cancel-safe: nothing is changed.
    pub(super) async fn identify(&self, token: &str) -> Result<Identity, UnknownCaller> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(UnknownCaller::Api)?;
        let claim = claim(&reviewed.status.unwrap_or_default())?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &claim.namespace);
        let pod = pods
            .get_opt(&claim.pod_name)
            .await
            .map_err(UnknownCaller::Api)?;
        confirm(claim, pod)
    }
}

/// What a token says, as confirmed by the API server.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    namespace: String,
    service_account: String,
    pod_name: String,
    pod_uid: String,
}

fn claim(status: &TokenReviewStatus) -> Result<Claim, UnknownCaller> {
    let for_us = status
        .audiences
        .iter()
        .flatten()
        .any(|audience| audience == AUDIENCE);
    if status.authenticated != Some(true) || !for_us {
        return Err(UnknownCaller::NotAuthenticated);
    }
    let user = status.user.as_ref().ok_or(UnknownCaller::NotAPod)?;
    let extra = |key: &str| {
        let values = user.extra.as_ref()?.get(key)?;
        values.first().cloned()
    };
    let account = user
        .username
        .as_deref()
        .and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let (namespace, service_account) = account
        .and_then(|account| account.split_once(':'))
        .ok_or(UnknownCaller::NotAPod)?;
    Ok(Claim {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod_name: extra(POD_NAME).ok_or(UnknownCaller::NotAPod)?,
        pod_uid: extra(POD_UID).ok_or(UnknownCaller::NotAPod)?,
    })
}

fn confirm(claim: Claim, pod: Option<Pod>) -> Result<Identity, UnknownCaller> {
    let pod = pod.ok_or(UnknownCaller::Gone)?;
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref());
    let is_the_same = pod.metadata.uid.as_deref() == Some(&claim.pod_uid);
    let is_over = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    if !is_the_same || is_over || account.unwrap_or("default") != claim.service_account {
        return Err(UnknownCaller::Gone);
    }
    Ok(Identity {
        namespace: claim.namespace,
        service_account: claim.service_account,
        pod_name: claim.pod_name,
        pod,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(change: impl FnOnce(&mut Value)) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true, "audiences": ["stanchion.dev"],
            "user": {"username": "system:serviceaccount:app:consumer",
                     "extra": {POD_NAME: ["consumer-0"], POD_UID: ["u-1"]}},
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    fn pod(uid: &str, phase: &str) -> Pod {
        let pod = json!({"metadata": {"uid": uid}, "spec": {"containers": [], "serviceAccountName": "consumer"},
                         "status": {"phase": phase}});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_token_names_namespace_account_and_pod() {
        let claim = claim(&status(|_| {})).unwrap();
        assert_eq!(
            (claim.namespace.as_str(), claim.service_account.as_str()),
            ("app", "consumer")
        );
        assert_eq!(
            (claim.pod_name.as_str(), claim.pod_uid.as_str()),
            ("consumer-0", "u-1")
        );
    }

    #[test]
    fn a_token_for_somebody_else_is_refused() {
        let other =
            status(|status| status["audiences"] = json!(["https://kubernetes.default.svc"]));
        assert!(matches!(
            claim(&other),
            Err(UnknownCaller::NotAuthenticated)
        ));
        let invalid = status(|status| status["authenticated"] = json!(false));
        assert!(matches!(
            claim(&invalid),
            Err(UnknownCaller::NotAuthenticated)
        ));
    }

    #[test]
    fn a_token_that_is_bound_to_no_pod_is_refused() {
        let unbound = status(|status| status["user"]["extra"] = json!({}));
        assert!(matches!(claim(&unbound), Err(UnknownCaller::NotAPod)));
        let person = status(|status| status["user"]["username"] = json!("alice"));
        assert!(matches!(claim(&person), Err(UnknownCaller::NotAPod)));
    }

    #[test]
    fn a_pod_of_the_same_name_is_not_the_same_pod() {
        let confirmed = |pod| confirm(claim(&status(|_| {})).unwrap(), pod);
        assert!(confirmed(Some(pod("u-1", "Running"))).is_ok());
        for other in [
            None,
            Some(pod("u-2", "Running")),
            Some(pod("u-1", "Succeeded")),
        ] {
            assert!(matches!(confirmed(other), Err(UnknownCaller::Gone)));
        }
    }
}
