//! The three messages of the publish and acknowledgement paths, read without copying and written
//! straight into a batch. Same bytes as the derived types; those serve everything else.

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::Reader;

/// A [`PubMsg`](super::PubMsg) that borrows from the payload it was read from. Texts are bytes:
/// the reference server does not insist on UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PubMsgView<'a> {
    pub client_id: &'a [u8],
    pub guid: &'a [u8],
    /// The channel.
    pub subject: &'a [u8],
    pub reply: &'a [u8],
    pub data: &'a [u8],
    pub conn_id: &'a [u8],
}

/// A payload that is no `PubMsg`. The sender erred; `guid` is what had been read of it, so that the
/// refusal can still be matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload is not a published message")]
pub struct MalformedPubMsg<'a> {
    pub guid: &'a [u8],
}

impl<'a> PubMsgView<'a> {
    /// Reads a payload. Unknown fields are skipped; of a repeated field the last one counts.
    ///
    /// # Errors
    /// On truncation, a wrong wire type of a known field, an end-group tag or field number 0.
    pub fn decode(payload: &'a [u8]) -> Result<Self, MalformedPubMsg<'a>> {
        let mut view = Self::default();
        match view.merge(payload) {
            Some(()) => Ok(view),
            None => Err(MalformedPubMsg { guid: view.guid }),
        }
    }

    fn merge(&mut self, payload: &'a [u8]) -> Option<()> {
        let mut reader = Reader::new(payload);
        while let Some(tag) = reader.tag()? {
            match tag.field {
                1 => self.client_id = reader.bytes(tag)?,
                2 => self.guid = reader.bytes(tag)?,
                3 => self.subject = reader.bytes(tag)?,
                4 => self.reply = reader.bytes(tag)?,
                5 => self.data = reader.bytes(tag)?,
                6 => self.conn_id = reader.bytes(tag)?,
                10 => drop(reader.bytes(tag)?),
                _ => reader.skip(tag)?,
            }
        }
        Some(())
    }
}

/// An [`Ack`](super::Ack) that borrows from its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckView<'a> {
    pub subject: &'a [u8],
    pub sequence: u64,
}

impl<'a> AckView<'a> {
    /// Reads a payload; `None` if it is no `Ack`.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut view = Self::default();
        let mut reader = Reader::new(payload);
        while let Some(tag) = reader.tag()? {
            match tag.field {
                1 => view.subject = reader.bytes(tag)?,
                2 => view.sequence = reader.integer(tag)?,
                _ => reader.skip(tag)?,
            }
        }
        Some(view)
    }
}

/// What a stored message says of itself; the rest is left unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsgView<'a> {
    pub sequence: u64,
    /// The channel.
    pub subject: &'a [u8],
    /// Nanoseconds since the Unix epoch.
    pub timestamp: i64,
}

impl<'a> MsgView<'a> {
    /// Reads an encoded [`MsgProto`](super::MsgProto) from end to end; `None` if it is none.
    #[must_use]
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let mut view = Self::default();
        let mut reader = Reader::new(message);
        while let Some(tag) = reader.tag()? {
            match tag.field {
                1 => view.sequence = reader.integer(tag)?,
                2 => view.subject = reader.bytes(tag)?,
                3 | 4 => drop(reader.bytes(tag)?),
                5 => view.timestamp = reader.integer(tag)?.cast_signed(),
                _ => reader.skip(tag)?,
            }
        }
        Some(view)
    }
}

/// What a server adds to a published message to make it a [`MsgProto`](super::MsgProto).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub sequence: u64,
    /// Nanoseconds since the Unix epoch.
    pub timestamp: i64,
}

/// Appends the stored form of a published message: the only copy of its payload.
pub fn put_msg(out: &mut BytesMut, stamp: Stamp, message: &PubMsgView<'_>) {
    // Three tags with lengths and two varints of at most ten bytes each.
    out.reserve(message.subject.len() + message.reply.len() + message.data.len() + 55);
    if stamp.sequence != 0 {
        out.put_u8(0x08);
        put_varint(out, stamp.sequence);
    }
    put_field(out, 0x12, message.subject);
    put_field(out, 0x1a, message.reply);
    put_field(out, 0x22, message.data);
    if stamp.timestamp != 0 {
        out.put_u8(0x28);
        put_varint(out, stamp.timestamp.cast_unsigned());
    }
}

