//! Views for monitoring.

use super::{
    Engine,
    keys::{ChannelKey, SubKey},
};
use crate::durable::{ChannelId, ChannelLimits, Sequence, SubscriptionId};

/// Totals since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Decodable publish requests, valid or not.
    pub publishes_received: u64,
    /// Their encoded length.
    pub publish_bytes_received: u64,
    /// Encoded length of all deliveries, redeliveries included.
    pub bytes_delivered: u64,
    pub messages_stored: u64,
    /// First deliveries.
    pub messages_delivered: u64,
    pub messages_redelivered: u64,
    /// Rows that were no messages, each time they were read.
    pub corrupt_rows: u64,
    /// From consumers, whatever their effect.
    pub acks_received: u64,
}

/// A registered client.
#[derive(Clone, Copy, Debug)]
pub struct ClientStatus<'a> {
    pub id: &'a str,
    pub heartbeat_inbox: &'a str,
    pub failed_heartbeats: u32,
    pub subscriptions: usize,
}

/// A channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelStatus<'a> {
    pub id: ChannelId,
    pub name: &'a str,
    pub limits: ChannelLimits,
    /// 0 if nothing was ever stored; `last + 1` if everything has been removed.
    pub first: Sequence,
    pub last: Sequence,
    pub messages: u64,
    pub bytes: u64,
    /// Records that count against the limit: offline durables and shadows included.
    pub subscriptions: u64,
}

/// A subscription of a channel.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionStatus<'a> {
    pub id: SubscriptionId,
    /// Name of its channel.
    pub channel: &'a str,
    /// Empty for a shadow.
    pub client_id: &'a str,
    pub inbox: &'a [u8],
    pub ack_inbox: &'a [u8],
    /// Empty unless a plain durable.
    pub durable_name: &'a str,
    /// Full name of its group; empty if none.
    pub queue_name: &'a str,
    pub is_durable: bool,
    pub is_offline: bool,
    pub max_in_flight: i32,
    pub ack_wait_secs: i32,
    pub last_sent: Sequence,
    pub pending: usize,
    pub is_stalled: bool,
}

impl Engine {
    /// Totals since the engine started.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    #[must_use]
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Offline durables and shadows included.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subs.len()
    }

    /// All registered clients, in no particular order.
    pub fn clients(&self) -> impl Iterator<Item = ClientStatus<'_>> {
        self.clients.iter().map(|(_, client)| ClientStatus {
            id: &client.info.id,
            heartbeat_inbox: &client.info.hb_inbox,
            failed_heartbeats: client.failed_heartbeats,
            subscriptions: client.subs.len(),
        })
    }

    /// All channels, in no particular order.
    pub fn channels(&self) -> impl Iterator<Item = ChannelStatus<'_>> {
        self.channels
            .iter()
            .map(|(key, _)| self.channel_status(key))
    }

    /// The channel of this name.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<ChannelStatus<'_>> {
        self.channel_names
            .get(name)
            .map(|key| self.channel_status(*key))
    }

    /// All subscriptions of the channel of this name.
    pub fn subscriptions(&self, channel: &str) -> impl Iterator<Item = SubscriptionStatus<'_>> {
        let key = self.channel_names.get(channel).copied();
        let of_channel = self
            .subs
            .iter()
            .filter(move |(_, sub)| Some(sub.channel) == key);
        of_channel.map(|(key, _)| self.subscription_status(key))
    }

    /// All subscriptions of a client.
    pub fn client_subscriptions(&self, id: &str) -> impl Iterator<Item = SubscriptionStatus<'_>> {
        let client = self.clients.by_id(id);
        let subs = client.map_or(&[][..], |client| &self.clients.get(client).subs);
        subs.iter().map(|key| self.subscription_status(*key))
    }

    fn channel_status(&self, key: ChannelKey) -> ChannelStatus<'_> {
        let channel = &self.channels[key];
        ChannelStatus {
            id: channel.id,
            name: &channel.name,
            limits: channel.limits,
            first: if channel.last.0 == 0 {
                Sequence(0)
            } else {
                channel.first
            },
            last: channel.last,
            messages: channel.messages,
            bytes: channel.bytes,
            subscriptions: channel.records,
        }
    }

    fn subscription_status(&self, key: SubKey) -> SubscriptionStatus<'_> {
        let sub = &self.subs[key];
        SubscriptionStatus {
            id: sub.id,
            channel: &self.channels[sub.channel].name,
            client_id: &sub.client_id,
            inbox: &sub.inbox,
            ack_inbox: &sub.ack_inbox,
            durable_name: &sub.durable_name,
            queue_name: self.group_name(sub.group),
            is_durable: sub.is_durable,
            is_offline: !sub.is_online(),
            max_in_flight: sub.max_in_flight,
            ack_wait_secs: sub.ack_wait_in_secs,
            last_sent: sub.last_sent,
            pending: sub.pending.len(),
            is_stalled: sub.is_stalled,
        }
    }
}
