//! Who is connected to whom: handshakes, duplicates, cluster names, gossip and dialling.
//!
//! The shell reports what happened with `now` and carries out the [`MeshEffect`]s that come back, in
//! order. A full mesh grows out of any connected set of configured routes, because each server tells
//! its peers about every newcomer and they dial it:
//!
//! ```text
//!   target:  waiting -> dialling -> connected (to a route) -> waiting ...
//!   route:   dialled or accepted -> [CONNECT] -> INFO -> established -> gone
//! ```
//!
//! A [`MeshEffect::Close`] ends a route at once; that its socket closes later is no news.

mod handshake;
mod names;
mod targets;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use ahash::RandomState;
use broker_proto::route::{RouteConnect, RouteInfo};

pub use self::names::split_address;
use self::targets::{Stage, Target};
use super::settings::{ClusterSettings, RouteUrl};

/// A peer that has not introduced itself by then is closed. The reference leaves that to its pings,
/// which take minutes.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a peer. Given by the shell, never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u64);

/// A server to be dialled. Given by the mesh, never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(u64);

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum MeshEffect {
    /// Connect, with TLS if there is any, within a second; then say [`Mesh::dialled`] or
    /// [`Mesh::dial_failed`]. The addresses in `avoid` are our own: the name must be taken to lead
    /// elsewhere.
    Dial {
        target: TargetId,
        url: RouteUrl,
        avoid: Vec<SocketAddr>,
    },
    /// An attempt failed, of which operators may want to read. `attempt` counts from 1; `again`: the
    /// server had been connected before.
    Unreachable {
        url: RouteUrl,
        attempt: u32,
        again: bool,
    },
    /// Write `CONNECT`.
    Connect {
        route: RouteId,
        connect: RouteConnect,
    },
    /// Write `INFO`.
    Send {
        route: RouteId,
        info: Box<RouteInfo>,
    },
    /// Send all interest now, then ping. [`Mesh::peer`] tells who it is.
    Established { route: RouteId },
    /// Write `-ERR` with the text, if there is one, and close. The route is gone.
    Close {
        route: RouteId,
        reason: CloseReason,
        error: Option<String>,
    },
    /// The servers that clients are told of changed.
    ClientUrls(Vec<String>),
    /// We took on a peer's name. All routes were closed.
    ClusterName(String),
}

/// Why a route was closed; the texts are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// There is another to the same server, or this one led back to us.
    #[error("Duplicate Route")]
    DuplicateRoute,
    #[error("Cluster Name Conflict")]
    ClusterNameConflict,
    /// Two servers must not have one name.
    #[error("Duplicate Server Name")]
    DuplicateServerName,
    /// A client at the port for routes.
    #[error("Incorrect Port")]
    WrongPort,
    #[error("Wrong Gateway")]
    WrongGateway,
    /// Steps of the handshake repeated, left out, or in the wrong order.
    #[error("Protocol Violation")]
    ProtocolViolation,
    /// The peer did not introduce itself in time.
    #[error("Authentication Timeout")]
    AuthenticationTimeout,
    /// No longer configured.
    #[error("Route Removed")]
    RouteRemoved,
}

/// Why a dial came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// No connection, or no TLS.
    Unreachable,
    /// The name leads to addresses of [`MeshEffect::Dial`]'s `avoid` only.
    OnlyOwnAddresses,
}

/// A peer as monitoring shows it.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    pub info: &'a RouteInfo,
    /// We dialled, or would dial if the route were lost.
    pub solicited: bool,
    /// Its URL is in the configuration.
    pub configured: bool,
}

/// The state of all routes of one server.
#[derive(Debug)]
pub struct Mesh {
    /// What we say of ourselves, `connect_urls` being our own.
    own: RouteInfo,
    /// Host and port of our listener, which `advertise` may hide.
    listener: (String, u16),
    settings: ClusterSettings,
    routes: BTreeMap<RouteId, Route>,
    /// Established routes by server id.
    servers: HashMap<String, RouteId, RandomState>,
    targets: BTreeMap<TargetId, Target>,
    next_target: u64,
    /// Where we reached ourselves.
    own_addresses: HashSet<SocketAddr>,
    /// What clients were told last.
    client_urls: Vec<String>,
    /// Makes jitter out of the number of uses.
    dice: RandomState,
    dice_uses: u64,
    effects: Vec<MeshEffect>,
}

