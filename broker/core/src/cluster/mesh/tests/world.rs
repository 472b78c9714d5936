//! A model network of meshes with a virtual clock. A seed fixes everything.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use broker_proto::route::{RouteConnect, RouteInfo};

use super::super::*;

pub(super) const PORT: u16 = 6222;
/// A name that leads to every server.
pub(super) const EVERYBODY: &str = "everybody";
/// More dials to one URL within a second would be a storm.
const MOST_DIALS_A_SECOND: usize = 20;

pub(super) struct World {
    start: Instant,
    pub(super) now: Instant,
    random: u64,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: HashMap<u64, Event>,
    next_event: u64,
    pub(super) nodes: Vec<Node>,
    pipes: BTreeMap<u64, Pipe>,
    cuts: BTreeSet<(usize, usize)>,
    /// When each URL was dialled by each server, the last second of it.
    dials: HashMap<(usize, String), VecDeque<Instant>>,
    pub(super) last_dial: Instant,
    pub(super) trace: Vec<String>,
}

pub(super) struct Node {
    settings: ClusterSettings,
    name: Option<String>,
    /// Incremented by each start, so that events of former lives are not delivered.
    life: u64,
    pub(super) mesh: Option<Mesh>,
}

/// Both ends of a connection have the same [`RouteId`] and differ in the server, except on a
/// connection to oneself: the acceptor's is odd.
struct Pipe {
    nodes: [usize; 2],
    open: [bool; 2],
    /// When the last message to each end arrives: none overtakes another.
    busy: [Instant; 2],
}

enum Event {
    Tick(usize, u64),
    Arrive(usize, u64, TargetId, SocketAddr, bool),
    Accept(u64),
    Connect(u64, usize, RouteConnect),
    Info(u64, usize, RouteInfo),
    Closed(u64, usize),
}

pub(super) fn address(node: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, node as u8)), PORT)
}

pub(super) fn url(host: &str) -> RouteUrl {
    RouteUrl {
        host: host.to_owned(),
        port: PORT,
        login: None,
    }
}

