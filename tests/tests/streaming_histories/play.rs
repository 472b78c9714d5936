//! Plays a history to a server, one step after the other. A step is over when the server has done everything that
//! it caused: that is asked for by requests that wait behind it, and never guessed by a sleep.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use broker_proto::streaming::MsgProto;
use prost::Message as _;

use crate::{
    answers::Asked,
    connection::{Connection, Delivery},
    history::{Channel, History, Op, STRANGE_CHANNELS, Step},
    known::{Identity, Known, SHORT_SECS},
    profiles::MAX_AGE,
    requests::REPLIES_SID,
    transcript::Seen,
};

/// For an answer that must come, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// For what came from the reference and should come here too.
const CATCH_UP: Duration = Duration::from_secs(6);
/// Longer than a server waits before it hands on what a member of a group has left: 100 ms.
const HANDED_ON: Duration = Duration::from_millis(800);
/// Longer than any request takes, so that a start time within a pause is one for sure.
const PAUSE: Duration = Duration::from_millis(160);

/// What a subscription of the connection is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inbox {
    Replies,
    /// Heartbeats of a connect request.
    Heartbeats(usize),
    Deliveries(usize),
    /// Deliveries to the subscription that shows that earlier ones have begun.
    Barrier,
}

/// A connect request, by its number.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) sid: u64,
    pub(crate) answers: bool,
    pub(crate) answered: u32,
    pub(crate) unanswered: u32,
}

/// One history at one server.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    pub(crate) history: &'a History,
    /// The first token of everything that this history names; sequences and texts do not depend on it.
    pub(crate) prefix: String,
    pub(crate) connection: Connection,
    pub(crate) known: Known,
    pub(crate) inboxes: BTreeMap<u64, Inbox>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) awaited: BTreeSet<u64>,
    pub(crate) next_request: u64,
    pub(crate) payloads: u32,
    pub(crate) pauses: BTreeMap<usize, SystemTime>,
    /// How many deliveries the barrier's own subscriptions got.
    barriers_heard: u64,
    pub(crate) seen: Vec<Seen>,
    /// What came from the reference.
    pub(crate) expected: Option<&'a [Seen]>,
}

impl<'a> Player<'a> {
    /// Connects and gives these channels a message each. With `expected`, every step goes on until as much has
    /// come as there.
    ///
    /// # Errors
    /// When the server does not take clients.
    pub(crate) async fn begin(
        port: u16,
        history: &'a History,
        prefix: String,
        channels: &[usize],
        expected: Option<&'a [Seen]>,
    ) -> anyhow::Result<Self> {
        let mut player = Self {
            history,
            prefix,
            connection: Connection::open(port).await?,
            known: Known::default(),
            inboxes: BTreeMap::new(),
            attempts: Vec::new(),
            asked: BTreeMap::new(),
            awaited: BTreeSet::new(),
            next_request: 0,
            payloads: 0,
            pauses: BTreeMap::new(),
            barriers_heard: 0,
            seen: vec![Seen::default()],
            expected,
        };
        player.listen();
        player.introduce_barrier();
        player.answers().await?;
        let barrier = player.barrier_channel();
        player.fill(&barrier);
        for channel in channels {
            let channel = player.channel(Channel::Usual(*channel));
            player.fill(&channel);
        }
        player.answers().await?;
        // What the barrier has asked for belongs to no step.
        player.seen = Vec::new();
        Ok(player)
    }

    fn listen(&mut self) {
        let replies = format!("{}.r.*", self.prefix);
        self.connection.subscribe(&replies, REPLIES_SID);
        self.inboxes.insert(REPLIES_SID, Inbox::Replies);
    }

    /// Connects again to a server that was restarted.
    ///
    /// # Errors
    /// When the server does not take clients.
    pub(crate) async fn resume(&mut self, port: u16) -> anyhow::Result<()> {
        self.connection = Connection::open(port).await?;
        self.listen();
        for (sid, inbox) in &self.inboxes {
            let subject = match inbox {
                Inbox::Heartbeats(attempt) if self.attempts[*attempt].answers => {
                    self.heartbeat_inbox(*attempt)
                }
                Inbox::Deliveries(number) => self.delivery_inbox(*number),
                Inbox::Barrier => self.barrier_inbox(),
                Inbox::Heartbeats(_) | Inbox::Replies => continue,
            };
            self.connection.subscribe(&subject, *sid);
        }
        for (identity, holding) in &mut self.known.holdings {
            holding.loose |= matches!(identity, Identity::Group { .. });
        }
        self.connection.write().await
    }

