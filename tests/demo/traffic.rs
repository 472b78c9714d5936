//! 20,000 messages from a certified client while certificates rotate twice, read back by another.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tests::stan::{Client, Options, SubscribeOptions};

use crate::{
    screen,
    stage::{CLUSTER_ID, Stage},
};

const MESSAGES: usize = 20_000;
const CHANNEL: &str = "orders";
/// Publishes under way at a time.
const WINDOW: usize = 512;
/// Published together, then a pause: slow enough that a rotation happens between two messages.
const BURST: usize = 200;
const PAUSE: Duration = Duration::from_millis(40);
/// Without a delivery for this long, reading has come to its end.
const SILENCE: Duration = Duration::from_secs(15);

/// What the table shows.
pub(crate) struct Outcome {
    acknowledged: HashSet<usize>,
    read: HashSet<usize>,
    reconnects: u64,
    serials: Vec<String>,
    publishing: Duration,
    reading: Duration,
}

impl Outcome {
    fn lost(&self) -> usize {
        self.acknowledged.difference(&self.read).count()
    }

    /// Everything was acknowledged, and everything acknowledged was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.acknowledged.len() == MESSAGES && self.lost() == 0
    }

    pub(crate) fn rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![
            ("published".to_owned(), MESSAGES.to_string()),
            (
                "acknowledged".to_owned(),
                self.acknowledged.len().to_string(),
            ),
            ("read back".to_owned(), self.read.len().to_string()),
            ("lost".to_owned(), self.lost().to_string()),
            ("reconnects".to_owned(), self.reconnects.to_string()),
        ];
        let names = ["serial before", "after 1st rotation", "after 2nd rotation"];
        for (name, serial) in names.iter().zip(&self.serials) {
            rows.push(((*name).to_owned(), serial.clone()));
        }
        rows.push((
            "publishing took".to_owned(),
            format!("{:.2} s", self.publishing.as_secs_f64()),
        ));
        rows.push((
            "reading took".to_owned(),
            format!("{:.2} s", self.reading.as_secs_f64()),
        ));
        rows
    }
}

pub(crate) async fn run(stage: &Stage) -> anyhow::Result<Outcome> {
    let url = format!("tls://127.0.0.1:{}", stage.port);
    let options = |id| {
        Options::new(&url, CLUSTER_ID, id)
            .tls(stage.client_files().clone())
            .window(WINDOW)
    };
    let mut serials = vec![stage.serial().await?];

    let publisher = Client::connect(options("publisher")).await?;
    let began = Instant::now();
    let mut acknowledged = HashSet::new();
    // A third before each rotation: both happen with publishes under way.
    for (part, numbers) in thirds().into_iter().enumerate() {
        let publishing = publish(&publisher, numbers, &mut acknowledged);
        if part == 0 {
            publishing.await?;
        } else {
            let (published, serial) = tokio::join!(publishing, stage.rotate());
            published?;
            serials.push(serial.context("rotation")?);
        }
        let rotations = serials.len() - 1;
        screen::fact(
            "acknowledged",
            &format!("{} after {rotations} rotations", acknowledged.len()),
        );
    }
    let publishing = began.elapsed();

    let reader = Client::connect(options("reader")).await?;
    let began = Instant::now();
    let read = read_back(&reader).await?;
    let reading = began.elapsed();
    let reconnects = publisher.reconnects() + reader.reconnects();
    reader.close().await?;
    publisher.close().await?;
    Ok(Outcome {
        acknowledged,
        read,
        reconnects,
        serials,
        publishing,
        reading,
    })
}

fn thirds() -> [std::ops::Range<usize>; 3] {
    let third = MESSAGES / 3;
    [0..third, third..2 * third, 2 * third..MESSAGES]
}

async fn publish(
    publisher: &Client,
    numbers: std::ops::Range<usize>,
    acknowledged: &mut HashSet<usize>,
) -> anyhow::Result<()> {
    let mut pending = FuturesUnordered::new();
    for number in numbers {
        if number % BURST == 0 {
            tokio::time::sleep(PAUSE).await;
            screen::progress(number, MESSAGES);
        }
        let acknowledgement = publisher.publish_async(CHANNEL, number.to_string()).await?;
        pending.push(async move { acknowledgement.await.map(|()| number) });
        if pending.len() >= WINDOW {
            acknowledged.extend(pending.next().await.transpose()?);
        }
    }
    while let Some(number) = pending.next().await {
        acknowledged.insert(number?);
    }
    Ok(())
}

/// The numbers in the channel, from its beginning.
async fn read_back(reader: &Client) -> anyhow::Result<HashSet<usize>> {
    let from_first = SubscribeOptions::from_first().max_in_flight(1024);
    let mut channel = reader.subscribe(CHANNEL, from_first).await?;
    let mut read = HashSet::new();
    while read.len() < MESSAGES {
        let Ok(Some(delivery)) = tokio::time::timeout(SILENCE, channel.next()).await else {
            break;
        };
        channel.ack(&delivery).await?;
        let text = std::str::from_utf8(&delivery.payload)?;
        read.insert(
            text.parse()
                .with_context(|| format!("{text:?} is none of our messages"))?,
        );
    }
    channel.unsubscribe().await?;
    Ok(read)
}
