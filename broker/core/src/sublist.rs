//! Who is interested in a subject: a trie of tokens with wildcard branches, and a short memory of
//! what changed last.
//!
//! There is one list an account for all workers, behind a mutex that is taken for changes and for subjects a
//! worker has not seen lately. Workers keep match results of their own (`interest`) and learn from
//! [`SharedSublist::generation`] with a single load whether those may be out of date, and from
//! [`Sublist::changes_since`] which of them are.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

use ahash::RandomState;
use broker_proto::subject;
use smallvec::SmallVec;

use crate::subscription::Subscription;

/// Changes remembered. A worker that was away for longer forgets all its match results.
const CHANGE_LOG: usize = 1024;

type Subscriptions = Vec<Arc<Subscription>>;

/// All subscriptions of an account.
#[derive(Debug, Default)]
pub struct Sublist {
    root: Level,
    count: usize,
    /// Subscriptions ever removed.
    removed: u64,
    /// Number of changes ever made.
    generation: u64,
    /// The filters changed last, newest at the back.
    changes: VecDeque<Arc<Subscription>>,
}

/// The branches at one depth. Tokens come from clients, hence the seeded hash.
#[derive(Debug, Default)]
struct Level {
    literals: HashMap<Box<[u8]>, Node, RandomState>,
    /// Behind `*`.
    partial: Option<Box<Node>>,
    /// Behind `>`; has no level below.
    full: Option<Box<Node>>,
}

#[derive(Debug, Default)]
struct Node {
    /// Mostly one, which then needs no memory of its own.
    subscriptions: SmallVec<[Arc<Subscription>; 1]>,
    next: Option<Box<Level>>,
}

/// What matched a subject.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// Each gets every message.
    pub plain: Subscriptions,
    /// One member of each gets a message. A group is a name: members that listen through different
    /// filters belong together.
    pub groups: Vec<Subscriptions>,
}

impl Matches {
    fn add(&mut self, subscriptions: &[Arc<Subscription>]) {
        for subscription in subscriptions {
            if subscription.queue_group.is_empty() {
                self.plain.push(Arc::clone(subscription));
                continue;
            }
            let same = |group: &&mut Subscriptions| {
                group
                    .iter()
                    .any(|member| member.queue_group == subscription.queue_group)
            };
            match self.groups.iter_mut().find(same) {
                Some(group) => group.push(Arc::clone(subscription)),
                None => self.groups.push(vec![Arc::clone(subscription)]),
            }
        }
    }
}

impl Sublist {
    /// Adds a subscription with a legal filter.
    pub fn insert(&mut self, subscription: Arc<Subscription>) {
        debug_assert!(subject::is_filter(&subscription.subject));
        let mut tokens = subject::tokens(&subscription.subject);
        let first = tokens.next().unwrap_or_default();
        let mut node = self.root.branch(first);
        for token in tokens {
            node = node.next.get_or_insert_default().branch(token);
        }
        node.subscriptions.push(Arc::clone(&subscription));
        self.count += 1;
        self.note(subscription);
    }

    /// Removes this very subscription; returns whether it was there.
    pub fn remove(&mut self, subscription: &Arc<Subscription>) -> bool {
        let removed = self
            .root
            .remove(&split(&subscription.subject), subscription);
        if removed {
            self.count -= 1;
            self.removed += 1;
            self.note(Arc::clone(subscription));
        }
        removed
    }

    /// Everything that listens to a published subject. Subjects with an empty token match nothing.
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> Matches {
        let mut matches = Matches::default();
        if !subject::has_empty_token(subject) {
            self.root.collect(&split(subject), &mut matches);
        }
        matches
    }

    /// Number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Nobody listens to anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Subscriptions ever inserted, and ever removed.
    #[must_use]
    pub fn turnover(&self) -> (u64, u64) {
        (self.count as u64 + self.removed, self.removed)
    }

    /// All subscriptions, in no order.
    pub fn for_each(&self, mut look: impl FnMut(&Arc<Subscription>)) {
        self.root.for_each(&mut look);
    }

    /// Makes every worker forget what it knows: rights have changed.
    pub fn invalidate(&mut self) {
        self.changes.clear();
        self.generation += 1;
    }