/// Appends a stored message under another sequence. `message` must begin with its sequence, as
/// [`put_msg`] writes it.
///
/// # Panics
/// If it does not.
pub fn put_renumbered(out: &mut BytesMut, message: &[u8], sequence: u64) {
    assert_eq!(
        message.first(),
        Some(&0x08),
        "a stored message begins with its sequence"
    );
    let length = 1 + message[1..]
        .iter()
        .take_while(|byte| **byte >= 0x80)
        .count();
    out.put_u8(0x08);
    put_varint(out, sequence);
    out.put_slice(&message[1 + length..]);
}

/// A stored message cut at its payload, so that another one can be put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsgParts<'a> {
    /// Whole fields.
    pub before: &'a [u8],
    /// The payload itself; empty if the message has none.
    pub data: &'a [u8],
    /// Whole fields.
    pub after: &'a [u8],
}

impl<'a> MsgParts<'a> {
    /// Cuts an encoded [`MsgProto`](super::MsgProto); `None` if it is none, or has two payloads.
    #[must_use]
    pub fn cut(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(message);
        let mut found = None;
        let mut start = 0;
        while let Some(tag) = reader.tag()? {
            if tag.field == 4 {
                let data = reader.bytes(tag)?;
                let after = &message[message.len() - reader.remaining()..];
                let before = &message[..start];
                let parts = Self {
                    before,
                    data,
                    after,
                };
                if found.replace(parts).is_some() {
                    return None;
                }
            } else {
                reader.skip(tag)?;
            }
            start = message.len() - reader.remaining();
        }
        Some(found.unwrap_or(Self {
            before: message,
            data: &[],
            after: &[],
        }))
    }

    /// Appends all that precedes a payload of that many bytes, which the caller appends next, and then
    /// `after`. A payload of no bytes is no field.
    pub fn put_before(&self, out: &mut BytesMut, length: usize) {
        out.reserve(self.before.len() + length + self.after.len() + 11);
        out.put_slice(self.before);
        if length > 0 {
            out.put_u8(0x22);
            put_varint(out, length as u64);
        }
    }
}

/// Appends a [`PubAck`](super::PubAck); an empty `error` means stored.
pub fn put_pub_ack(out: &mut BytesMut, guid: &[u8], error: &[u8]) {
    put_field(out, 0x0a, guid);
    put_field(out, 0x12, error);
}

/// What follows a stored message to make it a redelivery: fields 6 and 7 of `MsgProto`. Allocates
/// only from the 128th redelivery on.
#[must_use]
pub fn redelivery_mark(count: u32) -> Bytes {
    const SHORT: usize = 128;
    static MARKS: [[u8; 4]; SHORT] = {
        let mut marks = [[0x30, 0x01, 0x38, 0x00]; SHORT];
        let mut count = 0_u8;
        while (count as usize) < SHORT {
            marks[count as usize][3] = count;
            count += 1;
        }
        marks
    };
    match MARKS.get(count as usize) {
        Some(_) if count == 0 => Bytes::from_static(&[0x30, 0x01]),
        Some(mark) => Bytes::from_static(mark),
        None => {
            let mut mark = BytesMut::from(&[0x30, 0x01, 0x38][..]);
            put_varint(&mut mark, u64::from(count));
            mark.freeze()
        }
    }
}

