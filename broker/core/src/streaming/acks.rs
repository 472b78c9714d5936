//! Acknowledgements of consumers.

use broker_proto::streaming::AckView;

use super::{Engine, keys::SubKey};
use crate::durable::Sequence;

impl Engine {
    /// A message on an ack inbox. There is never an answer.
    pub(super) fn ack(&mut self, key: SubKey, generation: u32, payload: &[u8]) {
        let Some(sub) = self
            .subs
            .get(key)
            .filter(|sub| sub.generation == generation)
        else {
            return;
        };
        let Some(ack) = AckView::decode(payload) else {
            return;
        };
        if *ack.subject != *self.channels[sub.channel].name.as_bytes() {
            return;
        }
        let sequence = Sequence(ack.sequence);
        if !self.acknowledge(key, sequence)
            && let Some(group) = self.subs[key].group
        {
            // Late: it was redelivered to another member, and is settled there.
            for at in 0..self.groups[group].members.len() {
                let member = self.groups[group].members[at];
                if self.acknowledge(member, sequence) {
                    break;
                }
            }
        }
        // In any case: room may have come from elsewhere.
        self.free_if_room(key);
        self.counters.acks_received += 1;
    }

    /// Takes a message out of what is pending at a subscription; false if it is not.
    pub(super) fn acknowledge(&mut self, key: SubKey, sequence: Sequence) -> bool {
        let sub = &mut self.subs[key];
        let is_pending = sub.pending.remove(sequence).is_some();
        if is_pending && !sub.is_dirty {
            self.mark_dirty(key);
        }
        is_pending
    }

    /// Lets new messages flow to a stalled subscription that has room again.
    pub(super) fn free_if_room(&mut self, key: SubKey) {
        let sub = &mut self.subs[key];
        if sub.is_stalled && sub.pending.len() < sub.capacity() {
            sub.is_stalled = false;
            self.wake_reader_of(key);
        }
    }
}
