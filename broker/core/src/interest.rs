//! A worker's own memory of who wants which subject, with the beginning of each delivery ready-made.
//!
//! Rights to receive are judged here, once a subject and subscription: whoever may not see a subject
//! does not stand in its [`Interest`], so that no way of delivery can forget to ask.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use ahash::RandomState;
use broker_proto::{encode, route::encode::MessagePrefix, subject};

use crate::{
    account::Account,
    peer::Peer,
    sublist::{Matches, SharedSublist},
    subscription::{Subscription, Target},
};

/// Subjects remembered an account and worker. Beyond that all are forgotten and looked up again.
const MAX_SUBJECTS: usize = 4096;
/// Deliveries remembered an account and worker, over all subjects: bounds memory when many subjects
/// have many subscribers.
const MAX_DELIVERIES: usize = 1 << 16;

/// One subscription of this server that gets a subject.
#[derive(Debug)]
pub struct Delivery {
    /// `HMSG subject sid `; empty for a service inside the broker.
    pub prefix: Box<[u8]>,
    pub subscription: Arc<Subscription>,
}

/// Members of one queue group, one of which gets a message.
#[derive(Debug)]
pub struct Group {
    pub name: Box<[u8]>,
    /// Members on this server.
    pub members: Vec<Delivery>,
    /// Other servers with members: place in [`Interest::routes`] and number of members there.
    pub remote: Vec<(usize, u32)>,
}

/// Another server whose clients get a subject.
#[derive(Debug)]
pub struct RouteDelivery {
    pub peer: Arc<Peer>,
    /// What begins a message for it.
    pub prefix: MessagePrefix,
    /// Somebody there listens outside of queue groups.
    pub plain: bool,
}

/// Everyone who gets a subject.
#[derive(Debug, Default)]
pub struct Interest {
    pub plain: Vec<Delivery>,
    pub groups: Vec<Group>,
    pub routes: Vec<RouteDelivery>,
    /// Messages must be handed out one by one: a connection has more than one part in this and would
    /// not get them in the order in which they were published, or another server must be told which
    /// group each is for.
    pub singly: bool,
}

impl Interest {
    fn new(subject: &[u8], account: &str, matches: Matches) -> Self {
        let mut interest = Self::default();
        let allowed = |one: &Arc<Subscription>| one.may_receive(subject);
        for subscription in matches.plain.into_iter().filter(allowed) {
            match &subscription.target {
                Target::Route { peer, .. } => {
                    let place = interest.route(peer, account, subject);
                    interest.routes[place].plain = true;
                }
                _ => interest.plain.push(Delivery::new(subject, subscription)),
            }
        }
        for members in matches.groups {
            let mut group = Group {
                name: members[0].queue_group.clone(),
                members: Vec::new(),
                remote: Vec::new(),
            };
            for subscription in members.into_iter().filter(allowed) {
                match &subscription.target {
                    Target::Route { peer, weight } => {
                        let place = interest.route(peer, account, subject);
                        group.remote.push((place, *weight));
                    }
                    _ => group.members.push(Delivery::new(subject, subscription)),
                }
            }
            if !(group.members.is_empty() && group.remote.is_empty()) {
                interest.groups.push(group);
            }
        }
        interest.singly = interest.groups.iter().any(|group| !group.remote.is_empty())
            || interest.shares_connection();
        interest
    }

    /// Nobody gets it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty() && self.routes.is_empty()
    }

    /// Place of another server in the list, added if it is not there.
    fn route(&mut self, peer: &Arc<Peer>, account: &str, subject: &[u8]) -> usize {
        let known = self.routes.iter().position(|one| one.peer.id == peer.id);
        known.unwrap_or_else(|| {
            self.routes.push(RouteDelivery {
                peer: Arc::clone(peer),
                prefix: MessagePrefix::new(account.as_bytes(), subject),
                plain: false,
            });
            self.routes.len() - 1
        })
    }

    /// Members of one group do not count against each other: a message goes to one of them only.
    fn shares_connection(&self) -> bool {
        if self.plain.len() + self.groups.len() < 2 {
            return false;
        }
        let connection = |one: &Delivery| one.subscription.connection();
        let mut seen: Vec<_> = self.plain.iter().map(connection).collect();
        for group in &self.groups {
            let mut members: Vec<_> = group.members.iter().map(connection).collect();
            members.sort_unstable();
            members.dedup();
            seen.append(&mut members);
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        seen.len() < all
    }

    fn deliveries(&self) -> usize {
        let members = self.groups.iter().map(|group| group.members.len());
        self.plain.len() + self.routes.len() + members.sum::<usize>()
    }
}