    /// Number of changes ever made.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The subscriptions that came or went since a generation; `None` if it is too long ago to know.
    pub fn changes_since(
        &self,
        generation: u64,
    ) -> Option<impl Iterator<Item = &Arc<Subscription>>> {
        let missed = usize::try_from(self.generation - generation).ok()?;
        let known = self.changes.len();
        (missed <= known).then(|| self.changes.range(known - missed..))
    }

    fn note(&mut self, changed: Arc<Subscription>) {
        if self.changes.len() == CHANGE_LOG {
            self.changes.pop_front();
        }
        self.changes.push_back(changed);
        self.generation += 1;
    }
}

fn split(subject: &[u8]) -> SmallVec<[&[u8]; 16]> {
    subject::tokens(subject).collect()
}

impl Level {
    fn branch(&mut self, token: &[u8]) -> &mut Node {
        match token {
            b"*" => self.partial.get_or_insert_default(),
            b">" => self.full.get_or_insert_default(),
            _ => self.literals.entry(token.into()).or_default(),
        }
    }

    fn collect(&self, tokens: &[&[u8]], to: &mut Matches) {
        let Some((token, rest)) = tokens.split_first() else {
            return;
        };
        if let Some(full) = &self.full {
            to.add(&full.subscriptions);
        }
        for node in self
            .partial
            .as_deref()
            .into_iter()
            .chain(self.literals.get(*token))
        {
            if rest.is_empty() {
                to.add(&node.subscriptions);
            } else if let Some(next) = &node.next {
                next.collect(rest, to);
            }
        }
    }

    fn for_each(&self, look: &mut impl FnMut(&Arc<Subscription>)) {
        let branches = self.partial.iter().chain(&self.full).map(|node| &**node);
        for node in branches.chain(self.literals.values()) {
            node.subscriptions.iter().for_each(&mut *look);
            if let Some(next) = &node.next {
                next.for_each(look);
            }
        }
    }

    /// Removes on the way back up whatever has become empty.
    fn remove(&mut self, tokens: &[&[u8]], subscription: &Arc<Subscription>) -> bool {
        let Some((token, rest)) = tokens.split_first() else {
            return false;
        };
        match *token {
            b"*" => remove_below(&mut self.partial, rest, subscription),
            b">" => remove_below(&mut self.full, rest, subscription),
            token => {
                let Some(node) = self.literals.get_mut(token) else {
                    return false;
                };
                let removed = node.remove(rest, subscription);
                if removed && node.is_empty() {
                    self.literals.remove(token);
                }
                removed
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.partial.is_none() && self.full.is_none()
    }
}

fn remove_below(
    branch: &mut Option<Box<Node>>,
    rest: &[&[u8]],
    subscription: &Arc<Subscription>,
) -> bool {
    let Some(node) = branch else { return false };
    let removed = node.remove(rest, subscription);
    if removed && node.is_empty() {
        *branch = None;
    }
    removed
}

impl Node {
    fn remove(&mut self, rest: &[&[u8]], subscription: &Arc<Subscription>) -> bool {
        if rest.is_empty() {
            let place = self
                .subscriptions
                .iter()
                .position(|known| Arc::ptr_eq(known, subscription));
            return place
                .map(|place| self.subscriptions.swap_remove(place))
                .is_some();
        }
        let Some(next) = &mut self.next else {
            return false;
        };
        let removed = next.remove(rest, subscription);
        if removed && next.is_empty() {
            self.next = None;
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.next.is_none()
    }
}

/// The list as the workers share it.
#[derive(Debug, Default)]
pub struct SharedSublist {
    list: Mutex<Sublist>,
    /// Copy of the list's own number, readable without the lock.
    generation: AtomicU64,
}

impl SharedSublist {
    /// Number of changes ever made; a worker whose results are of this generation need not look.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Reads under the lock.
    pub fn read<R>(&self, look: impl FnOnce(&Sublist) -> R) -> R {
        look(&self.lock())
    }

    /// Changes under the lock. Every worker sees the change in its next pass at the latest.
    pub fn change<R>(&self, change: impl FnOnce(&mut Sublist) -> R) -> R {
        let mut list = self.lock();
        let result = change(&mut list);
        self.generation.store(list.generation, Release);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Sublist> {
        // Only an allocation failure could panic inside, and that aborts.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