    /// Plays the steps between two restarts.
    ///
    /// # Errors
    /// When the connection breaks, which no history asks for.
    pub(crate) async fn play(&mut self, segment: std::ops::Range<usize>) -> anyhow::Result<()> {
        for place in segment {
            let step = &self.history.steps[place];
            self.step(step)
                .await
                .with_context(|| format!("step {place}: {step:?}"))?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        self.known.step();
        self.seen.push(Seen::default());
        match step {
            Step::Connect(connect) => self.connect(connect),
            Step::Subscribe(subscribe) => self.subscribe(subscribe),
            Step::Together(ops) => ops.iter().for_each(|op| self.op(op)),
            Step::Pause(number) => {
                self.pass(PAUSE / 2).await?;
                self.pauses.insert(*number, SystemTime::now());
                self.pass(PAUSE / 2).await?;
            }
            Step::AckWait => self.outwait().await?,
            Step::Rest => self.rest().await?,
            Step::Age => self.pass(MAX_AGE + Duration::from_secs(1)).await?,
            Step::Vanish { client } => self.silence(*client, true),
            Step::Deafen { client } => self.silence(*client, false),
            Step::Dropped { client } => self.dropped(*client).await?,
            Step::Missed { client } => self.missed(*client).await?,
            Step::Revive { client } => self.revive(*client).await?,
            Step::Restart => {}
        }
        self.answers().await?;
        if let Step::Together(ops) = step {
            if ops.iter().any(Op::is_sent_without_reply) {
                // Its acknowledgement comes behind that of everything published before.
                let barrier = self.barrier_channel();
                self.fill(&barrier);
                self.answers().await?;
            }
            for client in ops.iter().filter_map(Op::closes_without_reply) {
                // The reference closes behind messages that it sends to itself.
                self.until_unknown(client, PATIENCE).await?;
            }
        }
        self.settle(matches!(step, Step::Subscribe(_))).await
    }

    /// Closes every client, so that the server has nothing left to do for them.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Vec<Seen>> {
        self.ask_all_to_close();
        self.answers().await?;
        Ok(self.seen)
    }

    /// Waits until everything that this step caused is done.
    async fn settle(&mut self, begins: bool) -> anyhow::Result<()> {
        self.barrier(begins).await?;
        let due = self.known.due.clone();
        if !due.is_empty() {
            self.until(HANDED_ON, |player| player.came_again(&due))
                .await?;
        }
        if let Some(expected) = self.expected {
            let place = self.seen.len() - 1;
            let expected = &expected[place];
            self.until(CATCH_UP, |player| player.seen[place].covers(expected))
                .await?;
        }
        Ok(())
    }

    /// A request that is answered when what was sent before was done, and a subscription whose first message
    /// comes when those before it have got theirs.
    async fn barrier(&mut self, begins: bool) -> anyhow::Result<()> {
        self.ask_behind_everything();
        self.answers().await?;
        if begins {
            let heard = self.barriers_heard + 1;
            self.subscribe_barrier();
            self.answers().await?;
            let began = self
                .until(PATIENCE, |player| player.barriers_heard >= heard)
                .await?;
            ensure!(began, "the barrier's subscription gets nothing");
            self.end_barrier();
            self.answers().await?;
        }
        Ok(())
    }

    /// Waits for the answers to everything that was asked.
    pub(crate) async fn answers(&mut self) -> anyhow::Result<()> {
        self.connection.write().await?;
        if self
            .until(PATIENCE, |player| player.awaited.is_empty())
            .await?
        {
            return Ok(());
        }
        for number in std::mem::take(&mut self.awaited) {
            self.answered(number, "no answer");
        }
        Ok(())
    }

