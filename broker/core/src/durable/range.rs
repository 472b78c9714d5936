//! What a store gives back of a channel's messages, and what of it can be trusted.

use broker_proto::streaming::MsgView;
use bytes::Bytes;

use super::Sequence;

/// A message read back: `data` is the encoded `MsgProto` exactly as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub sequence: Sequence,
    pub timestamp: i64,
    pub data: Bytes,
}

impl StoredMessage {
    /// Why this cannot be a message of that channel; `None` if it is one.
    #[must_use]
    pub fn fault(&self, channel: &str) -> Option<&'static str> {
        let Some(view) = MsgView::decode(&self.data) else {
            return Some("it is not decodable");
        };
        if view.sequence != self.sequence.0 {
            Some("it says that it is another one")
        } else if view.subject != channel.as_bytes() {
            Some("it says that it is of another channel")
        } else if view.timestamp != self.timestamp {
            Some("its time is not that of its row")
        } else {
            None
        }
    }
}

/// A stored row that is no message, whether it was damaged or somebody else has put it there. It is never delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptRow {
    pub sequence: Sequence,
    /// 0 if the row does not say.
    pub timestamp: i64,
    /// Half a sentence about the message.
    pub reason: String,
}

/// What a read has found, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRange {
    pub messages: Vec<StoredMessage>,
    /// Lie anywhere between the messages.
    pub corrupt: Vec<CorruptRow>,
}

impl From<Vec<StoredMessage>> for StoredRange {
    fn from(messages: Vec<StoredMessage>) -> Self {
        Self {
            messages,
            corrupt: Vec::new(),
        }
    }
}

impl StoredRange {
    /// Of all rows; `None` if there is none.
    #[must_use]
    pub fn last(&self) -> Option<Sequence> {
        let message = self.messages.last().map(|message| message.sequence);
        message.max(self.corrupt.last().map(|row| row.sequence))
    }

    /// Timestamp of the first row.
    #[must_use]
    pub fn first_timestamp(&self) -> Option<i64> {
        let message = self.messages.first();
        let message = message.map(|message| (message.sequence, message.timestamp));
        let corrupt = self.corrupt.first();
        let corrupt = corrupt.map(|row| (row.sequence, row.timestamp));
        let first = message.into_iter().chain(corrupt).min();
        first.map(|(_, timestamp)| timestamp)
    }

    /// Takes out what cannot be a message of that channel.
    pub fn set_corrupt_apart(&mut self, channel: &str) {
        self.set_apart(|message| message.fault(channel).map(str::to_owned));
    }

    /// Takes out the messages of which this says what is wrong. It may change the others.
    pub fn set_apart(&mut self, mut fault: impl FnMut(&mut StoredMessage) -> Option<String>) {
        let found = self.corrupt.len();
        self.messages.retain_mut(|message| {
            let Some(reason) = fault(message) else {
                return true;
            };
            self.corrupt.push(CorruptRow {
                sequence: message.sequence,
                timestamp: message.timestamp,
                reason,
            });
            false
        });
        if self.corrupt.len() > found {
            self.corrupt.sort_by_key(|row| row.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::streaming::MsgProto;
    use prost::Message as _;

    use super::*;

    fn stored(sequence: u64, change: impl FnOnce(&mut MsgProto)) -> StoredMessage {
        let mut proto = MsgProto {
            sequence,
            subject: "foo".to_owned(),
            reply: "_INBOX.a".to_owned(),
            data: vec![7; 200].into(),
            timestamp: 1_700_000_000_000_000_000,
            ..MsgProto::default()
        };
        change(&mut proto);
        StoredMessage {
            sequence: Sequence(sequence),
            timestamp: 1_700_000_000_000_000_000,
            data: proto.encode_to_vec().into(),
        }
    }

    #[test]
    fn what_is_not_the_message_of_its_row_is_set_apart() {
        let cut = StoredMessage {
            data: stored(6, |_| {}).data.slice(..100),
            ..stored(6, |_| {})
        };
        let mut range = StoredRange::from(vec![
            stored(1, |_| {}),
            stored(2, |proto| proto.sequence = 3),
            stored(3, |proto| proto.subject.push('d')),
            stored(4, |_| {}),
            stored(5, |proto| proto.timestamp += 1),
            cut,
        ]);
        range.corrupt.push(CorruptRow {
            sequence: Sequence(7),
            timestamp: 0,
            reason: "found by the store".to_owned(),
        });
        range.set_corrupt_apart("foo");
        let good: Vec<_> = range.messages.iter().map(|one| one.sequence.0).collect();
        let corrupt: Vec<_> = range.corrupt.iter().map(|one| one.sequence.0).collect();
        assert_eq!((good, corrupt), (vec![1, 4], vec![2, 3, 5, 6, 7]));
        assert_eq!(range.last(), Some(Sequence(7)));
    }

    #[test]
    fn the_first_row_has_the_first_timestamp_whether_it_is_good_or_not() {
        let mut range = StoredRange::from(vec![stored(2, |_| {})]);
        assert_eq!(range.first_timestamp(), Some(1_700_000_000_000_000_000));
        range.corrupt.push(CorruptRow {
            sequence: Sequence(1),
            timestamp: 5,
            reason: String::new(),
        });
        assert_eq!(range.first_timestamp(), Some(5));
        assert_eq!(StoredRange::default().first_timestamp(), None);
    }
}
