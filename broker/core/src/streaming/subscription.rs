//! One subscription and one queue group: their state, and which member takes a message.

use std::{collections::VecDeque, time::Duration};

use broker_proto::streaming::SubState;
use bytes::Bytes;

use super::{
    keys::{ChannelKey, ClientKey, GroupKey, SubKey},
    names::is_publishable,
    pending::Pending,
};
use crate::durable::{Sequence, SubscriptionId};

/// Plain subscription, durable, queue member or shadow.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    pub(super) channel: ChannelKey,
    /// None: offline durable, or shadow of a durable group.
    pub(super) client: Option<ClientKey>,
    /// Owner's id as persisted; empty for a shadow.
    pub(super) client_id: String,
    pub(super) group: Option<GroupKey>,
    /// Empty unless a plain durable.
    pub(super) durable_name: String,
    pub(super) is_durable: bool,
    /// Changes with every ack inbox; part of its handler.
    pub(super) generation: u32,
    pub(super) inbox: Bytes,
    /// Whether the inbox can be published to; if not, nothing is ever sent.
    pub(super) is_reachable: bool,
    pub(super) ack_inbox: Bytes,
    /// At least 1.
    pub(super) max_in_flight: i32,
    /// At least 1.
    pub(super) ack_wait_in_secs: i32,
    /// Highest sequence ever sent to it.
    pub(super) last_sent: Sequence,
    pub(super) pending: Pending,
    /// Got no first deliveries because `max_in_flight` was reached; only an ack clears it.
    pub(super) is_stalled: bool,
    /// The subscribe request has been answered.
    pub(super) is_initialized: bool,
    /// Pending messages of before a resume or restart go first.
    pub(super) is_on_hold: bool,
    pub(super) run: Option<Run>,
    /// `last_sent` or `pending` differ from what the store has.
    pub(super) is_dirty: bool,
    /// In the engine's list of readers to serve.
    pub(super) is_ready: bool,
    /// Its next new message is being read from the store.
    pub(super) is_waiting: bool,
}

/// Redelivery in progress; it may wait for the store in between.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) kind: RunKind,
    /// What is left to look at.
    pub(super) queue: VecDeque<Sequence>,
    /// The front of the queue is being read from the store.
    pub(super) is_waiting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunKind {
    /// These have expired; members of a group may take over from each other.
    Expired,
    /// A durable is back: all of them, to this subscription.
    Resumed,
    /// After a restart: those that have expired by their timestamp, to this subscription.
    Recovered,
}

impl Subscription {
    /// From its record: offline if `client` is none, without pending messages, in no group yet.
    pub(super) fn from_state(
        channel: ChannelKey,
        client: Option<ClientKey>,
        state: &SubState,
    ) -> Self {
        let is_member = !state.q_group.is_empty();
        let durable_name = if is_member { "" } else { &state.durable_name };
        Self {
            id: SubscriptionId(state.id),
            channel,
            client,
            client_id: state.client_id.clone(),
            group: None,
            durable_name: durable_name.to_owned(),
            is_durable: state.is_durable,
            generation: 0,
            inbox: Bytes::copy_from_slice(state.inbox.as_bytes()),
            is_reachable: is_publishable(&state.inbox),
            ack_inbox: Bytes::copy_from_slice(state.ack_inbox.as_bytes()),
            max_in_flight: state.max_in_flight,
            ack_wait_in_secs: state.ack_wait_in_secs,
            last_sent: Sequence(state.last_sent),
            pending: Pending::default(),
            is_stalled: false,
            is_initialized: false,
            is_on_hold: false,
            run: None,
            is_dirty: false,
            is_ready: false,
            is_waiting: false,
        }
    }

    pub(super) fn is_online(&self) -> bool {
        self.client.is_some()
    }

    pub(super) fn capacity(&self) -> usize {
        usize::try_from(self.max_in_flight).unwrap_or(0)
    }

    pub(super) fn ack_wait(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.ack_wait_in_secs).unwrap_or(0))
    }

    /// May get first deliveries, if there is room.
    pub(super) fn takes_new(&self) -> bool {
        self.is_online()
            && self.is_initialized
            && self.is_reachable
            && !self.is_stalled
            && !self.is_on_hold
    }

    /// May get redeliveries.
    pub(super) fn takes_again(&self) -> bool {
        self.is_online() && self.is_initialized && self.is_reachable
    }

    /// The record to persist. `q_group` is the full name of its group.
    pub(super) fn state(&self, q_group: &str) -> SubState {
        SubState {
            id: self.id.0,
            client_id: self.client_id.clone(),
            q_group: q_group.to_owned(),
            inbox: String::from_utf8_lossy(&self.inbox).into_owned(),
            ack_inbox: String::from_utf8_lossy(&self.ack_inbox).into_owned(),
            max_in_flight: self.max_in_flight,
            ack_wait_in_secs: self.ack_wait_in_secs,
            durable_name: self.durable_name.clone(),
            last_sent: self.last_sent.0,
            is_durable: self.is_durable,
            is_closed: !self.durable_name.is_empty() && self.client.is_none(),
        }
    }
}

/// Subscriptions that share the messages of a channel.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) channel: ChannelKey,
    /// `<durable>:<group>` for a durable one.
    pub(super) name: String,
    pub(super) is_durable: bool,
    /// Highest sequence sent to any member, former ones included.
    pub(super) last_sent: Sequence,
    /// In the order in which ties are resolved.
    pub(super) members: Vec<SubKey>,
    /// Keeps a durable group while it has no member.
    pub(super) shadow: Option<SubKey>,
    /// Members on hold; no new messages while there is one.
    pub(super) members_on_hold: usize,
    pub(super) is_ready: bool,
    pub(super) is_waiting: bool,
}

impl Group {
    pub(super) fn new(
        channel: ChannelKey,
        name: String,
        is_durable: bool,
        last_sent: Sequence,
    ) -> Self {
        Self {
            channel,
            name,
            is_durable,
            last_sent,
            members: Vec::new(),
            shadow: None,
            members_on_hold: 0,
            is_ready: false,
            is_waiting: false,
        }
    }

    /// A message goes to this member: a chosen first one moves to the end, so that idle members take
    /// turns.
    pub(super) fn rotate(&mut self, chosen: usize) {
        if chosen == 0 {
            self.members.rotate_left(1);
        }
    }

    /// A member that leaves is replaced by the last one.
    pub(super) fn leave(&mut self, member: SubKey) {
        if let Some(at) = self.members.iter().position(|key| *key == member) {
            self.members.swap_remove(at);
        }
    }
}
