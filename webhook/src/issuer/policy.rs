//! What a pod may have: the profiles of its role, and names that follow from what it is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use certs::names::{client_identity, is_dns_name, server_names};
use certs::profile::Profile;
use serde_json::json;

use super::identity::Identity;
use crate::facts::Facts;
use crate::inject::{self, Refusal, Role, Selection};
use crate::names::ClusterName;

/// Domains that appear in certificates.
#[derive(Debug, Clone)]
pub(crate) struct Domains {
    /// DNS domain of the Kubernetes cluster.
    pub(crate) cluster: String,
    /// Trust domain of SPIFFE identities.
    pub(crate) trust: String,
}

/// The names of a granted certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) common_name: String,
    pub(crate) dns_names: Vec<String>,
    pub(crate) ip_addresses: Vec<IpAddr>,
    pub(crate) uris: Vec<String>,
}

/// The pod is known, and gets nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("namespace {0} is not known here yet")]
    UnknownNamespace(String),
    #[error("the pod takes no part: {0}")]
    NotInjected(&'static str),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("a pod of role {role} gets no {profile} certificate")]
    Profile {
        role: &'static str,
        profile: Profile,
    },
}

/// The names that `caller` gets in a certificate of `profile`.
///
/// # Errors
/// When the pod's annotations, its namespace or the broker's namespace do not allow it.
pub(crate) fn grant(
    profile: Profile,
    caller: &Identity,
    facts: &dyn Facts,
    domains: &Domains,
) -> Result<Names, Denied> {
    let namespace = facts
        .own_namespace(&caller.namespace)
        .ok_or_else(|| Denied::UnknownNamespace(caller.namespace.clone()))?;
    let pod = json!({"metadata": caller.pod.metadata});
    let settings = match inject::select(&pod, &namespace, None, facts)? {
        Selection::Inject(settings) => settings,
        Selection::Leave { because, .. } => return Err(Denied::NotInjected(because)),
    };
    match (&settings.role, profile) {
        (Role::Broker { .. }, Profile::Server | Profile::Route) => {
            Ok(broker_names(caller, &settings.cluster, domains))
        }
        (Role::Client { .. }, Profile::Client) => Ok(client_names(caller, domains)),
        (role, profile) => Err(Denied::Profile {
            role: role.name(),
            profile,
        }),
    }
}

/// Every name that the product hands out for the cluster, the pod's own, and loopback, where the sidecar proves each
/// renewal.
fn broker_names(caller: &Identity, cluster: &ClusterName, domains: &Domains) -> Names {
    let subdomain = caller
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.subdomain.as_deref());
    let service = subdomain.map_or_else(|| format!("{}-mgmt", cluster.name), str::to_owned);
    let own = format!("{}.{service}.{}.svc", caller.pod_name, cluster.namespace);
    let mut extra = vec![
        format!("{own}.{}", domains.cluster),
        own,
        "localhost".to_owned(),
    ];
    extra.retain(|name| is_dns_name(name));
    let mut ip_addresses = vec![
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ];
    let status = caller.pod.status.as_ref();
    ip_addresses.extend(
        status
            .and_then(|status| status.pod_ip.as_deref())
            .and_then(|address| address.parse::<IpAddr>().ok())
            .filter(|address| !address.is_loopback()),
    );
    Names {
        common_name: cluster.name.clone(),
        dns_names: server_names(&cluster.name, &cluster.namespace, &domains.cluster, &extra),
        ip_addresses,
        uris: Vec::new(),
    }
}

fn client_names(caller: &Identity, domains: &Domains) -> Names {
    let identity = client_identity(&caller.service_account, &caller.namespace, &domains.trust);
    Names {
        common_name: identity.common_name,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: vec![identity.uri],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::facts::FixedFacts;

    fn facts() -> FixedFacts {
        FixedFacts::from_documents(&[json!({"kind": "Namespace", "metadata": {
            "name": "nats-io", "annotations": {"stanchion.dev/allow-namespaces": "app"}}})])
    }

    fn domains() -> Domains {
        Domains {
            cluster: "cluster.local".to_owned(),
            trust: "example.org".to_owned(),
        }
    }

    fn caller(namespace: &str, annotations: &Value) -> Identity {
        let pod = json!({
            "metadata": {"name": "labs-0", "annotations": annotations, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "labs", "uid": "u", "controller": true}]},
            "spec": {"containers": [], "subdomain": "labs-mgmt"},
            "status": {"podIP": "10.1.2.3"},
        });
        Identity {
            namespace: namespace.to_owned(),
            service_account: "worker".to_owned(),
            pod_name: "labs-0".to_owned(),
            pod: serde_json::from_value(pod).unwrap(),
        }
    }

    fn broker() -> Value {
        json!({"stanchion.dev/inject": "true", "stanchion.dev/role": "broker", "stanchion.dev/streaming-id": "s"})
    }

    fn client() -> Value {
        json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs"})
    }

    #[test]
    fn a_broker_gets_the_names_of_its_cluster_and_its_own() {
        let names = grant(
            Profile::Server,
            &caller("nats-io", &broker()),
            &facts(),
            &domains(),
        )
        .unwrap();
        for name in [
            "labs.nats-io.svc",
            "*.labs-mgmt.nats-io.svc",
            "labs-0.labs-mgmt.nats-io.svc.cluster.local",
        ] {
            assert!(
                names.dns_names.iter().any(|known| known == name),
                "{name} in {:?}",
                names.dns_names
            );
        }
        assert!(names.ip_addresses.contains(&"10.1.2.3".parse().unwrap()));
        assert!(names.dns_names.iter().all(|name| is_dns_name(name)));
    }

    #[test]
    fn a_client_is_its_service_account() {
        let names = grant(
            Profile::Client,
            &caller("app", &client()),
            &facts(),
            &domains(),
        )
        .unwrap();
        assert_eq!(names.common_name, "worker.app");
        assert_eq!(names.uris, ["spiffe://example.org/ns/app/sa/worker"]);
        assert!(names.dns_names.is_empty());
    }

    #[test]
    fn each_role_gets_its_own_profiles_only() {
        for (profile, says, granted) in [
            (Profile::Route, broker(), true),
            (Profile::Client, broker(), false),
            (Profile::Server, client(), false),
            (Profile::Route, client(), false),
        ] {
            let namespace = if says == broker() { "nats-io" } else { "app" };
            let result = grant(profile, &caller(namespace, &says), &facts(), &domains());
            assert_eq!(result.is_ok(), granted, "{profile} for {says}");
        }
    }

    #[test]
    fn without_grant_or_without_asking_there_is_nothing() {
        let denied = |namespace, says: &Value| {
            grant(
                Profile::Client,
                &caller(namespace, says),
                &facts(),
                &domains(),
            )
            .unwrap_err()
        };
        assert!(matches!(
            denied("other", &client()),
            Denied::Refused(Refusal::Grant(_))
        ));
        assert!(matches!(denied("app", &json!({})), Denied::NotInjected(_)));
    }

    #[test]
    fn a_broker_cannot_have_names_of_another_namespace() {
        let mut says = broker();
        says["stanchion.dev/cluster"] = json!("nats-io/labs");
        let denied =
            grant(Profile::Server, &caller("app", &says), &facts(), &domains()).unwrap_err();
        assert!(matches!(
            denied,
            Denied::Refused(Refusal::BrokerElsewhere { .. })
        ));
    }
}