pub(super) fn url_of(node: usize) -> RouteUrl {
    url(&address(node).ip().to_string())
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            now,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            events: BinaryHeap::new(),
            pending: HashMap::new(),
            next_event: 0,
            nodes: Vec::new(),
            pipes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            dials: HashMap::new(),
            last_dial: now,
            trace: Vec::new(),
        }
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// Adds a server and starts it. No name: it makes one up.
    pub(super) fn add(&mut self, name: Option<&str>, routes: Vec<RouteUrl>) -> usize {
        let settings = ClusterSettings {
            routes,
            ..ClusterSettings::default()
        };
        self.nodes.push(Node {
            settings,
            name: name.map(str::to_owned),
            life: 0,
            mesh: None,
        });
        let node = self.nodes.len() - 1;
        self.start(node);
        node
    }

    pub(super) fn start(&mut self, index: usize) {
        let made_up = format!("{:020}", self.below(u64::MAX));
        let seed = self.below(u64::MAX);
        let now = self.now;
        let node = &mut self.nodes[index];
        node.life += 1;
        let own = RouteInfo {
            server_id: format!("N{index}-{}", node.life),
            server_name: format!("n{index}"),
            proto: 1,
            host: "0.0.0.0".into(),
            port: PORT,
            cluster: node.name.clone().unwrap_or(made_up),
            cluster_dynamic: node.name.is_none(),
            connect_urls: vec![format!("10.0.0.{index}:4222")],
            ..RouteInfo::default()
        };
        node.mesh = Some(Mesh::new(own, node.settings.clone(), seed, now));
        self.call(index, Mesh::tick);
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].mesh = None;
        for (id, end) in self.ends(|pipe, end| pipe.nodes[end] == index) {
            self.hang_up(id, end);
        }
    }

    /// Nothing passes between two servers any more, and both notice.
    pub(super) fn cut(&mut self, one: usize, other: usize) {
        self.cuts.insert((one.min(other), one.max(other)));
        let between = |pipe: &Pipe| pipe.nodes == [one, other] || pipe.nodes == [other, one];
        for (id, end) in self.ends(|pipe, _| between(pipe)) {
            self.hang_up(id, end);
        }
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    fn ends(&self, wanted: impl Fn(&Pipe, usize) -> bool) -> Vec<(u64, usize)> {
        let all = self
            .pipes
            .iter()
            .flat_map(|(&id, pipe)| [(id, pipe, 0), (id, pipe, 1)]);
        all.filter(|(_, pipe, end)| pipe.open[*end] && wanted(pipe, *end))
            .map(|(id, _, end)| (id, end))
            .collect()
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(&Reverse((due, id))) = self.events.peek() {
            if due > until {
                break;
            }
            self.events.pop();
            self.now = due;
            if let Some(event) = self.pending.remove(&id) {
                self.happen(event);
            }
        }
        self.now = until;
    }

    fn at(&mut self, due: Instant, event: Event) {
        self.next_event += 1;
        self.pending.insert(self.next_event, event);
        self.events.push(Reverse((due, self.next_event)));
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(100 + self.below(20_000))
    }

    /// Calls a server's mesh and does what it wants.
    fn call(&mut self, index: usize, input: impl FnOnce(&mut Mesh, Instant) -> Vec<MeshEffect>) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(mesh) = &mut node.mesh else { return };
        let effects = input(mesh, now);
        let deadline = mesh.next_deadline();
        let life = node.life;
        for effect in effects {
            self.carry_out(index, effect);
        }
        if let Some(deadline) = deadline {
            self.at(deadline.max(self.now), Event::Tick(index, life));
        }
        self.check(index);
    }

    /// One route for each server, and none to oneself.
    fn check(&self, index: usize) {
        let Some(mesh) = &self.nodes[index].mesh else {
            return;
        };
        let mut ids: Vec<_> = mesh
            .established()
            .map(|route| mesh.peer(route).unwrap().info.server_id.clone())
            .collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);
        assert!(!ids.contains(&mesh.own.server_id));
    }

    fn carry_out(&mut self, index: usize, effect: MeshEffect) {
        let since = self.now - self.start;
        self.trace.push(format!("{since:?} {index} {effect:?}"));
        match effect {
            MeshEffect::Dial { target, url, avoid } => self.dial(index, target, &url, &avoid),
            MeshEffect::Connect { route, connect } => {
                self.send(index, route, |id, end| Event::Connect(id, end, connect));
            }
            MeshEffect::Send { route, info } => {
                self.send(index, route, |id, end| Event::Info(id, end, *info));
            }
            MeshEffect::Close { route, .. } => {
                let (id, end) = (route.0 / 2, (route.0 % 2) as usize);
                if let Some(pipe) = self.pipes.get_mut(&id) {
                    pipe.open[end] = false;
                    self.hang_up(id, 1 - end);
                }
            }
            MeshEffect::Established { .. }
            | MeshEffect::Unreachable { .. }
            | MeshEffect::ClientUrls(_)
            | MeshEffect::ClusterName(_) => {}
        }
    }

    fn dial(&mut self, index: usize, target: TargetId, url: &RouteUrl, avoid: &[SocketAddr]) {
        let recent = self.dials.entry((index, url.host.clone())).or_default();
        recent.push_back(self.now);
        while recent
            .front()
            .is_some_and(|&at| self.now - at > Duration::from_secs(1))
        {
            recent.pop_front();
        }
        assert!(
            recent.len() <= MOST_DIALS_A_SECOND,
            "{index} storms {url:?}"
        );
        self.last_dial = self.now;
        let mut addresses: Vec<_> = match url.host.as_str() {
            EVERYBODY => (0..self.nodes.len()).map(address).collect(),
            host => vec![SocketAddr::new(host.parse().unwrap(), url.port)],
        };
        let leads_to_us_only = addresses.iter().all(|address| avoid.contains(address));
        if leads_to_us_only {
            assert_eq!(url.host, EVERYBODY, "dialled itself knowingly");
            return self.call(index, |mesh, now| {
                mesh.dial_failed(now, target, DialFailure::OnlyOwnAddresses)
            });
        }
        addresses.retain(|address| !avoid.contains(address));
        let chosen = addresses[self.below(addresses.len() as u64) as usize];
        let life = self.nodes[index].life;
        let due = self.now + self.delay();
        let answers = self.reaches(index, chosen);
        self.at(due, Event::Arrive(index, life, target, chosen, answers));
    }

    fn reaches(&self, from: usize, address: SocketAddr) -> bool {
        let to = (0..self.nodes.len()).find(|&node| self::address(node) == address);
        to.is_some_and(|to| {
            self.nodes[to].mesh.is_some() && !self.cuts.contains(&(from.min(to), from.max(to)))
        })
    }

    fn send(&mut self, from: usize, route: RouteId, event: impl FnOnce(u64, usize) -> Event) {
        let (id, end) = (route.0 / 2, (route.0 % 2) as usize);
        let earliest = self.now + self.delay();
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        assert_eq!(pipe.nodes[end], from);
        let due = earliest.max(pipe.busy[1 - end]);
        pipe.busy[1 - end] = due;
        self.at(due, event(id, 1 - end));
    }

    fn hang_up(&mut self, id: u64, end: usize) {
        let earliest = self.now + self.delay();
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        let due = earliest.max(pipe.busy[end]);
        self.at(due, Event::Closed(id, end));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(node, life) => {
                if self.nodes[node].life == life {
                    self.call(node, Mesh::tick);
                }
            }
            Event::Arrive(node, life, target, there, answered) => {
                if self.nodes[node].life == life && self.nodes[node].mesh.is_some() {
                    self.arrive(node, target, there, answered);
                }
            }
            Event::Accept(id) => {
                let Some((node, from)) = self
                    .open_end(id, 1)
                    .map(|node| (node, self.pipes[&id].nodes[0]))
                else {
                    return;
                };
                let from = SocketAddr::new(address(from).ip(), 40_000);
                self.call(node, |mesh, now| {
                    mesh.accepted(now, RouteId(id * 2 + 1), from)
                });
            }
            Event::Connect(id, end, connect) => {
                if let Some(node) = self.open_end(id, end) {
                    let route = RouteId(id * 2 + end as u64);
                    self.call(node, |mesh, now| mesh.connect(now, route, &connect));
                }
            }
            Event::Info(id, end, info) => {
                if let Some(node) = self.open_end(id, end) {
                    let route = RouteId(id * 2 + end as u64);
                    self.call(node, |mesh, now| mesh.info(now, route, info));
                }
            }
            Event::Closed(id, end) => {
                let Some(node) = self.open_end(id, end) else {
                    return;
                };
                if let Some(pipe) = self.pipes.get_mut(&id) {
                    pipe.open[end] = false;
                }
                self.hang_up(id, 1 - end);
                let route = RouteId(id * 2 + end as u64);
                self.call(node, |mesh, now| mesh.closed(now, route));
            }
        }
    }

    fn open_end(&self, id: u64, end: usize) -> Option<usize> {
        let pipe = self.pipes.get(&id).filter(|pipe| pipe.open[end])?;
        Some(pipe.nodes[end])
    }

    fn arrive(&mut self, node: usize, target: TargetId, there: SocketAddr, answered: bool) {
        if !answered || !self.reaches(node, there) {
            return self.call(node, |mesh, now| {
                mesh.dial_failed(now, target, DialFailure::Unreachable)
            });
        }
        let to = (0..self.nodes.len())
            .find(|&node| address(node) == there)
            .unwrap();
        let id = self.next_event;
        let due = self.now + self.delay();
        self.pipes.insert(
            id,
            Pipe {
                nodes: [node, to],
                open: [true, true],
                busy: [self.now, due],
            },
        );
        self.at(due, Event::Accept(id));
        self.call(node, |mesh, now| {
            mesh.dialled(now, target, RouteId(id * 2), there)
        });
    }

    /// Fails unless every living server has a route to every other and all agree on everything.
    pub(super) fn expect_full_mesh(&self, seed: u64) {
        let alive: Vec<_> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].mesh.is_some())
            .collect();
        let mut ids: Vec<_> = alive
            .iter()
            .map(|&node| {
                self.nodes[node]
                    .mesh
                    .as_ref()
                    .unwrap()
                    .own
                    .server_id
                    .clone()
            })
            .collect();
        ids.sort();
        for &node in &alive {
            let mesh = self.nodes[node].mesh.as_ref().unwrap();
            let mut known: Vec<_> = mesh
                .established()
                .map(|route| mesh.peer(route).unwrap().info.server_id.clone())
                .chain([mesh.own.server_id.clone()])
                .collect();
            known.sort();
            assert_eq!(known, ids, "seed {seed}: what {node} knows");
            assert_eq!(mesh.client_urls().len(), ids.len(), "seed {seed}");
            let first = self.nodes[alive[0]].mesh.as_ref().unwrap();
            assert_eq!(mesh.cluster_name(), first.cluster_name(), "seed {seed}");
        }
    }
}
