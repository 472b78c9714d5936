//! Connections to other servers. All of them live on worker 0, beside the mesh that decides about them;
//! messages for them come from every worker, as they do for clients.

mod dial;
mod link;
mod operate;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use broker_core::{
    account::Account,
    auth::{
        AuthError,
        permissions::{PermissionError, Permissions},
        settings::{PermissionSettings, SubjectRules},
    },
    cluster::{
        interest::RoutePermissions,
        login::PeerLogin,
        mesh::{DialFailure, Mesh, MeshEffect, RouteId, TargetId},
        settings::ClusterSettings,
    },
    liveness::{Liveness, PingPolicy},
    peer::Peer,
};
use broker_proto::{
    info::ServerInfo,
    quote::Quoted,
    route::{RouteInfo, SubjectPermission, encode},
};
use tokio::sync::Notify;
use tracing::{debug, error, info};

use self::link::Begun;
pub(crate) use self::{dial::Dialled, link::Link};
use crate::{
    banner,
    close_reason::CloseReason,
    connection::{Connection, Phase, Role},
    interfaces,
    launch::as_asked,
    listener::Origin,
    settings::{NATS_VERSION, RoutePort, Settings},
    shared::Shared,
    transport::Transport,
    worker::{Worker, WorkerHandle},
};

/// The first ping of a route comes soon, to learn the round-trip time.
const FIRST_PING: Duration = Duration::from_secs(1);

/// What worker 0 keeps of the cluster.
#[derive(Debug)]
pub(crate) struct Routes {
    mesh: Mesh,
    login: PeerLogin,
    permissions: RoutePermissions,
    /// Places of all connections to other servers.
    places: HashMap<RouteId, usize, RandomState>,
    /// Accounts by the names that peers use.
    accounts: HashMap<Box<[u8]>, Arc<Account>, RandomState>,
    /// Where we listen for clients.
    client_address: SocketAddr,
    /// The mesh may want to be called at another time than before.
    changed: Arc<Notify>,
}

/// The cluster block cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("cluster authorization: {0}")]
    Login(#[from] AuthError),
    #[error("cluster permissions: {0}")]
    Permissions(#[from] PermissionError),
}

/// Whether routes can be made with these settings.
///
/// # Errors
/// Permissions or login cannot be used.
pub(crate) fn check(settings: &ClusterSettings) -> Result<(), ClusterError> {
    PeerLogin::new(settings)?;
    RoutePermissions::new(settings)?;
    Ok(())
}

impl Routes {
    /// Takes up the connections to other servers, on worker 0. `address` is where we listen for them.
    pub(crate) fn begin(worker: &WorkerHandle, shared: &Arc<Shared>, address: SocketAddr) {
        let settings = shared.settings();
        let Some(port) = &settings.config.cluster else {
            return;
        };
        let routes = match Self::new(shared, &settings, port, address) {
            Ok(routes) => routes,
            // `check` refuses such settings before anything starts.
            Err(error) => return error!("routes are not served: {error}"),
        };
        let shown = as_asked(&port.host, address);
        banner::routes_listening(routes.mesh.cluster_name(), shown);
        let changed = Arc::clone(&routes.changed);
        worker.with(|worker| {
            let cluster = routes.mesh.cluster_name().to_owned();
            let dynamic = routes.mesh.is_cluster_name_dynamic();
            let urls = routes.mesh.client_urls().to_vec();
            worker.routes = Some(routes);
            worker.exchange.shared.change_settings(|old| {
                old.with_info(|info| {
                    info.cluster = cluster;
                    info.cluster_dynamic = dynamic;
                    info.connect_urls = urls;
                })
            });
        });
        tokio::task::spawn_local(keep_time(worker.clone(), changed));
    }

    fn new(
        shared: &Shared,
        settings: &Settings,
        port: &RoutePort,
        address: SocketAddr,
    ) -> Result<Self, ClusterError> {
        let login = PeerLogin::new(&port.settings)?;
        let client_address = shared.client_address;
        let cluster = match &port.settings.name {
            Some(name) => name.clone(),
            None => crate::identity::streaming_id().unwrap_or_default(),
        };
        let own = RouteInfo {
            server_id: shared.identity.server_id.clone(),
            server_name: shared.identity.server_name.clone(),
            version: NATS_VERSION.into(),
            proto: 1,
            go: "rust".into(),
            host: port.host.clone(),
            port: address.port(),
            headers: settings.config.headers,
            max_payload: settings.config.max_payload as i64,
            auth_required: login.is_required(),
            tls_required: port.tls.is_some(),
            tls_verify: port.tls.is_some(),
            cluster,
            cluster_dynamic: port.settings.name.is_none(),
            import: told(&port.settings.import),
            export: told(&port.settings.export),
            connect_urls: own_client_urls(settings, client_address),
            ..RouteInfo::default()
        };
        let mut seed = [0; 8];
        // Jitter is not worse for being guessed.
        let _ = getrandom::fill(&mut seed);
        let seed = u64::from_le_bytes(seed);
        Ok(Self {
            mesh: Mesh::new(own, port.settings.clone(), seed, Instant::now()),
            login,
            permissions: RoutePermissions::new(&port.settings)?,
            places: HashMap::default(),
            accounts: HashMap::default(),
            client_address,
            changed: Arc::new(Notify::new()),
        })
    }
}

/// Calls the mesh when it wants to be called.
async fn keep_time(worker: WorkerHandle, changed: Arc<Notify>) {
    loop {
        worker.with(|worker| worker.with_mesh(|mesh, now| mesh.tick(now)));
        let due = worker.with(|worker| worker.routes.as_ref()?.mesh.next_deadline());
        match due {
            Some(due) => tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = changed.notified() => {}
            },
            None => changed.notified().await,
        }
    }
}