fn put_field(out: &mut BytesMut, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        out.put_u8(tag);
        put_varint(out, value.len() as u64);
        out.put_slice(value);
    }
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::streaming::{Ack, MsgProto, PubAck, PubMsg};

    fn view(message: &PubMsg) -> PubMsgView<'_> {
        PubMsgView {
            client_id: message.client_id.as_bytes(),
            guid: message.guid.as_bytes(),
            subject: message.subject.as_bytes(),
            reply: message.reply.as_bytes(),
            data: &message.data,
            conn_id: &message.conn_id,
        }
    }

    prop_compose! {
        fn any_pub_msg()(
            client_id in "[a-z]{0,5}", guid in "[A-Z0-9]{0,200}", subject in "[a-z.]{0,9}",
            reply in "[a-z]{0,4}", data in proptest::collection::vec(any::<u8>(), 0..300),
            conn_id in proptest::collection::vec(any::<u8>(), 0..23),
            sha256 in proptest::collection::vec(any::<u8>(), 0..3),
        ) -> PubMsg {
            PubMsg { client_id, guid, subject, reply, data: data.into(), conn_id: conn_id.into(), sha256: sha256.into() }
        }
    }

    proptest! {
        #[test]
        fn the_view_reads_what_the_derived_type_writes(message in any_pub_msg()) {
            let bytes = message.encode_to_vec();
            prop_assert_eq!(PubMsgView::decode(&bytes), Ok(view(&message)));
        }

        #[test]
        fn a_stored_message_is_a_msg_proto(message in any_pub_msg(), sequence: u64, timestamp: i64) {
            let mut out = BytesMut::new();
            put_msg(&mut out, Stamp { sequence, timestamp }, &view(&message));
            let expected = MsgProto {
                sequence, timestamp, subject: message.subject, reply: message.reply, data: message.data,
                ..MsgProto::default()
            };
            prop_assert_eq!(&out[..], &expected.encode_to_vec()[..]);
        }

        #[test]
        fn renumbering_changes_the_sequence_only(message in any_pub_msg(), old in 1_u64.., new in 1_u64..) {
            let (mut before, mut after, mut expected) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
            put_msg(&mut before, Stamp { sequence: old, timestamp: 7 }, &view(&message));
            put_renumbered(&mut after, &before, new);
            put_msg(&mut expected, Stamp { sequence: new, timestamp: 7 }, &view(&message));
            prop_assert_eq!(after, expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_agree_with_the_derived_type(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            // The derived type additionally wants UTF-8, so it may refuse more, never less.
            if let Ok(message) = PubMsg::decode(&bytes[..]) {
                prop_assert_eq!(PubMsgView::decode(&bytes), Ok(view(&message)));
            } else {
                let _ = PubMsgView::decode(&bytes);
            }
            if let Ok(ack) = Ack::decode(&bytes[..]) {
                let expected = AckView { subject: ack.subject.as_bytes(), sequence: ack.sequence };
                prop_assert_eq!(AckView::decode(&bytes), Some(expected));
            } else {
                let _ = AckView::decode(&bytes);
            }
        }

        #[test]
        fn a_message_cut_at_its_payload_takes_another_one(
            message in any_pub_msg(), payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let stamp = Stamp { sequence: 7, timestamp: 9 };
            let mut stored = BytesMut::new();
            put_msg(&mut stored, stamp, &view(&message));
            let parts = MsgParts::cut(&stored).unwrap();
            prop_assert_eq!(parts.data, &message.data[..]);
            let mut changed = BytesMut::new();
            parts.put_before(&mut changed, payload.len());
            changed.extend_from_slice(&payload);
            changed.extend_from_slice(parts.after);
            let expected = PubMsg { data: payload.into(), ..message };
            let mut other = BytesMut::new();
            put_msg(&mut other, stamp, &view(&expected));
            prop_assert_eq!(MsgProto::decode(changed), MsgProto::decode(other));
        }

        #[test]
        fn cutting_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(parts) = MsgParts::cut(&bytes) {
                prop_assert!(parts.before.len() + parts.data.len() + parts.after.len() <= bytes.len());
            }
        }

        #[test]
        fn a_redelivery_is_the_stored_message_and_a_mark(count in 0_u32..70_000) {
            let mut bytes = MsgProto { sequence: 3, subject: "foo".into(), ..MsgProto::default() }.encode_to_vec();
            bytes.extend_from_slice(&redelivery_mark(count));
            let message = MsgProto::decode(&bytes[..]).unwrap();
            prop_assert!(message.redelivered);
            prop_assert_eq!(message.redelivery_count, count);
            prop_assert_eq!(message.encode_to_vec(), bytes);
        }

        #[test]
        fn a_pub_ack_is_the_derived_one(guid in "[a-z]{0,200}", error in "[a-z ]{0,40}") {
            let mut out = BytesMut::new();
            put_pub_ack(&mut out, guid.as_bytes(), error.as_bytes());
            prop_assert_eq!(&out[..], &PubAck { guid, error }.encode_to_vec()[..]);
        }
    }

    #[test]
    fn a_malformed_message_still_gives_its_guid() {
        let mut bytes = PubMsg {
            guid: "G1".into(),
            ..PubMsg::default()
        }
        .encode_to_vec();
        bytes.extend_from_slice(b"dummy");
        assert_eq!(
            PubMsgView::decode(&bytes),
            Err(MalformedPubMsg { guid: b"G1" })
        );
    }
}
