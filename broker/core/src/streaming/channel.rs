//! One channel: what it holds, what of it is at hand, and who listens.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use broker_proto::streaming::SubscriptionRequest;
use bytes::Bytes;

use super::{
    keys::{ChannelKey, ClientKey, GroupKey, SubKey},
    pages::Pages,
    pending::Ticks,
    sizes::Sizes,
};
use crate::{
    durable::{Batch, ChannelId, ChannelLimits, RecoveredChannel, Row, Sequence},
    effect::LoadId,
};

/// Messages that one flush removes of a channel. There are many to remove when a limit was lowered, or after a
/// start during which the store had to count: they go in pieces, so that no flush takes long.
pub(super) const MAX_TRIM: u64 = 20_000;

/// A durable message, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) sequence: Sequence,
    pub(super) timestamp: i64,
    pub(super) data: Bytes,
}

/// Where the next message for a reader is.
#[derive(Debug)]
pub(super) enum Lookup {
    Found(Message),
    /// Only the store has what begins here.
    Absent(Sequence),
    /// Nothing durable at or after the wanted position.
    End,
}

/// Who wants messages of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// New messages for a plain subscription or a durable.
    Sub(SubKey),
    /// New messages for a queue group.
    Group(GroupKey),
    /// Pending messages of a subscription, to be sent again.
    Redelivery(SubKey),
}

/// A reader that waits for the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) reader: Reader,
    pub(super) from: Sequence,
    pub(super) max_rows: usize,
}

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActiveLoad {
    pub(super) load: LoadId,
    pub(super) from: Sequence,
    /// Last durable sequence when it was asked for: an empty answer covers all up to here.
    pub(super) last: Sequence,
}

/// A subscription request and where to answer it.
#[derive(Clone, Debug)]
pub(super) struct SubscribeRequest {
    pub(super) request: SubscriptionRequest,
    /// Who asks, and the serial of its registration: a later one of the same id has not asked.
    pub(super) client: (ClientKey, u64),
    pub(super) reply: Bytes,
}

/// A subscription request that waits for the sequence of its start time. Later requests for the
/// channel queue up behind it, so that they are handled in order.
#[derive(Debug)]
pub(super) struct StartSearch {
    pub(super) load: LoadId,
    pub(super) waiting: SubscribeRequest,
    /// First message at or after the start time among those not durable when it was asked for, or
    /// the position after the last one.
    pub(super) fallback: Sequence,
}

/// A message kept from its batch. Sequences follow from the place in the queue.
#[derive(Clone, Debug)]
struct Recent {
    timestamp: i64,
    data: Bytes,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) name: Box<str>,
    pub(super) limits: ChannelLimits,
    /// The store has it.
    pub(super) is_on_record: bool,
    /// First message that counts as present; `last + 1` if there is none, 1 if there never was.
    pub(super) first: Sequence,
    /// Last durable one.
    pub(super) last: Sequence,
    /// Last one with a number, durable or not. `last <= assigned`.
    pub(super) assigned: Sequence,
    /// Of the last one with a number.
    pub(super) last_timestamp: i64,
    /// Durable and not trimmed, like `bytes`.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) sizes: Sizes,
    /// `messages` and `bytes` are a guess until the store has counted. Nothing is removed until then.
    pub(super) is_estimated: bool,
    /// Not yet written down.
    pub(super) has_new_totals: bool,
    /// Messages up to `last`, while somebody follows.
    recent: VecDeque<Recent>,
    is_followed: bool,
    /// Plain subscriptions and durables, offline ones included.
    pub(super) subs: Vec<SubKey>,
    pub(super) groups: Vec<GroupKey>,
    /// By client id and durable name.
    pub(super) durables: HashMap<(String, String), SubKey, RandomState>,
    /// By whether it is durable, and full name.
    pub(super) group_names: HashMap<(bool, String), GroupKey, RandomState>,
    /// Records that count against the limit: subscriptions, members, shadows.
    pub(super) records: u64,
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) active_load: Option<ActiveLoad>,
    pub(super) start_search: Option<StartSearch>,
    pub(super) queued_requests: VecDeque<SubscribeRequest>,
    /// Search for the boundary of `max_age`.
    pub(super) age_search: Option<LoadId>,
    /// When a message was stored last; 0 if none since the start.
    pub(super) last_activity: Ticks,
    /// The store is at it. Nothing new is taken in.
    pub(super) is_being_deleted: bool,
    /// The draft this channel has rows in, and its place in that draft's list; see `lane::Draft`.
    pub(super) draft: Option<(u64, usize)>,
}

