//! Ends of subscriptions: unsubscribe, sub-close, and what a closed client leaves behind.

use broker_proto::streaming::{SubscriptionResponse, UnsubscribeRequest};
use bytes::Bytes;
use prost::Message as _;

use super::{
    Engine,
    channel::Reader,
    keys::{ChannelKey, GroupKey, Handler, SubKey},
    texts::Refusal,
    tickets::Promise,
    timers::TimerKey,
};
use crate::{Now, durable::Change, effect::Effect};

impl Engine {
    /// `keeps_durable`: a sub-close request.
    pub(super) fn unsubscribe(
        &mut self,
        payload: &[u8],
        reply: &[u8],
        keeps_durable: bool,
        now: Now,
    ) {
        let reply = Bytes::copy_from_slice(reply);
        match self.find_online(payload) {
            // Another server's.
            Err(Refusal::NotServed) => {}
            Ok(sub) => {
                let channel = self.subs[sub].channel;
                self.leave(sub, keeps_durable, now);
                let ticket = self.tickets.issue(1, Promise::Unsubscribe { reply });
                self.channel_draft(channel).tickets.push(ticket);
            }
            Err(refusal) => {
                let response = SubscriptionResponse {
                    error: refusal.to_string(),
                    ..Default::default()
                };
                self.answer(&reply, &response);
            }
        }
    }

    /// The online subscription a request is about: by ack inbox, else by delivery inbox.
    fn find_online(&self, payload: &[u8]) -> Result<SubKey, Refusal> {
        let request =
            UnsubscribeRequest::decode(payload).map_err(|_| Refusal::InvalidUnsubscribe)?;
        if !self.serves(&request.subject) {
            return Err(Refusal::NotServed);
        }
        let key = self
            .channel_names
            .get(&request.subject)
            .ok_or(Refusal::UnknownChannel)?;
        let inbox = request.inbox.as_bytes();
        let found = (self
            .online_subs(*key)
            .find(|sub| self.subs[*sub].ack_inbox == inbox))
        .or_else(|| {
            self.online_subs(*key)
                .find(|sub| self.subs[*sub].inbox == inbox)
        })
        .ok_or(Refusal::UnknownSubscription)?;
        let client = self.clients.by_id(&request.client_id);
        if client.is_none() || client != self.subs[found].client {
            return Err(Refusal::UnknownClient);
        }
        Ok(found)
    }

    /// Subscriptions of a channel that have an owner, members included.
    pub(super) fn online_subs(&self, key: ChannelKey) -> impl Iterator<Item = SubKey> {
        let channel = &self.channels[key];
        let members = channel
            .groups
            .iter()
            .flat_map(|group| &self.groups[*group].members);
        channel
            .subs
            .iter()
            .chain(members)
            .copied()
            .filter(|sub| self.subs[*sub].is_online())
    }

    pub(super) fn answer_unsubscribe(&mut self, reply: &Bytes, outcome: Result<(), String>) {
        let error = outcome.err().unwrap_or_default();
        self.answer(
            reply,
            &SubscriptionResponse {
                error,
                ..Default::default()
            },
        );
    }

    /// Ends an online subscription; `keeps_durable` leaves the state of durables and durable groups.
    pub(super) fn leave(&mut self, key: SubKey, keeps_durable: bool, now: Now) {
        self.go_offline(key);
        let sub = &self.subs[key];
        match sub.group {
            Some(group) => self.leave_group(key, group, keeps_durable, now),
            None if sub.is_durable && keeps_durable => {
                self.subs[key].is_dirty = true;
                self.put_subscription(key);
            }
            None => self.delete_subscription(key),
        }
    }

    /// Nothing is sent to a subscription any more and nobody listens to its acks.
    pub(super) fn go_offline(&mut self, key: SubKey) {
        self.timers.disarm(TimerKey::AckWait(key));
        let sub = &mut self.subs[key];
        let handler = Handler::Ack {
            sub: key,
            generation: sub.generation,
        };
        self.effects.push_back(Effect::Unsubscribe {
            handler: handler.id(),
        });
        sub.run = None;
        sub.is_waiting = false;
        sub.is_initialized = false;
        sub.is_stalled = false;
        if std::mem::take(&mut sub.is_on_hold)
            && let Some(group) = sub.group
        {
            self.groups[group].members_on_hold -= 1;
        }
        if let Some(client) = sub.client.take() {
            self.clients
                .get_mut(client)
                .subs
                .retain(|other| *other != key);
        }
        let channel = sub.channel;
        self.forget_waiter(channel, Reader::Sub(key));
        self.forget_waiter(channel, Reader::Redelivery(key));
        self.may_rest(channel);
    }

    fn leave_group(&mut self, key: SubKey, group_key: GroupKey, keeps_durable: bool, now: Now) {
        let group = &mut self.groups[group_key];
        group.leave(key);
        let last_sent = group.last_sent;
        if let Some(heir) = group.members.first().copied() {
            let pending = &self.subs[key].pending;
            let mut entries: Vec<_> = pending.iter().collect();
            entries.sort_unstable_by_key(|entry| (entry.expires, entry.sequence));
            self.hand_over(entries, group_key, now);
            // The group's position must be in some record.
            let heir_sub = &mut self.subs[heir];
            heir_sub.last_sent = heir_sub.last_sent.max(last_sent);
            self.mark_dirty(heir);
            self.save_members(group_key);
            self.delete_subscription(key);
            // It may have been the one who kept new messages back.
            self.wake(Reader::Group(group_key));
        } else if group.is_durable && keeps_durable {
            group.shadow = Some(key);
            let sub = &mut self.subs[key];
            sub.client_id.clear();
            sub.last_sent = sub.last_sent.max(last_sent);
            sub.is_dirty = true;
            self.put_subscription(key);
        } else {
            self.delete_subscription(key);
            self.delete_group(group_key);
        }
    }

    pub(super) fn delete_group(&mut self, key: GroupKey) {
        let group = self.groups.remove(key);
        self.forget_waiter(group.channel, Reader::Group(key));
        let channel = &mut self.channels[group.channel];
        channel.groups.retain(|other| *other != key);
        channel.group_names.remove(&(group.is_durable, group.name));
    }

    /// Removes an offline subscription, from the store as well.
    fn delete_subscription(&mut self, key: SubKey) {
        let sub = &self.subs[key];
        let (channel, id) = (sub.channel, sub.id);
        let change = Change::DeleteSubscription {
            channel: self.channels[channel].id,
            id,
        };
        self.channel_draft(channel).changes.push(change);
        self.drop_subscription(key);
    }

    /// Removes an offline subscription from memory.
    pub(super) fn drop_subscription(&mut self, key: SubKey) {
        let sub = self.subs.remove(key);
        let channel = &mut self.channels[sub.channel];
        channel.records -= 1;
        channel.subs.retain(|other| *other != key);
        if !sub.durable_name.is_empty() {
            channel.durables.remove(&(sub.client_id, sub.durable_name));
        }
        self.dirty.retain(|other| *other != key);
    }

    /// Hands the record of a subscription over. It says how far the subscription is, so what is pending goes with it,
    /// behind it: a position belongs to a record.
    pub(super) fn put_subscription(&mut self, key: SubKey) {
        let sub = &self.subs[key];
        let state = sub.state(self.group_name(sub.group));
        let change = Change::PutSubscription {
            channel: self.channels[sub.channel].id,
            state,
        };
        let channel = sub.channel;
        self.channel_draft(channel).changes.push(change);
        self.save_position(key);
    }
}
