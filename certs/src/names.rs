//! Names in certificates: every name that the product hands out for a broker, and the identity of an
//! application. A name that is used and not covered is what broke the hand-made set-ups.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::leaf::MAX_COMMON_NAME;

/// The DNS names of the servers of a broker cluster, in a stable order and without repetition.
///
/// `cluster` is the name of its client Service, `<cluster>-mgmt` its headless one, `domain` the DNS
/// domain of the Kubernetes cluster (discovered, usually `cluster.local`). `extra` are aliases,
/// balancer names and what users ask for; they are lower-cased, not checked.
pub fn server_names(cluster: &str, namespace: &str, domain: &str, extra: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: String| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    for service in [cluster.to_owned(), format!("{cluster}-mgmt")] {
        for name in service_names(&service, namespace, domain) {
            add(name);
        }
        for name in service_names(&service, namespace, domain) {
            // `*.<service>` alone would be a wildcard right below a root, which verifiers refuse.
            if name != service {
                add(format!("*.{name}"));
            }
        }
    }
    for name in extra {
        add(name.trim_end_matches('.').to_ascii_lowercase());
    }
    names
}

/// The names by which a Service is reached: short (from its own namespace), with namespace, with
/// `svc`, and complete.
pub fn service_names(service: &str, namespace: &str, domain: &str) -> [String; 4] {
    [
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.{domain}"),
    ]
}

/// The names of an alias Service in a client's namespace. Without the bare one: it would be good for
/// a Service of that name in every namespace.
pub fn alias_names(alias: &str, client_namespace: &str, domain: &str) -> [String; 3] {
    let [_, short, svc, full] = service_names(alias, client_namespace, domain);
    [short, svc, full]
}

/// Who an application is: its ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// `<service account>.<namespace>`; where that is longer than a common name may be, its beginning
    /// and a digest of the whole.
    pub common_name: String,
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, never shortened.
    pub uri: String,
}

/// The identity of a ServiceAccount.
pub fn client_identity(
    service_account: &str,
    namespace: &str,
    trust_domain: &str,
) -> ClientIdentity {
    let mut common_name = format!("{service_account}.{namespace}");
    if common_name.len() > MAX_COMMON_NAME {
        let digest = Sha256::digest(common_name.as_bytes());
        // Kubernetes names are ASCII; other input is cut at a character, not within one.
        let mut keep = MAX_COMMON_NAME - 17;
        while !common_name.is_char_boundary(keep) {
            keep -= 1;
        }
        common_name.truncate(keep);
        common_name.push('-');
        for byte in &digest[..8] {
            let _ = write!(common_name, "{byte:02x}");
        }
    }
    ClientIdentity {
        common_name,
        uri: format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"),
    }
}

/// Whether `name` may stand in a certificate: lower-case labels of letters, digits, `-` and `_`,
/// separated by single dots; the first may be `*` if two others follow. A last label of digits only
/// is that of an address, and verifiers refuse it as a name.
pub fn is_dns_name(name: &str) -> bool {
    let rest = match name.strip_prefix("*.") {
        Some(rest) if rest.contains('.') => rest,
        Some(_) => return false,
        None => name,
    };
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253
        && !rest.rsplit('.').next().is_some_and(numeric)
        && rest.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_handed_out_is_listed_once() {
        let extra = ["LB.example.com.".to_owned(), "nats".to_owned()];
        let names = server_names("nats", "nats-io", "cluster.local", &extra);
        for name in [
            "nats",
            "nats.nats-io",
            "nats.nats-io.svc",
            "nats.nats-io.svc.cluster.local",
            "*.nats.nats-io.svc.cluster.local",
            "*.nats-mgmt.nats-io.svc",
            "*.nats-mgmt.nats-io.svc.cluster.local",
            "nats-mgmt.nats-io.svc",
            "lb.example.com",
        ] {
            assert_eq!(
                names.iter().filter(|listed| *listed == name).count(),
                1,
                "{name}"
            );
        }
        assert!(names.iter().all(|name| is_dns_name(name)), "{names:?}");
        assert_eq!(names.iter().filter(|name| *name == "nats").count(), 1);
    }

    #[test]
    fn long_identities_stay_distinct_and_short() {
        let short = client_identity("orders", "shop", "cluster.local");
        assert_eq!(short.common_name, "orders.shop");
        assert_eq!(short.uri, "spiffe://cluster.local/ns/shop/sa/orders");
        let long = "a".repeat(100);
        let one = client_identity(&long, "shop", "cluster.local");
        let two = client_identity(&long, "shop2", "cluster.local");
        assert_eq!(one.common_name.len(), MAX_COMMON_NAME);
        assert_ne!(one.common_name, two.common_name);
    }

    #[test]
    fn nonsense_is_not_a_dns_name() {
        for name in [
            "", ".", "a..b", "-a", "a-", "A", "*.com", "a.*.b", "*", "a b", "a.", "a\n", "10",
            "1.2.3.4",
        ] {
            assert!(!is_dns_name(name), "{name:?}");
        }
        for name in ["a", "a.b", "*.a.b", "x_y.z", "10.a", "a.b3"] {
            assert!(is_dns_name(name), "{name:?}");
        }
    }
}
