//! The reading end of a subscription: notes what is delivered and acknowledges what is not held back.

use std::collections::BTreeMap;

use tests::stan::{Delivery, Subscription};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::record::{Event, Shared, lock};

/// What a reader is told.
#[derive(Debug)]
enum Word {
    /// Acknowledges what was held back.
    Release(oneshot::Sender<()>),
    /// Closes the subscription.
    Leave(oneshot::Sender<anyhow::Result<()>>),
    /// Unsubscribes.
    Forget(oneshot::Sender<anyhow::Result<()>>),
}

/// A task that reads one subscription of one client; it ends with the value.
#[derive(Debug)]
pub(crate) struct Reader {
    words: mpsc::Sender<Word>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    pub(crate) fn start(subscription: Subscription, shared: Shared) -> Self {
        // Never more than one word at a time: whoever sends it waits for the answer.
        let (words, heard) = mpsc::channel(1);
        let task = tokio::spawn(read(subscription, shared, heard));
        Self { words, task }
    }

    /// Acknowledges what was held back.
    ///
    /// # Errors
    /// The reader has ended.
    pub(crate) async fn release(&self) -> anyhow::Result<()> {
        self.ask(Word::Release).await
    }

    /// Closes the subscription.
    ///
    /// # Errors
    /// The server says no.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        self.ask(Word::Leave).await?
    }

    /// Unsubscribes.
    ///
    /// # Errors
    /// The server says no.
    pub(crate) async fn forget(self) -> anyhow::Result<()> {
        self.ask(Word::Forget).await?
    }

    async fn ask<T>(&self, word: impl FnOnce(oneshot::Sender<T>) -> Word) -> anyhow::Result<T> {
        let (sender, answer) = oneshot::channel();
        self.words
            .send(word(sender))
            .await
            .map_err(|_| anyhow::anyhow!("the reader has ended"))?;
        Ok(answer.await?)
    }
}

async fn read(mut subscription: Subscription, shared: Shared, mut heard: mpsc::Receiver<Word>) {
    let mut held: BTreeMap<u64, Delivery> = BTreeMap::new();
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            delivery = subscription.next() => {
                let Some(delivery) = delivery else { return };
                if note(&shared, &delivery) {
                    held.insert(delivery.sequence, delivery);
                } else {
                    held.remove(&delivery.sequence);
                    acknowledge(&subscription, &shared, &delivery).await;
                }
            }
            word = heard.recv() => match word {
                None => return,
                Some(Word::Release(done)) => {
                    for delivery in std::mem::take(&mut held).into_values() {
                        acknowledge(&subscription, &shared, &delivery).await;
                    }
                    let _ = done.send(());
                }
                Some(Word::Leave(done)) => {
                    let _ = done.send(subscription.close().await.map_err(Into::into));
                    return;
                }
                Some(Word::Forget(done)) => {
                    let _ = done.send(subscription.unsubscribe().await.map_err(Into::into));
                    return;
                }
            }
        }
    }
}

/// Returns whether it is held back.
fn note(shared: &Shared, delivery: &Delivery) -> bool {
    let mut subscribed = lock(shared);
    subscribed.note(Event::Delivered {
        sequence: delivery.sequence,
        payload: String::from_utf8_lossy(&delivery.payload).into_owned(),
        is_redelivered: delivery.redelivered,
    });
    subscribed.holds(delivery.sequence)
}

/// Noted before it is sent: what is noted may have had an effect.
async fn acknowledge(subscription: &Subscription, shared: &Shared, delivery: &Delivery) {
    let sequence = delivery.sequence;
    lock(shared).note(Event::Acked { sequence });
    // Fails only when the connection is closed, and with it the subscription.
    let _ = subscription.ack(delivery).await;
}
