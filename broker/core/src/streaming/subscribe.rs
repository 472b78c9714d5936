//! Subscribe requests: validation, what kind of subscription it is, where it starts, and the
//! answer, which always precedes the first message.

use broker_proto::streaming::{StartPosition, SubState, SubscriptionRequest, SubscriptionResponse};
use bytes::Bytes;
use prost::Message as _;

use super::{
    Engine,
    channel::{Channel, StartSearch, SubscribeRequest},
    keys::{ChannelKey, ClientKey, GroupKey, Handler, SubKey},
    loads::Purpose,
    names::{channel_name, is_publishable},
    subscription::{Group, RunKind, Subscription},
    texts::Refusal,
    tickets::Promise,
};
use crate::{
    Now,
    durable::{Row, Sequence},
    effect::{Effect, LoadId},
};

/// Subscribe requests of a channel that may wait for a search by time before them.
const MAX_QUEUED_REQUESTS: usize = 2048;

/// Where a new subscription begins: the position before the first message it may get.
enum Start {
    At(Sequence),
    /// Only the store knows what the first message at or after this time is.
    Time {
        timestamp: i64,
    },
}

/// What became of a request.
enum Placed {
    New(SubKey),
    Resumed(SubKey),
    /// The store is being asked for the start position.
    Searching,
}

impl Engine {
    pub(super) fn subscribe(&mut self, payload: &[u8], reply: &[u8], now: Now) {
        let reply = Bytes::copy_from_slice(reply);
        match self.admit(payload, &reply) {
            Ok(Some((key, request))) => self.place(key, request, now),
            Ok(None) => {}
            Err(refusal) => self.refuse_subscribe(&reply, &refusal),
        }
    }

    /// All checks up to and including the creation of the channel. `None`: another server's, or the client
    /// is waited for.
    fn admit(
        &mut self,
        payload: &[u8],
        reply: &Bytes,
    ) -> Result<Option<(ChannelKey, SubscribeRequest)>, Refusal> {
        let request =
            SubscriptionRequest::decode(payload).map_err(|_| Refusal::InvalidSubscription)?;
        if request.client_id.is_empty() {
            return Err(Refusal::ClientIdMissing);
        }
        if request.ack_wait_in_secs <= 0 {
            return Err(Refusal::InvalidAckWait);
        }
        if request.max_in_flight <= 0 {
            return Err(Refusal::InvalidMaxInFlight);
        }
        if StartPosition::try_from(request.start_position).is_err() {
            return Err(Refusal::InvalidStartPosition);
        }
        let name = channel_name(request.subject.as_bytes()).ok_or(Refusal::InvalidSubject)?;
        if !self.serves(name) {
            return Ok(None);
        }
        let Some(client) = self.clients.by_id(&request.client_id) else {
            let sender = (request.client_id.as_bytes(), &b""[..]);
            return match self.partition.is_some() {
                true if self.awaits_registration(sender, false, payload, reply) => Ok(None),
                true => Err(Refusal::InvalidSubscription),
                false => Err(Refusal::UnknownClient),
            };
        };
        let key = self.find_or_create_channel(name)?;
        self.comes_into_use(key);
        if !request.q_group.is_empty() && request.durable_name.contains(':') {
            self.may_rest(key);
            return Err(Refusal::InvalidDurableName);
        }
        let asked = SubscribeRequest {
            request,
            client: (client, self.clients.get(client).serial),
            reply: reply.clone(),
        };
        Ok(Some((key, asked)))
    }

    /// Requests for a channel are handled one after the other, in order.
    fn place(&mut self, key: ChannelKey, request: SubscribeRequest, now: Now) {
        let channel = &mut self.channels[key];
        if channel.start_search.is_some() {
            // Beyond the bound a request is dropped, and its client sees a time-out.
            if channel.queued_requests.len() < MAX_QUEUED_REQUESTS {
                channel.queued_requests.push_back(request);
            }
        } else {
            self.place_at(key, request, None, now);
        }
    }

