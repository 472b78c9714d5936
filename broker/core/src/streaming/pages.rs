//! Messages read back from the store, shared by the readers of a channel and bounded in bytes.

use std::{collections::BTreeMap, sync::Arc};

use super::{channel::Message, keys::ChannelKey};
use crate::durable::{Sequence, StoredMessage, StoredRange};

/// A contiguous read: every message of `from..=to` that the store has.
#[derive(Debug)]
struct Page {
    to: Sequence,
    messages: Arc<[StoredMessage]>,
    bytes: usize,
    used: u64,
    /// What comes behind it has been asked for.
    is_followed: bool,
}

/// The page that was looked into last: a reader takes many messages of one.
#[derive(Debug)]
struct OpenPage {
    channel: ChannelKey,
    from: Sequence,
    to: Sequence,
    messages: Arc<[StoredMessage]>,
}

impl OpenPage {
    fn covers(&self, channel: ChannelKey, position: Sequence) -> bool {
        self.channel == channel && self.from <= position && position <= self.to
    }

    /// The first message at or after `from`. Where nothing before it has expired, it lies as far from the first as its
    /// sequence: one look instead of a search a message delivered.
    fn message(&self, from: Sequence) -> Option<&StoredMessage> {
        let first = self.messages.first()?.sequence;
        let near = usize::try_from(from.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
        match self.messages.get(near) {
            Some(message) if message.sequence == from => Some(message),
            _ => {
                let place = self
                    .messages
                    .partition_point(|message| message.sequence < from);
                self.messages.get(place)
            }
        }
    }
}

/// All pages of all channels. The least recently used go when the bound is passed; a reader that
/// loses its page asks the store again.
#[derive(Debug)]
pub(super) struct Pages {
    pages: BTreeMap<(ChannelKey, Sequence), Page>,
    open: Option<OpenPage>,
    bytes: usize,
    max_bytes: usize,
    clock: u64,
}

/// What a message costs beyond its bytes.
const MESSAGE_OVERHEAD_BYTES: usize = size_of::<StoredMessage>();

impl Pages {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            pages: BTreeMap::new(),
            open: None,
            bytes: 0,
            max_bytes,
            clock: 0,
        }
    }

    /// Keeps the answer to a read from `from`. `last` is the channel's last durable sequence when the
    /// read was asked for: with no row at all, nothing exists in `from..=last`.
    pub(super) fn insert(
        &mut self,
        channel: ChannelKey,
        from: Sequence,
        last: Sequence,
        range: StoredRange,
    ) -> Sequence {
        let to = range.last().unwrap_or(last);
        let messages = range.messages;
        let bytes = messages
            .iter()
            .map(|message| message.data.len() + MESSAGE_OVERHEAD_BYTES)
            .sum();
        self.clock += 1;
        let page = Page {
            to,
            messages: messages.into(),
            bytes,
            used: self.clock,
            is_followed: false,
        };
        self.bytes += bytes;
        self.open = None;
        if let Some(before) = self.pages.insert((channel, from), page) {
            self.bytes -= before.bytes;
        }
        // The new page stays whatever its size, or its reader would never get on.
        while self.bytes > self.max_bytes && self.pages.len() > 1 {
            let oldest = self
                .pages
                .iter()
                .min_by_key(|(_, page)| page.used)
                .map(|(key, _)| *key);
            let page = oldest.and_then(|key| self.pages.remove(&key));
            self.bytes -= page.map_or(0, |page| page.bytes);
        }
        to
    }

    /// The first message at or after `from`, if a page covers that position; `Err` with the end of
    /// the page if the page has none left.
    pub(super) fn lookup(
        &mut self,
        channel: ChannelKey,
        from: Sequence,
    ) -> Option<Result<Message, Sequence>> {
        if !self
            .open
            .as_ref()
            .is_some_and(|open| open.covers(channel, from))
        {
            self.open = Some(self.open_page(channel, from)?);
        }
        let open = self.open.as_ref()?;
        Some(open.message(from).map_or(Err(open.to), |message| {
            Ok(Message {
                sequence: message.sequence,
                timestamp: message.timestamp,
                data: message.data.clone(),
            })
        }))
    }

    fn open_page(&mut self, channel: ChannelKey, position: Sequence) -> Option<OpenPage> {
        let ((_, from), page) = self
            .pages
            .range_mut((channel, Sequence(0))..=(channel, position))
            .next_back()?;
        if page.to < position {
            return None;
        }
        self.clock += 1;
        page.used = self.clock;
        Some(OpenPage {
            channel,
            from: *from,
            to: page.to,
            messages: Arc::clone(&page.messages),
        })
    }

    /// Where a reader at `from` will need the next page, if it is worth reading now: told once a page, and while that
    /// does not push out what others have yet to use.
    pub(super) fn follow(&mut self, channel: ChannelKey, from: Sequence) -> Option<Sequence> {
        if self.pages.is_empty() || self.bytes > self.max_bytes / 2 {
            return None;
        }
        let (_, page) = self
            .pages
            .range_mut((channel, Sequence(0))..=(channel, from))
            .next_back()?;
        if page.is_followed || page.to < from {
            return None;
        }
        page.is_followed = true;
        let next = page.to.next();
        (!self.pages.contains_key(&(channel, next))).then_some(next)
    }

    /// Forgets all pages of a channel.
    pub(super) fn forget(&mut self, channel: ChannelKey) {
        self.open = None;
        self.pages.retain(|(owner, _), page| {
            let keep = *owner != channel;
            self.bytes -= if keep { 0 } else { page.bytes };
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn stored(sequences: impl IntoIterator<Item = u64>) -> StoredRange {
        let message = |sequence| StoredMessage {
            sequence: Sequence(sequence),
            timestamp: 0,
            data: Bytes::from_static(&[0; 100]),
        };
        StoredRange::from(sequences.into_iter().map(message).collect::<Vec<_>>())
    }

    fn sequence_at(pages: &mut Pages, channel: u32, from: u64) -> Option<Result<u64, u64>> {
        let found = pages.lookup(ChannelKey(channel), Sequence(from));
        found.map(|found| found.map(|message| message.sequence.0).map_err(|end| end.0))
    }

    #[test]
    fn a_page_covers_its_holes_and_nothing_else() {
        let mut pages = Pages::new(1 << 20);
        pages.insert(ChannelKey(1), Sequence(3), Sequence(20), stored([4, 5, 9]));
        assert_eq!(sequence_at(&mut pages, 1, 3), Some(Ok(4)));
        assert_eq!(sequence_at(&mut pages, 1, 6), Some(Ok(9)));
        assert_eq!(sequence_at(&mut pages, 1, 10), None);
        assert_eq!(sequence_at(&mut pages, 1, 2), None);
        assert_eq!(sequence_at(&mut pages, 2, 4), None);
        // Its distance from the first is the place of another.
        pages.insert(
            ChannelKey(3),
            Sequence(1),
            Sequence(9),
            stored([1, 2, 4, 5]),
        );
        let found: Vec<_> = (1..=5)
            .map(|from| sequence_at(&mut pages, 3, from))
            .collect();
        assert_eq!(found, [1, 2, 4, 4, 5].map(|sequence| Some(Ok(sequence))));
        pages.insert(ChannelKey(1), Sequence(10), Sequence(20), stored([]));
        assert_eq!(sequence_at(&mut pages, 1, 15), Some(Err(20)));
    }

    #[test]
    fn the_least_recently_used_page_goes_first() {
        let mut pages = Pages::new(3 * (100 + MESSAGE_OVERHEAD_BYTES));
        for channel in 1..=3 {
            pages.insert(ChannelKey(channel), Sequence(1), Sequence(1), stored([1]));
        }
        assert_eq!(sequence_at(&mut pages, 1, 1), Some(Ok(1)));
        pages.insert(ChannelKey(4), Sequence(1), Sequence(1), stored([1]));
        assert_eq!(sequence_at(&mut pages, 2, 1), None);
        assert_eq!(sequence_at(&mut pages, 1, 1), Some(Ok(1)));
        pages.forget(ChannelKey(1));
        assert_eq!(sequence_at(&mut pages, 1, 1), None);
    }
}
