//! One publisher with many messages in flight over some channels, and subscribers of none, some or many.

use std::time::Duration;

use anyhow::ensure;

use super::{MAX_IN_FLIGHT, PAYLOAD_BYTES};
use crate::client::PATIENCE;
use crate::figures::{Quantity, Sample};
use crate::load::connections::settled;
use crate::server::Server;
use crate::streaming::{Start, StreamingClient, turn};

/// Publications without acknowledgement, as many as real clients allow themselves; and as far may they be ahead of
/// the slowest subscription.
const WINDOW: u64 = 16_384;

/// Who takes part. Subscriptions are dealt out to clients and to channels by turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fan {
    pub(crate) channels: usize,
    /// The first of the channels, to which messages are published by turns.
    pub(crate) busy: usize,
    pub(crate) clients: usize,
    pub(crate) subscriptions: usize,
    /// Messages a channel that the first pass publishes: as many as the server keeps, so that later ones meet full
    /// channels and both servers hold the same.
    pub(crate) kept: u64,
}

/// # Errors
/// When a message is lost or repeated, or the server fails otherwise.
pub(crate) fn measure(server: &Server, fan: Fan, length: Duration) -> anyhow::Result<Sample> {
    let before = settled(server)?;
    let mut load = Load::open(server, fan)?;
    let subscribed = match fan.subscriptions {
        0 => before,
        _ => settled(server)?,
    };
    let first = fan.kept * fan.busy as u64;
    let (published, usage) =
        crate::load::measured(server, first, length, |messages| load.pass(messages))?;
    let published = fan.whole_turns(published);
    let delivered = published * fan.subscriptions_of_a_channel();
    let mut sample = crate::load::sample(server, published, published + delivered, &usage)?;
    if fan.subscriptions > 0 {
        let added = subscribed.resident.saturating_sub(before.resident) as f64;
        let each = added / fan.subscriptions as f64;
        sample.set(Quantity::PerSubscription, each);
    }
    Ok(sample)
}

impl Fan {
    fn subscriptions_of_a_channel(self) -> u64 {
        (self.subscriptions / self.channels) as u64
    }

    /// As many messages for every busy channel.
    fn whole_turns(self, messages: u64) -> u64 {
        messages.next_multiple_of(self.busy as u64)
    }
}

#[derive(Debug)]
struct Load {
    fan: Fan,
    /// The publisher, and then the subscribers.
    clients: Vec<StreamingClient>,
    /// Client and number of the subscriptions that get something.
    busy: Vec<(usize, usize)>,
}

impl Load {
    fn open(server: &Server, fan: Fan) -> anyhow::Result<Self> {
        let channels: Vec<String> = (0..fan.channels)
            .map(|channel| format!("bench.{channel:06}"))
            .collect();
        let mut clients = (0..=fan.clients)
            .map(|_| StreamingClient::connect(server.address))
            .collect::<Result<Vec<_>, _>>()?;
        let mut busy = Vec::new();
        for number in 0..fan.subscriptions {
            let (client, channel) = (1 + number % fan.clients, number % fan.channels);
            let subscriber = &mut clients[client];
            let at = subscriber.subscribe(&channels[channel], Start::New, MAX_IN_FLIGHT)?;
            if channel < fan.busy {
                busy.push((client, at));
            }
        }
        clients[0].publish_to(&channels[..fan.busy], PAYLOAD_BYTES);
        Ok(Self { fan, clients, busy })
    }

    /// Publishes `messages` and takes every one of them where it is subscribed to.
    fn pass(&mut self, messages: u64) -> anyhow::Result<()> {
        let end = self.clients[0].published() + self.fan.whole_turns(messages);
        loop {
            let reached = self.delivered().min(self.clients[0].acknowledged());
            if reached >= end {
                break;
            }
            let publisher = &mut self.clients[0];
            let published = publisher.published();
            let most = end.min(reached + WINDOW).saturating_sub(published);
            publisher.publish(most);
            // Where the window has still room, there is no need to wait.
            let full = publisher.published() == published + most;
            let patience = if full { PATIENCE } else { Duration::ZERO };
            let news = turn(&mut self.clients, patience)?;
            ensure!(news || !full, "nothing comes for {PATIENCE:?}");
        }
        self.clients[0].expect_all_acknowledged()
    }

    /// Messages that have been delivered wherever they belong, but for a part of the last turn.
    fn delivered(&self) -> u64 {
        let busy = self.busy.iter();
        let slowest = busy
            .map(|(client, at)| self.clients[*client].delivered(*at))
            .min();
        slowest.map_or(u64::MAX, |each| each.saturating_mul(self.fan.busy as u64))
    }
}