    /// `start` is given when the store has been asked for it.
    fn place_at(
        &mut self,
        key: ChannelKey,
        request: SubscribeRequest,
        start: Option<Sequence>,
        now: Now,
    ) {
        let reply = request.reply.clone();
        match self.try_place(key, request, start, now) {
            Ok(Placed::New(sub)) => self.put_on_line(sub, false, reply),
            Ok(Placed::Resumed(sub)) => self.put_on_line(sub, true, reply),
            Ok(Placed::Searching) => {}
            Err(refusal) => {
                self.refuse_subscribe(&reply, &refusal);
                self.may_rest(key);
            }
        }
    }

    fn try_place(
        &mut self,
        key: ChannelKey,
        request: SubscribeRequest,
        start: Option<Sequence>,
        now: Now,
    ) -> Result<Placed, Refusal> {
        let (client, serial) = request.client;
        if !self.clients.is_current(client, serial) {
            return Err(Refusal::UnknownClient);
        }
        if let Some(placed) = self.place_existing(key, client, &request.request, now)? {
            return Ok(placed);
        }
        let start = match start.map_or_else(|| self.start(key, &request.request, now), Start::At) {
            Start::At(start) => start,
            Start::Time { timestamp } => {
                self.search_start(key, request, timestamp);
                return Ok(Placed::Searching);
            }
        };
        self.check_subs_limit(key)?;
        let group = group_of(&request.request)
            .map(|(is_durable, name)| self.adopt_group(Group::new(key, name, is_durable, start)));
        Ok(Placed::New(self.new_subscription(
            key,
            client,
            group,
            &request.request,
            start,
        )))
    }

    /// A member for a group that exists, or the resume of a durable; `None` if the request is for
    /// something new.
    fn place_existing(
        &mut self,
        key: ChannelKey,
        client: ClientKey,
        request: &SubscriptionRequest,
        now: Now,
    ) -> Result<Option<Placed>, Refusal> {
        if let Some(name) = group_of(request) {
            let group = self.channels[key].group_names.get(&name).copied();
            return group
                .map(|group| self.join(group, client, request))
                .transpose();
        }
        let durable = self.find_durable(key, &request.client_id, &request.durable_name);
        let Some(durable) = durable else {
            return Ok(None);
        };
        if self.subs[durable].is_online() {
            if !self.config.replace_durable {
                return Err(Refusal::DuplicateDurable);
            }
            self.leave(durable, true, now);
        }
        self.take_over(durable, client, request);
        Ok(Some(Placed::Resumed(durable)))
    }

    fn find_durable(&self, key: ChannelKey, client_id: &str, name: &str) -> Option<SubKey> {
        if name.is_empty() {
            return None;
        }
        let durables = &self.channels[key].durables;
        durables
            .get(&(client_id.to_owned(), name.to_owned()))
            .copied()
    }

    /// A member joins a group that exists, or brings a durable one back.
    fn join(
        &mut self,
        group_key: GroupKey,
        client: ClientKey,
        request: &SubscriptionRequest,
    ) -> Result<Placed, Refusal> {
        let group = &mut self.groups[group_key];
        let (channel, last_sent) = (group.channel, group.last_sent);
        if let Some(shadow) = group.shadow.take() {
            group.members.push(shadow);
            self.take_over(shadow, client, request);
            return Ok(Placed::Resumed(shadow));
        }
        self.check_subs_limit(channel)?;
        self.save_members(group_key);
        Ok(Placed::New(self.new_subscription(
            channel,
            client,
            Some(group_key),
            request,
            last_sent,
        )))
    }

    fn check_subs_limit(&self, key: ChannelKey) -> Result<(), Refusal> {
        let channel = &self.channels[key];
        let max = channel.limits.max_subs;
        if max > 0 && channel.records >= max {
            Err(Refusal::TooManySubscriptions)
        } else {
            Ok(())
        }
    }

    pub(super) fn adopt_group(&mut self, group: Group) -> GroupKey {
        let (channel, name) = (group.channel, (group.is_durable, group.name.clone()));
        let key = self.groups.insert(group);
        let channel = &mut self.channels[channel];
        channel.groups.push(key);
        channel.group_names.insert(name, key);
        key
    }

