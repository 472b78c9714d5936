//! What stands for mount and network namespaces: text in which paths, ports and Service addresses are replaced. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::ports;

/// Flags of our programs whose value is a port that the pod listens on.
const PORT_FLAGS: [&str; 5] = ["p", "port", "m", "http_port", "metrics_port"];

/// Ports that a pod listens on, and where they are on loopback.
#[derive(Debug)]
pub(super) struct PortMap(BTreeMap<u16, u16>);

impl PortMap {
    /// Gives a free port to each that a container, a probe or a known flag names.
    pub(super) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.iter();
        let containers = spec.flat_map(|spec| {
            spec.init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
        });
        let named = containers.flat_map(declared);
        Self(named.map(|port| (port, ports::free())).collect())
    }

    pub(super) fn get(&self, declared: u16) -> Option<u16> {
        self.0.get(&declared).copied()
    }
}

fn declared(container: &Container) -> Vec<u16> {
    let mut all = Vec::new();
    let listed = container.ports.iter().flatten();
    all.extend(listed.filter_map(|port| u16::try_from(port.container_port).ok()));
    let probes = [
        &container.startup_probe,
        &container.readiness_probe,
        &container.liveness_probe,
    ];
    let asked = probes
        .into_iter()
        .flatten()
        .filter_map(|probe| probe.http_get.as_ref());
    all.extend(asked.filter_map(|get| number(&get.port, container).ok()));
    let words = container.args.as_deref().unwrap_or_default();
    for pair in words.windows(2) {
        if PORT_FLAGS.contains(&pair[0].trim_start_matches('-')) {
            all.extend(pair[1].parse::<u16>());
        }
    }
    all
}

/// The port that a probe means: a number, or the name of a port of the container.
pub(super) fn number(port: &IntOrString, container: &Container) -> anyhow::Result<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).context("a port above 65535"),
        IntOrString::String(name) => {
            let mut listed = container.ports.iter().flatten();
            let Some(port) = listed.find(|port| port.name.as_deref() == Some(name)) else {
                bail!("container {} has no port {name}", container.name)
            };
            u16::try_from(port.container_port).context("a port above 65535")
        }
    }
}

/// Everything that is called otherwise outside of the container.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// Mount path and directory, longer paths first.
    pub(super) mounts: Vec<(String, String)>,
    pub(super) ports: &'a PortMap,
    /// Address of a Service, and where it is.
    pub(super) services: &'a [(String, String)],
}

impl Names<'_> {
    /// A word of a command line, or the value of a variable, as it has to be outside of the container.
    pub(super) fn rewrite(&self, word: &str) -> String {
        // A Service's port is not the pod's, so its address goes first, whole.
        if let Some((address, place)) = self
            .services
            .iter()
            .find(|(address, _)| word.contains(address.as_str()))
        {
            return word.replace(address, place);
        }
        let mut word = self.rewrite_port(word);
        for (path, directory) in &self.mounts {
            word = replace_path(&word, path, directory);
        }
        word
    }

    /// A port stands alone, or at the end after `:` or `=`.
    fn rewrite_port(&self, word: &str) -> String {
        let start = word.rfind([':', '=']).map_or(0, |separator| separator + 1);
        let (head, port) = word.split_at(start);
        match port.parse().ok().and_then(|port| self.ports.get(port)) {
            // What would listen on every address listens on loopback here.
            Some(port) => format!("{}{port}", head.replace("0.0.0.0", "127.0.0.1")),
            None => word.to_owned(),
        }
    }
}

/// Replaces `path` where it stands as a whole path or as the beginning of one.
fn replace_path(word: &str, path: &str, directory: &str) -> String {
    let Some(start) = word.find(path) else {
        return word.to_owned();
    };
    let (head, rest) = (&word[..start], &word[start + path.len()..]);
    let whole = rest.is_empty() || rest.starts_with(['/', ':', ',']);
    if whole {
        format!("{head}{directory}{rest}")
    } else {
        word.to_owned()
    }
}

/// Replaces `$(NAME)` by variables that are known, as Kubernetes does; `$$` stands for one `$`.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        let (before, from) = rest.split_at(position);
        expanded.push_str(before);
        let named = from
            .strip_prefix("$(")
            .and_then(|name| name.split_once(')'));
        if let Some((value, after)) =
            named.and_then(|(name, after)| Some((variables.get(name)?, after)))
        {
            expanded.push_str(value);
            rest = after;
        } else {
            expanded.push('$');
            rest = from.strip_prefix("$$").unwrap_or(&from[1..]);
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(word: &str) -> String {
        let ports = PortMap(BTreeMap::from([(4222, 20_001), (7778, 20_002)]));
        let services = [(
            "broker.shop.svc:4222".to_owned(),
            "127.0.0.1:20009".to_owned(),
        )];
        let mounts = vec![("/etc/tls".to_owned(), "/tmp/pod/tls".to_owned())];
        Names {
            mounts,
            ports: &ports,
            services: &services,
        }
        .rewrite(word)
    }

    #[test]
    fn ports_are_replaced_alone_and_at_the_end() {
        assert_eq!(rewrite("4222"), "20001");
        assert_eq!(rewrite("--admin=0.0.0.0:7778"), "--admin=127.0.0.1:20002");
        assert_eq!(rewrite("-p=4222"), "-p=20001");
        assert_eq!(rewrite("14222"), "14222");
        assert_eq!(rewrite("https://127.0.0.1:8444"), "https://127.0.0.1:8444");
    }

    #[test]
    fn paths_are_replaced_as_wholes() {
        assert_eq!(
            rewrite("--out=server=/etc/tls"),
            "--out=server=/tmp/pod/tls"
        );
        assert_eq!(rewrite("/etc/tls/ca.pem"), "/tmp/pod/tls/ca.pem");
        assert_eq!(rewrite("/etc/tls-other"), "/etc/tls-other");
    }

    #[test]
    fn services_are_found_by_name() {
        assert_eq!(
            rewrite("tls://broker.shop.svc:4222"),
            "tls://127.0.0.1:20009"
        );
    }

    #[test]
    fn only_known_variables_are_expanded() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("x$(A)$(B)$$(A)$", &variables), "x1$(B)$(A)$");
    }
}
