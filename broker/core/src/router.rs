//! Hands a run of messages with one subject to everyone interested: fan-out, queue groups,
//! auto-unsubscribe, echo, other servers.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    interest::{Delivery, Group, Interest, RouteDelivery},
    subscription::Subscription,
};

/// Most messages in a run, so that one word says which of them reached somebody.
pub const MAX_RUN: usize = 64;

/// Queue groups that a message for another server is meant for.
pub type Queues<'a> = SmallVec<[&'a [u8]; 2]>;

/// Carries deliveries out.
pub trait Outlet<M> {
    /// Some messages of the run, in order, for one subscription.
    fn deliver(&mut self, delivery: &Delivery, messages: &[M]);

    /// Some messages of the run, in order, for another server: for all who listen there outside of
    /// groups, and for one member of each of the groups.
    fn forward(&mut self, route: &RouteDelivery, messages: &[M], queues: &[&[u8]]);

    /// A subscription has got its last message and must be removed.
    fn exhausted(&mut self, subscription: &Arc<Subscription>);
}

/// Random numbers for the choice among members of a queue group (wyrand). Not for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Every seed gives another sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Evenly from `0..bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        let random = (product >> 64) as u64 ^ product as u64;
        ((u128::from(random) * bound as u128) >> 64) as usize
    }
}

/// Delivers a run that a client or a service of this server published. `muted` is the publishing
/// connection if it does not want to hear itself. Returns which messages reached anybody, the first
/// in the lowest bit.
pub fn route<M, O: Outlet<M>>(
    interest: &Interest,
    messages: &[M],
    muted: Option<u64>,
    dice: &mut Dice,
    outlet: &mut O,
) -> u64 {
    assert!(
        messages.len() <= MAX_RUN,
        "a run has at most {MAX_RUN} messages"
    );
    if !interest.singly {
        return route_together(interest, messages, muted, dice, outlet);
    }
    messages
        .chunks(1)
        .enumerate()
        .fold(0, |reached, (index, message)| {
            reached | route_single(interest, message, muted, dice, outlet) << index
        })
}

/// No group has members on other servers.
fn route_together<M, O: Outlet<M>>(
    interest: &Interest,
    messages: &[M],
    muted: Option<u64>,
    dice: &mut Dice,
    outlet: &mut O,
) -> u64 {
    let mut reached = 0;
    for delivery in &interest.plain {
        reached |= first(offer(delivery, messages, muted, outlet));
    }
    for group in &interest.groups {
        for (index, message) in messages.chunks(1).enumerate() {
            let start = dice.below(group.members.len());
            let taken = offer_to_one(group, start, message, muted, outlet);
            reached |= u64::from(taken) << index;
        }
    }
    for route in &interest.routes {
        outlet.forward(route, messages, &[]);
        reached |= first(messages.len());
    }
    reached
}

/// One message; every group is decided before other servers get theirs.
fn route_single<M, O: Outlet<M>>(
    interest: &Interest,
    message: &[M],
    muted: Option<u64>,
    dice: &mut Dice,
    outlet: &mut O,
) -> u64 {
    let mut reached = 0;
    for delivery in &interest.plain {
        reached |= first(offer(delivery, message, muted, outlet));
    }
    let mut queues: SmallVec<[Queues<'_>; 4]> =
        interest.routes.iter().map(|_| Queues::new()).collect();
    for group in &interest.groups {
        match choose(group, message, muted, dice, outlet) {
            Chosen::Here => reached = 1,
            Chosen::Nobody => {}
            Chosen::There(route) => queues[route].push(&group.name),
        }
    }
    for (route, queues) in interest.routes.iter().zip(&queues) {
        if route.plain || !queues.is_empty() {
            outlet.forward(route, message, queues);
            reached = 1;
        }
    }
    reached
}

/// Who of a group gets a message.
enum Chosen {
    /// It has been delivered.
    Here,
    /// On the server of this route.
    There(usize),
    Nobody,
}

/// Evenly among all members wherever they are. A member here that cannot take it passes it on; one on
/// another server is believed to be able to.
fn choose<M, O: Outlet<M>>(
    group: &Group,
    message: &[M],
    muted: Option<u64>,
    dice: &mut Dice,
    outlet: &mut O,
) -> Chosen {
    let here = group.members.len();
    let there: usize = group
        .remote
        .iter()
        .map(|(_, weight)| *weight as usize)
        .sum();
    let start = dice.below(here + there);
    if start < here && offer_to_one(group, start, message, muted, outlet) {
        return Chosen::Here;
    }
    let mut place = start.saturating_sub(here);
    for (route, weight) in &group.remote {
        let weight = *weight as usize;
        if place < weight {
            return Chosen::There(*route);
        }
        place -= weight;
    }
    Chosen::Nobody
}

/// Delivers a message that another server sent: to everybody here outside of groups, and to one
/// member of each group it is meant for. A group whose last member here has just left is looked for on
/// a third server; that is the only case of a second hop. `from` is the peer it came from.
pub fn route_arrived<M, O: Outlet<M>>(
    interest: &Interest,
    message: &M,
    queues: &[&[u8]],
    from: u64,
    dice: &mut Dice,
    outlet: &mut O,
) {
    let message = std::slice::from_ref(message);
    for delivery in &interest.plain {
        offer(delivery, message, None, outlet);
    }
    for queue in queues {
        let Some(group) = interest.groups.iter().find(|group| *group.name == **queue) else {
            continue;
        };
        let here = group.members.len();
        if here > 0 && offer_to_one(group, dice.below(here), message, None, outlet) {
            continue;
        }
        let elsewhere = group
            .remote
            .iter()
            .map(|(route, _)| &interest.routes[*route])
            .find(|route| route.peer.id != from);
        if let Some(route) = elsewhere {
            outlet.forward(route, message, &[queue]);
        }
    }
}

/// The first member here, from a random place on, that can take a message gets it.
fn offer_to_one<M, O: Outlet<M>>(
    group: &Group,
    start: usize,
    message: &[M],
    muted: Option<u64>,
    outlet: &mut O,
) -> bool {
    let (before, after) = group.members.split_at(start);
    after
        .iter()
        .chain(before)
        .filter(|member| !member.subscription.is_gone())
        .any(|member| offer(member, message, muted, outlet) > 0)
}

/// Delivers as many as the subscription may get; returns how many.
fn offer<M, O: Outlet<M>>(
    delivery: &Delivery,
    messages: &[M],
    muted: Option<u64>,
    outlet: &mut O,
) -> usize {
    let subscription = &delivery.subscription;
    if muted.is_some() && subscription.connection() == muted {
        return 0;
    }
    let granted = subscription.allowance.claim(messages.len());
    if granted.messages > 0 {
        outlet.deliver(delivery, &messages[..granted.messages]);
    }
    if granted.exhausted {
        outlet.exhausted(subscription);
    }
    granted.messages
}

/// The lowest `count` bits.
fn first(count: usize) -> u64 {
    match count {
        0 => 0,
        count => u64::MAX >> (64 - count),
    }
}

#[cfg(test)]
mod tests;
