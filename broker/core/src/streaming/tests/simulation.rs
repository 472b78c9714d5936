//! A seeded storm of publishes, acks, ends, restarts, slow and failing stores, in some seeds of deleted channels, under
//! the eyes of all laws, then a calm in which everything must arrive. The seed fixes the whole run and is in every
//! failure message.

mod calm;
mod clients;
mod deserted;
mod reader;
mod seen;
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::{
    deserted::Deserted,
    reader::{Position, Reader},
};
use super::{
    harness::World,
    invariants::{self, Event, Law, Terms},
};
use crate::streaming::EngineConfig;

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const STEPS: usize = 1_500;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// Durables, members of durable groups, plain subscriptions and members of other groups.
const READERS: usize = 16;
/// Those that keep their position come first.
const LASTING: usize = 12;

struct Storm {
    dice: Dice,
    world: World,
    readers: Vec<Reader>,
    /// What was published, by guid.
    sent: BTreeMap<String, Sent>,
    /// What came, by who shares a position.
    received: BTreeMap<Position, BTreeSet<u64>>,
    foreign: usize,
    laws: Vec<Box<dyn Law>>,
    /// Everything that happened, and when.
    trace: Vec<String>,
    /// Most messages of a channel; 0 for no limit.
    max_msgs: u64,
    deserted: Deserted,
}

/// What was published.
struct Sent {
    channel: String,
    data: String,
    /// It was acked in the channel of its name that came after so many others.
    acked: Option<u64>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut config = EngineConfig::default();
        // Without a common divisor with what else depends on the seed.
        let deserted = Deserted::new(seed % 5 == 2, &mut config.limits);
        let max_msgs = if seed.is_multiple_of(3) { 25 } else { 0 };
        if max_msgs > 0 {
            config.limits.max_msgs = max_msgs;
        }
        let mut world = World::with(config, 1 + (seed % 2) as usize);
        for client in ["p", "x", "y"] {
            world.connect(client);
        }
        world.flushes_at_once = false;
        world.reads_at_once = false;
        world.counts_at_once = false;
        world.is_guessing = seed.is_multiple_of(5) || max_msgs > 0;
        let mut readers: Vec<Reader> = (0..READERS).map(Reader::new).collect();
        if deserted.happens {
            // Requests that wait for the store keep a channel.
            readers[LASTING..]
                .iter_mut()
                .for_each(Reader::start_by_time);
        }
        let terms: Vec<Terms> = readers.iter().map(Reader::terms).collect();
        Self {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            world,
            readers,
            laws: invariants::all(&terms),
            trace: Vec::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            foreign: 0,
            max_msgs,
            deserted,
        }
    }

    /// Lets every law see what happened.
    fn tell(&mut self, event: &Event) {
        for channel in self.deserted.deleted(&self.world.store) {
            self.show(&Event::Deleted { channel });
        }
        self.show(event);
    }

    fn show(&mut self, event: &Event) {
        self.trace
            .push(format!("{:?} {event:?}", self.world.clock.elapsed));
        for law in &mut self.laws {
            law.see(event, &self.world);
        }
    }

    /// Lets time pass, looking at what happens at its moment.
    fn pass(&mut self, time: Duration) {
        let end = self.world.clock.elapsed + time;
        while self.world.clock.elapsed < end {
            let left = end - self.world.clock.elapsed;
            let now = self.world.clock.now().monotonic;
            let next = self.world.engine.next_deadline();
            let until = next.map_or(left, |at| at.saturating_duration_since(now));
            // An engine that stays due would keep time from passing.
            self.world
                .advance(until.clamp(Duration::from_micros(1), left));
            self.look();
        }
    }

    /// Looks at what the server published and at the state of the store.
    fn look(&mut self) {
        self.observe();
        if !self.world.reads.is_empty() {
            self.tell(&Event::StoreLags);
        }
        self.tell(&Event::Passed);
    }

    fn step(&mut self) {
        if self.deserted.happens && self.dice.one_in(15) {
            self.come_or_go();
        }
        match self.dice.below(100) {
            0..30 => self.publish(),
            30..55 => self.ack(),
            55..62 => self.world.end_pass(),
            62..80 => self.finish_flush(),
            80..88 => self.finish_read(),
            88..92 => {
                let millis = [1, 20, 300, 1_000][self.dice.below(4)];
                self.pass(Duration::from_millis(millis));
            }
            92..96 => self.subscribe(),
            96..98 => self.end_subscription(),
            98 => self.close_client(),
            _ => self.restart(),
        }
        self.world.run();
        self.look();
    }
}

/// Everything that happened in the storm of a seed.
fn run(seed: u64) -> Vec<String> {
    let mut storm = Storm::new(seed);
    for _ in 0..STEPS {
        storm.step();
    }
    storm.calm();
    storm.judge();
    if storm.deserted.happens {
        storm.leave_for_good();
    }
    storm.trace
}

#[test]
fn every_law_holds_and_everything_arrives_after_the_storm() {
    let mut deletions = 0;
    for seed in 1..=40 {
        let result = std::panic::catch_unwind(|| run(seed));
        let trace = result.unwrap_or_else(|panic| {
            eprintln!("the storm of seed {seed} broke it");
            std::panic::resume_unwind(panic);
        });
        let events = trace.iter();
        deletions += events.filter(|event| event.contains("Deleted")).count();
    }
    assert!(deletions > 50, "only {deletions} channels were deleted");
}

#[test]
fn a_seed_fixes_everything_that_happens() {
    let trace = run(7);
    assert!(trace.len() > STEPS && trace != run(8));
    for (number, (one, other)) in trace.iter().zip(run(7)).enumerate() {
        assert_eq!(*one, other, "event {number}");
    }
}
