//! Clients that publish and consume, and write down everything that they send and see.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use fastrand::Rng;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tests::{
    patience,
    stan::{Client, Options, Pending, PublishError, SubscribeOptions, Subscription},
};
use tokio::time::Instant;

use crate::{
    plan::{Consuming, Publishing},
    record::{MessageId, Opening, Outcome, Publish, Recorder},
    stage::{CLUSTER_ID, PATIENCE},
};

pub(crate) const CHANNEL: &str = "faults";

/// What a kill swallowed holds its place in the window until then.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// All later messages are acknowledged when they come for the first time: what is not holds others up for the whole ack
/// wait, and rounds are to come to an end.
const RELUCTANT_UP_TO: u64 = 1000;

/// The same for a prober, which is to find the moment when it is served again.
const PROBE_WAIT: Duration = Duration::from_millis(500);

/// Between two messages of a prober.
const PROBE_EVERY: Duration = Duration::from_millis(25);

/// How long one request may take before the client gives up and comes anew.
const REQUEST_WAIT: Duration = Duration::from_secs(5);

/// Where clients connect, and what they write into.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) url: String,
    pub(crate) recorder: Recorder,
}

impl Ground {
    fn options(&self, id: &str) -> Options {
        let mut options = Options::new(&self.url, CLUSTER_ID, id).ack_wait(ACK_WAIT);
        options.request_wait = REQUEST_WAIT;
        options
    }

    /// Connects, again and again if need be.
    async fn client(&self, id: &str, window: usize) -> anyhow::Result<Client> {
        self.connect(self.options(id).window(window)).await
    }

    async fn connect(&self, options: Options) -> anyhow::Result<Client> {
        let what = format!("{} connects", options.client_id);
        patience::until(&what, PATIENCE, async || {
            Ok(Client::connect(options.clone()).await?)
        })
        .await
    }
}

/// One who publishes; never the same message twice.
#[derive(Debug)]
pub(crate) struct Publisher {
    client: Client,
    recorder: Recorder,
    number: usize,
    sent: Cell<u64>,
    payload_bytes: usize,
}

impl Publisher {
    pub(crate) async fn connect(
        ground: &Ground,
        number: usize,
        window: usize,
        payload_bytes: usize,
    ) -> anyhow::Result<Self> {
        let client = ground
            .client(&format!("publisher-{number}"), window)
            .await?;
        Ok(Self {
            client,
            recorder: ground.recorder.clone(),
            number,
            sent: Cell::new(0),
            payload_bytes,
        })
    }

    /// One that gives up soon.
    pub(crate) async fn prober(ground: &Ground, number: usize) -> anyhow::Result<Self> {
        let options = ground.options(&format!("publisher-{number}"));
        Ok(Self {
            client: ground.connect(options.ack_wait(PROBE_WAIT)).await?,
            recorder: ground.recorder.clone(),
            number,
            sent: Cell::new(0),
            payload_bytes: 0,
        })
    }

    /// Publishes at an even pace, whatever becomes of it, until it is told to stop.
    pub(crate) async fn probe(&self, stop: &Cell<bool>) -> anyhow::Result<()> {
        let mut under_way = FuturesUnordered::new();
        let mut next = tokio::time::interval(PROBE_EVERY);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.get() {
            tokio::select! {
                _ = next.tick() => {
                    let (place, pending) = self.send().await?;
                    under_way.push(async move { (place, pending.await) });
                }
                Some((place, outcome)) = under_way.next() => {
                    self.note(place, outcome)?;
                }
            }
        }
        while let Some((place, outcome)) = under_way.next().await {
            self.note(place, outcome)?;
        }
        Ok(())
    }

    /// Sends the next message; its place in the history comes back with what will be known.
    async fn send(&self) -> anyhow::Result<(usize, Pending)> {
        self.sent.set(self.sent.get() + 1);
        let id = MessageId {
            publisher: self.number,
            number: self.sent.get(),
        };
        let place = self.recorder.write(|history, sent| {
            history.publishes.push(Publish {
                id,
                sent,
                outcome: None,
            });
            history.publishes.len() - 1
        });
        let payload = id.payload(self.payload_bytes);
        Ok((place, self.client.publish_async(CHANNEL, payload).await?))
    }

    fn note(&self, place: usize, outcome: Result<(), PublishError>) -> anyhow::Result<bool> {
        let outcome = match outcome {
            Ok(()) => Outcome::Acked,
            Err(PublishError::Refused(reason)) => Outcome::Refused(reason),
            Err(PublishError::Unknown(_)) => Outcome::Unknown,
            Err(PublishError::Closed) => anyhow::bail!("a publisher's client was closed"),
        };
        let is_acked = outcome == Outcome::Acked;
        self.recorder.write(|history, now| {
            let publish = &mut history.publishes[place];
            publish.outcome = Some((now, outcome));
            if is_acked {
                history.heard_since = history.heard_since.max(publish.sent);
            }
        });
        Ok(is_acked)
    }

    /// Publishes one; whether it was acknowledged.
    pub(crate) async fn publish(&self) -> anyhow::Result<bool> {
        let (place, pending) = self.send().await?;
        self.note(place, pending.await)
    }

    /// Publishes one message after the other until one is acknowledged: everything before it was handled or is lost.
    pub(crate) async fn publish_until_acked(&self) -> anyhow::Result<()> {
        let what = format!("publisher {} is heard", self.number);
        patience::until(&what, PATIENCE, async || {
            anyhow::ensure!(self.publish().await?, "no acknowledgement");
            Ok(())
        })
        .await
    }

