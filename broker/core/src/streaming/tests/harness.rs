//! A shell for one engine in which the test owns time, the store and the bus.

mod clients;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;

use super::model_store::ModelStore;
use crate::{
    Now,
    durable::{Batch, ChannelId, ChannelLimits, FlushOutcome, Sequence},
    effect::{Effect, HandlerId, LoadId},
    streaming::{Engine, EngineConfig},
};

/// Where the publish acks of all test clients go.
pub(super) const ACKS: &str = "_STAN.acks.test";

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) config: EngineConfig,
    pub(super) store: ModelStore,
    lanes: usize,
    /// How flushes and reads are answered; taken from by the test if not automatic.
    pub(super) flushes_at_once: bool,
    pub(super) reads_at_once: bool,
    pub(super) flights: Vec<Option<Arc<Batch>>>,
    pub(super) reads: VecDeque<Effect>,
    /// The same for counts.
    pub(super) counts_at_once: bool,
    pub(super) counts: VecDeque<Effect>,
    /// The store does not know how much channels with odd numbers hold, and guesses.
    pub(super) is_guessing: bool,
    /// Reads that were asked for, ever.
    pub(super) read_count: usize,
    handlers: BTreeMap<u64, String>,
    /// Heartbeat inboxes that answer, and others that are only listened on.
    pub(super) alive: BTreeSet<String>,
    pub(super) mute: BTreeSet<String>,
    /// What the engine published and nobody has looked at.
    pub(super) published: Vec<(String, Bytes)>,
    /// Where the answer to the last request of the engine belongs.
    pub(super) last_reply: String,
    pub(super) clock: Clock,
    guids: u64,
    starts: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
    pub(super) elapsed: Duration,
}

impl Clock {
    pub(super) fn now(&self) -> Now {
        let nanos = i64::try_from(self.elapsed.as_nanos()).unwrap();
        Now {
            monotonic: self.origin + self.elapsed,
            unix_nanos: 1_600_000_000_000_000_000 + nanos,
        }
    }
}

