//! The NATS Streaming server as a state machine: messages from clients, outcomes from the store
//! and the time go in; effects come out. See `crate::effect` for what the shell must do.
//!
//! How a shell drives it:
//! * after [`Engine::new`], and after every input, perform [`Engine::next_effect`] until there is
//!   none;
//! * after a series of [`Engine::message`] calls (a read pass), call [`Engine::end_of_pass`], which
//!   hands open batches over. All other inputs do that by themselves;
//! * call [`Engine::tick`] when [`Engine::next_deadline`] has come.
//!
//! Messages must be given in the order in which a connection sent them. That is the whole ordering
//! guarantee clients have between publish, ack, unsubscribe and close: each is dealt with where it
//! stands, and answered when what it did is durable.

mod acks;
mod channel;
mod channels;
mod clients;
mod commit;
mod config;
mod connect;
mod delivery;
mod heartbeat;
mod inactivity;
mod keys;
mod lane;
mod leave;
mod loads;
mod names;
mod nuid;
mod pages;
mod partition;
mod pending;
mod publish;
mod reconfigure;
mod recover;
mod redelivery;
mod sizes;
mod status;
mod subjects;
mod subscribe;
mod subscription;
#[cfg(test)]
mod tests;
mod texts;
mod tickets;
mod timers;
mod totals;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use ahash::RandomState;
use bytes::Bytes;

use self::{
    channel::{Channel, Reader},
    clients::Clients,
    heartbeat::Inquiry,
    keys::{ChannelKey, GroupKey, Handler, SubKey, Table},
    lane::{Draft, Lane},
    loads::Purpose,
    nuid::NuidSource,
    pages::Pages,
    partition::Partition,
    pending::Ticks,
    subjects::Subjects,
    subscription::{Group, Subscription},
    tickets::Tickets,
    timers::{TimerKey, Timers},
    totals::Counting,
};
use crate::{
    Now,
    durable::{ChannelId, FlushOutcome, Sequence, StoredRange, Totals},
    effect::{Effect, HandlerId, LoadId, Payload, PubAcks, RequestId},
};

pub use self::{
    config::{EngineConfig, LimitsOverride},
    partition::{Claim, PartitionConfig},
    recover::StartError,
    status::{ChannelStatus, ClientStatus, Counters, SubscriptionStatus},
};

/// How long changed positions and pending sets may wait to be written. A crash within it leads to
/// redelivery, not to loss.
const SAVE_POSITIONS_AFTER: Duration = Duration::from_secs(1);

/// Messages read back from the store and kept for readers, over all channels.
const MAX_PAGE_BYTES: usize = 32 << 20;

/// Messages kept from finished batches for live subscriptions, over all lanes.
const MAX_RECENT_BYTES: usize = 16 << 20;

/// Notices kept for the log; beyond that they say nothing new.
const MAX_NOTICES: usize = 100;

/// One activation of a streaming server on its store.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    partition: Option<Partition>,
    subjects: Subjects,
    phase: Phase,
    /// Origin of [`Ticks`], and the same moment on the wall clock.
    started: Instant,
    started_unix_nanos: i64,
    names: NuidSource,
    clients: Clients,
    channels: Table<ChannelKey, Channel>,
    channel_names: HashMap<String, ChannelKey, RandomState>,
    /// Lower-cased name to the channel that has it.
    channel_cases: HashMap<String, ChannelKey, RandomState>,
    channel_ids: HashMap<ChannelId, ChannelKey, RandomState>,
    last_channel_id: u32,
    subs: Table<SubKey, Subscription>,
    groups: Table<GroupKey, Group>,
    last_subscription_id: u64,
    last_generation: u32,
    lanes: Vec<Lane>,
    draft_serials: u64,
    tickets: Tickets,
    timers: Timers,
    pages: Pages,
    loads: HashMap<LoadId, Purpose, RandomState>,
    last_load: u64,
    inquiries: HashMap<RequestId, Inquiry, RandomState>,
    last_request: u64,
    /// Readers that may have something to get; served when the effects before that are performed.
    ready: VecDeque<Reader>,
    /// Durable batches whose publishers have not been answered; they are after the readers.
    finished: VecDeque<PubAcks>,
    dirty: Vec<SubKey>,
    counting: Counting,
    /// Of the input being dealt with.
    now: Now,
    effects: VecDeque<Effect>,
    counters: Counters,
    notices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Takes nothing in, finishes what it has.
    Stopping,
    /// The store belongs to somebody else: silent.
    Deposed,
}

impl Engine {
    /// A message that the router matched with one of the engine's handlers.
    pub fn message(
        &mut self,
        handler: HandlerId,
        subject: &[u8],
        reply: &[u8],
        payload: &[u8],
        now: Now,
    ) {
        if self.phase != Phase::Running {
            return;
        }
        self.now = now;
        match Handler::from_id(handler) {
            Some(Handler::Publish) => self.publish(payload, reply, now),
            Some(Handler::Ack { sub, generation }) => self.ack(sub, generation, payload),
            Some(Handler::Connect) => self.connect(payload, reply, now),
            Some(Handler::Ping) => self.ping(payload, reply, now),
            Some(Handler::Subscribe) => self.subscribe(payload, reply, now),
            Some(Handler::Unsubscribe) => self.unsubscribe(payload, reply, false, now),
            Some(Handler::SubClose) => self.unsubscribe(payload, reply, true, now),
            Some(Handler::Close) => self.close(payload, reply, now),
            Some(Handler::Answer) if subject.ends_with(partition::ANSWERS.as_bytes()) => {
                self.list_answered(payload);
            }
            Some(Handler::Answer) => self.answered(subject, now),
            Some(Handler::Partition) => self.foreign_list(payload, reply),
            None => {}
        }
    }