#[derive(Debug)]
struct Route {
    peer: SocketAddr,
    /// We dialled.
    solicited: bool,
    /// `CONNECT` came and was accepted, or is not expected.
    connected: bool,
    /// Until when the peer must have introduced itself.
    deadline: Instant,
    /// Present once established.
    info: Option<RouteInfo>,
}

impl Mesh {
    /// A server alone. `own` holds what peers are told, with the address of the listener for routes
    /// and our own `connect_urls`; its cluster name is the configured one or one made up, which
    /// `cluster_dynamic` says. All dialling starts with the first [`Mesh::tick`].
    #[must_use]
    pub fn new(own: RouteInfo, settings: ClusterSettings, seed: u64, now: Instant) -> Self {
        let mut mesh = Self {
            listener: (own.host.clone(), own.port),
            own,
            routes: BTreeMap::new(),
            servers: HashMap::default(),
            targets: BTreeMap::new(),
            next_target: 0,
            own_addresses: HashSet::new(),
            client_urls: Vec::new(),
            dice: RandomState::with_seeds(seed, 0, 0, 0),
            dice_uses: 0,
            effects: Vec::new(),
            settings,
        };
        mesh.advertise();
        mesh.client_urls = mesh.wanted_client_urls();
        for url in mesh.settings.routes.clone() {
            mesh.add_target(url, true, Stage::Waiting(now));
        }
        mesh
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<MeshEffect> {
        let late: Vec<_> = self
            .routes
            .iter()
            .filter(|(_, route)| route.info.is_none() && route.deadline <= now)
            .map(|(&id, _)| id)
            .collect();
        for route in late {
            let text = CloseReason::AuthenticationTimeout.to_string();
            self.close(now, route, CloseReason::AuthenticationTimeout, Some(text));
        }
        self.finish(now)
    }

    /// When [`Mesh::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let dials = self.targets.values().filter_map(Target::due);
        let handshakes = self
            .routes
            .values()
            .filter(|route| route.info.is_none())
            .map(|route| route.deadline);
        dials.chain(handshakes).min()
    }

    /// A target answered, TLS included.
    pub fn dialled(
        &mut self,
        now: Instant,
        target: TargetId,
        route: RouteId,
        peer: SocketAddr,
    ) -> Vec<MeshEffect> {
        let Some(dialled) = self.targets.get_mut(&target) else {
            self.effects.push(MeshEffect::Close {
                route,
                reason: CloseReason::RouteRemoved,
                error: None,
            });
            return self.finish(now);
        };
        dialled.stage = Stage::Connected(route);
        let login = dialled.url.login.clone();
        self.add_route(now, route, peer, true);
        let connect = self.introduction(login);
        // Our `INFO` waits for the peer's: see `introduced`.
        self.effects.push(MeshEffect::Connect { route, connect });
        self.finish(now)
    }

    /// A target did not answer.
    pub fn dial_failed(
        &mut self,
        now: Instant,
        target: TargetId,
        failure: DialFailure,
    ) -> Vec<MeshEffect> {
        match failure {
            DialFailure::Unreachable => self.unreachable(now, target),
            DialFailure::OnlyOwnAddresses => self.park(target),
        }
        self.finish(now)
    }

    /// Somebody dialled us, TLS included.
    pub fn accepted(&mut self, now: Instant, route: RouteId, peer: SocketAddr) -> Vec<MeshEffect> {
        self.add_route(now, route, peer, false);
        self.send_own(route);
        self.finish(now)
    }

    /// The connection is gone.
    pub fn closed(&mut self, now: Instant, route: RouteId) -> Vec<MeshEffect> {
        self.forget(now, route);
        self.finish(now)
    }

    /// The configuration was read again. Name, timers and permissions are not looked at.
    pub fn reload(&mut self, now: Instant, settings: ClusterSettings) -> Vec<MeshEffect> {
        let old = std::mem::replace(&mut self.settings, settings);
        self.advertise();
        for url in &old.routes {
            if !self.settings.routes.contains(url) {
                self.drop_configured(now, url);
            }
        }
        for url in self.settings.routes.clone() {
            if !old.routes.contains(&url) {
                self.add_target(url, true, Stage::Waiting(now));
            }
        }
        self.finish(now)
    }

    /// Our own addresses for clients changed.
    pub fn own_client_urls(&mut self, now: Instant, urls: Vec<String>) -> Vec<MeshEffect> {
        self.own.connect_urls = urls;
        self.send_own_to_all();
        self.finish(now)
    }

