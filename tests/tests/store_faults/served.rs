//! What clients get while the database refuses: heartbeats always, messages as long as the database can be read, and for
//! what they publish an acknowledgement or none, never a wrong one.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use tests::{
    patience,
    stan::{Client, Options, PublishError, SubscribeOptions, Subscription},
};
use tokio::time::timeout;

use crate::{
    block_on,
    load::CHANNEL,
    outage::Outage,
    plan::Refusal,
    rig::Rig,
    stage::{CLUSTER_ID, PATIENCE, Program, Stage},
};

/// Published before the database refuses: more than the broker reads at once.
const STORED: u64 = 2_500;

/// Of each message; there is always one that needs more room in the table.
const PAYLOAD_BYTES: usize = 1_000;

const ACK_WAIT: Duration = Duration::from_secs(1);

/// Most without acknowledgement by the consumer.
const MAX_IN_FLIGHT: u16 = 16;

/// Between two attempts to publish.
const PROBE_EVERY: Duration = Duration::from_millis(25);

/// Whether what is stored can be read meanwhile.
fn can_be_read(how: Refusal) -> bool {
    match how {
        Refusal::DiskFull | Refusal::ReadOnly { .. } | Refusal::InRecovery => true,
        Refusal::TooManyClients | Refusal::Password { .. } | Refusal::Address { .. } => false,
    }
}

/// One who publishes and counts what was acknowledged.
struct Caller {
    client: Client,
    acked: Cell<u64>,
}

impl Caller {
    async fn connect(stage: &Stage, id: &str, ack_wait: Duration) -> anyhow::Result<Self> {
        let options = Options::new(&stage.url, CLUSTER_ID, id).ack_wait(ack_wait);
        Ok(Self {
            client: Client::connect(options).await?,
            acked: Cell::new(0),
        })
    }

    /// Publishes one; whether it was acknowledged in time.
    async fn publish(&self) -> anyhow::Result<bool> {
        // Nothing that the database could make smaller.
        let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|_| fastrand::u8(..)).collect();
        match self.client.publish(CHANNEL, payload).await {
            Ok(()) => {
                self.acked.set(self.acked.get() + 1);
                Ok(true)
            }
            Err(PublishError::Unknown(_)) => Ok(false),
            Err(error) => Err(error).context("a publish is refused"),
        }
    }

    /// Publishes until nothing is acknowledged any more.
    async fn publish_until_silence(&self) -> anyhow::Result<()> {
        /// What fits into the room that tables had before.
        const MOST: usize = 1_000;
        for _ in 0..MOST {
            if !self.publish().await? {
                return Ok(());
            }
        }
        bail!("everything is acknowledged")
    }

    /// Publishes until something is acknowledged again.
    async fn publish_until_heard(&self) -> anyhow::Result<()> {
        let is_heard = Cell::new(false);
        let mut next = tokio::time::interval(PROBE_EVERY);
        let mut under_way = futures_util::stream::FuturesUnordered::new();
        let probing = async {
            while !is_heard.get() {
                tokio::select! {
                    _ = next.tick() => under_way.push(self.publish()),
                    Some(acked) = futures_util::StreamExt::next(&mut under_way) => {
                        is_heard.set(acked?);
                    }
                }
            }
            Ok(())
        };
        timeout(PATIENCE, probing).await.context("never heard")?
    }

    /// Waits for further heartbeats.
    async fn await_heartbeats(&self) -> anyhow::Result<()> {
        let enough = self.client.heartbeats() + 2;
        patience::until("heartbeats", PATIENCE, async || {
            let came = self.client.heartbeats();
            ensure!(came >= enough, "{came} of {enough}");
            Ok(())
        })
        .await
    }
}

/// Takes and acknowledges messages up to this one.
async fn consume(messages: &mut Subscription, up_to: u64) -> anyhow::Result<()> {
    loop {
        let next = timeout(PATIENCE, messages.next()).await;
        let message = next.context("no message")?.context("closed")?;
        messages.ack(&message).await?;
        if message.sequence >= up_to {
            return Ok(());
        }
    }
}

/// Has the database refuse; how long after its return a client was heard.
async fn serve(rig: &Rig, how: Refusal) -> anyhow::Result<Duration> {
    let dir = tempfile::tempdir()?;
    let mut stage = Stage::set(rig, &[Program::Broker], &[how], dir.path()).await?;
    let former = Caller::connect(&stage, "former", PATIENCE).await?;
    let stored = try_join_all((0..STORED).map(|_| former.publish())).await?;
    ensure!(stored.iter().all(|acked| *acked), "not all is stored");
    let caller = Caller::connect(&stage, "caller", ACK_WAIT).await?;
    let from_first = SubscribeOptions::from_first().max_in_flight(MAX_IN_FLIGHT);
    let mut messages = caller.client.subscribe(CHANNEL, from_first).await?;

    let outage = Outage::begin(&mut stage, how).await?;
    caller.publish_until_silence().await?;
    caller.await_heartbeats().await?;
    if can_be_read(how) {
        consume(&mut messages, STORED).await?;
    }
    outage.end(&mut stage).await?;
    let ended = Instant::now();
    caller.publish_until_heard().await?;
    let late = ended.elapsed();

    let stored = stage.last_sequence(CHANNEL).await?;
    let acked = former.acked.get() + caller.acked.get();
    ensure!(stored >= acked, "{acked} acknowledged, {stored} stored");
    consume(&mut messages, stored).await?;
    ensure!(caller.client.lost().is_none(), "the client was forgotten");
    stage.stop().await?;
    stage.clear().await?;
    let deaths = stage.recorder.take().deaths;
    ensure!(deaths.is_empty(), "{deaths:?}");
    Ok(late)
}

#[test]
fn clients_are_served_as_far_as_the_database_goes() {
    let rig = Rig::start().unwrap();
    let refusals = [
        Refusal::DiskFull,
        Refusal::TooManyClients,
        Refusal::ReadOnly {
            ends_sessions: true,
        },
        Refusal::InRecovery,
        Refusal::Password { in_file: true },
        Refusal::Address { by_name: true },
    ];
    for how in refusals.map(|how| rig.playable(how)) {
        let late = block_on(serve(&rig, how));
        let late = late.unwrap_or_else(|error| panic!("{how:?}: {error:?}"));
        println!(
            "{how:?}: heard {} ms after the database was back",
            late.as_millis()
        );
    }
}
