//! Messages from publishers: validation, then into the open batch of the channel's lane.

use broker_proto::streaming::{CtrlMsg, MalformedPubMsg, PubMsgView, put_pub_ack};
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Engine, names::channel_name, texts::Refusal};
use crate::{
    Now,
    effect::{Effect, Payload},
};

impl Engine {
    pub(super) fn publish(&mut self, payload: &[u8], reply: &[u8], now: Now) {
        let message = match PubMsgView::decode(payload) {
            Ok(message) => message,
            // Old servers talk to each other on these subjects, too.
            Err(MalformedPubMsg { .. }) if CtrlMsg::decode(payload).is_ok() => return,
            Err(MalformedPubMsg { guid }) => {
                self.refuse_publish(reply, guid, &Refusal::InvalidPublish);
                return;
            }
        };
        self.counters.publishes_received += 1;
        self.counters.publish_bytes_received += payload.len() as u64;
        let sender = (message.client_id, message.conn_id);
        match self.accept(&message, reply, now) {
            Err(Refusal::UnknownSender)
                if self.awaits_registration(sender, true, payload, reply) => {}
            Err(refusal) => self.refuse_publish(reply, message.guid, &refusal),
            Ok(()) => {}
        }
    }

    fn accept(&mut self, message: &PubMsgView<'_>, reply: &[u8], now: Now) -> Result<(), Refusal> {
        let name = channel_name(message.subject).ok_or(Refusal::InvalidPublish)?;
        if message.guid.is_empty() || !self.serves(name) {
            return Err(Refusal::InvalidPublish);
        }
        if !self
            .clients
            .is_valid_sender(message.client_id, message.conn_id)
        {
            return Err(Refusal::UnknownSender);
        }
        let key = self.find_or_create_channel(name)?;
        let lane = self.lane_of(key);
        let draft = self.lanes[lane].open(&mut self.draft_serials);
        draft.append(key, &mut self.channels[key], message, reply, now.unix_nanos);
        Ok(())
    }

    pub(super) fn refuse_publish(&mut self, reply: &[u8], guid: &[u8], refusal: &Refusal) {
        if reply.is_empty() {
            return;
        }
        let mut ack = BytesMut::new();
        put_pub_ack(&mut ack, guid, refusal.to_string().as_bytes());
        self.effects.push_back(Effect::Publish {
            subject: Bytes::copy_from_slice(reply),
            reply: Bytes::new(),
            payload: Payload::new(ack.freeze()),
            request: None,
        });
    }
}