    /// Takes what comes until something is so; whether it is.
    pub(crate) async fn until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + within;
        while !done(self) {
            match self.connection.next(deadline).await? {
                Some(delivery) => self.take(delivery).await?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Lets time pass.
    pub(crate) async fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        self.until(time, |_| false).await.map(drop)
    }

    async fn take(&mut self, delivery: Delivery) -> anyhow::Result<()> {
        match self.inboxes.get(&delivery.sid) {
            Some(Inbox::Replies) => self.take_reply(&delivery),
            Some(Inbox::Barrier) => self.barriers_heard += 1,
            Some(Inbox::Deliveries(number)) => self.take_message(*number, &delivery)?,
            Some(Inbox::Heartbeats(attempt)) => {
                let attempt = &mut self.attempts[*attempt];
                if attempt.answers {
                    attempt.answered += 1;
                    let reply = delivery.reply.context("a heartbeat wants an answer")?;
                    self.connection.publish(&reply, None, b"");
                    self.connection.write().await?;
                } else {
                    attempt.unanswered += 1;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn take_message(&mut self, number: usize, delivery: &Delivery) -> anyhow::Result<()> {
        let message = MsgProto::decode(delivery.body.clone()).context("a delivery")?;
        if !self.known.subscriptions.contains_key(&number) {
            self.adopt(number);
        }
        let seen = self.seen.last_mut().context("no step has begun")?;
        let name = format!("subscription {number}");
        let Some(subscription) = self.known.subscriptions.get(&number) else {
            // Its request is not answered yet, or was refused.
            seen.faults.push(format!("{name} hears before it is one"));
            return Ok(());
        };
        let identity = &subscription.identity;
        let (short, loose) = match self.known.holdings.get_mut(identity) {
            Some(holding) => {
                if message.redelivered && holding.acknowledged.contains(&message.sequence) {
                    let fault = format!("{name}: {} again though acknowledged", message.sequence);
                    seen.faults.push(fault);
                }
                if subscription.open {
                    holding.pending.insert(message.sequence, number);
                }
                (holding.short, holding.loose)
            }
            None => (subscription.ack_wait_secs < SHORT_SECS, false),
        };
        let name = match identity {
            Identity::Group { name, .. } if loose => {
                format!("group {name} of {}", subscription.channel)
            }
            _ => name,
        };
        let judged = self.known.judged.get(identity);
        let judged = !short || judged.is_some_and(|judged| judged.has(message.sequence));
        if message.redelivered && (short || loose) {
            if judged {
                let heard = seen.heard.entry(name).or_default();
                heard.again.insert(message.sequence);
            }
            return Ok(());
        }
        let heard = seen.heard.entry(name).or_default();
        heard.messages.push(text(&message, &self.prefix));
        if loose {
            heard.messages.sort();
        }
        Ok(())
    }

    pub(crate) fn registered(&self, client: usize) -> Option<usize> {
        self.known.clients.get(&client)?.registered
    }

    /// A channel's name as servers know it.
    pub(crate) fn channel(&self, channel: Channel) -> String {
        match channel {
            Channel::Usual(place) => format!("{}.{}", self.prefix, crate::history::CHANNELS[place]),
            Channel::Strange(place) => STRANGE_CHANNELS[place].replace('@', &self.prefix),
        }
    }
}

/// A message as a transcript shows it.
fn text(message: &MsgProto, prefix: &str) -> String {
    let again = match (message.redelivered, message.redelivery_count) {
        (false, 0) => String::new(),
        (redelivered, count) => format!(" again {redelivered} {count}"),
    };
    let reply = if message.reply.is_empty() {
        String::new()
    } else {
        format!(" reply {:?}", message.reply)
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_nanos());
    let stamped = u128::try_from(message.timestamp).unwrap_or(0);
    let minute = Duration::from_secs(60).as_nanos();
    let stamp = if stamped.abs_diff(now) < 10 * minute {
        ""
    } else {
        " at a wrong time"
    };
    let data = String::from_utf8_lossy(&message.data);
    let head: String = data.chars().take(8).collect();
    format!(
        "{} {} {head:?}/{}{reply}{again}{stamp}",
        message.subject.replace(prefix, "@"),
        message.sequence,
        message.data.len()
    )
}
