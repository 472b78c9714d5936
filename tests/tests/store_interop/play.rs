//! Clients that do what a history says, over all its turns; they notice of a change of servers only that their
//! connection was lost for a moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_nats::connection::State;
use tests::{
    patience,
    stan::{Client, Options, PublishError, StanError, SubscribeOptions},
    streaming_server::CLUSTER_ID,
};
use tokio::time::sleep;

use crate::{
    judge::Judge,
    plan::{Channel, Kind, Plan, Role, Start, Step, Turn},
    reader::Reader,
    record::{Key, Ledger, Publish, Shared, Subscribed, lock},
    rig::Rig,
    tables::Tables,
};

/// For whatever must happen, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the tables.
const PAUSE: Duration = Duration::from_millis(200);

/// What a server says of a channel that it has begun to delete.
const BEING_DELETED: &str = "stan: channel is being deleted";

/// More often than there are steps between a connection and the reader of a subscription, and messages on the way.
const READERS_TURNS: usize = 5_000;

/// Length of a payload in the small channel, which is full after a dozen.
const SMALL_PAYLOAD: usize = 200;

/// The clients of a history and what they have written down.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    plan: &'a Plan,
    url: String,
    clients: BTreeMap<usize, Client>,
    /// By role and client.
    readers: BTreeMap<(usize, usize), Reader>,
    /// By role: the subscription that exists now.
    subscribed: BTreeMap<usize, Shared>,
    /// By role: the client that has joined last.
    owners: BTreeMap<usize, usize>,
    publishes: Vec<Publish>,
    idle_guarded: Option<Instant>,
    turn: usize,
    patience: Duration,
}

impl<'a> Player<'a> {
    pub(crate) fn new(plan: &'a Plan, url: String, patience: Duration) -> Self {
        Self {
            plan,
            url,
            clients: BTreeMap::new(),
            readers: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            owners: BTreeMap::new(),
            publishes: Vec::new(),
            idle_guarded: None,
            turn: 0,
            patience,
        }
    }

    /// What is known now.
    pub(crate) fn ledger(&self) -> Ledger {
        let clients = self.clients.keys().map(|client| client_id(*client));
        Ledger {
            turn: self.turn,
            publishes: self.publishes.clone(),
            subscribed: self
                .subscribed
                .values()
                .map(|one| lock(one).clone())
                .collect(),
            clients: clients.collect(),
            idle_guarded: self.idle_guarded,
        }
    }

    /// Plays the steps of a turn; what the judge does not like.
    ///
    /// # Errors
    /// When a server does not do what it must.
    pub(crate) async fn play(
        &mut self,
        nr: usize,
        turn: &Turn,
        rig: &Rig,
        judge: &Judge,
    ) -> anyhow::Result<Vec<String>> {
        for step in &turn.steps {
            let faults = self.step(*step, rig, judge).await;
            let faults = faults.with_context(|| format!("turn {nr}, {step:?}"))?;
            if !faults.is_empty() {
                return Ok(faults);
            }
        }
        if turn.settled {
            return self.settle(rig, judge).await;
        }
        Ok(Vec::new())
    }

    async fn step(&mut self, step: Step, rig: &Rig, judge: &Judge) -> anyhow::Result<Vec<String>> {
        match step {
            Step::Publish {
                client,
                channel,
                messages,
            } => self.publish(client, channel, messages, true).await?,
            Step::Hurry { client, messages } => {
                self.publish(client, Channel::Orders, messages, false)
                    .await?;
            }
            Step::Join { client, role } => self.join(client, role).await?,
            Step::Leave { client, role } => self.part(client, role, false).await?,
            Step::Forget { client, role } => self.part(client, role, true).await?,
            Step::Release { role } => self.release(role).await?,
            Step::GoAway { client } => self.go_away(client).await?,
            Step::Settle => return self.settle(rig, judge).await,
            Step::Expire { client } => return self.expire(client, rig).await,
            Step::Desert { client } => return self.desert(client, rig).await,
        }
        Ok(Vec::new())
    }

    async fn client(&mut self, client: usize) -> anyhow::Result<&Client> {
        if !self.clients.contains_key(&client) {
            let options = Options::new(&self.url, CLUSTER_ID, &client_id(client));
            let connected = Client::connect(options.ack_wait(PATIENCE)).await?;
            self.clients.insert(client, connected);
        }
        Ok(&self.clients[&client])
    }