    fn new_subscription(
        &mut self,
        channel_key: ChannelKey,
        client: ClientKey,
        group: Option<GroupKey>,
        request: &SubscriptionRequest,
        last_sent: Sequence,
    ) -> SubKey {
        self.last_subscription_id += 1;
        let state = SubState {
            id: self.last_subscription_id,
            client_id: request.client_id.clone(),
            q_group: request.q_group.clone(),
            inbox: request.inbox.clone(),
            max_in_flight: request.max_in_flight,
            ack_wait_in_secs: request.ack_wait_in_secs,
            durable_name: request.durable_name.clone(),
            last_sent: last_sent.0,
            is_durable: !request.durable_name.is_empty(),
            ..SubState::default()
        };
        let mut sub = Subscription::from_state(channel_key, Some(client), &state);
        sub.group = group;
        let durable_name = sub.durable_name.clone();
        let key = self.subs.insert(sub);
        let channel = &mut self.channels[channel_key];
        channel.records += 1;
        match group {
            Some(group) => self.groups[group].members.push(key),
            None => channel.subs.push(key),
        }
        if !durable_name.is_empty() {
            channel
                .durables
                .insert((request.client_id.clone(), durable_name), key);
        }
        self.clients.get_mut(client).subs.push(key);
        key
    }

    /// An offline durable, or the shadow of a durable group, gets an owner with options of its own.
    fn take_over(&mut self, key: SubKey, client: ClientKey, request: &SubscriptionRequest) {
        let sub = &mut self.subs[key];
        sub.client = Some(client);
        sub.client_id.clone_from(&request.client_id);
        sub.inbox = Bytes::copy_from_slice(request.inbox.as_bytes());
        sub.is_reachable = is_publishable(&request.inbox);
        sub.max_in_flight = request.max_in_flight;
        sub.ack_wait_in_secs = request.ack_wait_in_secs;
        sub.is_stalled = false;
        if !sub.pending.is_empty() {
            sub.is_on_hold = true;
            if let Some(group) = sub.group {
                self.groups[group].members_on_hold += 1;
            }
        }
        self.clients.get_mut(client).subs.push(key);
    }

    /// Listens on a fresh ack inbox and has the record written; answered when it is.
    fn put_on_line(&mut self, key: SubKey, is_resume: bool, reply: Bytes) {
        let ack_inbox = Bytes::from(self.names.next_inbox());
        let generation = self.next_generation();
        let sub = &mut self.subs[key];
        sub.generation = generation;
        sub.ack_inbox = ack_inbox.clone();
        let channel = sub.channel;
        // One that it replaces may just have gone.
        self.comes_into_use(channel);
        let handler = Handler::Ack {
            sub: key,
            generation,
        }
        .id();
        self.effects.push_back(Effect::Subscribe {
            subject: ack_inbox,
            handler,
        });
        self.put_subscription(key);
        let promise = Promise::Subscribe {
            sub: key,
            generation,
            is_resume,
            reply,
        };
        let ticket = self.tickets.issue(1, promise);
        self.channel_draft(channel).tickets.push(ticket);
    }

    /// Never 0, which marks other handlers.
    pub(super) fn next_generation(&mut self) -> u32 {
        self.last_generation = self.last_generation.checked_add(1).unwrap_or(1);
        self.last_generation
    }

    /// The record of a subscription is durable, or was refused.
    pub(super) fn answer_subscribe(
        &mut self,
        key: SubKey,
        generation: u32,
        is_resume: bool,
        reply: &Bytes,
        outcome: Result<(), String>,
    ) {
        let is_there = |sub: &&Subscription| sub.generation == generation && sub.is_online();
        let Some(sub) = self.subs.get(key).filter(is_there) else {
            return self.refuse_subscribe(reply, &Refusal::UnknownClient);
        };
        if let Err(reason) = outcome {
            self.undo_subscribe(key, is_resume);
            return self.refuse_subscribe(reply, &Refusal::Store(reason));
        }
        let ack_inbox = String::from_utf8_lossy(&sub.ack_inbox).into_owned();
        let is_on_hold = sub.is_on_hold;
        self.answer(
            reply,
            &SubscriptionResponse {
                ack_inbox,
                ..Default::default()
            },
        );
        self.subs[key].is_initialized = true;
        if is_on_hold {
            let now = self.now;
            self.redeliver_pending(key, RunKind::Resumed, now);
        } else {
            self.wake_reader_of(key);
        }
    }