    /// Publishes as fast as acknowledgements come, with short pauses, until it is told to stop.
    pub(crate) async fn run(
        &self,
        plan: &Publishing,
        mut rng: Rng,
        stop: &Cell<bool>,
    ) -> anyhow::Result<()> {
        let mut under_way = FuturesUnordered::new();
        let mut left_of_burst = plan.burst;
        while !stop.get() {
            let (place, pending) = self.send().await?;
            under_way.push(async move { (place, pending.await) });
            while under_way.len() >= plan.window {
                if let Some((place, outcome)) = under_way.next().await {
                    self.note(place, outcome)?;
                }
            }
            left_of_burst -= 1;
            if left_of_burst == 0 {
                left_of_burst = plan.burst;
                // Others need the processor too; what comes meanwhile is taken with its time.
                let pause = tokio::time::sleep(Duration::from_millis(rng.u64(5..60)));
                tokio::pin!(pause);
                loop {
                    tokio::select! {
                        () = &mut pause => break,
                        Some((place, outcome)) = under_way.next() => {
                            self.note(place, outcome)?;
                        }
                    }
                }
            }
        }
        while let Some((place, outcome)) = under_way.next().await {
            self.note(place, outcome)?;
        }
        self.publish_until_acked().await
    }

    /// Leaves; notes it if the server had forgotten the client before.
    pub(crate) async fn leave(self) {
        if let Some(reason) = self.client.lost() {
            let words = format!("{}: {reason}", self.client.id());
            self.recorder
                .write(|history, _| history.forgotten_clients.push(words));
        }
        // The server is about to be stopped anyway.
        let _ = self.client.close().await;
    }
}

/// One durable, which its members share.
#[derive(Debug)]
pub(crate) struct Durable<'a> {
    ground: Ground,
    plan: &'a Consuming,
    /// Place in the history.
    place: usize,
    seen: RefCell<BTreeSet<u64>>,
    acked: RefCell<BTreeSet<u64>>,
}

/// The last sequence there is, when it is known.
pub(crate) type Goal = Rc<Cell<Option<u64>>>;

impl<'a> Durable<'a> {
    pub(crate) fn new(ground: &Ground, plan: &'a Consuming) -> Self {
        let place = ground.recorder.write(|history, _| {
            history.durables.push(plan.durable.to_owned());
            history.durables.len() - 1
        });
        Self {
            ground: ground.clone(),
            plan,
            place,
            seen: RefCell::default(),
            acked: RefCell::default(),
        }
    }

    fn is_complete(&self, goal: &Goal) -> bool {
        let acked = self.acked.borrow();
        goal.get().is_some_and(|last| acked.len() as u64 >= last)
    }

    fn options(&self) -> SubscribeOptions {
        let options = SubscribeOptions::from_first()
            .durable(self.plan.durable)
            .max_in_flight(self.plan.max_in_flight)
            .ack_wait_secs(self.plan.ack_wait_secs);
        match self.plan.members {
            Some(_) => options.queue_group("group"),
            None => options,
        }
    }

    /// Stays for a while, closes, comes back, until everything up to the goal is acknowledged, or `deadline` after the
    /// goal is known.
    pub(crate) async fn consume(
        &self,
        member: usize,
        mut rng: Rng,
        goal: &Goal,
    ) -> anyhow::Result<()> {
        let id = format!("{}-{member}", self.plan.durable);
        let mut client = self.ground.client(&id, 1).await?;
        let mut deadline = None;
        loop {
            if goal.get().is_some() {
                deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(());
            }
            let Ok(mut subscription) = client.subscribe(CHANNEL, self.options()).await else {
                // Perhaps it is open still, because a close was lost.
                client = self.renew(client, &id).await?;
                continue;
            };
            let opening = self.ground.recorder.write(|history, opened| {
                history.openings.push(Opening {
                    durable: self.place,
                    opened,
                    closed: None,
                });
                history.openings.len() - 1
            });
            let stay = Duration::from_millis(rng.u64(self.plan.stay.clone()));
            self.stay(&mut subscription, opening, stay, &mut rng, goal)
                .await?;
            let is_last = self.is_complete(goal);
            if subscription.close().await.is_ok() {
                self.ground.recorder.write(|history, now| {
                    history.openings[opening].closed = Some(now);
                });
                if is_last {
                    break;
                }
            } else {
                client = self.renew(client, &id).await?;
            }
        }
        // The server is about to be stopped anyway.
        let _ = client.close().await;
        Ok(())
    }

    /// Connects anew under the same name; the server finds that the former connection is gone.
    async fn renew(&self, client: Client, id: &str) -> anyhow::Result<Client> {
        drop(client);
        self.ground.client(id, 1).await
    }

    async fn stay(
        &self,
        subscription: &mut Subscription,
        opening: usize,
        stay: Duration,
        rng: &mut Rng,
        goal: &Goal,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + stay;
        while !self.is_complete(goal) {
            let next = tokio::time::timeout_at(until, subscription.next());
            let Ok(delivery) = next.await else {
                return Ok(());
            };
            let delivery = delivery.context("a consumer's client was closed")?;
            let sequence = delivery.sequence;
            let is_first = self.seen.borrow_mut().insert(sequence);
            let place = self.ground.recorder.write(|history, at| {
                history.deliveries.push(crate::record::Delivery {
                    opening,
                    sequence,
                    id: MessageId::parse(&delivery.payload),
                    redelivered: delivery.redelivered,
                    at,
                    acked: None,
                });
                history.deliveries.len() - 1
            });
            let is_reluctant = is_first && sequence <= RELUCTANT_UP_TO;
            if is_reluctant && rng.u8(0..100) >= self.plan.acked_percent {
                continue;
            }
            subscription.ack(&delivery).await?;
            self.ground.recorder.write(|history, now| {
                history.deliveries[place].acked = Some(now);
            });
            self.acked.borrow_mut().insert(sequence);
        }
        Ok(())
    }
}
