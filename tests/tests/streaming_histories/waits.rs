//! Steps that are over when a server has done something by itself: redelivered, missed a heartbeat, dropped a client.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::{
    history::{Channel, REST},
    known::{Identity, Judged},
    play::{PATIENCE, Player},
    profiles::{HEARTBEAT, MAX_INACTIVITY},
};

impl Player<'_> {
    pub(crate) fn came_again(&self, due: &BTreeSet<(Identity, u64)>) -> bool {
        let Some(seen) = self.seen.last() else {
            return false;
        };
        due.iter().all(|(identity, sequence)| {
            seen.heard.iter().any(|(name, heard)| {
                heard.again.contains(sequence) && self.is_called(identity, name)
            })
        })
    }

    /// Whether a name in the transcript is that of an identity.
    fn is_called(&self, identity: &Identity, name: &str) -> bool {
        match identity {
            Identity::Group {
                name: group,
                channel,
                ..
            } => name == format!("group {group} of {}", self.channel(*channel)),
            _ => self.known.subscriptions.iter().any(|(number, one)| {
                one.identity == *identity && name == format!("subscription {number}")
            }),
        }
    }

    /// Waits until everything that is not acknowledged came again.
    pub(crate) async fn outwait(&mut self) -> anyhow::Result<()> {
        let short = self.known.holdings.iter().filter(|(_, one)| one.short);
        let short = short.map(|(identity, _)| (identity.clone(), Judged::All));
        self.known.judged = short.collect();
        let (due, ack_wait_secs) = self.known.overdue();
        if due.is_empty() {
            return Ok(());
        }
        let ack_wait = Duration::from_secs(ack_wait_secs.unsigned_abs().into());
        let deadline = ack_wait * 2 + Duration::from_millis(1200);
        if let Some(expected) = self.expected {
            let place = self.seen.len() - 1;
            let expected = &expected[place];
            let covers = |player: &Self| player.seen[place].covers(expected);
            self.until(ack_wait + deadline, covers).await.map(drop)
        } else {
            self.until(deadline, |player| player.came_again(&due))
                .await
                .map(drop)
        }
    }

    /// Waits until channels are deleted that nobody uses. Nobody has a position there any more.
    pub(crate) async fn rest(&mut self) -> anyhow::Result<()> {
        self.pass(MAX_INACTIVITY + Duration::from_secs(1)).await?;
        let rest = Channel::Usual(REST);
        self.known.forget_unused(rest, &self.channel(rest));
        Ok(())
    }

    /// A client answers no heartbeat any more; it does not even listen if it is `gone`.
    pub(crate) fn silence(&mut self, client: usize, gone: bool) {
        let Some(attempt) = self.registered(client) else {
            return;
        };
        let attempt = &mut self.attempts[attempt];
        attempt.answers = false;
        if gone {
            self.connection.unsubscribe(attempt.sid);
        }
    }

    pub(crate) async fn dropped(&mut self, client: usize) -> anyhow::Result<()> {
        if self.registered(client).is_none() {
            return Ok(());
        }
        self.silence(client, true);
        self.known.loosen(client);
        // Two heartbeats in vain, and a machine that is busy.
        self.until_unknown(client, HEARTBEAT * 4 + PATIENCE).await?;
        self.known.close(client);
        Ok(())
    }

    /// Asks until the server does not know a client any more.
    pub(crate) async fn until_unknown(
        &mut self,
        client: usize,
        within: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let known = self.ask_whether_known(client);
            self.answers().await?;
            if !self.take_known(known) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the client is not dropped");
            self.pass(Duration::from_millis(20)).await?;
        }
    }

    pub(crate) async fn missed(&mut self, client: usize) -> anyhow::Result<()> {
        let Some(attempt) = self.registered(client) else {
            return Ok(());
        };
        self.silence(client, false);
        // When the second one comes, the first one's time was over.
        let wanted = self.attempts[attempt].unanswered + 2;
        let noticed = self
            .until(HEARTBEAT * 4 + PATIENCE, |player| {
                player.attempts[attempt].unanswered >= wanted
            })
            .await?;
        ensure!(noticed, "heartbeats do not come");
        self.known.clients.entry(client).or_default().missed = true;
        Ok(())
    }

    pub(crate) async fn revive(&mut self, client: usize) -> anyhow::Result<()> {
        let Some(attempt) = self.registered(client) else {
            return Ok(());
        };
        self.attempts[attempt].answers = true;
        let wanted = self.attempts[attempt].answered + 1;
        let heard = self
            .until(HEARTBEAT * 4 + PATIENCE, |player| {
                player.attempts[attempt].answered >= wanted
            })
            .await?;
        ensure!(heard, "heartbeats do not come");
        // Nothing tells when the server has taken the answer.
        self.pass(Duration::from_millis(100)).await?;
        self.known.clients.entry(client).or_default().missed = false;
        Ok(())
    }
}
