//! What the storm's clients see.

use broker_proto::streaming::{MsgProto, PubAck, SubscriptionResponse};
use prost::Message as _;

use super::{
    super::{harness::ACKS, invariants::Event},
    Storm,
};

impl Storm {
    /// Looks at everything the server published, and judges it.
    pub(super) fn observe(&mut self) {
        for (subject, payload) in std::mem::take(&mut self.world.published) {
            if subject == ACKS {
                self.observe_ack(PubAck::decode(&payload[..]).unwrap());
            } else if let Some(request) = subject.strip_prefix("sub.") {
                let (at, attempt) = request.split_once('.').unwrap();
                let at: usize = at.parse().unwrap();
                if attempt == self.readers[at].attempts.to_string() {
                    self.observe_response(at, &payload);
                }
            } else if let Some(request) = subject.strip_prefix("end.") {
                let (at, attempt) = request.split_once('.').unwrap();
                let at: usize = at.parse().unwrap();
                if payload.is_empty() && attempt == self.readers[at].attempts.to_string() {
                    self.tell(&Event::Ended { reader: at });
                }
            } else if let Some(at) = subject.strip_prefix("in.") {
                self.observe_message(at.parse().unwrap(), MsgProto::decode(&payload[..]).unwrap());
            }
        }
    }

    fn observe_ack(&mut self, ack: PubAck) {
        if ack.error.is_empty() {
            let sent = self.sent.get_mut(&ack.guid);
            let sent = sent.expect("only ours are acked");
            sent.acked = Some(self.world.store.era(&sent.channel));
        }
        self.tell(&Event::Answered {
            guid: ack.guid,
            error: ack.error,
        });
    }

    fn observe_response(&mut self, at: usize, payload: &[u8]) {
        let response = SubscriptionResponse::decode(payload).unwrap();
        let reader = &mut self.readers[at];
        if !reader.is_asked || reader.ack_inbox.is_some() {
            return;
        }
        if response.error.is_empty() {
            reader.ack_inbox = Some(response.ack_inbox);
            reader.is_unsure = false;
            self.tell(&Event::Opened { reader: at });
            return;
        }
        // An end that a crash undid, say: done again before the next request.
        reader.is_asked = false;
        reader.is_unsure = true;
    }

    fn observe_message(&mut self, at: usize, message: MsgProto) {
        let reader = &mut self.readers[at];
        assert_eq!(reader.request.subject, message.subject);
        reader.outstanding.insert(message.sequence);
        let position = reader.position(self.world.store.era(&message.subject));
        self.received
            .entry(position)
            .or_default()
            .insert(message.sequence);
        self.tell(&Event::Delivered {
            reader: at,
            message,
        });
    }
}
