//! Creation of channels, and how they are found.

use super::{
    Engine,
    channel::{Channel, Reader},
    keys::{ChannelKey, GroupKey, SubKey},
    texts::Refusal,
    timers::TimerKey,
};
use crate::durable::{Change, ChannelId};

impl Engine {
    /// The channel of this (valid) name, made if there is none.
    pub(super) fn find_or_create_channel(&mut self, name: &str) -> Result<ChannelKey, Refusal> {
        if let Some(key) = self.channel_names.get(name) {
            let key = *key;
            return match self.channels[key].is_being_deleted {
                true => Err(Refusal::ChannelBeingDeleted),
                false => Ok(key),
            };
        }
        if let Some(other) = self.channel_cases.get(&name.to_lowercase()) {
            let old = self.channels[*other].name.to_string();
            return Err(Refusal::ChannelCase {
                new: name.to_owned(),
                old,
            });
        }
        let max = self.config.max_channels;
        if max > 0 && self.channels.len() as u64 >= max {
            return Err(Refusal::TooManyChannels);
        }
        self.last_channel_id += 1;
        let id = ChannelId(self.last_channel_id);
        let limits = self.config.limits_of(name);
        let key = self.adopt_channel(Channel::new(id, name, limits));
        self.put_channel(key);
        self.may_rest(key);
        Ok(key)
    }

    /// Has a channel and its limits recorded.
    pub(super) fn put_channel(&mut self, key: ChannelKey) {
        let channel = &self.channels[key];
        let change = Change::PutChannel {
            id: channel.id,
            name: channel.name.to_string(),
            limits: channel.limits,
        };
        self.channel_draft(key).changes.push(change);
    }

    /// Makes a channel known. Of names that differ in case only the first one keeps the place.
    pub(super) fn adopt_channel(&mut self, channel: Channel) -> ChannelKey {
        let (id, name) = (channel.id, channel.name.to_string());
        let key = self.channels.insert(channel);
        self.channel_cases.entry(name.to_lowercase()).or_insert(key);
        self.channel_names.insert(name, key);
        self.channel_ids.insert(id, key);
        key
    }

    /// Forgets a channel whose creation the store refused, if nobody has come to use it. Gives
    /// whether it did.
    pub(super) fn forget_unused_channel(&mut self, key: ChannelKey) -> bool {
        let channel = &self.channels[key];
        let is_used = channel.is_on_record
            || channel.assigned.0 > 0
            || channel.records > 0
            || channel.start_search.is_some()
            || !channel.queued_requests.is_empty();
        if is_used {
            return false;
        }
        self.forget_channel(key);
        true
    }

    /// Removes a channel without subscriptions from memory. What the store still says of it is not
    /// listened to: its place may be another one's by then.
    pub(super) fn forget_channel(&mut self, key: ChannelKey) -> Channel {
        let channel = self.channels.remove(key);
        self.channel_names.remove(&*channel.name);
        let case = channel.name.to_lowercase();
        if self.channel_cases.get(&case) == Some(&key) {
            self.channel_cases.remove(&case);
        }
        self.channel_ids.remove(&channel.id);
        self.pages.forget(key);
        self.loads.retain(|_, purpose| purpose.channel() != key);
        for lane in &mut self.lanes {
            lane.forget_channel(key);
        }
        self.counting.forget_channel(key);
        self.count_next();
        for timer in [
            TimerKey::Expiry(key),
            TimerKey::RetryReads(key),
            TimerKey::Inactivity(key),
        ] {
            self.timers.disarm(timer);
        }
        channel
    }

    /// Lets all readers of a channel try.
    pub(super) fn wake_channel(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get(key) else {
            return;
        };
        let members = channel
            .groups
            .iter()
            .flat_map(|group| &self.groups[*group].members);
        let stuck = channel
            .subs
            .iter()
            .chain(members)
            .filter(|sub| self.subs[**sub].run.is_some());
        let readers: Vec<Reader> = (stuck.map(|sub| Reader::Redelivery(*sub)))
            .chain(channel.subs.iter().map(|sub| Reader::Sub(*sub)))
            .chain(channel.groups.iter().map(|group| Reader::Group(*group)))
            .collect();
        for reader in readers {
            self.wake(reader);
        }
    }

    /// Has a reader served before the current input is done with.
    pub(super) fn wake(&mut self, reader: Reader) {
        let is_ready = match reader {
            Reader::Sub(sub) => &mut self.subs[sub].is_ready,
            Reader::Group(group) => &mut self.groups[group].is_ready,
            Reader::Redelivery(_) => &mut false,
        };
        if !std::mem::replace(is_ready, true) {
            self.ready.push_back(reader);
        }
    }

    /// Has the readers of new messages served; a batch brought some.
    pub(super) fn wake_readers(&mut self, key: ChannelKey) {
        for at in 0..self.channels[key].subs.len() {
            let sub = self.channels[key].subs[at];
            if self.subs[sub].takes_new() {
                self.wake(Reader::Sub(sub));
            }
        }
        for at in 0..self.channels[key].groups.len() {
            self.wake(Reader::Group(self.channels[key].groups[at]));
        }
    }

    /// Lets the reader try that brings new messages to this subscription.
    pub(super) fn wake_reader_of(&mut self, sub: SubKey) {
        let reader = match self.subs[sub].group {
            Some(group) => Reader::Group(group),
            None => Reader::Sub(sub),
        };
        self.wake(reader);
    }

    /// The full name of the group a subscription belongs to; empty if none.
    pub(super) fn group_name(&self, group: Option<GroupKey>) -> &str {
        group.map_or("", |group| &self.groups[group].name)
    }
}
