//! A worker's own memory of who wants which subject, with the beginning of each delivery ready-made.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use ahash::RandomState;
use broker_proto::{encode, subject};

use crate::{
    sublist::{Matches, SharedSublist},
    subscription::Subscription,
};

/// Subjects remembered a worker. Beyond that all are forgotten and looked up again.
const MAX_SUBJECTS: usize = 4096;
/// Deliveries remembered a worker, over all subjects: bounds memory when many subjects have many
/// subscribers.
const MAX_DELIVERIES: usize = 1 << 16;

/// One subscription that gets a subject.
#[derive(Debug)]
pub struct Delivery {
    /// `HMSG subject sid `; empty for a service inside the broker.
    pub prefix: Box<[u8]>,
    pub subscription: Arc<Subscription>,
}

/// Everyone who gets a subject.
#[derive(Debug, Default)]
pub struct Interest {
    pub plain: Vec<Delivery>,
    /// One member of each gets a message.
    pub groups: Vec<Vec<Delivery>>,
    /// Some connection has more than one part in this, so that messages must be handed out one by
    /// one to reach it in the order in which they were published.
    pub interleaved: bool,
}

impl Interest {
    fn new(subject: &[u8], matches: Matches) -> Self {
        let interleaved = shares_connection(&matches);
        let ready = |subscriptions: Vec<Arc<Subscription>>| {
            subscriptions
                .into_iter()
                .map(|one| Delivery::new(subject, one))
                .collect::<Vec<_>>()
        };
        Self {
            plain: ready(matches.plain),
            groups: matches.groups.into_iter().map(ready).collect(),
            interleaved,
        }
    }

    /// Nobody gets it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }

    fn deliveries(&self) -> usize {
        self.plain.len() + self.groups.iter().map(Vec::len).sum::<usize>()
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

/// Members of one group do not count against each other: a message goes to one of them only.
fn shares_connection(matches: &Matches) -> bool {
    if matches.plain.len() + matches.groups.len() < 2 {
        return false;
    }
    let mut seen: Vec<_> = matches.plain.iter().map(|one| one.connection()).collect();
    for group in &matches.groups {
        let mut members: Vec<_> = group.iter().map(|one| one.connection()).collect();
        members.sort_unstable();
        members.dedup();
        seen.append(&mut members);
    }
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    seen.len() < all
}

/// Match results of one worker, kept up to date by the change log of the shared list.
#[derive(Debug, Default)]
pub struct InterestCache {
    subjects: HashMap<Box<[u8]>, Rc<Interest>, RandomState>,
    deliveries: usize,
    /// Changes up to here are taken into account.
    generation: u64,
}

impl InterestCache {
    /// Who gets a subject now.
    pub fn look_up(&mut self, subject: &[u8], shared: &SharedSublist) -> Rc<Interest> {
        if self.generation != shared.generation() {
            self.catch_up(shared);
        }
        if let Some(known) = self.subjects.get(subject) {
            return Rc::clone(known);
        }
        let (matches, generation) = shared.read(|list| (list.matches(subject), list.generation()));
        let interest = Rc::new(Interest::new(subject, matches));
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
mod tests {
    use super::*;
    use crate::{peer::Peer, subscription::Target};

    fn subscribe(
        shared: &SharedSublist,
        subject: &str,
        group: &str,
        connection: u64,
    ) -> Arc<Subscription> {
        let peer = Arc::new(Peer::new(connection, 0, 0));
        let target = Target::Connection(peer);
        let one = Arc::new(Subscription::new(
            subject.as_bytes(),
            group.as_bytes(),
            b"9",
            target,
        ));
        shared.change(|list| list.insert(Arc::clone(&one)));
        one
    }

    #[test]
    fn a_change_is_seen_at_the_next_look() {
        let (shared, mut cache) = (SharedSublist::default(), InterestCache::default());
        assert!(cache.look_up(b"a.b", &shared).is_empty());
        let one = subscribe(&shared, "a.*", "", 1);
        let interest = cache.look_up(b"a.b", &shared);
        assert_eq!(&interest.plain[0].prefix[..], b"HMSG a.b 9 ");
        shared.change(|list| list.remove(&one));
        assert!(cache.look_up(b"a.b", &shared).is_empty());
    }

    #[test]
    fn inboxes_that_come_and_go_leave_other_subjects_cached() {
        let (shared, mut cache) = (SharedSublist::default(), InterestCache::default());
        subscribe(&shared, "work", "", 1);
        let before = cache.look_up(b"work", &shared);
        subscribe(&shared, "_INBOX.1", "", 2);
        subscribe(&shared, "_INBOX.2.*", "", 2);
        assert!(Rc::ptr_eq(&before, &cache.look_up(b"work", &shared)));
        subscribe(&shared, "wor*", "", 3);
        assert!(Rc::ptr_eq(&before, &cache.look_up(b"work", &shared)));
        subscribe(&shared, ">", "", 3);
        assert!(!Rc::ptr_eq(&before, &cache.look_up(b"work", &shared)));
    }

    #[test]
    fn size_stays_bounded() {
        let (shared, mut cache) = (SharedSublist::default(), InterestCache::default());
        subscribe(&shared, ">", "", 1);
        for number in 0..2 * MAX_SUBJECTS {
            cache.look_up(number.to_string().as_bytes(), &shared);
            assert!(cache.subjects.len() <= MAX_SUBJECTS);
            assert_eq!(cache.deliveries, cache.subjects.len());
        }
    }

    #[test]
    fn two_parts_of_one_connection_are_interleaved() {
        let (shared, mut cache) = (SharedSublist::default(), InterestCache::default());
        subscribe(&shared, "a", "q", 1);
        subscribe(&shared, "a", "q", 1);
        subscribe(&shared, "a", "", 2);
        assert!(!cache.look_up(b"a", &shared).interleaved);
        subscribe(&shared, ">", "", 1);
        assert!(cache.look_up(b"a", &shared).interleaved);
    }
}