impl Delivery {
    /// Ready-made for one subject.
    #[must_use]
    pub fn new(subject: &[u8], subscription: Arc<Subscription>) -> Self {
        let prefix = match subscription.connection() {
            Some(_) => encode::delivery_prefix(subject, &subscription.sid),
            None => Box::default(),
        };
        Self {
            prefix,
            subscription,
        }
    }
}

/// Match results of one worker for all accounts.
#[derive(Debug, Default)]
pub struct InterestCache {
    /// By [`Account::index`].
    accounts: Vec<AccountCache>,
}

impl InterestCache {
    /// Who gets a subject of an account now.
    pub fn look_up(&mut self, subject: &[u8], account: &Account) -> Rc<Interest> {
        if self.accounts.len() <= account.index {
            self.accounts
                .resize_with(account.index + 1, AccountCache::default);
        }
        self.accounts[account.index].look_up(subject, account)
    }

    /// What is remembered of an account, by its index.
    #[must_use]
    pub fn stats(&self, account: usize) -> CacheStats {
        let Some(cached) = self.accounts.get(account) else {
            return CacheStats::default();
        };
        let fanouts = cached.subjects.values().map(|one| one.deliveries());
        CacheStats {
            subjects: cached.subjects.len(),
            look_ups: cached.look_ups,
            hits: cached.hits,
            max_fanout: fanouts.max().unwrap_or(0),
            total_fanout: cached.deliveries,
        }
    }
}

/// How well a worker's memory serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub subjects: usize,
    pub look_ups: u64,
    /// Look-ups that were answered from memory.
    pub hits: u64,
    /// Most deliveries that a message on one of the subjects can lead to.
    pub max_fanout: usize,
    /// The same over all subjects together.
    pub total_fanout: usize,
}

/// Match results for one account, kept up to date by the change log of its list.
#[derive(Debug, Default)]
struct AccountCache {
    subjects: HashMap<Box<[u8]>, Rc<Interest>, RandomState>,
    deliveries: usize,
    /// Changes up to here are taken into account.
    generation: u64,
    look_ups: u64,
    hits: u64,
}

impl AccountCache {
    fn look_up(&mut self, subject: &[u8], account: &Account) -> Rc<Interest> {
        let shared = &account.sublist;
        if self.generation != shared.generation() {
            self.catch_up(shared);
        }
        self.look_ups += 1;
        if let Some(known) = self.subjects.get(subject) {
            self.hits += 1;
            return Rc::clone(known);
        }
        let (matches, generation) = shared.read(|list| (list.matches(subject), list.generation()));
        let interest = Rc::new(Interest::new(subject, &account.name, matches));
        // If the list moved on since `catch_up`, the other entries still have to be looked at; this
        // one is newer than it claims, which does no harm.
        debug_assert!(generation >= self.generation);
        let room = self.subjects.len() < MAX_SUBJECTS
            && self.deliveries + interest.deliveries() <= MAX_DELIVERIES;
        if !room {
            self.forget();
        }
        self.deliveries += interest.deliveries();
        self.subjects.insert(subject.into(), Rc::clone(&interest));
        interest
    }

    /// Drops what the changes since the last look concern. A literal filter concerns one subject, so
    /// that clients which come and go with inboxes of their own cost others nothing.
    fn catch_up(&mut self, shared: &SharedSublist) {
        let (generation, known) = shared.read(|list| {
            let changes = list.changes_since(self.generation);
            let changed = changes.map(|changes| changes.cloned().collect::<Vec<_>>());
            (list.generation(), changed)
        });
        self.generation = generation;
        let Some(changed) = known else {
            return self.forget();
        };
        for subscription in changed {
            let filter = &subscription.subject;
            if !subject::has_wildcard(filter) {
                let dropped = self.subjects.remove(filter);
                self.deliveries -= dropped.map_or(0, |interest| interest.deliveries());
                continue;
            }
            let mut dropped = 0;
            self.subjects.retain(|subject, interest| {
                let stays = !subject::matches(filter, subject);
                dropped += if stays { 0 } else { interest.deliveries() };
                stays
            });
            self.deliveries -= dropped;
        }
    }

    fn forget(&mut self) {
        self.subjects.clear();
        self.deliveries = 0;
    }
}

#[cfg(test)]
mod tests;