/// A subscription as its client sees it.
#[derive(Clone, Debug)]
pub(super) struct Sub {
    pub(super) client: String,
    pub(super) channel: String,
    pub(super) inbox: String,
    pub(super) ack_inbox: String,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(EngineConfig::default(), 1)
    }

    pub(super) fn limited(change: impl FnOnce(&mut ChannelLimits)) -> Self {
        let mut config = EngineConfig::default();
        change(&mut config.limits);
        Self::with(config, 1)
    }

    pub(super) fn with(config: EngineConfig, lanes: usize) -> Self {
        let store = ModelStore::default();
        let clock = Clock {
            origin: Instant::now(),
            elapsed: Duration::ZERO,
        };
        let engine = Engine::new(config.clone(), store.recover(), lanes, 1, clock.now()).unwrap();
        let mut world = Self {
            engine,
            config,
            store,
            lanes,
            flushes_at_once: true,
            reads_at_once: true,
            flights: vec![None; lanes],
            reads: VecDeque::new(),
            counts_at_once: true,
            counts: VecDeque::new(),
            is_guessing: false,
            read_count: 0,
            handlers: BTreeMap::new(),
            alive: BTreeSet::new(),
            mute: BTreeSet::new(),
            published: Vec::new(),
            last_reply: String::new(),
            clock,
            guids: 0,
            starts: 1,
        };
        world.run();
        world
    }

    /// The process dies: what was not flushed is lost. Starts anew on the same store.
    pub(super) fn crash(&mut self) {
        self.starts += 1;
        let (config, seed) = (self.config.clone(), self.starts);
        self.flights = vec![None; self.lanes];
        self.reads.clear();
        self.counts.clear();
        let mut recovered = self.store.recover();
        if self.is_guessing {
            for channel in &mut recovered.channels {
                // That a channel holds nothing is never a guess.
                if channel.id.0 % 2 == 1 && channel.messages > 0 {
                    channel.is_counted = false;
                    (channel.messages, channel.bytes) = (channel.messages * 2 + 3, 7);
                }
            }
        }
        self.handlers.clear();
        self.engine = Engine::new(config, recovered, self.lanes, seed, self.clock.now()).unwrap();
        self.run();
    }

    /// An orderly end and a new start.
    pub(super) fn restart(&mut self) {
        self.engine.stop(self.clock.now());
        self.run();
        assert!(self.engine.is_drained());
        self.crash();
    }

    /// Performs effects until there is none.
    pub(super) fn run(&mut self) {
        while let Some(effect) = self.engine.next_effect() {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let now = self.clock.now();
        match effect {
            Effect::Subscribe { subject, handler } => {
                let subject = String::from_utf8(subject.to_vec()).unwrap();
                let before = self.handlers.insert(handler.0, subject);
                assert!(before.is_none(), "a handler listens on one subject");
            }
            Effect::Unsubscribe { handler } => {
                assert!(self.handlers.remove(&handler.0).is_some(), "it listened");
            }
            Effect::Publish {
                subject,
                reply,
                payload,
                request,
            } => {
                let subject = String::from_utf8(subject.to_vec()).unwrap();
                let body = [&payload.body[..], &payload.tail[..]].concat();
                self.published.push((subject.clone(), body.into()));
                if !reply.is_empty() {
                    self.last_reply = String::from_utf8(reply.to_vec()).unwrap();
                }
                if self.alive.contains(&subject) {
                    let reply = String::from_utf8(reply.to_vec()).unwrap();
                    self.deliver(&reply, "", b"");
                } else if let Some(request) = request
                    && !self.mute.contains(&subject)
                {
                    self.engine.no_responders(request, now);
                }
            }
            Effect::Acknowledge(answers) => {
                for (subject, acks) in answers.runs() {
                    let subject = String::from_utf8(subject.to_vec()).unwrap();
                    let acks = acks.map(|ack| (subject.clone(), Bytes::copy_from_slice(ack)));
                    self.published.extend(acks);
                }
            }
            Effect::Flush { lane, batch } => {
                assert!(
                    self.flights[lane].is_none(),
                    "one flush of a lane at a time"
                );
                assert!(!batch.is_empty());
                self.flights[lane] = Some(batch);
                if self.flushes_at_once {
                    self.finish_flush(lane, FlushOutcome::Stored);
                }
            }
            Effect::Count { .. } => {
                self.counts.push_back(effect);
                if self.counts_at_once {
                    self.finish_count();
                }
            }
            Effect::Load { .. } | Effect::FindSequence { .. } => {
                self.read_count += 1;
                self.reads.push_back(effect);
                if self.reads_at_once {
                    self.finish_read();
                }
            }
        }
    }

    /// Ends the flush of a lane; with `Stored` it is in the store.
    pub(super) fn finish_flush(&mut self, lane: usize, outcome: FlushOutcome) {
        let batch = self.flights[lane].take().expect("a flush is under way");
        match outcome {
            FlushOutcome::Stored => self.store.apply(&batch),
            FlushOutcome::Refused { .. } => self.store.refuse(&batch),
            FlushOutcome::Foreign { .. } | FlushOutcome::Deposed => {}
        }
        self.engine.flushed(lane, outcome, self.clock.now());
    }

    /// Ends flushes until none is under way.
    pub(super) fn flush_all(&mut self) {
        self.run();
        while let Some(lane) = self.flights.iter().position(Option::is_some) {
            self.finish_flush(lane, FlushOutcome::Stored);
            self.run();
        }
    }

    /// Answers the oldest read from what the store has now.
    pub(super) fn finish_read(&mut self) {
        let now = self.clock.now();
        match self.reads.pop_front().expect("a read is under way") {
            Effect::Load {
                load,
                channel,
                from,
                max_rows,
                ..
            } => {
                let messages = self.store.read(channel, from, max_rows);
                self.engine.loaded(load, Ok(messages), now);
            }
            Effect::FindSequence {
                load,
                channel,
                timestamp,
            } => {
                let found = self.store.find(channel, timestamp);
                self.engine.found(load, Ok(found), now);
            }
            effect => panic!("not a read: {effect:?}"),
        }
    }

    /// What the engine believes a channel to hold is true.
    pub(super) fn check_totals(&self, channel: &str) {
        let Some(key) = self.engine.channel_names.get(channel) else {
            return;
        };
        let believed = self.engine.channels[*key].totals();
        let id = self.engine.channels[*key].id;
        let mut counted = self.store.count(id, believed.last);
        if self.config.limits.max_msgs > 0 {
            // Of what was removed only the average length was known.
            counted.bytes = believed.bytes;
        }
        assert_eq!(believed, counted, "{channel}");
    }

    /// Answers the count that is under way from what the store has now.
    pub(super) fn finish_count(&mut self) {
        let (load, channel, up_to) = self.next_count();
        let counted = self.store.count(channel, up_to);
        self.engine.counted(load, Ok(counted), self.clock.now());
    }

    pub(super) fn fail_count(&mut self) {
        let (load, ..) = self.next_count();
        let reason = "disk on fire".to_owned();
        self.engine.counted(load, Err(reason), self.clock.now());
        self.run();
    }

    pub(super) fn next_count(&mut self) -> (LoadId, ChannelId, Sequence) {
        match self.counts.pop_front().expect("a count is under way") {
            Effect::Count {
                load,
                channel,
                up_to,
            } => (load, channel, up_to),
            effect => panic!("not a count: {effect:?}"),
        }
    }

    /// Fails the oldest read.
    pub(super) fn fail_read(&mut self) {
        let now = self.clock.now();
        match self.reads.pop_front().expect("a read is under way") {
            Effect::Load { load, .. } => self.engine.loaded(load, Err("disk on fire".into()), now),
            Effect::FindSequence { load, .. } => {
                self.engine.found(load, Err("disk on fire".into()), now);
            }
            effect => panic!("not a read: {effect:?}"),
        }
        self.run();
    }

    pub(super) fn is_listening_on(&self, subject: &str) -> bool {
        self.handlers.values().any(|other| other == subject)
    }

    /// Whether any handler is left on the bus.
    pub(super) fn is_listening(&self) -> bool {
        !self.handlers.is_empty()
    }

    pub(super) fn load_id(effect: &Effect) -> LoadId {
        match effect {
            Effect::Load { load, .. } | Effect::FindSequence { load, .. } => *load,
            effect => panic!("not a read: {effect:?}"),
        }
    }

    /// Lets time pass, dealing with every deadline at its moment.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.clock.elapsed + by;
        while let Some(deadline) = self.engine.next_deadline() {
            let at = deadline.saturating_duration_since(self.clock.origin);
            if at > end {
                break;
            }
            self.clock.elapsed = self.clock.elapsed.max(at);
            self.engine.tick(self.clock.now());
            self.run();
        }
        self.clock.elapsed = end;
    }

    pub(super) fn advance_secs(&mut self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    /// Gives a message to the engine if it listens there; no pass ends.
    fn deliver(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        let matches =
            |pattern: &str| match pattern.strip_suffix(".>").or(pattern.strip_suffix(".*")) {
                Some(prefix) => subject
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('.')),
                None => pattern == subject,
            };
        let found: Vec<u64> = self
            .handlers
            .iter()
            .filter(|(_, pattern)| matches(pattern))
            .map(|(id, _)| *id)
            .collect();
        for handler in found {
            let now = self.clock.now();
            self.engine.message(
                HandlerId(handler),
                subject.as_bytes(),
                reply.as_bytes(),
                payload,
                now,
            );
        }
    }

    /// One message, in a pass of its own.
    pub(super) fn send(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        self.send_unflushed(subject, reply, payload);
        self.end_pass();
    }

    /// One message of a longer pass.
    pub(super) fn send_unflushed(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        self.deliver(subject, reply, payload);
    }

    pub(super) fn end_pass(&mut self) {
        self.engine.end_of_pass(self.clock.now());
        self.run();
    }

    /// Takes out what was published to a subject.
    pub(super) fn take(&mut self, subject: &str) -> Vec<Bytes> {
        let all = std::mem::take(&mut self.published);
        let (found, rest) = all.into_iter().partition(|(other, _)| other == subject);
        self.published = rest;
        let found: Vec<(String, Bytes)> = found;
        found.into_iter().map(|(_, payload)| payload).collect()
    }

    pub(super) fn take_as<M: Message + Default>(&mut self, subject: &str) -> Vec<M> {
        self.take(subject)
            .iter()
            .map(|payload| M::decode(&payload[..]).unwrap())
            .collect()
    }

    /// The one answer to a request.
    pub(super) fn request<M: Message + Default>(
        &mut self,
        subject: &str,
        request: &impl Message,
    ) -> M {
        self.request_raw(subject, &request.encode_to_vec())
    }

    pub(super) fn request_raw<M: Message + Default>(&mut self, subject: &str, payload: &[u8]) -> M {
        self.send(subject, "reply", payload);
        let mut answers = self.take_as("reply");
        assert_eq!(answers.len(), 1, "a request is answered once");
        answers.remove(0)
    }
}
