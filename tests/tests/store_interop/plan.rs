//! What happens in a history: drawn from its seed alone.
//!
//! A history has three turns on one database: one program, the other, the first again. Steps that do not apply when
//! their time has come (a client leaves what it never joined) are passed over, so that any list of steps is a history.

use std::fmt;

use fastrand::Rng;

/// Clients of a history.
pub(crate) const CLIENTS: usize = 3;

/// A program that takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// nats-streaming-server.
    Reference,
    /// stanchion-broker.
    Broker,
}

impl Program {
    /// Who takes over.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Reference => Self::Broker,
            Self::Broker => Self::Reference,
        }
    }
}

/// The channels of a history, by what limits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// Nothing.
    Orders,
    /// Nothing; another one.
    Invoices,
    /// `max_msgs`, which differs from turn to turn.
    Few,
    /// `max_bytes`.
    Small,
    /// `max_age`.
    Young,
    /// `max_inactivity`.
    Idle,
}

impl Channel {
    pub(crate) const ALL: [Self; 6] = [
        Self::Orders,
        Self::Invoices,
        Self::Few,
        Self::Small,
        Self::Young,
        Self::Idle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Invoices => "invoices.eu",
            Self::Few => "few",
            Self::Small => "small",
            Self::Young => "young",
            Self::Idle => "idle",
        }
    }
}

/// What a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Durable,
    Group,
    DurableGroup,
}

impl Kind {
    pub(crate) fn is_group(self) -> bool {
        matches!(self, Self::Group | Self::DurableGroup)
    }

    pub(crate) fn is_durable(self) -> bool {
        matches!(self, Self::Durable | Self::DurableGroup)
    }
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    First,
    New,
    Last,
    Sequence(u64),
}

/// A subscription that clients may join, leave and forget.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) channel: Channel,
    pub(crate) kind: Kind,
    pub(crate) start: Start,
    pub(crate) max_in_flight: u16,
    pub(crate) ack_wait_secs: u16,
    /// Of a hundred messages so many are not acknowledged before they are released.
    pub(crate) held: u64,
}

/// One thing that clients do, or wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Publish {
        client: usize,
        channel: Channel,
        messages: usize,
    },
    /// As above, and does not wait for acknowledgements.
    Hurry { client: usize, messages: usize },
    /// Subscribes or resumes.
    Join { client: usize, role: usize },
    /// Closes the subscription; a durable stays.
    Leave { client: usize, role: usize },
    /// Unsubscribes; a durable goes too.
    Forget { client: usize, role: usize },
    /// Acknowledges what was held, and holds nothing from now on.
    Release { role: usize },
    /// Closes the client's connection.
    GoAway { client: usize },
    /// Waits until the tables say what the clients know.
    Settle,
    /// Publishes to the young channel and waits until nothing is left there.
    Expire { client: usize },
    /// Publishes to the idle channel and waits until it is gone, unless somebody subscribes to it.
    Desert { client: usize },
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
}

/// What one server does between its start and its end.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) program: Program,
    /// `max_msgs` of the channel [`Channel::Few`].
    pub(crate) few: u64,
    /// The reference's `bulk_insert_limit`.
    pub(crate) bulk: u32,
    /// The reference's `no_caching`.
    pub(crate) uncached: bool,
    pub(crate) steps: Vec<Step>,
    /// Whether the tables say what the clients know when the server ends.
    pub(crate) settled: bool,
    pub(crate) end: End,
}

/// A whole history.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) roles: Vec<Role>,
    pub(crate) turns: Vec<Turn>,
}

impl Plan {
    /// The history of this seed that begins with this program.
    pub(crate) fn of(first: Program, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5eed_0000_0000_0000);
        let (young, idle) = (rng.u8(..8) == 0, rng.u8(..3) == 0);
        let mut channels = Channel::ALL.to_vec();
        channels.retain(|channel| match channel {
            Channel::Young => young,
            Channel::Idle => idle,
            _ => true,
        });
        let mut roles: Vec<Role> = (0..rng.usize(3..=6))
            .map(|_| role(&mut rng, &channels))
            .collect();
        if young {
            roles.insert(0, keeper());
        }
        let uncached = rng.u8(..6) == 0;
        let options = Options {
            uncached,
            bulk: rng.choice([0, 0, 10, 1000]).unwrap_or(0),
            // Without a cache each message is a commit, which takes as long as the disk likes.
            has_many: rng.u8(..12) == 0 && !uncached,
        };
        let programs = [first, first.other(), first].into_iter().enumerate();
        let turns = programs.map(|(nr, program)| {
            let mut steps = opening(&mut rng, &roles, &channels, nr);
            options.add_many(&mut rng, &mut steps);
            for _ in 0..rng.usize(4..=10) {
                steps.push(step(&mut rng, &roles, &channels));
            }
            let is_last = nr == 2;
            let kills = rng.u8(..3) == 0 && !is_last;
            let settled = rng.u8(..3) > 0 || is_last || young;
            if !settled && rng.bool() {
                let (client, messages) = (rng.usize(..CLIENTS), rng.usize(5..40));
                steps.push(Step::Hurry { client, messages });
            }
            Turn {
                program,
                few: rng.u64(5..=20),
                bulk: options.bulk,
                uncached: options.uncached,
                steps,
                settled,
                end: if kills { End::Kill } else { End::Stop },
            }
        });
        let turns = turns.collect();
        Self { seed, roles, turns }
    }
}

