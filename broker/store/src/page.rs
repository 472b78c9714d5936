//! Rows of the table of messages gathered into one answer, whose messages share one buffer.

use broker_core::durable::{CorruptRow, Sequence, StoredMessage, StoredRange};
use bytes::Bytes;

use crate::records::from_column;

/// A row as it was read; what cannot be right in it is `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageRow<'a> {
    pub(crate) sequence: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) size: Option<i64>,
    pub(crate) data: Option<&'a [u8]>,
}

/// An answer in the making.
#[derive(Debug, Default)]
pub(crate) struct Page {
    buffer: Vec<u8>,
    /// With the end of each in the buffer.
    messages: Vec<(Sequence, i64, usize)>,
    corrupt: Vec<CorruptRow>,
    bytes: usize,
}

impl Page {
    /// With room for so much.
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(bytes),
            messages: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    /// Adds a row behind all others; one that is damaged is set apart.
    pub(crate) fn push(&mut self, row: MessageRow<'_>) {
        let sequence = Sequence(from_column(row.sequence));
        self.bytes += row.data.map_or(0, <[u8]>::len);
        match (row.timestamp, row.data) {
            (Some(timestamp), Some(data)) if row.size == i64::try_from(data.len()).ok() => {
                self.buffer.extend_from_slice(data);
                self.messages.push((sequence, timestamp, self.buffer.len()));
            }
            (timestamp, data) => self.corrupt.push(CorruptRow {
                sequence,
                timestamp: timestamp.unwrap_or(0),
                reason: fault(timestamp, row.size, data),
            }),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.messages.len() + self.corrupt.len()
    }

    /// Of the rows' messages, damaged ones included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn finish(self) -> StoredRange {
        let buffer = Bytes::from(self.buffer);
        let mut start = 0;
        let messages = self.messages.into_iter();
        let messages = messages.map(|(sequence, timestamp, end)| {
            let data = buffer.slice(start..end);
            start = end;
            StoredMessage {
                sequence,
                timestamp,
                data,
            }
        });
        StoredRange {
            messages: messages.collect(),
            corrupt: self.corrupt,
        }
    }
}

fn fault(timestamp: Option<i64>, size: Option<i64>, data: Option<&[u8]>) -> String {
    let (Some(_), Some(data)) = (timestamp, data) else {
        let column = if data.is_some() { "time" } else { "data" };
        return format!("its row has no {column}");
    };
    match size {
        Some(size) => format!("it has {} bytes, and its row says {size}", data.len()),
        None => "its row has no size".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_rows_lie_beside_the_good_ones() {
        let good = MessageRow {
            sequence: 1,
            timestamp: Some(5),
            size: Some(2),
            data: Some(b"ab"),
        };
        let mut page = Page::default();
        page.push(good);
        page.push(MessageRow {
            sequence: 2,
            timestamp: None,
            ..good
        });
        page.push(MessageRow {
            sequence: 3,
            size: Some(3),
            ..good
        });
        page.push(MessageRow {
            sequence: 4,
            data: None,
            ..good
        });
        page.push(MessageRow {
            sequence: 5,
            data: Some(b"cd"),
            ..good
        });
        assert_eq!((page.rows(), page.bytes()), (5, 8));
        let found = page.finish();
        let good: Vec<_> = found.messages.iter().map(|one| &one.data[..]).collect();
        assert_eq!(good, [b"ab", b"cd"]);
        let corrupt: Vec<_> = found
            .corrupt
            .iter()
            .map(|row| (row.sequence.0, row.timestamp, row.reason.as_str()))
            .collect();
        assert_eq!(
            corrupt,
            [
                (2, 0, "its row has no time"),
                (3, 5, "it has 2 bytes, and its row says 3"),
                (4, 5, "its row has no data"),
            ]
        );
    }
}
