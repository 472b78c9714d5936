//! What the player knows of clients and subscriptions from the answers it got: whom to answer for, what is not
//! acknowledged yet, and what therefore has to come again.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Channel, Subscribe};

/// Below this an ack wait ends within the history.
pub(crate) const SHORT_SECS: i32 = 10;

/// What a server remembers a position for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    Plain(usize),
    Durable {
        client: usize,
        channel: Channel,
        name: &'static str,
    },
    Group {
        channel: Channel,
        /// With the durable name before it, as servers name such a group.
        name: String,
        durable: bool,
    },
}

impl Identity {
    pub(crate) fn of(request: &Subscribe) -> Self {
        let channel = request.channel;
        match (request.group, request.durable) {
            (None, None) => Self::Plain(request.subscription),
            (None, Some(name)) => Self::Durable {
                client: request.client,
                channel,
                name,
            },
            (Some(group), durable) => Self::Group {
                channel,
                name: durable.map_or(group.to_owned(), |durable| format!("{durable}:{group}")),
                durable: durable.is_some(),
            },
        }
    }

    /// Where it is, if that outlives the subscription.
    fn channel(&self) -> Option<Channel> {
        match self {
            Self::Plain(_) => None,
            Self::Durable { channel, .. } | Self::Group { channel, .. } => Some(*channel),
        }
    }

    /// It goes on when its last subscription is closed.
    fn lasts(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Durable { .. } => true,
            Self::Group { durable, .. } => *durable,
        }
    }
}

/// What one identity holds.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// By sequence, the subscription that it was delivered to last.
    pub(crate) pending: BTreeMap<u64, usize>,
    /// Acknowledged before this step.
    pub(crate) acknowledged: BTreeSet<u64>,
    pub(crate) members: BTreeSet<usize>,
    /// Ack waits end, so redeliveries come when they come.
    pub(crate) short: bool,
    /// Which member has what depends on timers by now.
    pub(crate) loose: bool,
}

/// A subscription, accepted at some time.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) client: usize,
    pub(crate) identity: Identity,
    pub(crate) channel: String,
    pub(crate) ack_inbox: Option<String>,
    pub(crate) ack_wait_secs: i32,
    pub(crate) open: bool,
    /// What was acknowledged last.
    pub(crate) latest: u64,
}

/// A client by its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// The connect request that stands.
    pub(crate) registered: Option<usize>,
    pub(crate) conn_id: Option<String>,
    /// The connection ID before this one.
    pub(crate) former: Option<String>,
    /// The server knows that it does not answer.
    pub(crate) missed: bool,
}

/// Which redeliveries are compared. The others come when it is time for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    All,
    These(BTreeSet<u64>),
}

impl Judged {
    pub(crate) fn has(&self, sequence: u64) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(&sequence),
        }
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) clients: BTreeMap<usize, Client>,
    pub(crate) subscriptions: BTreeMap<usize, Subscription>,
    pub(crate) holdings: BTreeMap<Identity, Holding>,
    /// Whose redeliveries of this step are compared, and which.
    pub(crate) judged: BTreeMap<Identity, Judged>,
    /// What has to come again in this step because who held it has left.
    pub(crate) due: BTreeSet<(Identity, u64)>,
    /// Acknowledged in this step.
    fresh: Vec<(Identity, u64)>,
}

impl Known {
    /// A step begins.
    pub(crate) fn step(&mut self) {
        self.judged.clear();
        self.due.clear();
        for (identity, sequence) in std::mem::take(&mut self.fresh) {
            if let Some(holding) = self.holdings.get_mut(&identity) {
                holding.acknowledged.insert(sequence);
            }
        }
    }

    /// A subscription was accepted.
    pub(crate) fn join(&mut self, number: usize, subscription: Subscription) {
        let identity = subscription.identity.clone();
        if matches!(identity, Identity::Durable { .. }) {
            let replaced = self.holdings.get(&identity);
            let replaced = replaced.and_then(|holding| holding.members.first().copied());
            if let Some(replaced) = replaced {
                self.leave(replaced, true);
            }
        }
        let holding = self.holdings.entry(identity.clone()).or_default();
        holding.short |= subscription.ack_wait_secs < SHORT_SECS;
        holding.loose |= holding.short && matches!(identity, Identity::Group { .. });
        // Only what a resumed one left comes at once; everything else comes when it is time.
        if holding.members.is_empty() {
            self.judged.insert(identity, Judged::All);
        }
        holding.members.insert(number);
        self.subscriptions.insert(number, subscription);
    }