/// Rules as peers are told of them.
fn told(rules: &SubjectRules) -> Option<SubjectPermission> {
    let any = !(rules.allow.is_empty() && rules.deny.is_empty());
    any.then(|| SubjectPermission {
        allow: rules.allow.clone(),
        deny: rules.deny.clone(),
    })
}

/// Where clients reach this server, as others tell them (core-nats 7.7).
fn own_client_urls(settings: &Settings, address: SocketAddr) -> Vec<String> {
    let url = |host: &str, port: u16| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    if let Some((host, port)) = &settings.config.client_advertise {
        return vec![url(host, *port)];
    }
    if !address.ip().is_unspecified() {
        return vec![url(&settings.config.host, address.port())];
    }
    match interfaces::global_unicast_addresses() {
        Ok(addresses) => {
            let served = addresses
                .iter()
                .filter(|one| address.is_ipv6() || one.is_ipv4());
            served
                .map(|one| SocketAddr::new(*one, address.port()).to_string())
                .collect()
        }
        Err(error) => {
            error!("addresses of this machine cannot be listed: {error}");
            Vec::new()
        }
    }
}

impl Worker {
    /// Lets the mesh decide, and carries out what it wants.
    fn with_mesh(&mut self, decide: impl FnOnce(&mut Mesh, Instant) -> Vec<MeshEffect>) {
        let now = self.exchange.now;
        let Some(routes) = &mut self.routes else {
            return;
        };
        let due = routes.mesh.next_deadline();
        let effects = decide(&mut routes.mesh, now);
        // Not always: whoever keeps the time comes by here as well, and would wake himself for ever.
        if routes.mesh.next_deadline() != due {
            routes.changed.notify_one();
        }
        for effect in effects {
            self.carry_out_effect(effect);
        }
    }

    fn carry_out_effect(&mut self, effect: MeshEffect) {
        match effect {
            MeshEffect::Dial { target, url, avoid } => {
                dial::begin(self.handle(), target, url, avoid);
            }
            MeshEffect::Unreachable {
                url,
                attempt,
                again,
            } => {
                let port = self.exchange.settings.config.cluster.as_ref();
                let is_reported = port.is_some_and(|port| port.reports.include(attempt, again));
                let (host, port) = (url.host, url.port);
                if is_reported {
                    error!("Error trying to connect to route (attempt {attempt}): {host}:{port}");
                } else {
                    debug!("Error trying to connect to route (attempt {attempt}): {host}:{port}");
                }
            }
            MeshEffect::Connect { route, connect } => self.tell(route, &connect.to_line()),
            MeshEffect::Send { route, info } => self.tell(route, &info.to_line()),
            MeshEffect::Established { route } => self.established(route),
            MeshEffect::Close {
                route,
                reason,
                error,
            } => {
                if let Some(error) = error {
                    self.tell_error(route, &error);
                }
                if let Some(slot) = self.place(route) {
                    self.exchange.connections[slot].close(CloseReason::Route(reason));
                }
            }
            MeshEffect::ClientUrls(urls) => {
                let change = |info: &mut ServerInfo| info.connect_urls = urls;
                let shared = &self.exchange.shared;
                shared.change_settings(|old| old.with_info(change));
            }
            MeshEffect::ClusterName(name) => {
                info!("Cluster name updated to {name}");
                let dynamic = self.routes.as_ref();
                let dynamic = dynamic.is_some_and(|one| one.mesh.is_cluster_name_dynamic());
                self.exchange.shared.change_settings(|old| {
                    old.with_info(|info| {
                        info.cluster = name;
                        info.cluster_dynamic = dynamic;
                    })
                });
            }
        }
    }

