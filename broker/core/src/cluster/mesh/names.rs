//! Names that servers must agree on, and the text form of their addresses.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Instant,
};

use broker_proto::route::RouteInfo;

use super::{CloseReason, Mesh, MeshEffect, RouteId};
use crate::cluster::settings::RouteUrl;

const SCHEME: &str = "nats-route://";

impl Mesh {
    /// Whether a peer belongs to our cluster. If not, its route is closed.
    pub(super) fn agree_on_name(&mut self, now: Instant, route: RouteId, info: &RouteInfo) -> bool {
        // Servers of old say no name.
        if info.cluster.is_empty() || info.cluster == self.own.cluster {
            return true;
        }
        self.settle_cluster_name(now, route, &info.cluster, info.cluster_dynamic, false);
        false
    }

    /// One of two names has to give way: a made-up one to a configured one, or to a larger one. If it
    /// is ours we take on the peer's and begin anew with everybody, with that peer as well: it has read
    /// our old name already and would not keep the route. Else the peer has to go.
    pub(super) fn settle_cluster_name(
        &mut self,
        now: Instant,
        route: RouteId,
        name: &str,
        dynamic: bool,
        tell: bool,
    ) {
        let gives_way = self.own.cluster_dynamic
            && !name.is_empty()
            && (!dynamic || self.own.cluster.as_str() < name);
        if !gives_way {
            let text = format!(
                "Rejecting connection, cluster name \"{name}\" does not match \"{}\"",
                self.own.cluster
            );
            let error = tell.then_some(text);
            self.close(now, route, CloseReason::ClusterNameConflict, error);
            return;
        }
        name.clone_into(&mut self.own.cluster);
        // A configured name that was taken on is not given up for another made-up one.
        self.own.cluster_dynamic = dynamic;
        self.effects.push(MeshEffect::ClusterName(name.to_owned()));
        for route in self.routes.keys().copied().collect::<Vec<_>>() {
            self.close(now, route, CloseReason::ClusterNameConflict, None);
        }
    }
}

/// `nats-route://host:port/`, as `INFO` says where a server is to be reached.
pub(super) fn gossip_url(url: &RouteUrl) -> String {
    match url.host.parse::<Ipv6Addr>() {
        Ok(host) => format!("{SCHEME}[{host}]:{}/", url.port),
        Err(_) => format!("{SCHEME}{}:{}/", url.host, url.port),
    }
}

/// Reads what [`gossip_url`] writes. A login in it is not believed.
pub(super) fn parse_gossip_url(text: &str) -> Option<RouteUrl> {
    let address = text.strip_prefix(SCHEME)?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let (host, port) = split_address(address)?;
    let port = port.filter(|port| *port > 0)?;
    let is_name = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    (is_name || host.parse::<IpAddr>().is_ok()).then_some(RouteUrl {
        host,
        port,
        login: None,
    })
}

/// Host and port of `host[:port]`, with brackets around an IPv6 address, which the host is given without. `None` if it is
/// no such thing.
#[must_use]
pub fn split_address(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(digits) => Some(digits.parse().ok()?),
        None => None,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (text, host, port) in [
            ("nats-route://10.0.0.1:6222/", "10.0.0.1", 6222),
            ("nats-route://[fd00::1]:6222/", "fd00::1", 6222),
            ("nats-route://stan-0.stan:1/", "stan-0.stan", 1),
        ] {
            let url = parse_gossip_url(text).unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port));
            assert_eq!(gossip_url(&url), text);
        }
        for bad in [
            "",
            "nats://a:1/",
            "nats-route://",
            "nats-route://:1/",
            "nats-route://a/",
            "nats-route://a:0/",
            "nats-route://a:x/",
            "nats-route://a:70000/",
            "nats-route://u:p@a:1/",
            "nats-route://[a]:1/",
            "nats-route://[::1]1/",
            "nats-route://a b:1/",
            "nats-route://::1:1/",
        ] {
            assert_eq!(parse_gossip_url(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_port_of_an_address_may_be_left_out() {
        assert_eq!(split_address("h"), Some(("h".into(), None)));
        assert_eq!(split_address("[::1]"), Some(("::1".into(), None)));
        assert_eq!(split_address("[::1]:8"), Some(("::1".into(), Some(8))));
        assert_eq!(split_address("h:8"), Some(("h".into(), Some(8))));
        for bad in ["h:", "::1", "[::1", "[::1]8", "[h]:8", ""] {
            assert_eq!(split_address(bad), None, "{bad}");
        }
    }
}