impl Channel {
    pub(super) fn new(id: ChannelId, name: &str, limits: ChannelLimits) -> Self {
        let nothing = RecoveredChannel {
            id,
            name: name.to_owned(),
            limits: limits.into(),
            first: Sequence(0),
            last: Sequence(0),
            messages: 0,
            bytes: 0,
            is_counted: true,
            last_timestamp: 0,
            subscriptions: Vec::new(),
        };
        Self {
            is_on_record: false,
            ..Self::recovered(&nothing, limits)
        }
    }

    /// `channel.last` must already include what subscriptions know.
    pub(super) fn recovered(channel: &RecoveredChannel, limits: ChannelLimits) -> Self {
        Self {
            id: channel.id,
            name: channel.name.as_str().into(),
            limits,
            is_on_record: true,
            first: if channel.messages == 0 {
                channel.last.next()
            } else {
                channel.first
            },
            last: channel.last,
            assigned: channel.last,
            last_timestamp: channel.last_timestamp,
            messages: channel.messages,
            bytes: channel.bytes,
            sizes: Sizes::recovered(channel.messages, channel.bytes),
            is_estimated: !channel.is_counted,
            has_new_totals: false,
            recent: VecDeque::new(),
            is_followed: false,
            subs: Vec::new(),
            groups: Vec::new(),
            durables: HashMap::default(),
            group_names: HashMap::default(),
            records: 0,
            waiters: VecDeque::new(),
            active_load: None,
            start_search: None,
            queued_requests: VecDeque::new(),
            age_search: None,
            last_activity: 0,
            is_being_deleted: false,
            draft: None,
        }
    }

    /// Whether what becomes durable now will soon be looked up: to be sent to a live subscription, or to
    /// see when the oldest message ends. What nobody looks up is not kept in memory.
    pub(super) fn set_followed(&mut self, has_live_subscription: bool) {
        self.is_followed = has_live_subscription || self.limits.max_age_nanos > 0;
        if !self.is_followed {
            self.recent.clear();
        }
    }

    /// A message became durable: the one after `last`.
    pub(super) fn stored(&mut self, row: &Row, batch: &Batch) {
        assert_eq!(
            row.sequence,
            self.last.next(),
            "messages of a channel become durable in order"
        );
        self.last = row.sequence;
        self.messages += 1;
        self.bytes += (row.end - row.start) as u64;
        self.sizes.push(row.end - row.start);
        if self.is_followed {
            self.recent.push_back(Recent {
                timestamp: row.timestamp,
                data: batch.message(row),
            });
        }
    }

    /// Whether this durable message or an earlier one is held in memory for live subscriptions.
    pub(super) fn is_at_hand(&self, sequence: Sequence) -> bool {
        !self.recent.is_empty() && self.recent_first() <= sequence
    }

    /// Lets go of the messages at hand up to this one.
    pub(super) fn forget_recent(&mut self, up_to: Sequence) {
        while !self.recent.is_empty() && self.recent_first() <= up_to {
            self.recent.pop_front();
        }
    }

    /// Rows of another writer became durable after `last`. Their lengths are not known; they count
    /// as empty until the store has counted.
    pub(super) fn adopt_foreign(&mut self, last: Sequence) {
        for _ in self.last.0..last.0 {
            self.messages += 1;
            self.sizes.push(0);
        }
        self.last = self.last.max(last);
        self.recent.clear();
    }

    /// Never what is only guessed.
    fn would_exceed(&self, messages: u64, bytes: u64) -> bool {
        let ChannelLimits {
            max_msgs,
            max_bytes,
            ..
        } = self.limits;
        let is_over = (max_msgs > 0 && messages > max_msgs) || (max_bytes > 0 && bytes > max_bytes);
        !self.is_estimated && is_over
    }

    /// Whether durable messages have to go.
    pub(super) fn is_over_limits(&self) -> bool {
        self.messages > 1 && self.would_exceed(self.messages, self.bytes)
    }

    /// The oldest durable messages that must go for the limits to hold with what a batch adds, both
    /// ends included; the newest message always stays. They go when that is durable, see
    /// [`Channel::trim_below`].
    pub(super) fn excess(&self, added_msgs: u64, added_bytes: u64) -> Option<(Sequence, Sequence)> {
        let (mut messages, mut bytes) = (self.messages, self.bytes);
        let mut keep = self.first;
        let mut sizes = self.sizes.iter();
        while messages > 0
            && keep.0 - self.first.0 < MAX_TRIM
            && messages + added_msgs > 1
            && self.would_exceed(messages + added_msgs, bytes + added_bytes)
        {
            messages -= 1;
            bytes = bytes.saturating_sub(sizes.next().unwrap_or(0));
            keep = keep.next();
        }
        (keep > self.first).then(|| (self.first, Sequence(keep.0 - 1)))
    }

    /// The messages below `keep` are gone.
    pub(super) fn trim_below(&mut self, keep: Sequence) {
        while self.first < keep && self.first <= self.last {
            self.drop_first();
        }
        // They are sent to nobody any more, so that they need not be at hand either.
        self.forget_recent(Sequence(self.first.0 - 1));
    }