    fn place(&self, route: RouteId) -> Option<usize> {
        self.routes.as_ref()?.places.get(&route).copied()
    }

    fn tell(&mut self, route: RouteId, text: &[u8]) {
        if let Some(slot) = self.place(route) {
            self.reply(slot, text);
        }
    }

    /// Operators read it too: whom it is told may be somebody who does not write it down.
    fn tell_error(&mut self, route: RouteId, error: &str) {
        if let Some(slot) = self.place(route) {
            let label = self.exchange.connections[slot].label();
            error!("{label} - {}", Quoted(error.as_bytes()));
        }
        let mut text = Vec::new();
        encode::error(error, &mut text);
        self.tell(route, &text);
    }

    /// The route is up: it learns what is wanted here.
    fn established(&mut self, route: RouteId) {
        let (Some(slot), Some(routes)) = (self.place(route), &self.routes) else {
            return;
        };
        let Some(peer) = routes.mesh.peer(route) else {
            return;
        };
        let (headers, solicited, configured) = (peer.info.headers, peer.solicited, peer.configured);
        let info = peer.info.clone();
        // What was noted for all must not reach the new one twice, nor after the whole.
        self.tell_routes();
        if let Some(internal) = self.exchange.services.internal.as_deref_mut() {
            internal.servers_changed();
            self.exchange.services.noted = true;
            self.schedule_pass();
        }
        let pings = self.route_pings();
        let now = self.exchange.now;
        let all = match &self.exchange.shared.route_interest {
            Some(interest) => interest.join(),
            None => Vec::new(),
        };
        let connection = &mut self.exchange.connections[slot];
        connection.peer.set_headers(headers);
        connection.liveness.established(&pings, 0.0, now);
        let introduced_after = connection.accepted.elapsed().unwrap_or_default();
        connection.liveness.estimate(introduced_after);
        connection.authenticate_by = None;
        let label = connection.label();
        let link = connection.link();
        (link.solicited, link.configured) = (solicited, configured);
        link.is_established = true;
        link.remote_id = info.server_id;
        link.remote_name = info.server_name;
        link.import = info.import.map(rules);
        link.export = info.export.map(rules);
        debug!(
            "{label} - Route connection created to {:?}",
            link.remote_name
        );
        self.exchange.counters.routes += 1;
        self.reply(slot, &all);
    }

    /// Makes a place for a connection to another server.
    pub(crate) fn admit_route(
        &mut self,
        peer: Arc<Peer>,
        transport: Transport,
        address: SocketAddr,
        origin: Origin,
        now: Instant,
    ) -> Option<()> {
        let settings = Arc::clone(&self.exchange.settings);
        let port = settings.config.cluster.as_ref()?;
        let begun = match origin {
            Origin::Dialled(dialled) => Begun::Dialled(dialled),
            Origin::RoutePort | Origin::ClientPort => Begun::Accepted,
        };
        let accepted = matches!(begun, Begun::Accepted);
        let phase = port
            .tls
            .as_ref()
            .map_or(Phase::Open, |tls| Phase::Greeting {
                deadline: now + tls.timeout,
            });
        let rules = PermissionSettings {
            subscribe: port.settings.export.clone(),
            ..PermissionSettings::default()
        };
        if let Ok(permissions) = Permissions::new(rules) {
            peer.set_permissions(Some(Arc::new(permissions)));
        }
        let (route, slot) = (RouteId(peer.id), peer.slot);
        let link = Link::new(begun, port.tls.clone());
        let liveness = Liveness::new(&self.route_pings(), now);
        let role = Role::Route(Box::new(link));
        let mut connection = Connection::new(peer, address, transport, role, liveness, phase);
        connection.trace(self.exchange.settings.config.trace);
        let routes = self.routes.as_mut()?;
        if accepted && routes.login.is_required() {
            connection.authenticate_by = Some(now + port.auth_timeout);
        }
        routes.places.insert(route, slot);
        self.exchange.connections.insert(connection);
        if phase == Phase::Open {
            self.route_opened(slot);
        }
        Some(())
    }

    /// The connection stands, TLS included: the mesh takes it from here.
    pub(crate) fn route_opened(&mut self, slot: usize) {
        let connection = &mut self.exchange.connections[slot];
        let (route, address) = (RouteId(connection.peer.id), connection.address);
        let link = connection.link();
        link.is_known = true;
        match link.begun.target() {
            Some(target) => {
                self.with_mesh(|mesh, now| mesh.dialled(now, target, route, address));
            }
            None => self.with_mesh(|mesh, now| mesh.accepted(now, route, address)),
        }
    }