/// What a history has over all its turns.
struct Options {
    uncached: bool,
    bulk: u32,
    /// A channel with many messages.
    has_many: bool,
}

impl Options {
    fn add_many(&self, rng: &mut Rng, steps: &mut Vec<Step>) {
        if self.has_many {
            steps.push(Step::Publish {
                client: 0,
                channel: Channel::Orders,
                messages: rng.usize(800..1500),
            });
        }
    }
}

/// The durable that keeps the sequences of the young channel: nats-streaming-server counts from one again when it
/// finds neither messages nor anybody who has seen some.
fn keeper() -> Role {
    Role {
        channel: Channel::Young,
        kind: Kind::Durable,
        start: Start::First,
        max_in_flight: 1024,
        ack_wait_secs: 1,
        held: 0,
    }
}

fn role(rng: &mut Rng, channels: &[Channel]) -> Role {
    let kinds = [
        Kind::Plain,
        Kind::Durable,
        Kind::Durable,
        Kind::Group,
        Kind::DurableGroup,
    ];
    let start = match rng.u8(..8) {
        0 => Start::New,
        1 => Start::Last,
        2 => Start::Sequence(rng.u64(1..8)),
        _ => Start::First,
    };
    let kind = kinds[rng.usize(..kinds.len())];
    // Where nothing is limited, there is most to see.
    let channel = match rng.bool() {
        true => Channel::Orders,
        false => channels[rng.usize(..channels.len())],
    };
    Role {
        channel,
        // Durables that are offline vanish with their channel.
        kind: match (channel, kind) {
            (Channel::Idle, Kind::Durable) => Kind::Plain,
            (Channel::Idle, Kind::DurableGroup) => Kind::Group,
            _ => kind,
        },
        start,
        max_in_flight: rng.choice([1, 3, 8, 64, 1024]).unwrap_or(8),
        // Messages that go round a group more often than needed show faults of the reference's own.
        ack_wait_secs: if kind.is_group() { 5 } else { rng.u16(1..=2) },
        held: rng.choice([0, 10, 30, 60, 100]).unwrap_or(0),
    }
}

/// Messages and most of the subscriptions.
fn opening(rng: &mut Rng, roles: &[Role], channels: &[Channel], turn: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for (role, its) in roles.iter().enumerate() {
        let is_keeper = role == 0 && its.channel == Channel::Young;
        if is_keeper || rng.u8(..4) > 0 {
            let client = if is_keeper { 0 } else { rng.usize(..CLIENTS) };
            steps.push(Step::Join { client, role });
            if its.kind.is_group() {
                let client = (client + 1) % CLIENTS;
                steps.push(Step::Join { client, role });
            }
        }
    }
    for &channel in channels {
        if turn == 0 || rng.bool() {
            steps.push(Step::Publish {
                client: rng.usize(..CLIENTS),
                channel,
                messages: rng.usize(3..30),
            });
        }
    }
    // Whoever subscribes later finds messages.
    let first = rng.usize(..=steps.len());
    steps.rotate_left(first);
    steps
}

fn step(rng: &mut Rng, roles: &[Role], channels: &[Channel]) -> Step {
    let client = rng.usize(..CLIENTS);
    let role = rng.usize(..roles.len());
    match rng.u8(..24) {
        0..=8 => Step::Publish {
            client,
            channel: channels[rng.usize(..channels.len())],
            messages: rng.usize(1..25),
        },
        9..=13 => Step::Join { client, role },
        14..=16 => Step::Leave { client, role },
        17 => Step::Forget { client, role },
        18..=19 => Step::Release { role },
        20 => Step::GoAway { client },
        21 => Step::Settle,
        22 if channels.contains(&Channel::Young) => Step::Expire { client },
        _ if channels.contains(&Channel::Idle) => Step::Desert { client },
        _ => Step::Settle,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "seed {}", self.seed)?;
        for (nr, role) in self.roles.iter().enumerate() {
            writeln!(out, "  role {nr}: {role:?}")?;
        }
        for turn in &self.turns {
            let Turn {
                program,
                few,
                bulk,
                uncached,
                settled,
                end,
                ..
            } = turn;
            writeln!(
                out,
                "  {program:?}: few {few}, bulk {bulk}, uncached {uncached}, settled {settled}, {end:?}"
            )?;
            for step in &turn.steps {
                writeln!(out, "    {step:?}")?;
            }
        }
        Ok(())
    }
}