    async fn publish(
        &mut self,
        client: usize,
        channel: Channel,
        messages: usize,
        waits: bool,
    ) -> anyhow::Result<()> {
        let first = self.publishes.len();
        let mut under_way = Vec::new();
        for nr in first..first + messages {
            let mut payload = format!("{}-{nr}", channel.name());
            if channel == Channel::Small {
                payload = format!("{payload:.<SMALL_PAYLOAD$}");
            }
            self.publishes.push(Publish {
                channel,
                payload: payload.clone(),
                sent: Instant::now(),
                is_acked: false,
            });
            let client = self.client(client).await?;
            under_way.push(client.publish_async(channel.name(), payload).await?);
        }
        if waits {
            for (nr, pending) in (first..).zip(under_way) {
                match pending.await {
                    Ok(()) => self.publishes[nr].is_acked = true,
                    Err(PublishError::Refused(reason)) if reason == BEING_DELETED => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Whether this would be a new subscription, or the next member of one.
    fn may_join(&self, client: usize, nr: usize, role: &Role) -> bool {
        let is_taken = self
            .readers
            .keys()
            .any(|(of, who)| *of == nr && (*who == client || !role.kind.is_group()));
        // Plain subscriptions have no name in the tables but their client's.
        let has_same_name = self.subscribed.iter().any(|(other, shared)| {
            *other != nr
                && self.plan.roles[*other].kind == Kind::Plain
                && role.kind == Kind::Plain
                && lock(shared).key == key_of(role, nr, client)
        });
        // A durable belongs to its client: under the same name another one has another.
        let is_foreign = role.kind == Kind::Durable
            && self.owners.get(&nr).is_some_and(|owner| *owner != client);
        !is_taken && !has_same_name && !is_foreign
    }

    async fn join(&mut self, client: usize, nr: usize) -> anyhow::Result<()> {
        let role = self.plan.roles[nr].clone();
        if !self.may_join(client, nr, &role) {
            return Ok(());
        }
        self.owners.insert(nr, client);
        let turn = self.turn;
        let publishes_before = self.publishes.len();
        let options = options(&role, nr);
        let subscribing = self
            .client(client)
            .await?
            .subscribe(role.channel.name(), options);
        let subscription = match subscribing.await {
            Err(StanError::Refused { reason, .. }) if reason == BEING_DELETED => return Ok(()),
            subscribed => subscribed?,
        };
        let key = key_of(&role, nr, client);
        let shared = self.subscribed.entry(nr).or_insert_with(|| {
            Arc::new(Mutex::new(Subscribed {
                role: role.clone(),
                key,
                members: BTreeSet::new(),
                events: Vec::new(),
                settled: 0,
                has_left: false,
                doubtful: BTreeSet::new(),
                publishes_before,
                is_released: false,
                created: turn,
                turn,
            }))
        });
        lock(shared).members.insert(client);
        if role.channel == Channel::Idle {
            self.idle_guarded.get_or_insert_with(Instant::now);
        }
        let reader = Reader::start(subscription, Arc::clone(shared));
        self.readers.insert((nr, client), reader);
        Ok(())
    }

    async fn part(&mut self, client: usize, nr: usize, forever: bool) -> anyhow::Result<()> {
        // The young channel's keeper stays.
        if forever && self.plan.roles[nr].channel == Channel::Young {
            return Ok(());
        }
        let Some(reader) = self.readers.remove(&(nr, client)) else {
            return Ok(());
        };
        self.parts(client, nr, forever);
        match forever {
            true => reader.forget().await,
            false => reader.leave().await,
        }
    }

    /// Notes that a client is no member any more.
    fn parts(&mut self, client: usize, nr: usize, forever: bool) {
        let Some(shared) = self.subscribed.get(&nr) else {
            return;
        };
        let mut subscribed = lock(shared);
        subscribed.doubt();
        subscribed.members.remove(&client);
        subscribed.has_left = true;
        let ends = subscribed.members.is_empty() && (forever || !subscribed.role.kind.is_durable());
        drop(subscribed);
        if ends {
            self.subscribed.remove(&nr);
            self.owners.remove(&nr);
            let guarded = self
                .subscribed
                .keys()
                .any(|nr| self.plan.roles[*nr].channel == Channel::Idle);
            self.idle_guarded = self.idle_guarded.filter(|_| guarded);
        }
    }

    async fn release(&mut self, nr: usize) -> anyhow::Result<()> {
        if let Some(shared) = self.subscribed.get(&nr) {
            lock(shared).is_released = true;
        }
        for ((of, _), reader) in &self.readers {
            if *of == nr {
                reader.release().await?;
            }
        }
        Ok(())
    }

    async fn go_away(&mut self, client: usize) -> anyhow::Result<()> {
        let Some(connected) = self.clients.remove(&client) else {
            return Ok(());
        };
        let roles: Vec<usize> = self
            .readers
            .keys()
            .filter(|(_, who)| *who == client)
            .map(|(nr, _)| *nr)
            .collect();
        for nr in roles {
            self.readers.remove(&(nr, client));
            self.parts(client, nr, false);
        }
        connected.close().await?;
        Ok(())
    }

    /// Waits until the tables say what the clients know, and the clients have what they must; else what is missing.
    async fn settle(&mut self, rig: &Rig, judge: &Judge) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + self.patience;
        loop {
            let ledger = self.ledger();
            let tables = rig.tables()?;
            let mut faults = judge.settled(&ledger, &tables, Instant::now());
            faults.extend(self.clients.values().filter_map(|client| {
                client
                    .lost()
                    .map(|reason| format!("client {} is unknown: {reason}", client.id()))
            }));
            if faults.is_empty() {
                for (shared, then) in self.subscribed.values().zip(&ledger.subscribed) {
                    let mut subscribed = lock(shared);
                    subscribed.settled = then.events.len();
                    subscribed.has_left = false;
                }
                return Ok(faults);
            }
            if Instant::now() > deadline {
                return Ok(faults);
            }
            sleep(PAUSE).await;
        }
    }

    async fn expire(&mut self, client: usize, rig: &Rig) -> anyhow::Result<Vec<String>> {
        self.publish(client, Channel::Young, 2, true).await?;
        wait(
            rig,
            "the young channel's messages expire",
            self.patience,
            |tables| {
                tables
                    .channels
                    .get(Channel::Young.name())
                    .is_none_or(|kept| kept.messages.is_empty())
            },
        )
        .await
    }

    async fn desert(&mut self, client: usize, rig: &Rig) -> anyhow::Result<Vec<String>> {
        if self.idle_guarded.is_some() {
            return Ok(Vec::new());
        }
        self.publish(client, Channel::Idle, 2, true).await?;
        wait(rig, "the idle channel goes", self.patience, |tables| {
            !tables.channels.contains_key(Channel::Idle.name())
        })
        .await
    }

    /// Waits until everything that the server has sent was read.
    ///
    /// # Errors
    /// When a connection outlives its server.
    pub(crate) async fn notices_the_end(&self) -> anyhow::Result<()> {
        patience::until("all connections are lost", PATIENCE, async || {
            for client in self.clients.values() {
                let state = client.nats().connection_state();
                ensure!(state != State::Connected, "{} is connected", client.id());
            }
            Ok(())
        })
        .await?;
        // Readers have their turns until nothing is left.
        for _ in 0..READERS_TURNS {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// What comes from now on comes from the server of this turn.
    pub(crate) fn expect(&mut self, turn: usize) {
        self.turn = turn;
        for subscribed in self.subscribed.values() {
            lock(subscribed).turn = turn;
        }
    }

    /// The server has ended and has left these tables.
    pub(crate) fn hands_over(&mut self, tables: &Tables) {
        for subscribed in self.subscribed.values() {
            let mut subscribed = lock(subscribed);
            subscribed.doubt();
            if let Some(position) = tables.positions.get(&subscribed.key) {
                subscribed.agree_with(position);
            }
        }
    }
}

async fn wait(
    rig: &Rig,
    what: &str,
    patience: Duration,
    done: impl Fn(&Tables) -> bool,
) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + patience;
    while !done(&rig.tables()?) {
        if Instant::now() > deadline {
            return Ok(vec![format!("not within {patience:?}: {what}")]);
        }
        sleep(PAUSE).await;
    }
    Ok(Vec::new())
}

fn client_id(client: usize) -> String {
    format!("client-{client}")
}

fn key_of(role: &Role, nr: usize, client: usize) -> Key {
    Key {
        channel: role.channel.name().to_owned(),
        name: match role.kind {
            Kind::Plain => client_id(client),
            Kind::Durable => format!("durable-{nr}"),
            Kind::Group => format!("group-{nr}"),
            Kind::DurableGroup => format!("durable-{nr}:group-{nr}"),
        },
    }
}

fn options(role: &Role, nr: usize) -> SubscribeOptions {
    let mut options = match role.start {
        Start::First => SubscribeOptions::from_first(),
        Start::New => SubscribeOptions::new_only(),
        Start::Last => SubscribeOptions::from_last(),
        Start::Sequence(sequence) => SubscribeOptions::from_sequence(sequence),
    };
    if role.kind.is_durable() {
        options = options.durable(&format!("durable-{nr}"));
    }
    if role.kind.is_group() {
        options = options.queue_group(&format!("group-{nr}"));
    }
    options
        .max_in_flight(role.max_in_flight)
        .ack_wait_secs(role.ack_wait_secs)
}
