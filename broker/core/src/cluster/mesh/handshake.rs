//! How a connection becomes a route: `CONNECT` of whoever dialled, `INFO` of both.

use std::time::Instant;

use broker_proto::route::{RouteConnect, RouteInfo};

use super::{CloseReason, Mesh, MeshEffect, RouteId, names};
use crate::auth::settings::Secret;

impl Mesh {
    /// A peer's `CONNECT`, whose credentials the caller found right.
    pub fn connect(
        &mut self,
        now: Instant,
        route: RouteId,
        connect: &RouteConnect,
    ) -> Vec<MeshEffect> {
        let Some(known) = self.routes.get_mut(&route) else {
            return self.finish(now);
        };
        // Also refuses a `CONNECT` of those whom we dialled.
        if known.connected {
            self.close(now, route, CloseReason::ProtocolViolation, None);
            return self.finish(now);
        }
        known.connected = true;
        if !connect.lang.is_empty() {
            let text = "attempted to connect to route port".to_owned();
            self.close(now, route, CloseReason::WrongPort, Some(text));
        } else if !connect.gateway.is_empty() {
            let text = format!(
                "Rejecting connection from gateway \"{}\" on the Route port",
                connect.gateway
            );
            self.close(now, route, CloseReason::WrongGateway, Some(text));
        } else if connect.name == self.own.server_id {
            self.close(now, route, CloseReason::DuplicateRoute, None);
        } else if connect.cluster != self.own.cluster {
            self.settle_cluster_name(now, route, &connect.cluster, connect.cluster_dynamic, true);
        }
        self.finish(now)
    }

    /// A peer's `INFO`: its introduction, news of itself, or of a third server.
    pub fn info(&mut self, now: Instant, route: RouteId, info: RouteInfo) -> Vec<MeshEffect> {
        let Some(known) = self.routes.get(&route) else {
            return self.finish(now);
        };
        match &known.info {
            None if !known.connected || info.server_id.is_empty() => {
                self.close(now, route, CloseReason::ProtocolViolation, None);
            }
            None => self.introduced(now, route, info),
            Some(peer) if peer.server_id == info.server_id => self.updated(now, route, info),
            Some(_) => self.heard_of(now, &info),
        }
        self.finish(now)
    }

    pub(super) fn introduction(&self, login: Option<(String, Secret)>) -> RouteConnect {
        let login = login.or_else(|| self.settings.login.clone());
        let (user, pass) = login.map_or_else(Default::default, |(user, pass)| {
            (user, pass.expose().to_owned())
        });
        RouteConnect {
            echo: true,
            user,
            pass,
            tls_required: self.own.tls_required,
            headers: self.own.headers,
            name: self.own.server_id.clone(),
            cluster: self.own.cluster.clone(),
            cluster_dynamic: self.own.cluster_dynamic,
            ..RouteConnect::default()
        }
    }

    /// The first `INFO` of a route.
    fn introduced(&mut self, now: Instant, route: RouteId, info: RouteInfo) {
        if info.server_id == self.own.server_id {
            self.reached_ourselves(now, route);
            self.close(now, route, CloseReason::DuplicateRoute, None);
            return;
        }
        if !self.agree_on_name(now, route, &info) {
            return;
        }
        if info.server_name == self.own.server_name {
            self.close(now, route, CloseReason::DuplicateServerName, None);
            return;
        }
        if let Some(&survivor) = self.servers.get(&info.server_id) {
            let reach = self.reach(route, &info);
            self.inherit(route, survivor, reach);
            self.close(now, route, CloseReason::DuplicateRoute, None);
            return;
        }
        // Whom we dialled learns who we are only now. A server of the reference that has taken us in
        // under a name which we gave up dials back at once, and never tells anybody of a route which
        // it dialled itself: two such peers of it would not hear of each other.
        if self.routes.get(&route).is_some_and(|known| known.solicited) {
            self.send_own(route);
        }
        self.establish(route, info);
    }

    fn establish(&mut self, route: RouteId, info: RouteInfo) {
        let news = RouteInfo {
            ip: match info.ip.is_empty() {
                true => self.reach(route, &info).map(|url| names::gossip_url(&url)),
                false => Some(info.ip.clone()),
            }
            .unwrap_or_default(),
            nonce: String::new(),
            ..info.clone()
        };
        let others: Vec<_> = self.established().collect();
        let replaced = self.servers.insert(info.server_id.clone(), route);
        assert!(replaced.is_none(), "one route for each server");
        if let Some(known) = self.routes.get_mut(&route) {
            known.info = Some(info);
        }
        self.connected(route);
        self.effects.push(MeshEffect::Established { route });
        for other in others {
            let info = Box::new(news.clone());
            self.effects.push(MeshEffect::Send { route: other, info });
        }
    }

    /// A peer said something new about itself.
    fn updated(&mut self, now: Instant, route: RouteId, info: RouteInfo) {
        if !self.agree_on_name(now, route, &info) {
            return;
        }
        if let Some(known) = self.routes.get_mut(&route) {
            known.info = Some(info);
        }
    }
}
