//! What the storm's clients do: publish, acknowledge, come and go.

use broker_proto::streaming::{Ack, CloseRequest, SubscriptionRequest, UnsubscribeRequest};
use prost::Message as _;

use super::{
    super::{harness::World, invariants::Event},
    CHANNELS, Sent, Storm,
};

impl Storm {
    pub(super) fn publish(&mut self) {
        for _ in 0..=self.dice.below(5) {
            let channel = CHANNELS[self.dice.below(3)];
            if self.is_avoided(channel, 30) {
                continue;
            }
            let data = format!("payload-{}", self.sent.len());
            let guid = self.world.publish_unflushed("p", channel, &data);
            self.tell(&Event::Published {
                guid: guid.clone(),
                channel: channel.into(),
                data: data.clone(),
            });
            let sent = Sent {
                channel: channel.into(),
                data,
                acked: None,
            };
            self.sent.insert(guid, sent);
        }
    }

    pub(super) fn ack(&mut self) {
        let at = self.dice.below(self.readers.len());
        for _ in 0..=self.dice.below(6) {
            let Some(sequence) = self.readers[at].outstanding.pop_first() else {
                return;
            };
            self.send_ack(at, sequence);
        }
    }

    pub(super) fn send_ack(&mut self, at: usize, sequence: u64) {
        let reader = &self.readers[at];
        let Some(ack_inbox) = reader.ack_inbox.clone() else {
            return;
        };
        let ack = Ack {
            subject: reader.request.subject.clone(),
            sequence,
        };
        self.tell(&Event::Acked {
            reader: at,
            sequence,
        });
        self.world
            .send_unflushed(&ack_inbox, "", &ack.encode_to_vec());
    }

    pub(super) fn subscribe(&mut self) {
        let at = self.dice.below(self.readers.len());
        let channel = self.readers[at].request.subject.clone();
        if !self.is_avoided(&channel, 8) {
            self.ask(at);
        }
    }

    /// Subscribes if that has not been done.
    pub(super) fn ask(&mut self, at: usize) {
        if !std::mem::replace(&mut self.readers[at].is_asked, true) {
            if self.readers[at].is_unsure {
                self.end_by_inbox(at);
            }
            self.tell(&Event::Asked { reader: at });
            let reader = &mut self.readers[at];
            reader.attempts += 1;
            let reply = format!("sub.{at}.{}", reader.attempts);
            let request = reader.request.encode_to_vec();
            self.world.send("_STAN.sub.test-cluster", &reply, &request);
        }
    }

    pub(super) fn end_subscription(&mut self) {
        let at = self.dice.below(self.readers.len());
        self.end(at);
    }

    /// Ends a subscription if it is open.
    pub(super) fn end(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let Some(inbox) = reader.ack_inbox.take() else {
            return;
        };
        let request = unsubscribe_request(&reader.request, inbox);
        self.tell(&Event::Ending { reader: at });
        let reply = format!("end.{at}.{}", self.readers[at].attempts);
        self.world
            .send("_STAN.subclose.test-cluster", &reply, &request);
        self.forget(at);
    }

    /// The client no longer has this subscription.
    pub(super) fn forget(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        reader.ack_inbox = None;
        reader.is_asked = false;
        reader.outstanding.clear();
    }

    pub(super) fn close_client(&mut self) {
        let id = ["x", "y"][self.dice.below(2)];
        let close = CloseRequest {
            client_id: id.into(),
        };
        for at in 0..self.readers.len() {
            if self.readers[at].request.client_id == id {
                self.tell(&Event::Ending { reader: at });
            }
        }
        self.world
            .send("_STAN.close.test-cluster", "", &close.encode_to_vec());
        for at in 0..self.readers.len() {
            if self.readers[at].request.client_id == id {
                self.forget(at);
            }
        }
        self.observe();
        let connect = World::connect_request(id).encode_to_vec();
        self.world.send("_STAN.discover.test-cluster", "", &connect);
    }

    /// Ends a subscription whose ack inbox is not known, by its delivery inbox, as clients do.
    fn end_by_inbox(&mut self, at: usize) {
        let request = &self.readers[at].request;
        let request = unsubscribe_request(request, request.inbox.clone());
        self.tell(&Event::Ending { reader: at });
        self.world
            .send_unflushed("_STAN.subclose.test-cluster", "", &request);
    }
}

/// Encoded. `inbox` is the one by which the subscription is named.
fn unsubscribe_request(subscribed: &SubscriptionRequest, inbox: String) -> Vec<u8> {
    let request = UnsubscribeRequest {
        client_id: subscribed.client_id.clone(),
        subject: subscribed.subject.clone(),
        inbox,
        ..Default::default()
    };
    request.encode_to_vec()
}
