//! Whom to dial, and when again.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use broker_proto::route::RouteInfo;

use super::{CloseReason, Mesh, MeshEffect, RouteId, TargetId, names};
use crate::cluster::settings::RouteUrl;

/// Between attempts, and before a configured route that was lost is dialled again.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Added to each pause, so that two servers which dial each other and close each other's connection as
/// a duplicate do not go on like that.
const MAX_JITTER_MS: u64 = 100;
/// Attempts for a server that was only heard of but did answer once: about eight minutes. The
/// reference makes one, and a mesh then stays torn after any cut between two such servers.
const LOST_ATTEMPTS: u32 = 20;
/// Most servers only heard of. A cluster is far smaller.
const MAX_HEARD_OF: usize = 256;

/// A server that is dialled until it is connected, and again when it is lost.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) url: RouteUrl,
    /// Tried for ever. Else only heard of, and given up after some attempts.
    pub(super) configured: bool,
    pub(super) stage: Stage,
    /// Failures since the last success.
    attempts: u32,
    /// A route to it was established once.
    was_connected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be dialled then.
    Waiting(Instant),
    Dialling,
    /// This route leads there; it need not be the one that was dialled.
    Connected(RouteId),
    /// It is ourselves: never dialled again.
    Parked,
}

impl Target {
    pub(super) fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting(due) => Some(due),
            Stage::Dialling | Stage::Connected(_) | Stage::Parked => None,
        }
    }

    fn is_exhausted(&self, connect_retries: u32) -> bool {
        let most = match self.was_connected {
            true => connect_retries.max(LOST_ATTEMPTS),
            false => connect_retries,
        };
        !self.configured && self.attempts > most
    }
}

impl Mesh {
    pub(super) fn add_target(&mut self, url: RouteUrl, configured: bool, stage: Stage) {
        let id = TargetId(self.next_target);
        self.next_target += 1;
        let target = Target {
            url,
            configured,
            stage,
            attempts: 0,
            was_connected: matches!(stage, Stage::Connected(_)),
        };
        self.targets.insert(id, target);
    }

    pub(super) fn dial_due(&mut self, now: Instant) {
        for (&id, target) in &mut self.targets {
            if target.due().is_none_or(|due| due > now) {
                continue;
            }
            let address = literal_address(&target.url);
            if address.is_some_and(|address| self.own_addresses.contains(&address)) {
                target.stage = Stage::Parked;
                continue;
            }
            target.stage = Stage::Dialling;
            let mut avoid: Vec<_> = self.own_addresses.iter().copied().collect();
            avoid.sort_unstable();
            self.effects.push(MeshEffect::Dial {
                target: id,
                url: target.url.clone(),
                avoid,
            });
        }
    }

    pub(super) fn unreachable(&mut self, now: Instant, id: TargetId) {
        let Some(target) = self.targets.get_mut(&id) else {
            return;
        };
        target.attempts = target.attempts.saturating_add(1);
        self.effects.push(MeshEffect::Unreachable {
            url: target.url.clone(),
            attempt: target.attempts,
            again: target.was_connected,
        });
        self.try_again(now, id);
    }

    pub(super) fn park(&mut self, id: TargetId) {
        if let Some(target) = self.targets.get_mut(&id) {
            target.stage = Stage::Parked;
        }
    }

    /// A peer told of a third server.
    pub(super) fn heard_of(&mut self, now: Instant, info: &RouteInfo) {
        let foreign = !info.cluster.is_empty() && info.cluster != self.own.cluster;
        let known =
            info.server_id == self.own.server_id || self.servers.contains_key(&info.server_id);
        let Some(url) = names::parse_gossip_url(&info.ip) else {
            return;
        };
        let address = literal_address(&url);
        let is_own = address.is_some_and(|address| self.own_addresses.contains(&address));
        // A configured one is named by what it says of itself, or by where it was seen.
        let dialled = self.targets.values().any(|target| {
            let there = |host: &str, port| {
                target.url.port == port && target.url.host.eq_ignore_ascii_case(host)
            };
            there(&url.host, url.port) || (target.configured && there(&info.host, info.port))
        });
        let heard_of = self.targets.len() - self.settings.routes.len().min(self.targets.len());
        if !(foreign || known || is_own || dialled || heard_of >= MAX_HEARD_OF) {
            self.add_target(url, false, Stage::Waiting(now));
        }
    }