    /// A connection to another server is gone, with everything that it wanted.
    pub(crate) fn release_route(&mut self, mut connection: Connection, reason: CloseReason) {
        let route = RouteId(connection.peer.id);
        let label = connection.label();
        let link = connection.link();
        debug!("{label} - Router connection closed: {reason}");
        link.forget_interest();
        if link.is_established {
            self.exchange.counters.routes -= 1;
            if let Some(interest) = &self.exchange.shared.route_interest {
                interest.leave();
            }
        }
        if reason == CloseReason::StaleConnection {
            self.exchange.counters.stale_routes += 1;
        }
        if let Some(routes) = &mut self.routes {
            routes.places.remove(&route);
        }
        match (link.is_known, link.begun.target()) {
            (true, _) => self.with_mesh(|mesh, now| mesh.closed(now, route)),
            (false, Some(target)) => self.dial_failed(target),
            (false, None) => {}
        }
    }

    /// Nothing came of an attempt to reach another server.
    pub(crate) fn dial_failed(&mut self, target: TargetId) {
        self.dial_ended(target, DialFailure::Unreachable);
    }

    fn dial_ended(&mut self, target: TargetId, failure: DialFailure) {
        self.with_mesh(|mesh, now| mesh.dial_failed(now, target, failure));
    }

    /// Tells other servers what has changed in what is wanted here.
    pub(crate) fn tell_routes(&mut self) {
        let (Some(routes), Some(interest)) = (&self.routes, &self.exchange.shared.route_interest)
        else {
            return;
        };
        let news = interest.take();
        if news.is_empty() {
            return;
        }
        let established = routes.mesh.established();
        let slots: Vec<_> = established.filter_map(|route| self.place(route)).collect();
        for slot in slots {
            self.exchange.connections[slot].put(&news, &mut self.exchange.pool);
            self.exchange.touched(slot);
        }
    }

    /// Other servers are asked whether they are there even when they are busy.
    pub(crate) fn route_pings(&self) -> PingPolicy {
        let cluster = self.exchange.settings.config.cluster.as_ref();
        let settings = cluster.map(|port| &port.settings);
        PingPolicy {
            interval: settings.map_or(FIRST_PING, |one| one.ping_interval),
            first: FIRST_PING,
            max_outstanding: settings.map_or(2, |one| one.ping_max),
            always: true,
        }
    }

    /// Other servers learn that clients had better not come here, then the clients themselves do.
    pub(crate) fn announce_to_routes(&mut self) {
        self.with_mesh(|mesh, now| mesh.lame_duck(now));
    }

    /// New settings, of which the mesh has to know.
    pub(crate) fn apply_to_routes(&mut self, old: &Settings) {
        let new = Arc::clone(&self.exchange.settings);
        let (Some(before), Some(now)) = (&old.config.cluster, &new.config.cluster) else {
            return;
        };
        let Some(routes) = &mut self.routes else {
            return;
        };
        if old.config.client_advertise != new.config.client_advertise {
            let urls = own_client_urls(&new, routes.client_address);
            self.with_mesh(|mesh, now| mesh.own_client_urls(now, urls));
        }
        if before.settings == now.settings {
            return;
        }
        let settings = now.settings.clone();
        let Some(routes) = &mut self.routes else {
            return;
        };
        // `check` has refused what cannot be used.
        if let Ok(login) = PeerLogin::new(&settings) {
            routes.login = login;
        }
        if let (Ok(own), Ok(told)) = (
            RoutePermissions::new(&settings),
            RoutePermissions::new(&settings),
        ) {
            routes.permissions = own;
            if let Some(interest) = &self.exchange.shared.route_interest {
                interest.permit(told);
            }
            self.tell_routes();
        }
        if before.settings.login != settings.login && settings.login.is_some() {
            self.refuse_accepted();
        }
        self.with_mesh(|mesh, now| mesh.reload(now, settings));
    }

    /// What other servers showed when they came does not count any more. They come again; those that we
    /// have dialled have shown nothing.
    fn refuse_accepted(&mut self) {
        let connections = self.exchange.connections.iter();
        let accepted = connections.filter(|(_, one)| match &one.role {
            Role::Route(link) => one.closing.is_none() && link.begun.target().is_none(),
            Role::Client(_) => false,
        });
        for slot in accepted.map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.violation(slot);
        }
    }
}

fn rules(told: SubjectPermission) -> SubjectRules {
    SubjectRules {
        allow: told.allow,
        deny: told.deny,
    }
}