    /// A subscription ended.
    pub(crate) fn leave(&mut self, number: usize, keep: bool) {
        let Some(subscription) = self.subscriptions.get_mut(&number) else {
            return;
        };
        if !std::mem::take(&mut subscription.open) {
            return;
        }
        let identity = subscription.identity.clone();
        let Some(holding) = self.holdings.get_mut(&identity) else {
            return;
        };
        holding.members.remove(&number);
        if holding.members.is_empty() {
            if !(keep && identity.lasts()) {
                self.holdings.remove(&identity);
            }
            return;
        }
        let left = holding
            .pending
            .iter()
            .filter(|(_, holder)| **holder == number);
        let left: Vec<_> = left.map(|(sequence, _)| *sequence).collect();
        holding.loose |= !left.is_empty();
        let due = left.iter().map(|sequence| (identity.clone(), *sequence));
        self.due.extend(due);
        // Where timers have moved messages about, who had which when it left is left to chance.
        if !holding.short {
            let these = Judged::These(left.into_iter().collect());
            self.judged.entry(identity).or_insert(these);
        }
    }

    /// A client is about to be closed at a time that only the server knows: who gets what it holds is not to be told.
    pub(crate) fn loosen(&mut self, client: usize) {
        for (number, subscription) in &self.subscriptions {
            let identity = &subscription.identity;
            if subscription.client != client || !matches!(identity, Identity::Group { .. }) {
                continue;
            }
            if let Some(holding) = self.holdings.get_mut(identity).filter(|one| !one.short) {
                holding.loose = true;
                let held = holding
                    .pending
                    .iter()
                    .filter(|(_, holder)| *holder == number);
                let held = held.map(|(sequence, _)| *sequence).collect();
                self.judged.insert(identity.clone(), Judged::These(held));
            }
        }
    }

    /// A client is closed, by itself or by the server.
    pub(crate) fn close(&mut self, client: usize) {
        let known = self.clients.entry(client).or_default();
        known.registered = None;
        known.missed = false;
        let own: Vec<_> = self
            .subscriptions
            .iter()
            .filter(|(_, one)| one.client == client && one.open)
            .map(|(number, _)| *number)
            .collect();
        for number in own {
            self.leave(number, true);
        }
    }

    /// Nothing is left of a channel, unless somebody has a subscription there.
    pub(crate) fn forget_unused(&mut self, channel: Channel, name: &str) {
        let mut subscriptions = self.subscriptions.values();
        if !subscriptions.any(|one| one.open && one.channel == name) {
            self.holdings
                .retain(|identity, _| identity.channel() != Some(channel));
        }
    }

    /// The sequences that a subscription may acknowledge, and who holds each.
    pub(crate) fn pending(&self, number: usize) -> Vec<(u64, usize)> {
        let Some(subscription) = self.subscriptions.get(&number) else {
            return Vec::new();
        };
        let Some(holding) = self.holdings.get(&subscription.identity) else {
            return Vec::new();
        };
        let pending = holding
            .pending
            .iter()
            .map(|(sequence, holder)| (*sequence, *holder));
        pending
            .filter(|(_, holder)| holding.loose || *holder == number)
            .collect()
    }

    /// An acknowledgement went to the ack inbox of a subscription.
    pub(crate) fn acknowledged(&mut self, number: usize, sequence: u64) {
        let Some(subscription) = self.subscriptions.get_mut(&number) else {
            return;
        };
        subscription.latest = sequence;
        let identity = subscription.identity.clone();
        if !subscription.open {
            return;
        }
        if let Some(holding) = self.holdings.get_mut(&identity)
            && holding.pending.remove(&sequence).is_some()
        {
            self.fresh.push((identity, sequence));
        }
    }

    /// Everything whose ack wait is to end while nothing else happens, and the longest of these ack waits.
    pub(crate) fn overdue(&self) -> (BTreeSet<(Identity, u64)>, i32) {
        let mut due = BTreeSet::new();
        let mut longest = 1;
        for (identity, holding) in self.holdings.iter().filter(|(_, holding)| holding.short) {
            let heard = |number: &usize| {
                let one = &self.subscriptions[number];
                let missed = self
                    .clients
                    .get(&one.client)
                    .is_some_and(|client| client.missed);
                one.ack_wait_secs < SHORT_SECS
                    && (!missed || matches!(identity, Identity::Group { .. }))
            };
            if !holding.members.iter().any(heard) {
                continue;
            }
            let waits = holding
                .members
                .iter()
                .map(|number| self.subscriptions[number].ack_wait_secs);
            longest = longest.max(waits.filter(|secs| *secs < SHORT_SECS).max().unwrap_or(1));
            due.extend(
                holding
                    .pending
                    .keys()
                    .map(|sequence| (identity.clone(), *sequence)),
            );
        }
        (due, longest)
    }
}
