//! What surrounds an engine: a bus, a store in memory, and a clock that stands still unless somebody is waited for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use broker_core::{
    Now,
    durable::{Batch, FlushOutcome, Recovered, StoredMessage},
    effect::{Effect, HandlerId},
    streaming::{Engine, EngineConfig},
};

/// Longer than the question whether a client is still there may take, shorter than all else.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);

pub(super) struct Shell {
    engine: Engine,
    /// The one heartbeat inbox that is answered.
    pub(super) alive: &'static str,
    handlers: BTreeMap<u64, Vec<u8>>,
    rows: BTreeMap<u32, Vec<StoredMessage>>,
    published: Vec<(String, Vec<u8>)>,
    now: Now,
}

impl Shell {
    pub(super) fn new() -> Self {
        let now = Now {
            monotonic: Instant::now(),
            unix_nanos: 1_600_000_000_000_000_000,
        };
        let engine = Engine::new(EngineConfig::default(), Recovered::default(), 1, 1, now);
        let mut shell = Self {
            engine: engine.expect("there is nothing to recover"),
            alive: "",
            handlers: BTreeMap::new(),
            rows: BTreeMap::new(),
            published: Vec::new(),
            now,
        };
        shell.perform();
        shell
    }

    /// One message from a client, and all that follows from it in the time that an answer may take.
    pub(super) fn send(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        self.deliver(subject.as_bytes(), reply.as_bytes(), payload);
        self.engine.end_of_pass(self.now);
        self.perform();
        let end = self.now.monotonic + LONGEST_ANSWER;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            self.now.monotonic = self.now.monotonic.max(at);
            self.engine.tick(self.now);
            self.perform();
        }
    }

    /// Takes out what was published: subject and payload, in order.
    pub(super) fn taken(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.published)
    }

    /// A subject below which the engine waits for answers of clients.
    pub(super) fn answers(&self) -> String {
        let mut patterns = self.handlers.values();
        let own = patterns.find_map(|pattern| pattern.strip_suffix(b".*"));
        String::from_utf8_lossy(own.expect("it always listens there")).into_owned()
    }

    fn deliver(&mut self, subject: &[u8], reply: &[u8], payload: &[u8]) {
        let fits = |pattern: &[u8]| match pattern {
            [prefix @ .., b'>' | b'*'] => subject.starts_with(prefix) && subject != prefix,
            _ => pattern == subject,
        };
        let handlers = self.handlers.iter();
        let found: Vec<u64> = handlers
            .filter(|(_, pattern)| fits(pattern))
            .map(|(handler, _)| *handler)
            .collect();
        for handler in found {
            self.engine
                .message(HandlerId(handler), subject, reply, payload, self.now);
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.engine.next_effect() {
            match effect {
                Effect::Subscribe { subject, handler } => {
                    self.handlers.insert(handler.0, subject.to_vec());
                }
                Effect::Unsubscribe { handler } => drop(self.handlers.remove(&handler.0)),
                Effect::Publish {
                    subject,
                    reply,
                    payload,
                    request,
                } => {
                    if let Some(request) = request {
                        if subject == self.alive {
                            self.deliver(&reply, b"", b"");
                        } else {
                            self.engine.no_responders(request, self.now);
                        }
                        continue;
                    }
                    let subject = String::from_utf8_lossy(&subject).into_owned();
                    let body = [&payload.body[..], &payload.tail[..]].concat();
                    self.published.push((subject, body));
                }
                Effect::Acknowledge(answers) => {
                    for (subject, acks) in answers.runs() {
                        let subject = String::from_utf8_lossy(subject);
                        let acks = acks.map(|ack| (subject.clone().into_owned(), ack.to_vec()));
                        self.published.extend(acks);
                    }
                }
                Effect::Flush { lane, batch } => {
                    self.store(&batch);
                    self.engine.flushed(lane, FlushOutcome::Stored, self.now);
                }
                Effect::Load {
                    load,
                    channel,
                    from,
                    max_rows,
                    ..
                } => {
                    let rows = self.rows.entry(channel.0).or_default().iter();
                    let found = rows.filter(|row| row.sequence >= from).take(max_rows);
                    let found: Vec<_> = found.cloned().collect();
                    self.engine.loaded(load, Ok(found.into()), self.now);
                }
                // Only what was recovered is counted.
                Effect::Count { .. } => unreachable!("nothing was recovered"),
                Effect::FindSequence {
                    load,
                    channel,
                    timestamp,
                } => {
                    let mut rows = self.rows.entry(channel.0).or_default().iter();
                    let found = rows.find(|row| row.timestamp >= timestamp);
                    let found = found.map(|row| row.sequence);
                    self.engine.found(load, Ok(found), self.now);
                }
            }
        }
    }

    /// Keeps everything: inputs are too short to reach a limit.
    fn store(&mut self, batch: &Batch) {
        for row in &batch.rows {
            let message = StoredMessage {
                sequence: row.sequence,
                timestamp: row.timestamp,
                data: batch.message(row),
            };
            self.rows.entry(row.channel.0).or_default().push(message);
        }
    }
}
