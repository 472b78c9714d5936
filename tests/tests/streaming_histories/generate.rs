//! Histories made from a number: the same number gives the same history.
//!
//! What the reference leaves to chance is avoided here, so that a difference is one: messages that time out within
//! milliseconds of a step, windows that fill by a redelivery that comes when it comes.

use fastrand::Rng;

use crate::{
    history::{
        AGE, AckFault, Acknowledge, BYTES, By, CHANNELS, Channel, Connect, End, FEW, Fault,
        History, Op, REST, STRANGE_CHANNELS, Send, Start, Step, Subscribe, Way, Which,
    },
    profiles::Profile,
};

/// Clients of a history at most.
const CLIENTS: usize = 4;
/// An ack wait that never ends within a history.
const LONG_SECS: i32 = 120;
/// Messages in flight that no history reaches.
const PLENTY: i32 = 1000;

/// A history of a profile.
pub(crate) fn history(profile: &Profile, number: u64) -> History {
    let mut rng = Rng::with_seed(number);
    let short = !profile.files && !profile.rests && rng.u8(..4) == 0 || profile.misses;
    let waits = profile.drops || profile.rests;
    let aging = !short && !profile.groups() && !waits && rng.u8(..12) == 0;
    // Where messages are removed, restarts show other things by chance (see `differences`), and little else.
    let removing = !profile.files || rng.u8(..8) == 0;
    let roomy = rng.u8(..3) == 0;
    let mut generator = Generator {
        profile,
        clients: vec![Client::default(); rng.usize(1..=CLIENTS)],
        channels: if aging {
            vec![AGE, 0]
        } else if profile.rests {
            vec![REST, 0]
        } else {
            (0..AGE)
                .filter(|&channel| rng.u8(..3) > 0 && (removing || !matches!(channel, FEW | BYTES)))
                .collect()
        },
        rng,
        short,
        aging,
        roomy,
        subscriptions: Vec::new(),
        pauses: 0,
        waits: 0,
    };
    if generator.channels.is_empty() {
        generator.channels.push(0);
    }
    let steps = generator.steps();
    History { steps }
}

struct Generator<'a> {
    profile: &'a Profile,
    rng: Rng,
    clients: Vec<Client>,
    /// What this history uses of [`CHANNELS`].
    channels: Vec<usize>,
    /// Ack waits end within the history.
    short: bool,
    /// Messages grow too old within the history.
    aging: bool,
    /// No window ever fills, so acknowledgements let nothing flow.
    roomy: bool,
    subscriptions: Vec<Subscription>,
    pauses: usize,
    waits: usize,
}

/// What the generator believes of a client; a server may have refused it.
#[derive(Clone, Default)]
struct Client {
    connected: bool,
    /// Nobody answers its heartbeats.
    silent: bool,
}

/// What the generator believes of a subscription.
struct Subscription {
    client: usize,
    open: bool,
}

