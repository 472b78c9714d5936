//! First deliveries: new messages to plain subscriptions and durables, and to members of groups.

use broker_proto::streaming::redelivery_mark;
use bytes::Bytes;

use super::{
    Engine, SAVE_POSITIONS_AFTER,
    channel::{Lookup, Message, Reader, Waiter},
    keys::{GroupKey, SubKey},
    loads::MAX_READ_ROWS,
    pending::Entry,
    timers::TimerKey,
};
use crate::{
    Now,
    durable::Change,
    effect::{Effect, Payload},
};

/// Messages one reader gets before the next one has its turn; bounds what waits to be performed.
pub(super) const SERVED_AT_ONCE: usize = 500;

impl Engine {
    /// Does one piece of the work that was put off; false if there is none. Readers come before the
    /// publish acks of the batches that woke them.
    pub(super) fn go_on(&mut self) -> bool {
        if let Some(reader) = self.ready.pop_front() {
            self.serve(reader);
        } else if let Some(answers) = self.finished.pop_front() {
            self.effects.push_back(Effect::Acknowledge(answers));
        } else {
            return false;
        }
        true
    }

    fn serve(&mut self, reader: Reader) {
        let now = self.now;
        match reader {
            Reader::Sub(key) => {
                if let Some(sub) = self.subs.get_mut(key) {
                    sub.is_ready = false;
                    self.deliver_to_sub(key, now);
                    if let Some(sub) = self.subs.get(key) {
                        self.read_ahead(sub.channel, sub.last_sent.next());
                    }
                }
            }
            Reader::Group(key) => {
                if let Some(group) = self.groups.get_mut(key) {
                    group.is_ready = false;
                    self.deliver_to_group(key, now);
                    if let Some(group) = self.groups.get(key) {
                        self.read_ahead(group.channel, group.last_sent.next());
                    }
                }
            }
            Reader::Redelivery(key) => self.continue_run(key, now),
        }
    }

    /// Sends new messages to a plain subscription or durable while it has room.
    fn deliver_to_sub(&mut self, key: SubKey, now: Now) {
        let Some(sub) = self.subs.get_mut(key) else {
            return;
        };
        if sub.group.is_some() || sub.is_waiting || !sub.takes_new() {
            return;
        }
        let channel_key = sub.channel;
        for _ in 0..SERVED_AT_ONCE {
            let sub = &mut self.subs[key];
            // Looked at first: a subscription without room reads nothing.
            if sub.pending.len() >= sub.capacity() {
                sub.is_stalled = true;
                return;
            }
            let channel = &self.channels[channel_key];
            match channel.lookup(channel_key, sub.last_sent.next(), &mut self.pages) {
                Lookup::Found(message) if channel.is_expired(message.timestamp, now.unix_nanos) => {
                    sub.last_sent = message.sequence;
                }
                Lookup::Found(message) => self.send_first(key, &message, now),
                Lookup::End => return,
                Lookup::Absent(from) => {
                    sub.is_waiting = true;
                    let waiter = Waiter {
                        reader: Reader::Sub(key),
                        from,
                        max_rows: MAX_READ_ROWS,
                    };
                    self.wait_for_read(channel_key, waiter);
                    return;
                }
            }
        }
        self.wake(Reader::Sub(key));
    }

    /// Sends new messages to members of a group while one of them has room.
    fn deliver_to_group(&mut self, key: GroupKey, now: Now) {
        let Some(group) = self.groups.get(key) else {
            return;
        };
        if group.is_waiting || group.members_on_hold > 0 {
            return;
        }
        let channel_key = group.channel;
        for _ in 0..SERVED_AT_ONCE {
            let Some((place, member)) = self.choose_new(key) else {
                return;
            };
            let group = &mut self.groups[key];
            let channel = &self.channels[channel_key];
            match channel.lookup(channel_key, group.last_sent.next(), &mut self.pages) {
                Lookup::Found(message) if channel.is_expired(message.timestamp, now.unix_nanos) => {
                    group.last_sent = message.sequence;
                }
                Lookup::Found(message) => {
                    group.last_sent = message.sequence;
                    group.rotate(place);
                    self.send_first(member, &message, now);
                }
                Lookup::End => return,
                Lookup::Absent(from) => {
                    group.is_waiting = true;
                    let waiter = Waiter {
                        reader: Reader::Group(key),
                        from,
                        max_rows: MAX_READ_ROWS,
                    };
                    self.wait_for_read(channel_key, waiter);
                    return;
                }
            }
        }
        self.wake(Reader::Group(key));
    }