    fn drop_first(&mut self) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(self.sizes.pop());
        self.first = self.first.next();
        if self.first > self.last {
            // Holes made the count differ from the range.
            (self.messages, self.bytes) = (0, 0);
        }
    }

    /// Whether a message is too old to be delivered.
    pub(super) fn is_expired(&self, timestamp: i64, unix_nanos: i64) -> bool {
        let max_age = self.limits.max_age_nanos;
        max_age > 0
            && u64::try_from(unix_nanos.saturating_sub(timestamp)).is_ok_and(|age| age >= max_age)
    }

    /// The first durable message at or after `from`.
    pub(super) fn lookup(&self, key: ChannelKey, from: Sequence, pages: &mut Pages) -> Lookup {
        let mut wanted = from.max(self.first);
        loop {
            if wanted > self.last {
                return Lookup::End;
            }
            if !self.recent.is_empty() && wanted >= self.recent_first() {
                let recent = &self.recent[(wanted.0 - self.recent_first().0) as usize];
                return Lookup::Found(Message {
                    sequence: wanted,
                    timestamp: recent.timestamp,
                    data: recent.data.clone(),
                });
            }
            match pages.lookup(key, wanted) {
                Some(Ok(message)) => return Lookup::Found(message),
                Some(Err(covered)) => wanted = covered.next(),
                None => return Lookup::Absent(wanted),
            }
        }
    }

    /// Whether there is something durable at or after `from` of which nothing is at hand.
    pub(super) fn is_stored_only(&self, from: Sequence) -> bool {
        from <= self.last && from < self.recent_first()
    }

    /// Timestamp of the first message, if it is at hand.
    pub(super) fn first_timestamp(&self) -> Option<i64> {
        let at = self.first.0.checked_sub(self.recent_first().0)?;
        self.recent
            .get(usize::try_from(at).ok()?)
            .map(|recent| recent.timestamp)
    }

    fn recent_first(&self) -> Sequence {
        Sequence(self.last.0 + 1 - self.recent.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel that stored this many messages; the data of message `n` is one byte, `n`.
    fn stored(messages: u8) -> Channel {
        let unlimited = ChannelLimits {
            max_msgs: 0,
            max_bytes: 0,
            max_age_nanos: 0,
            max_subs: 0,
            max_inactivity_nanos: 0,
        };
        let mut channel = Channel::new(ChannelId(1), "c", unlimited);
        channel.set_followed(true);
        for number in 1..=messages {
            store(&mut channel, number);
        }
        channel
    }

    fn store(channel: &mut Channel, number: u8) {
        let row = Row {
            channel: channel.id,
            sequence: Sequence(number.into()),
            timestamp: number.into(),
            start: 0,
            end: 1,
        };
        let batch = Batch {
            data: Bytes::copy_from_slice(&[number]),
            ..Batch::default()
        };
        channel.stored(&row, &batch);
    }

    fn first_data(channel: &Channel) -> Option<u8> {
        let lookup = channel.lookup(ChannelKey(1), Sequence(1), &mut Pages::new(0));
        match lookup {
            Lookup::Found(message) => Some(message.data[0]),
            Lookup::End | Lookup::Absent(_) => None,
        }
    }

    #[test]
    fn what_is_trimmed_is_not_held_in_memory() {
        let mut channel = stored(9);
        channel.trim_below(Sequence(7));
        assert_eq!((channel.recent.len(), first_data(&channel)), (3, Some(7)));
        assert_eq!(channel.first_timestamp(), Some(7));
        channel.trim_below(Sequence(10));
        assert_eq!((channel.recent.len(), first_data(&channel)), (0, None));
        store(&mut channel, 10);
        assert_eq!(first_data(&channel), Some(10));
    }

    #[test]
    fn what_nobody_looks_up_is_not_held_in_memory() {
        let mut channel = stored(3);
        channel.set_followed(false);
        store(&mut channel, 4);
        assert_eq!((channel.recent.len(), channel.last), (0, Sequence(4)));
        channel.set_followed(true);
        store(&mut channel, 5);
        assert!(!channel.is_at_hand(Sequence(4)));
        let lookup = channel.lookup(ChannelKey(1), Sequence(5), &mut Pages::new(0));
        assert!(matches!(lookup, Lookup::Found(message) if *message.data == [5]));
    }

    #[test]
    fn what_other_channels_pushed_out_before_the_limit_did_changes_nothing() {
        let mut channel = stored(9);
        channel.forget_recent(Sequence(8));
        channel.trim_below(Sequence(5));
        assert_eq!((channel.recent.len(), channel.first), (1, Sequence(5)));
    }
}
