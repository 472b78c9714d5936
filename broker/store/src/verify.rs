//! Reads everything that a store holds and says what is wrong with it. Changes nothing.

use std::fmt;

use broker_core::durable::{CorruptRow, RecoveredChannel, Sequence, StoredRange};

use crate::StoreError;

/// Rows of one read.
pub const ROWS_AT_ONCE: usize = 1_000;

/// Bytes of one read.
pub const BYTES_AT_ONCE: usize = 8 << 20;

/// Faults that are described one by one; the others are only counted.
const MAX_DESCRIBED: usize = 20;

/// What a channel holds, and what of it cannot be right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelReport {
    pub name: String,
    pub messages: u64,
    /// Sum of encoded `MsgProto` lengths, corrupt ones left out.
    pub bytes: u64,
    /// 0 and 0 if there is no message.
    pub first: Sequence,
    pub last: Sequence,
    /// Sequences without a message between the first and the last.
    pub missing: u64,
    /// Messages that are not what their row says.
    pub corrupt: u64,
    /// The first faults, in words.
    pub faults: Vec<String>,
}

impl ChannelReport {
    /// Whether anything is wrong.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        self.missing > 0 || self.corrupt > 0 || !self.faults.is_empty()
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < MAX_DESCRIBED {
            self.faults.push(text);
        }
    }

    fn take(&mut self, mut range: StoredRange) {
        range.set_corrupt_apart(&self.name);
        self.bytes += range
            .messages
            .iter()
            .map(|message| message.data.len() as u64)
            .sum::<u64>();
        self.corrupt += range.corrupt.len() as u64;
        let good = range.messages.iter().map(|message| message.sequence);
        let mut rows: Vec<_> = good
            .chain(range.corrupt.iter().map(|row| row.sequence))
            .collect();
        rows.sort_unstable();
        for sequence in rows {
            self.pass(sequence);
        }
        for CorruptRow {
            sequence, reason, ..
        } in range.corrupt
        {
            self.fault(format!("message {sequence}: {reason}"));
        }
    }

    fn pass(&mut self, sequence: Sequence) {
        if self.messages == 0 {
            self.first = sequence;
        } else if sequence.0 > self.last.0 + 1 {
            let missing = sequence.0 - self.last.0 - 1;
            self.missing += missing;
            self.fault(format!("{missing} missing behind {}", self.last));
        }
        self.last = sequence;
        self.messages += 1;
    }
}

impl fmt::Display for ChannelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            messages,
            bytes,
            first,
            last,
            missing,
            corrupt,
            ..
        } = self;
        write!(
            f,
            "{name}: {messages} messages of {bytes} bytes, {first} to {last}"
        )?;
        if self.has_faults() {
            write!(f, ", {missing} missing, {corrupt} corrupt")?;
        }
        Ok(())
    }
}

/// Reads a channel from its beginning. `read` gives up to [`ROWS_AT_ONCE`] and [`BYTES_AT_ONCE`] from a sequence on, ascending;
/// `progress` is told how many have been read.
///
/// # Errors
/// A read fails.
pub async fn channel(
    channel: &RecoveredChannel,
    read: impl AsyncFn(Sequence) -> Result<StoredRange, StoreError>,
    mut progress: impl FnMut(u64),
) -> Result<ChannelReport, StoreError> {
    let mut report = ChannelReport {
        name: channel.name.clone(),
        ..ChannelReport::default()
    };
    loop {
        let range = read(report.last.next()).await?;
        let is_end = range.last().is_none();
        report.take(range);
        progress(report.messages);
        // An owner that is at work makes new ones faster than they are read.
        if is_end || report.last >= channel.last {
            break;
        }
    }
    if channel.is_counted && report.last == channel.last {
        let (told, read) = (channel.messages, report.messages);
        if told != read && channel.first == report.first {
            report.fault(format!("{told} messages were expected, {read} are there"));
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use broker_core::durable::StoredMessage;
    use broker_proto::streaming::MsgProto;
    use prost::Message as _;

    use super::*;

    fn message(sequence: u64, change: impl FnOnce(&mut MsgProto)) -> StoredMessage {
        let mut proto = MsgProto {
            sequence,
            subject: "foo".to_owned(),
            timestamp: 7,
            ..MsgProto::default()
        };
        change(&mut proto);
        StoredMessage {
            sequence: Sequence(sequence),
            timestamp: 7,
            data: proto.encode_to_vec().into(),
        }
    }

    #[test]
    fn holes_and_messages_that_are_not_what_their_row_says_are_found() {
        let mut report = ChannelReport {
            name: "foo".to_owned(),
            ..ChannelReport::default()
        };
        report.take(StoredRange::from(vec![
            message(3, |_| {}),
            message(6, |_| {}),
            message(7, |proto| proto.sequence = 8),
            message(8, |proto| proto.subject = "bar".to_owned()),
            message(9, |proto| proto.timestamp = 8),
            StoredMessage {
                data: vec![0xff].into(),
                ..message(10, |_| {})
            },
        ]));
        assert_eq!((report.missing, report.corrupt), (2, 4));
        assert_eq!((report.first, report.last), (Sequence(3), Sequence(10)));
        assert_eq!(report.faults.len(), 5);
        assert_eq!(report.faults[0], "2 missing behind 3");
    }
}