    /// The member for a new message: the one with the fewest pending among those with room, of
    /// equals the first; members whose client misses heartbeats only if there is no other.
    fn choose_new(&mut self, key: GroupKey) -> Option<(usize, SubKey)> {
        let mut best: Option<(bool, usize, usize, SubKey)> = None;
        for (place, member) in self.groups[key].members.iter().enumerate() {
            let sub = &mut self.subs[*member];
            if !sub.takes_new() {
                continue;
            }
            let pending = sub.pending.len();
            if pending >= sub.capacity() {
                sub.is_stalled = true;
                continue;
            }
            let candidate = (self.clients.is_failing(sub.client), pending, place, *member);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        best.map(|(_, _, place, member)| (place, member))
    }

    /// Publishes a message for the first time to a subscription that has room.
    fn send_first(&mut self, key: SubKey, message: &Message, now: Now) {
        let ticks = self.ticks(now);
        let sub = &mut self.subs[key];
        let ack_wait = sub.ack_wait();
        self.effects.push_back(Effect::Publish {
            subject: sub.inbox.clone(),
            reply: Bytes::new(),
            payload: Payload::new(message.data.clone()),
            request: None,
        });
        sub.pending.insert(Entry {
            sequence: message.sequence,
            expires: Some(ticks.saturating_add(nanos(ack_wait))),
            redeliveries: 0,
        });
        sub.last_sent = sub.last_sent.max(message.sequence);
        sub.is_stalled = sub.pending.len() >= sub.capacity();
        let starts_timer = sub.pending.len() == 1 && sub.run.is_none();
        let is_dirty = sub.is_dirty;
        self.counters.messages_delivered += 1;
        self.counters.bytes_delivered += message.data.len() as u64;
        if starts_timer {
            let timer = TimerKey::AckWait(key);
            if !self.timers.is_armed(timer) {
                self.timers.arm(timer, now.monotonic + ack_wait);
            }
        }
        if !is_dirty {
            self.mark_dirty(key);
        }
    }

    /// Publishes a message again, marked, whatever room there is.
    pub(super) fn send_again(&mut self, key: SubKey, message: &Message, count: u32) {
        self.effects.push_back(Effect::Publish {
            subject: self.subs[key].inbox.clone(),
            reply: Bytes::new(),
            payload: Payload {
                body: message.data.clone(),
                tail: redelivery_mark(count),
            },
            request: None,
        });
        self.counters.messages_redelivered += 1;
        self.counters.bytes_delivered += message.data.len() as u64;
    }

    /// Has the position and pending set of a subscription written within a second.
    pub(super) fn mark_dirty(&mut self, key: SubKey) {
        let sub = &mut self.subs[key];
        if !std::mem::replace(&mut sub.is_dirty, true) {
            self.dirty.push(key);
            if !self.timers.is_armed(TimerKey::SavePositions) {
                let at = self.now.monotonic + SAVE_POSITIONS_AFTER;
                self.timers.arm(TimerKey::SavePositions, at);
            }
        }
    }

    /// Hands all changed positions over.
    pub(super) fn save_positions(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            self.save_position(key);
        }
    }

    /// Hands the positions of all members over. Where a member begins or ends, its record says how far the group
    /// is, so in the same batch the others must say what is pending.
    pub(super) fn save_members(&mut self, group: GroupKey) {
        for member in self.groups[group].members.clone() {
            self.save_position(member);
        }
    }

    /// Hands the position of one subscription over, if it changed.
    pub(super) fn save_position(&mut self, key: SubKey) {
        let Some(sub) = self.subs.get_mut(key) else {
            return;
        };
        if !std::mem::take(&mut sub.is_dirty) {
            return;
        }
        let change = Change::PutPending {
            channel: self.channels[sub.channel].id,
            id: sub.id,
            last_sent: sub.last_sent,
            pending: sub.pending.sequences(),
        };
        let channel = sub.channel;
        self.channel_draft(channel).changes.push(change);
    }
}

pub(super) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}
