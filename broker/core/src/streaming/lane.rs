//! Group commit: what collects while a flush is under way.

use std::{
    collections::VecDeque,
    mem,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use broker_proto::streaming::{PubMsgView, Stamp, put_msg, put_pub_ack, put_renumbered};
use bytes::BytesMut;

use super::{channel::Channel, keys::ChannelKey, tickets::TicketId};
use crate::{
    durable::{Batch, Change, Row, Sequence, Trim},
    effect::{PubAckPlace, PubAcks},
};

/// Rows of one flush. From about 500 on the rate of a database is flat; more only adds latency.
const MAX_FLUSH_ROWS: usize = 2_000;

/// The same where most of a flush is waiting for a database that is far away.
const MAX_SLOW_FLUSH_ROWS: usize = 5_000;

/// A flush that takes longer is slow.
const SLOW_FLUSH: Duration = Duration::from_millis(5);

/// Bytes of messages of one flush, passed by at most one message.
const MAX_FLUSH_BYTES: usize = 4 << 20;

/// Changes of one flush; bounds a flush of many subscriptions' positions.
const MAX_FLUSH_CHANGES: usize = 2_000;

/// Buffers are allocated in pieces of at least this, which small batches share.
const BUFFER_BYTES: usize = 64 << 10;

/// What a draft adds to one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) channel: ChannelKey,
    pub(super) msgs: u64,
    pub(super) bytes: u64,
}

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Draft {
    /// Unique over all drafts of an engine; `Channel::draft` refers to it.
    pub(super) serial: u64,
    pub(super) changes: Vec<Change>,
    pub(super) rows: Vec<Row>,
    pub(super) trims: Vec<Trim>,
    data: BytesMut,
    /// Of each row, the place of its channel in `channels`.
    slots: Vec<usize>,
    /// Of each row, where its publisher wants the answer, and the answer.
    answers: Vec<PubAckPlace>,
    acks: BytesMut,
    replies: BytesMut,
    pub(super) channels: Vec<Share>,
    pub(super) tickets: Vec<TicketId>,
}

/// A batch that a store is writing, with everything needed when it is done.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) batch: Arc<Batch>,
    /// Of each row, the place of its channel in `channels`.
    pub(super) slots: Vec<usize>,
    pub(super) answers: PubAcks,
    pub(super) channels: Vec<Share>,
    pub(super) tickets: Vec<TicketId>,
}

/// A batch whose messages are still at hand for live subscriptions.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) bytes: usize,
    /// Last sequence of each channel in it.
    pub(super) last: Vec<(ChannelKey, Sequence)>,
}

/// One line of flushes; at most one is under way.
#[derive(Debug)]
pub(super) struct Lane {
    /// The last one is open; those before it are full.
    pub(super) drafts: VecDeque<Draft>,
    pub(super) in_flight: Option<InFlight>,
    /// When the last flush began.
    pub(super) began: Option<Instant>,
    /// Rows that a draft takes.
    max_rows: usize,
    pub(super) kept: VecDeque<Kept>,
    pub(super) kept_bytes: usize,
}

impl Lane {
    /// Its messages at hand are gone with it.
    pub(super) fn forget_channel(&mut self, key: ChannelKey) {
        for kept in &mut self.kept {
            kept.last.retain(|(channel, _)| *channel != key);
        }
    }
}

impl Draft {
    fn new(serial: u64) -> Self {
        Self {
            serial,
            changes: Vec::new(),
            rows: Vec::new(),
            trims: Vec::new(),
            data: BytesMut::new(),
            slots: Vec::new(),
            answers: Vec::new(),
            acks: BytesMut::new(),
            replies: BytesMut::new(),
            channels: Vec::new(),
            tickets: Vec::new(),
        }
    }