    /// The store did not take the record: as if the request had not been made.
    fn undo_subscribe(&mut self, key: SubKey, is_resume: bool) {
        self.go_offline(key);
        let group_key = self.subs[key].group;
        if let Some(group_key) = group_key {
            let group = &mut self.groups[group_key];
            group.leave(key);
            if is_resume && group.members.is_empty() {
                group.shadow = Some(key);
                self.subs[key].client_id.clear();
                return;
            }
        } else if is_resume {
            return;
        }
        self.drop_subscription(key);
        if let Some(group_key) = group_key
            && self.groups[group_key].members.is_empty()
        {
            self.delete_group(group_key);
        }
    }

    fn refuse_subscribe(&mut self, reply: &Bytes, refusal: &Refusal) {
        let response = SubscriptionResponse {
            error: refusal.to_string(),
            ..Default::default()
        };
        self.answer(reply, &response);
    }

    fn start(&self, key: ChannelKey, request: &SubscriptionRequest, now: Now) -> Start {
        let channel = &self.channels[key];
        let (first, last) = (channel.first.0, channel.assigned.0);
        let before = match StartPosition::try_from(request.start_position) {
            Ok(StartPosition::NewOnly) | Err(_) => last,
            Ok(StartPosition::LastReceived) => last.saturating_sub(1),
            Ok(StartPosition::First) => first - 1,
            Ok(StartPosition::SequenceStart) if request.start_sequence > last => last,
            Ok(StartPosition::SequenceStart) => request.start_sequence.max(first) - 1,
            Ok(StartPosition::TimeDeltaStart) if last == 0 => 0,
            Ok(StartPosition::TimeDeltaStart) if first > last => last,
            Ok(StartPosition::TimeDeltaStart) => {
                // Beyond what a time can be it wraps, as in the reference.
                let timestamp = now.unix_nanos.wrapping_sub(request.start_time_delta);
                return Start::Time { timestamp };
            }
        };
        Start::At(Sequence(before))
    }

    fn search_start(&mut self, key: ChannelKey, waiting: SubscribeRequest, timestamp: i64) {
        let load = self.next_load(Purpose::StartTime(key));
        let fallback = self.first_undurable_at(key, timestamp);
        let channel = &mut self.channels[key];
        channel.start_search = Some(StartSearch {
            load,
            waiting,
            fallback,
        });
        self.effects.push_back(Effect::FindSequence {
            load,
            channel: channel.id,
            timestamp,
        });
    }

    /// The first message at or after a time among those that are not durable yet; else the position
    /// after the last one.
    fn first_undurable_at(&self, key: ChannelKey, timestamp: i64) -> Sequence {
        let channel: &Channel = &self.channels[key];
        let lane = &self.lanes[self.lane_of(key)];
        let in_flight = lane.in_flight.iter().flat_map(|flight| &flight.batch.rows);
        let drafted = lane.drafts.iter().flat_map(|draft| &draft.rows);
        let fits = |row: &&Row| row.channel == channel.id && row.timestamp >= timestamp;
        let found = in_flight.chain(drafted).find(fits);
        found.map_or(channel.assigned.next(), |row| row.sequence)
    }

    pub(super) fn start_time_found(
        &mut self,
        key: ChannelKey,
        load: LoadId,
        result: Result<Option<Sequence>, String>,
        now: Now,
    ) {
        let channel = &mut self.channels[key];
        let Some(search) = channel.start_search.take_if(|search| search.load == load) else {
            return;
        };
        match result {
            Ok(found) => {
                let first = found.map_or(search.fallback, |found| found.min(search.fallback));
                let before = Sequence(first.0.saturating_sub(1));
                self.place_at(key, search.waiting, Some(before), now);
            }
            Err(reason) => {
                self.refuse_subscribe(&search.waiting.reply, &Refusal::Store(reason));
                self.may_rest(key);
            }
        }
        while self.channels[key].start_search.is_none()
            && let Some(next) = self.channels[key].queued_requests.pop_front()
        {
            self.place_at(key, next, None, now);
        }
    }
}

/// Whether the group a request names is durable, and its full name; `None` if it names none.
fn group_of(request: &SubscriptionRequest) -> Option<(bool, String)> {
    let (q_group, durable_name) = (&request.q_group, &request.durable_name);
    let is_durable = !durable_name.is_empty();
    let name = if is_durable {
        format!("{durable_name}:{q_group}")
    } else {
        q_group.clone()
    };
    (!q_group.is_empty()).then_some((is_durable, name))
}