    /// Nobody was interested in a publish that named this request.
    pub fn no_responders(&mut self, request: RequestId, now: Now) {
        if self.phase == Phase::Running {
            self.now = now;
            self.unanswered(request, now);
            self.settle();
        }
    }

    /// The flush of a lane ended.
    pub fn flushed(&mut self, lane: usize, outcome: FlushOutcome, now: Now) {
        if self.phase == Phase::Deposed {
            return;
        }
        self.now = now;
        self.finish_flush(lane, outcome);
        self.settle();
    }

    /// Answer to [`Effect::Load`].
    pub fn loaded(&mut self, load: LoadId, result: Result<StoredRange, String>, now: Now) {
        if self.phase == Phase::Running {
            self.now = now;
            self.finish_load(load, result, now);
            self.settle();
        }
    }

    /// Answer to [`Effect::FindSequence`].
    pub fn found(&mut self, load: LoadId, result: Result<Option<Sequence>, String>, now: Now) {
        if self.phase == Phase::Running {
            self.now = now;
            self.finish_search(load, result, now);
            self.settle();
        }
    }

    /// Answer to [`Effect::Count`].
    pub fn counted(&mut self, load: LoadId, result: Result<Totals, String>, now: Now) {
        if self.phase == Phase::Running {
            self.now = now;
            self.finish_count(load, result, now);
            self.settle();
        }
    }

    /// Deals with everything that is due.
    pub fn tick(&mut self, now: Now) {
        if self.phase != Phase::Running {
            return;
        }
        self.now = now;
        while let Some(key) = self.timers.pop_due(now.monotonic) {
            match key {
                TimerKey::Heartbeat(client) => self.send_heartbeat(client, now),
                TimerKey::Unanswered(request) => self.unanswered(RequestId(request), now),
                TimerKey::AckWait(sub) => self.ack_wait_over(sub, now),
                TimerKey::Expiry(channel) => self.search_expired(channel, now),
                TimerKey::RetryReads(channel) => self.wake_channel(channel),
                TimerKey::Inactivity(channel) => self.rested(channel, now),
                TimerKey::Claim => self.claim_due(now),
                TimerKey::Registration => self.registration_due(now),
                TimerKey::SavePositions => self.save_positions(),
                TimerKey::SaveTotals => self.save_totals(),
                TimerKey::Count => self.count_next(),
            }
        }
        self.settle();
    }

    /// When to call [`Engine::tick`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        // An engine that stops deals with no deadline any more.
        if self.phase == Phase::Running {
            self.timers.next_deadline()
        } else {
            None
        }
    }

    /// A series of messages is over: hands the open batches of idle lanes over.
    pub fn end_of_pass(&mut self, now: Now) {
        self.now = now;
        self.settle();
    }

    /// The next thing to do, in order. Work that can be large (deliveries to many subscriptions) is
    /// done here, piece by piece, so that effects do not pile up.
    pub fn next_effect(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Some(effect);
            }
            if !self.go_on() {
                return None;
            }
        }
    }

    /// Refuses new work and flushes what is open, positions included. Go on reporting flushes until
    /// [`Engine::is_drained`].
    pub fn stop(&mut self, now: Now) {
        if self.phase != Phase::Running {
            return;
        }
        self.now = now;
        self.settle();
        self.phase = Phase::Stopping;
        self.ready.clear();
        self.timers.clear();
        self.save_positions();
        self.save_totals();
        self.flush_idle_lanes();
    }

    /// Nothing is under way or waiting to be flushed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.phase == Phase::Deposed
            || (self.finished.is_empty() && self.lanes.iter().all(Lane::is_idle))
    }

    /// Whether the store said that somebody else owns it. The engine stays silent from then on.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        self.phase == Phase::Deposed
    }

    /// Bytes of messages taken in and not yet durable.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::backlog_bytes).sum()
    }

    /// Things an operator should know, for the log; each is given once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn note(&mut self, notice: String) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(notice);
        }
    }

    fn settle(&mut self) {
        if self.phase != Phase::Deposed {
            self.flush_idle_lanes();
        }
    }

    /// Nanoseconds since the engine started.
    fn ticks(&self, now: Now) -> Ticks {
        let nanos = now
            .monotonic
            .saturating_duration_since(self.started)
            .as_nanos();
        Ticks::try_from(nanos).unwrap_or(Ticks::MAX / 2)
    }

    fn instant(&self, ticks: Ticks) -> Instant {
        self.started + Duration::from_nanos(ticks)
    }

    /// Publishes an answer; a request without reply subject gets none.
    fn answer(&mut self, reply: &Bytes, message: &impl prost::Message) {
        if !reply.is_empty() {
            self.effects.push_back(Effect::Publish {
                subject: reply.clone(),
                reply: Bytes::new(),
                payload: Payload::new(message.encode_to_vec().into()),
                request: None,
            });
        }
    }

    fn lane_of(&self, channel: ChannelKey) -> usize {
        self.channels[channel].id.0 as usize % self.lanes.len()
    }

    /// The open draft for changes of a channel.
    fn channel_draft(&mut self, channel: ChannelKey) -> &mut Draft {
        let lane = self.lane_of(channel);
        self.lanes[lane].open(&mut self.draft_serials)
    }

    /// The open draft for changes that belong to no channel.
    fn general_draft(&mut self) -> &mut Draft {
        self.lanes[0].open(&mut self.draft_serials)
    }

    /// Has the next reader of old messages ask the store.
    #[cfg(test)]
    fn forget_pages(&mut self) {
        self.pages = Pages::new(MAX_PAGE_BYTES);
    }
}