    /// An empty one that goes on in the buffers of a full one.
    fn after(full: &mut Self, serial: u64) -> Self {
        let mut next = Self::new(serial);
        next.data = rest_of(&mut full.data);
        next.acks = rest_of(&mut full.acks);
        next.replies = rest_of(&mut full.replies);
        next.rows.reserve(full.rows.len().min(MAX_FLUSH_ROWS));
        next.slots.reserve(full.rows.len().min(MAX_FLUSH_ROWS));
        next.answers.reserve(full.rows.len().min(MAX_FLUSH_ROWS));
        next
    }

    /// A draft of changes only, to be written before anything else of its lane.
    pub(super) fn of_changes(serial: u64, batch: &Batch, tickets: Vec<TicketId>) -> Self {
        Self {
            changes: batch.changes.clone(),
            tickets,
            ..Self::new(serial)
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.rows.is_empty()
            && self.trims.is_empty()
            && self.tickets.is_empty()
            && self.channels.is_empty()
    }

    fn is_full(&self, max_rows: usize) -> bool {
        self.rows.len() >= max_rows
            || self.data.len() >= MAX_FLUSH_BYTES
            || self.changes.len() >= MAX_FLUSH_CHANGES
    }

    pub(super) fn data_bytes(&self) -> usize {
        self.data.len()
    }

    /// The place of a channel in this draft.
    pub(super) fn share(&mut self, key: ChannelKey, channel: &mut Channel) -> usize {
        match channel.draft {
            Some((serial, slot)) if serial == self.serial => slot,
            _ => {
                let slot = self.channels.len();
                self.channels.push(Share {
                    channel: key,
                    msgs: 0,
                    bytes: 0,
                });
                channel.draft = Some((self.serial, slot));
                slot
            }
        }
    }

    /// Adds a message under the channel's next sequence.
    pub(super) fn append(
        &mut self,
        key: ChannelKey,
        channel: &mut Channel,
        message: &PubMsgView<'_>,
        reply: &[u8],
        unix_nanos: i64,
    ) {
        let sequence = channel.assigned.next();
        let timestamp = unix_nanos.max(channel.last_timestamp);
        channel.assigned = sequence;
        channel.last_timestamp = timestamp;

        let start = self.data.len();
        if self.data.capacity() - start < message.data.len() + 256 {
            self.data
                .reserve(BUFFER_BYTES.max(message.data.len() + 256));
        }
        put_msg(
            &mut self.data,
            Stamp {
                sequence: sequence.0,
                timestamp,
            },
            message,
        );
        let end = self.data.len();
        self.rows.push(Row {
            channel: channel.id,
            sequence,
            timestamp,
            start,
            end,
        });

        let slot = self.share(key, channel);
        self.channels[slot].msgs += 1;
        self.channels[slot].bytes += (end - start) as u64;
        self.slots.push(slot);
        let answer = self.answer(message.guid, reply);
        self.answers.push(answer);
    }

    fn answer(&mut self, guid: &[u8], reply: &[u8]) -> PubAckPlace {
        // A publisher uses one reply subject for all its messages.
        let reply = match self.answers.last() {
            Some(last) if self.replies[last.reply.clone()] == *reply => last.reply.clone(),
            _ => extend(&mut self.replies, |replies| {
                replies.extend_from_slice(reply)
            }),
        };
        let ack = extend(&mut self.acks, |acks| put_pub_ack(acks, guid, b""));
        PubAckPlace { reply, ack }
    }

    /// Gives every row of the named channels a new sequence, counting on from there, and moves the
    /// counters along. Rare: the messages are copied.
    pub(super) fn renumber(&mut self, next: &mut [(ChannelKey, Sequence)]) {
        let before = mem::take(&mut self.data);
        self.data.reserve(before.len() + self.rows.len());
        for share in &mut self.channels {
            share.bytes = 0;
        }
        for (row, slot) in self.rows.iter_mut().zip(&self.slots) {
            let share = &mut self.channels[*slot];
            let start = self.data.len();
            let message = &before[row.start..row.end];
            match next
                .iter_mut()
                .find(|(channel, _)| *channel == share.channel)
            {
                Some((_, sequence)) => {
                    row.sequence = *sequence;
                    put_renumbered(&mut self.data, message, sequence.0);
                    *sequence = sequence.next();
                }
                None => self.data.extend_from_slice(message),
            }
            (row.start, row.end) = (start, self.data.len());
            share.bytes += (row.end - row.start) as u64;
        }
    }

    pub(super) fn into_in_flight(self) -> InFlight {
        let Self {
            changes,
            rows,
            trims,
            data,
            slots,
            answers,
            acks,
            replies,
            channels,
            tickets,
            ..
        } = self;
        InFlight {
            batch: Arc::new(Batch {
                changes,
                rows,
                data: data.freeze(),
                trims,
            }),
            slots,
            answers: PubAcks {
                replies: replies.freeze(),
                acks: acks.freeze(),
                places: answers,
            },
            channels,
            tickets,
        }
    }
}

impl InFlight {
    /// Back to a draft, to be numbered anew.
    pub(super) fn into_draft(self, serial: u64) -> Draft {
        let batch = Arc::unwrap_or_clone(self.batch);
        Draft {
            serial,
            changes: batch.changes,
            rows: batch.rows,
            trims: batch.trims,
            data: BytesMut::from(batch.data),
            slots: self.slots,
            answers: self.answers.places,
            acks: BytesMut::from(self.answers.acks),
            replies: BytesMut::from(self.answers.replies),
            channels: self.channels,
            tickets: self.tickets,
        }
    }
}

impl Lane {
    pub(super) fn new(serials: &mut u64) -> Self {
        Self {
            drafts: VecDeque::from([Draft::new(next(serials))]),
            in_flight: None,
            began: None,
            max_rows: MAX_FLUSH_ROWS,
            kept: VecDeque::new(),
            kept_bytes: 0,
        }
    }

