//! What names may look like: Kubernetes objects, streaming clients, paths, and the name of a broker cluster.

use std::fmt;

/// The broker cluster that is used or formed: the namespace it lives in and the name of its Services.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName {
    /// Namespace of the broker's pods.
    pub namespace: String,
    /// Name of the cluster: of its StatefulSet and of its client Service.
    pub name: String,
}

impl ClusterName {
    /// Reads `<namespace>/<name>`; nothing when it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        (is_label(namespace) && is_label(name)).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A DNS label (RFC 1123): names of namespaces, Services and containers.
pub(crate) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS subdomain (RFC 1123): names of most other objects.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A key of a ConfigMap or Secret. It becomes a file name, so `.` and `..` are no keys.
pub(crate) fn is_config_key(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !text.starts_with("..")
        && text != "."
}

/// An identifier of NATS Streaming, of a client as well as of a cluster (reference: `util.IsClientIDValid`).
pub(crate) fn is_client_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_client_id_byte)
}

/// One legal character of such an identifier.
pub(crate) fn is_client_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// A path that a container may have as a mount point: absolute, no step upwards, no `:` (which Kubernetes refuses).
pub(crate) fn is_absolute_path(text: &str) -> bool {
    text.len() > 1
        && text.starts_with('/')
        && !text.contains(':')
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| part != "..")
}

/// A Kubernetes quantity without exponent, for example `50m`, `0.5` or `64Mi`.
pub(crate) fn is_quantity(text: &str) -> bool {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    number.parse::<f64>().is_ok_and(|number| number > 0.0)
        && matches!(suffix, "" | "m" | "k" | "M" | "G" | "Ki" | "Mi" | "Gi")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_name_needs_both_parts() {
        assert_eq!(
            ClusterName::parse("nats-io/labs").unwrap().to_string(),
            "nats-io/labs"
        );
        for wrong in ["labs", "/labs", "nats-io/", "a/b/c", "Nats/labs"] {
            assert_eq!(ClusterName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_that_leave_the_directory_are_no_keys() {
        for wrong in ["", ".", "..", "..data", "a/b"] {
            assert!(!is_config_key(wrong), "{wrong}");
        }
        assert!(is_config_key("secret.conf"));
    }

    #[test]
    fn quantities_have_a_number_and_a_known_suffix() {
        for right in ["50m", "0.5", "64Mi", "1"] {
            assert!(is_quantity(right), "{right}");
        }
        for wrong in ["", "m", "much", "5 Mi", "0", "1.2.3"] {
            assert!(!is_quantity(wrong), "{wrong}");
        }
    }
}
