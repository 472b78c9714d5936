//! What a client of the load knows of one subscription: every message must come once and in order, and is acknowledged.

use anyhow::{Context, ensure};

use super::frames::{self, Acks};

#[derive(Debug)]
pub(crate) struct Subscription {
    /// None until the server has answered; messages may come before.
    acks: Option<(Acks, String)>,
    /// Of the next message; none until the first has come, where it may be any.
    next: Option<u64>,
    delivered: u64,
    /// Messages that came before the server's answer.
    owed: u64,
}

impl Subscription {
    /// With the sequence that must come first, if it is known.
    pub(crate) fn new(first: Option<u64>) -> Self {
        Self {
            acks: None,
            next: first,
            delivered: 0,
            owed: 0,
        }
    }

    /// The server has answered: what came before is acknowledged now.
    pub(crate) fn confirm(&mut self, acks: Acks, ack_inbox: String, out: &mut Vec<u8>) {
        if let Some(next) = self.next {
            for sequence in next - self.owed..next {
                acks.put(out, sequence);
            }
        }
        self.owed = 0;
        self.acks = Some((acks, ack_inbox));
    }

    /// Empty until the server has answered.
    pub(crate) fn ack_inbox(&self) -> &str {
        self.acks.as_ref().map_or("", |(_, inbox)| inbox)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Takes a message and acknowledges it.
    ///
    /// # Errors
    /// When it is not the next one.
    pub(crate) fn deliver(&mut self, message: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        let sequence = frames::sequence(message).context("a message without a sequence")?;
        let expected = self.next.unwrap_or(sequence);
        ensure!(
            sequence == expected,
            "message {sequence} came instead of {expected}"
        );
        self.next = Some(sequence + 1);
        self.delivered += 1;
        match &self.acks {
            Some((acks, _)) => acks.put(out, sequence),
            None => self.owed += 1,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u8) -> [u8; 2] {
        assert!(sequence < 0x80);
        [0x08, sequence]
    }

    #[test]
    fn a_hole_and_a_repetition_are_errors() {
        let mut out = Vec::new();
        let mut subscription = Subscription::new(None);
        subscription.deliver(&message(5), &mut out).unwrap();
        subscription.deliver(&message(6), &mut out).unwrap();
        assert!(subscription.deliver(&message(6), &mut out).is_err());
        assert!(subscription.deliver(&message(8), &mut out).is_err());
        let mut subscription = Subscription::new(Some(1));
        assert!(subscription.deliver(&message(2), &mut out).is_err());
    }

    #[test]
    fn what_came_before_the_answer_is_acknowledged_after_it() {
        let mut out = Vec::new();
        let mut subscription = Subscription::new(None);
        for sequence in 3..6 {
            subscription.deliver(&message(sequence), &mut out).unwrap();
        }
        assert!(out.is_empty());
        let acks = Acks::new("inbox", "c");
        subscription.confirm(acks, "inbox".to_owned(), &mut out);
        subscription.deliver(&message(6), &mut out).unwrap();
        let acks = Acks::new("inbox", "c");
        let mut expected = Vec::new();
        (3..=6).for_each(|sequence| acks.put(&mut expected, sequence));
        assert_eq!(out, expected);
    }
}