    /// The draft that takes what comes next; a full one is closed first.
    pub(super) fn open(&mut self, serials: &mut u64) -> &mut Draft {
        let last = self
            .drafts
            .back_mut()
            .expect("a lane always has an open draft");
        if last.is_full(self.max_rows) {
            let draft = Draft::after(last, next(serials));
            self.drafts.push_back(draft);
        }
        self.drafts
            .back_mut()
            .expect("a lane always has an open draft")
    }

    /// Takes out what was in flight, whose outcome is known now.
    pub(super) fn land(&mut self, now: Instant) -> Option<InFlight> {
        let took = self
            .began
            .take()
            .map(|began| now.saturating_duration_since(began));
        self.max_rows = match took > Some(SLOW_FLUSH) {
            true => MAX_SLOW_FLUSH_ROWS,
            false => MAX_FLUSH_ROWS,
        };
        self.in_flight.take()
    }

    /// Takes out the draft that is to be flushed next, if a flush may start.
    pub(super) fn take_draft(&mut self, serials: &mut u64) -> Option<Draft> {
        if self.in_flight.is_some() || self.drafts.front().is_none_or(Draft::is_empty) {
            return None;
        }
        let mut draft = self.drafts.pop_front()?;
        if self.drafts.is_empty() {
            let open = Draft::after(&mut draft, next(serials));
            self.drafts.push_back(open);
        }
        Some(draft)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.drafts.iter().all(Draft::is_empty)
    }

    pub(super) fn backlog_bytes(&self) -> usize {
        let in_flight = self
            .in_flight
            .as_ref()
            .map_or(0, |flight| flight.batch.data.len());
        in_flight + self.drafts.iter().map(Draft::data_bytes).sum::<usize>()
    }
}

/// A new draft serial.
pub(super) fn next(serials: &mut u64) -> u64 {
    *serials += 1;
    *serials
}

fn rest_of(buffer: &mut BytesMut) -> BytesMut {
    buffer.split_off(buffer.len())
}

fn extend(buffer: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) -> Range<usize> {
    let start = buffer.len();
    if buffer.capacity() - start < 256 {
        buffer.reserve(BUFFER_BYTES / 8);
    }
    write(buffer);
    start..buffer.len()
}