    /// We are going away: peers and clients are told not to send anybody here any more.
    pub fn lame_duck(&mut self, now: Instant) -> Vec<MeshEffect> {
        self.own.ldm = true;
        self.send_own_to_all();
        self.finish(now)
    }

    /// Who is at the other end of an established route.
    #[must_use]
    pub fn peer(&self, route: RouteId) -> Option<Peer<'_>> {
        let info = self.routes.get(&route)?.info.as_ref()?;
        let bound = || {
            let stage = Stage::Connected(route);
            self.targets.values().filter(move |one| one.stage == stage)
        };
        Some(Peer {
            info,
            solicited: bound().next().is_some(),
            configured: bound().any(|target| target.configured),
        })
    }

    /// All established routes, the oldest first.
    pub fn established(&self) -> impl Iterator<Item = RouteId> {
        let established = self.routes.iter().filter(|(_, route)| route.info.is_some());
        established.map(|(&id, _)| id)
    }

    /// Our name for now.
    #[must_use]
    pub fn cluster_name(&self) -> &str {
        &self.own.cluster
    }

    /// The name was made up and may still change.
    #[must_use]
    pub fn is_cluster_name_dynamic(&self) -> bool {
        self.own.cluster_dynamic
    }

    /// The servers that clients are told of; empty if they are not to be told.
    #[must_use]
    pub fn client_urls(&self) -> &[String] {
        &self.client_urls
    }

    fn add_route(&mut self, now: Instant, route: RouteId, peer: SocketAddr, solicited: bool) {
        let added = Route {
            peer,
            solicited,
            connected: solicited,
            deadline: now + HANDSHAKE_PATIENCE,
            info: None,
        };
        self.routes.insert(route, added);
    }

    /// Where others reach a peer.
    fn reach(&self, route: RouteId, info: &RouteInfo) -> Option<RouteUrl> {
        names::parse_gossip_url(&info.ip).or_else(|| {
            let peer = self.routes.get(&route)?.peer;
            Some(RouteUrl {
                host: peer.ip().to_canonical().to_string(),
                port: info.port,
                login: None,
            })
        })
    }

    fn send_own(&mut self, route: RouteId) {
        let mut info = Box::new(self.own.clone());
        if self.settings.no_advertise {
            info.connect_urls.clear();
        }
        self.effects.push(MeshEffect::Send { route, info });
    }

    fn send_own_to_all(&mut self) {
        for route in self.established().collect::<Vec<_>>() {
            self.send_own(route);
        }
    }

    /// Says to peers what `advertise` wants them to know.
    fn advertise(&mut self) {
        let advertised = self.settings.advertise.as_deref();
        match advertised.and_then(split_address) {
            Some((host, port)) => {
                let port = port.unwrap_or(self.listener.1);
                let url = RouteUrl {
                    host: host.clone(),
                    port,
                    login: None,
                };
                self.own.ip = names::gossip_url(&url);
                (self.own.host, self.own.port) = (host, port);
            }
            None => {
                self.own.ip.clear();
                (self.own.host, self.own.port) = self.listener.clone();
            }
        }
    }

    fn close(&mut self, now: Instant, route: RouteId, reason: CloseReason, error: Option<String>) {
        self.effects.push(MeshEffect::Close {
            route,
            reason,
            error,
        });
        self.forget(now, route);
    }

    fn forget(&mut self, now: Instant, route: RouteId) {
        let Some(gone) = self.routes.remove(&route) else {
            return;
        };
        if let Some(info) = &gone.info {
            self.servers.remove(&info.server_id);
        }
        self.lost(now, route, gone.info.is_some());
    }

    fn wanted_client_urls(&self) -> Vec<String> {
        if self.settings.no_advertise {
            return Vec::new();
        }
        let peers = self.routes.values().filter_map(|route| route.info.as_ref());
        let mut seen = HashSet::new();
        std::iter::once(&self.own)
            .chain(peers)
            .filter(|info| !info.ldm)
            .flat_map(|info| &info.connect_urls)
            .filter(|url| seen.insert(url.as_str()))
            .cloned()
            .collect()
    }

    /// Dials what is due and hands the effects over.
    fn finish(&mut self, now: Instant) -> Vec<MeshEffect> {
        self.dial_due(now);
        let wanted = self.wanted_client_urls();
        if wanted != self.client_urls {
            self.client_urls.clone_from(&wanted);
            self.effects.push(MeshEffect::ClientUrls(wanted));
        }
        std::mem::take(&mut self.effects)
    }
}

#[cfg(test)]
mod tests;