    /// A solicited route turned out to lead back here.
    pub(super) fn reached_ourselves(&mut self, now: Instant, route: RouteId) {
        let Some(known) = self.routes.get(&route).filter(|known| known.solicited) else {
            return;
        };
        self.own_addresses.insert(known.peer);
        for target in self.targets.values_mut() {
            if target.stage == Stage::Connected(route) {
                // A name may have other addresses; one that is an address is parked when it is due.
                target.stage = Stage::Waiting(now);
            }
        }
    }

    /// A duplicate is about to be closed: who wanted it is content with the survivor, and whoever lost
    /// the wrong one of the two dials again when the survivor is lost.
    pub(super) fn inherit(&mut self, closing: RouteId, survivor: RouteId, reach: Option<RouteUrl>) {
        let mut bound = false;
        let stage = Stage::Connected(survivor);
        for target in self.targets.values_mut() {
            if target.stage == Stage::Connected(closing) {
                target.stage = stage;
                target.attempts = 0;
                target.was_connected = true;
            }
            bound |= target.stage == stage;
        }
        if let (false, Some(url)) = (bound, reach)
            && !self.targets.values().any(|target| target.url == url)
        {
            self.add_target(url, false, stage);
        }
    }

    /// A route was established.
    pub(super) fn connected(&mut self, route: RouteId) {
        for target in self.targets.values_mut() {
            if target.stage == Stage::Connected(route) {
                target.attempts = 0;
                target.was_connected = true;
            }
        }
    }

    /// A route is gone; `established` says how far it had come.
    pub(super) fn lost(&mut self, now: Instant, route: RouteId, established: bool) {
        let stage = Stage::Connected(route);
        let bound: Vec<_> = self
            .targets
            .iter()
            .filter(|(_, target)| target.stage == stage)
            .map(|(&id, _)| id)
            .collect();
        for id in bound {
            if let (false, Some(target)) = (established, self.targets.get_mut(&id)) {
                target.attempts = target.attempts.saturating_add(1);
            }
            self.try_again(now, id);
        }
    }

    /// Sets the time of the next attempt, unless there were enough.
    fn try_again(&mut self, now: Instant, id: TargetId) {
        let jitter = self.jitter();
        let Some(target) = self.targets.get_mut(&id) else {
            return;
        };
        if target.is_exhausted(self.settings.connect_retries) {
            self.targets.remove(&id);
            return;
        }
        let backs_off = self.settings.connect_backoff || !target.configured;
        let pause = match target.attempts {
            // Lost after it was there, and whoever heard of it did so by chance: at once.
            0 if !target.configured => Duration::ZERO,
            2.. if backs_off => {
                let doublings = (target.attempts - 1).min(LONGEST_PAUSE.as_secs().ilog2() + 1);
                (PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
            }
            _ => PAUSE,
        };
        target.stage = Stage::Waiting(now + pause + jitter);
    }

    /// A URL is no longer configured.
    pub(super) fn drop_configured(&mut self, now: Instant, url: &RouteUrl) {
        let dropped: Vec<_> = self
            .targets
            .iter()
            .filter(|(_, target)| target.configured && target.url == *url)
            .map(|(&id, _)| id)
            .collect();
        for id in dropped {
            let Some(Stage::Connected(route)) = self.targets.remove(&id).map(|gone| gone.stage)
            else {
                continue;
            };
            let stage = Stage::Connected(route);
            let still_wanted = self
                .targets
                .values()
                .any(|target| target.configured && target.stage == stage);
            if !still_wanted {
                self.targets.retain(|_, target| target.stage != stage);
                self.close(now, route, CloseReason::RouteRemoved, None);
            }
        }
    }

    fn jitter(&mut self) -> Duration {
        self.dice_uses += 1;
        Duration::from_millis(self.dice.hash_one(self.dice_uses) % MAX_JITTER_MS)
    }
}

/// The address of a URL that names no host.
fn literal_address(url: &RouteUrl) -> Option<SocketAddr> {
    let ip: IpAddr = url.host.parse().ok()?;
    Some(SocketAddr::new(ip, url.port))
}