impl Generator<'_> {
    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(..count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(..choices.len())]
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for client in 0..self.clients.len() {
            if !self.one_in(10) {
                steps.push(self.connect(client));
            }
        }
        let sends = self.rng.usize(1..6);
        for _ in 0..sends {
            let send = Op::Send(self.send());
            steps.push(Step::Together(vec![send]));
        }
        let count = self.rng.usize(6..32);
        let mut restarts: Vec<_> = if self.profile.files {
            (0..2).map(|_| self.rng.usize(1..count)).collect()
        } else {
            Vec::new()
        };
        restarts.sort_unstable();
        for place in 0..count {
            for _ in restarts.iter().filter(|&&restart| restart == place) {
                steps.push(Step::Restart);
            }
            match self.step() {
                Step::Rest => self.rest(&mut steps),
                step => steps.push(step),
            }
        }
        steps
    }

    /// Everybody leaves for a while and comes back; now and then somebody stays.
    fn rest(&mut self, steps: &mut Vec<Step>) {
        let clients: Vec<_> = (0..self.clients.len())
            .filter(|_| !self.one_in(8))
            .collect();
        for &client in &clients {
            self.gone(client);
            let fault = None;
            steps.push(Step::Together(vec![Op::Close { client, fault }]));
        }
        steps.push(Step::Rest);
        for client in clients {
            steps.push(self.connect(client));
        }
    }

    fn step(&mut self) -> Step {
        if self.waits < 2 && self.one_in(9) {
            let client = self.client();
            let connected = self.clients[client].connected;
            let silent = self.clients[client].silent;
            if self.profile.drops && connected {
                self.waits += 1;
                self.gone(client);
                return Step::Dropped { client };
            }
            if self.profile.misses && connected {
                self.waits += 1;
                self.clients[client].silent = !silent;
                return if silent {
                    Step::Revive { client }
                } else {
                    Step::Missed { client }
                };
            }
        }
        if self.short && self.waits < 3 && self.one_in(6) {
            self.waits += 1;
            return Step::AckWait;
        }
        if self.aging && self.waits < 2 && self.one_in(8) {
            self.waits += 1;
            return Step::Age;
        }
        if self.profile.rests && self.waits < 2 && self.one_in(8) {
            self.waits += 1;
            return Step::Rest;
        }
        match self.rng.u32(..100) {
            0..=7 => {
                let client = self.client();
                self.connect(client)
            }
            8..=34 => self.subscribe(),
            35..=36 => {
                self.pauses += 1;
                Step::Pause(self.pauses - 1)
            }
            37..=39 if !self.profile.drops && !self.profile.misses => {
                let client = self.client();
                self.gone(client);
                match self.rng.u8(..3) {
                    0 => Step::Deafen { client },
                    _ => Step::Vanish { client },
                }
            }
            40..=47 => self.farewell(),
            _ => self.together(),
        }
    }

    /// Some client, rather one that is connected.
    fn client(&mut self) -> usize {
        let connected: Vec<_> = (0..self.clients.len())
            .filter(|&client| self.clients[client].connected)
            .collect();
        if connected.is_empty() || self.one_in(12) {
            self.rng.usize(..self.clients.len())
        } else {
            self.of(&connected)
        }
    }

    fn gone(&mut self, client: usize) {
        self.clients[client].connected = false;
        for subscription in &mut self.subscriptions {
            subscription.open &= subscription.client != client;
        }
    }

    /// Some subscription that was asked for, rather an open one.
    fn subscription(&mut self) -> Option<usize> {
        let open: Vec<_> = (0..self.subscriptions.len())
            .filter(|&subscription| self.subscriptions[subscription].open)
            .collect();
        if !open.is_empty() && !self.one_in(12) {
            return Some(self.of(&open));
        }
        let count = self.subscriptions.len();
        (count > 0).then(|| self.rng.usize(..count))
    }

    fn channel(&mut self) -> Channel {
        if self.one_in(40) {
            return Channel::Strange(self.rng.usize(..STRANGE_CHANNELS.len()));
        }
        let channels = self.channels.clone();
        Channel::Usual(self.of(&channels))
    }

    fn fault(&mut self) -> Option<Fault> {
        if !self.one_in(30) {
            return None;
        }
        Some(self.of(&[Fault::Garbage, Fault::Empty, Fault::Missing, Fault::NoReply]))
    }

    fn connect(&mut self, client: usize) -> Step {
        let fault = match self.fault() {
            None if self.one_in(30) => Some(Fault::Name(self.rng.usize(..8))),
            // Whether it was let in is to be known.
            Some(Fault::NoReply) => None,
            fault => fault,
        };
        if fault.is_none() {
            self.clients[client].connected = true;
            self.clients[client].silent = false;
        }
        let protocol = if self.one_in(6) { 0 } else { 1 };
        Step::Connect(Connect {
            client,
            protocol: if self.one_in(60) { 7 } else { protocol },
            pings: self.of(&[
                (5, 3),
                (5, 88),
                (0, 0),
                (-100, 2),
                (1, -1),
                (i32::MAX, i32::MIN),
            ]),
            nameless: protocol == 0 || self.one_in(10),
            fault,
        })
    }

    fn by(&mut self) -> By {
        match self.rng.u8(..20) {
            0 => By::ClientId,
            1 => By::ConnId,
            2 => By::Former,
            3 if self.one_in(3) => By::Nobody,
            _ => By::Both,
        }
    }

    fn send(&mut self) -> Send {
        let by = self.by();
        Send {
            client: self.client(),
            by,
            channel: self.channel(),
            payload_bytes: self.of(&[0, 1, 2, 3, 5, 8, 20, 60, 200]),
            reply: self.one_in(8),
            fault: self.fault(),
        }
    }

    fn start(&mut self) -> Start {
        match self.rng.u8(..12) {
            0..=3 => Start::First,
            4 | 5 => Start::NewOnly,
            6 => Start::Last,
            7 | 8 => Start::Sequence(self.rng.u64(0..9)),
            9 if self.pauses > 0 => Start::Since(self.rng.usize(..self.pauses)),
            9 => Start::Sequence(self.of(&[u64::MAX, 1 << 40, u64::MAX - 1])),
            10 => {
                Start::Ago(self.of(&[0, 3_600_000_000_000, -3_600_000_000_000, i64::MAX, i64::MIN]))
            }
            _ if self.one_in(5) => Start::Unknown(self.of(&[-1, 5, i32::MAX])),
            _ => Start::First,
        }
    }

    fn subscribe(&mut self) -> Step {
        let mut client = self.client();
        if self.clients[client].silent && !self.one_in(10) {
            // What it gets before it answers again is a known difference.
            let speaks = (0..self.clients.len()).find(|&other| !self.clients[other].silent);
            client = speaks.unwrap_or(client);
        }
        let channel = self.channel();
        let fault = self.fault();
        let group = self.one_in(3).then(|| self.of(&["g", "g", "h"]));
        let durable = match self.rng.u8(..30) {
            0..=11 => Some(self.of(&["d", "d", "e"])),
            12 => Some("d:e"),
            _ => None,
        };
        // Timers of a window that is full would decide what else is seen.
        let removes = matches!(channel, Channel::Usual(FEW | BYTES));
        let short = self.short && !self.one_in(4);
        // One group, one kind of ack wait.
        let short = if group.is_some() { self.short } else { short };
        let max_in_flight = self.of(&[1, 1, 2, 2, 3, 4, 10, PLENTY]);
        let (max_in_flight, ack_wait_secs) = if short {
            let free = removes || group.is_some() || self.roomy;
            (
                if free { PLENTY } else { max_in_flight },
                self.of(&[1, 1, 2]),
            )
        } else {
            (if self.roomy { PLENTY } else { max_in_flight }, LONG_SECS)
        };
        let (max_in_flight, ack_wait_secs) = match self.rng.u8(..60) {
            0 => (self.of(&[0, -1, i32::MIN]), ack_wait_secs),
            1 => (max_in_flight, self.of(&[0, -1, i32::MIN])),
            2 => (i32::MAX, ack_wait_secs),
            _ => (max_in_flight, ack_wait_secs),
        };
        let subscription = self.subscriptions.len();
        let open = fault.is_none() && max_in_flight > 0 && ack_wait_secs > 0;
        self.subscriptions.push(Subscription { client, open });
        Step::Subscribe(Subscribe {
            subscription,
            client,
            channel,
            group,
            durable,
            start: self.start(),
            max_in_flight,
            ack_wait_secs,
            fault,
        })
    }

    fn acknowledge(&mut self) -> Option<Op> {
        let subscription = self.subscription()?;
        let which = match self.rng.u8(..16) {
            0..=6 => Which::Oldest,
            7..=8 => Which::Newest,
            9..=12 => Which::All,
            13 => Which::Again,
            _ => Which::Sequence(self.rng.u64(..12)),
        };
        let via = if self.one_in(12) {
            self.subscription()
        } else {
            None
        };
        let which = if via.is_some() { Which::Oldest } else { which };
        let fault = self.one_in(15).then(|| {
            self.of(&[
                AckFault::OtherChannel,
                AckFault::UnknownChannel,
                AckFault::Garbage,
            ])
        });
        Some(Op::Acknowledge(Acknowledge {
            subscription,
            which,
            via,
            fault,
        }))
    }

    fn end(&mut self) -> Option<Op> {
        let subscription = self.subscription()?;
        let way = match self.rng.u8(..24) {
            0..=2 => Way::DeliveryInbox,
            3 => Way::UnknownInbox,
            4 => Way::OtherChannel,
            5 => Way::UnknownChannel,
            6 => Way::OtherClient,
            7 => Way::Faulty(self.of(&[Fault::Garbage, Fault::Empty, Fault::Missing])),
            8 => Way::Faulty(Fault::NoReply),
            _ => Way::AckInbox,
        };
        if matches!(
            way,
            Way::AckInbox | Way::DeliveryInbox | Way::Faulty(Fault::NoReply)
        ) {
            self.subscriptions[subscription].open = false;
        }
        let keep = self.rng.bool();
        Some(Op::End(End {
            subscription,
            keep,
            way,
        }))
    }

    /// Acknowledgements, maybe, and an end behind them.
    fn farewell(&mut self) -> Step {
        let mut ops = Vec::new();
        if self.one_in(20) || (self.roomy && self.one_in(2)) {
            ops.extend(self.acknowledge());
        }
        if self.one_in(3) {
            let client = self.client();
            let faults = [Fault::Garbage, Fault::Empty, Fault::Missing, Fault::NoReply];
            let fault = self.one_in(8).then(|| self.of(&faults));
            // Whom nobody else hears may publish just before.
            let heard = self.subscriptions.iter().any(|one| one.client == client);
            if !heard && self.one_in(2) {
                let send = self.send();
                ops.push(Op::Send(Send { client, ..send }));
            }
            if matches!(fault, None | Some(Fault::NoReply)) {
                self.gone(client);
            }
            ops.push(Op::Close { client, fault });
        } else {
            ops.extend(self.end());
        }
        Step::Together(ops)
    }

    fn together(&mut self) -> Step {
        let mut ops = Vec::new();
        match self.rng.u8(..20) {
            0 => {
                let (by, fault) = (self.by(), self.fault());
                ops.push(Op::Ping {
                    client: self.client(),
                    by,
                    fault,
                });
            }
            1..=10 => {
                for _ in 0..self.of(&[1, 1, 1, 2, 3, 5, 9]) {
                    ops.push(Op::Send(self.send()));
                }
                let mut limited = 0;
                ops.retain(|op| {
                    limited += usize::from(is_limited(op));
                    !is_limited(op) || limited == 1
                });
            }
            _ => {
                for _ in 0..self.of(&[1, 1, 2, 4]) {
                    ops.extend(self.acknowledge());
                }
                // What is acknowledged before it came is pending only where it was sent in the meantime.
                if ops.len() > 1 {
                    ops.retain(|op| !is_guessed(op));
                }
            }
        }
        Step::Together(ops)
    }
}

/// Goes to a channel where old messages make room: with several at a time, how many are still there when they are
/// delivered depends on how many the server took in one round.
fn is_limited(op: &Op) -> bool {
    matches!(op, Op::Send(send) if matches!(send.channel, Channel::Usual(FEW | BYTES)))
}

/// Acknowledges a sequence that may not have been delivered.
fn is_guessed(op: &Op) -> bool {
    matches!(op, Op::Acknowledge(one) if matches!(one.which, Which::Sequence(_)) || one.via.is_some())
}

#[cfg(test)]
mod tests;
