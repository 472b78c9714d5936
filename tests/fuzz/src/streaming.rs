//! The messages of NATS Streaming: the readers by hand agree with the derived ones, and what was understood is written
//! so that it is understood again.

use broker_proto::streaming::{
    Ack, AckView, CloseRequest, ConnectRequest, MsgProto, Ping, PubAck, PubMsg, PubMsgView, Stamp,
    SubscriptionRequest, UnsubscribeRequest, put_msg,
};
use bytes::BytesMut;
use prost::Message;

pub(crate) fn run(input: &[u8]) {
    publication(input);
    ack(input);
    written_again::<ConnectRequest>(input);
    written_again::<SubscriptionRequest>(input);
    written_again::<UnsubscribeRequest>(input);
    written_again::<CloseRequest>(input);
    written_again::<MsgProto>(input);
    written_again::<PubAck>(input);
    written_again::<Ping>(input);
}

fn publication(input: &[u8]) {
    let view = PubMsgView::decode(input);
    let derived = PubMsg::decode(input);
    if let Ok(derived) = &derived {
        let view = view.expect("the derived reader understands it");
        assert_eq!(view.client_id, derived.client_id.as_bytes());
        assert_eq!(view.guid, derived.guid.as_bytes());
        assert_eq!(view.subject, derived.subject.as_bytes());
        assert_eq!(view.reply, derived.reply.as_bytes());
        assert_eq!(view.data, &*derived.data);
        assert_eq!(view.conn_id, &*derived.conn_id);
    }
    let Ok(view) = view else { return };
    let stamp = Stamp {
        sequence: 7,
        timestamp: -7,
    };
    let mut stored = BytesMut::new();
    put_msg(&mut stored, stamp, &view);
    // Texts are bytes here, and only the derived reader insists on UTF-8.
    if let Ok(message) = MsgProto::decode(&stored[..]) {
        assert_eq!((message.sequence, message.timestamp), (7, -7));
        assert_eq!(&*message.data, view.data);
    } else {
        let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
        assert!(!is_text(view.subject) || !is_text(view.reply));
    }
}

fn ack(input: &[u8]) {
    if let Ok(derived) = Ack::decode(input) {
        let view = AckView::decode(input).expect("the derived reader understands it");
        assert_eq!(view.subject, derived.subject.as_bytes());
        assert_eq!(view.sequence, derived.sequence);
    }
}

fn written_again<M: Message + Default + PartialEq>(input: &[u8]) {
    if let Ok(message) = M::decode(input) {
        let again = M::decode(&message.encode_to_vec()[..]);
        assert!(again.is_ok_and(|again| again == message));
    }
}
