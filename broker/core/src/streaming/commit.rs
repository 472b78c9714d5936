//! Flushes: when they start, and what follows from each outcome.

use std::sync::Arc;

use broker_proto::streaming::put_pub_ack;
use bytes::{Bytes, BytesMut};

use super::{
    Engine, MAX_RECENT_BYTES, Phase,
    keys::{ChannelKey, Handler},
    lane::{self, Draft, InFlight, Kept},
    tickets::{Promise, TicketId},
    timers::TimerKey,
};
use crate::{
    durable::{Change, ChannelId, FlushOutcome, Row, Sequence, Trim},
    effect::{Effect, HandlerId, Payload, PubAcks},
};

/// What a message kept at hand costs beyond its bytes.
const RECENT_OVERHEAD_BYTES: usize = 48;

impl Engine {
    /// Starts a flush on every lane that has something and is not flushing.
    pub(super) fn flush_idle_lanes(&mut self) {
        for lane in 0..self.lanes.len() {
            while let Some(mut draft) = self.lanes[lane].take_draft(&mut self.draft_serials) {
                self.trim_for(&mut draft);
                let flight = draft.into_in_flight();
                if flight.batch.is_empty() {
                    // Only a channel that turned out to be within its limits, after all.
                    self.settle_tickets(&flight.tickets, Ok(()));
                    continue;
                }
                let batch = Arc::clone(&flight.batch);
                self.lanes[lane].began = Some(self.now.monotonic);
                self.lanes[lane].in_flight = Some(flight);
                self.effects.push_back(Effect::Flush { lane, batch });
            }
        }
    }

    /// Makes room for what a draft adds. Only durable messages are dropped: a store may not see rows
    /// of the same statement, so what a large draft itself exceeds goes with the next one.
    fn trim_for(&mut self, draft: &mut Draft) {
        for share in &draft.channels {
            let Some(channel) = self.channels.get_mut(share.channel) else {
                continue;
            };
            if channel.is_being_deleted {
                continue;
            }
            if let Some((from, to)) = channel.excess(share.msgs, share.bytes) {
                draft.trims.push(Trim {
                    channel: channel.id,
                    from,
                    to,
                });
            }
        }
    }

    pub(super) fn finish_flush(&mut self, lane: usize, outcome: FlushOutcome) {
        let Some(flight) = self
            .lanes
            .get_mut(lane)
            .and_then(|lane| lane.land(self.now.monotonic))
        else {
            return;
        };
        match outcome {
            FlushOutcome::Stored => self.stored(lane, flight),
            FlushOutcome::Deposed => self.depose(),
            FlushOutcome::Foreign { last } => self.renumber_behind(lane, flight, &last),
            FlushOutcome::Refused { reason } => self.refused(lane, flight, &reason),
        }
    }

    /// The order is what clients rely on: responses, then deliveries, then publish acks. The next
    /// flush starts before all the writing, so that the store works meanwhile.
    fn stored(&mut self, lane: usize, flight: InFlight) {
        for share in flight.channels.iter().filter(|share| share.msgs > 0) {
            let is_followed = self.online_subs(share.channel).next().is_some();
            self.channels[share.channel].set_followed(is_followed);
        }
        for (row, slot) in flight.batch.rows.iter().zip(&flight.slots) {
            self.channels[flight.channels[*slot].channel].stored(row, &flight.batch);
        }
        for trim in &flight.batch.trims {
            self.trimmed(trim);
        }
        for change in &flight.batch.changes {
            if let Change::PutChannel { id, .. } = change
                && let Some(key) = self.channel_ids.get(id)
            {
                self.channels[*key].is_on_record = true;
            }
        }
        self.keep(lane, &flight);
        let ticks = self.ticks(self.now);
        for share in flight.channels.iter().filter(|share| share.msgs > 0) {
            self.channels[share.channel].last_activity = ticks;
            self.totals_changed(share.channel);
            self.watch_limits(lane, share.channel);
        }
        self.settle_tickets(&flight.tickets, Ok(()));
        self.flush_idle_lanes();
        if self.phase == Phase::Running {
            for share in flight.channels.iter().filter(|share| share.msgs > 0) {
                self.wake_readers(share.channel);
            }
        }
        self.counters.messages_stored += flight.batch.rows.len() as u64;
        if !flight.batch.rows.is_empty() {
            self.finished.push_back(flight.answers);
        }
    }

    fn trimmed(&mut self, trim: &Trim) {
        let Some(key) = self.channel_ids.get(&trim.channel).copied() else {
            return;
        };
        let channel = &mut self.channels[key];
        channel.trim_below(trim.to.next());
        if channel.limits.max_age_nanos > 0 {
            self.arm_expiry(key);
        }
        self.totals_changed(key);
        // One flush removes so many only.
        self.watch_limits(self.lane_of(key), key);
    }

    /// Bounds what the batches of a lane hold in memory for live subscriptions. Whole batches go,
    /// because a slice of a batch keeps all of it; those of which trimming has left nothing go anyway.
    fn keep(&mut self, lane: usize, flight: &InFlight) {
        let shares = flight.channels.iter().filter(|share| share.msgs > 0);
        let last: Vec<(ChannelKey, Sequence)> = shares
            .map(|share| (share.channel, self.channels[share.channel].last))
            .filter(|(channel, last)| self.channels[*channel].is_at_hand(*last))
            .collect();
        if last.is_empty() {
            return;
        }
        let rows = &flight.batch.rows;
        let bytes =
            flight.batch.data.len() + rows.len() * (size_of::<Row>() + RECENT_OVERHEAD_BYTES);
        let max_bytes = MAX_RECENT_BYTES / self.lanes.len();
        let lane = &mut self.lanes[lane];
        lane.kept.push_back(Kept { bytes, last });
        lane.kept_bytes += bytes;
        while lane.kept.len() > 1 {
            let at_hand = |(channel, last): &(ChannelKey, Sequence)| {
                let channel = self.channels.get(*channel);
                channel.is_some_and(|channel| channel.is_at_hand(*last))
            };
            let oldest = lane.kept.front();
            let needed = oldest.is_some_and(|oldest| oldest.last.iter().any(at_hand));
            if needed && lane.kept_bytes <= max_bytes {
                break;
            }
            let Some(oldest) = lane.kept.pop_front() else {
                break;
            };
            lane.kept_bytes -= oldest.bytes;
            for (channel, last) in oldest.last {
                if let Some(channel) = self.channels.get_mut(channel) {
                    channel.forget_recent(last);
                }
            }
        }
    }

    /// A channel got messages or other limits: has the next draft of its lane trim it if it is over a limit, and
    /// sets the timer for its oldest message.
    pub(super) fn watch_limits(&mut self, lane: usize, key: ChannelKey) {
        let channel = &mut self.channels[key];
        if channel.is_over_limits() {
            self.lanes[lane]
                .open(&mut self.draft_serials)
                .share(key, channel);
        }
        let channel = &self.channels[key];
        if channel.limits.max_age_nanos > 0 && !self.timers.is_armed(TimerKey::Expiry(key)) {
            self.arm_expiry(key);
        }
    }

    /// Another process owns the store: no answer, no delivery, and nobody listens here any more.
    pub(super) fn depose(&mut self) {
        self.phase = Phase::Deposed;
        self.effects.clear();
        self.timers.clear();
        self.ready.clear();
        self.finished.clear();
        for handler in self.handlers() {
            self.effects.push_back(Effect::Unsubscribe { handler });
        }
    }

    /// All that listen.
    fn handlers(&self) -> Vec<HandlerId> {
        let listed = match &self.partition {
            None => 0,
            Some(partition) if partition.is_asking() => {
                return [Handler::Partition, Handler::Answer]
                    .map(Handler::id)
                    .into();
            }
            Some(partition) => partition.channels.len(),
        };
        let left_out = match listed {
            0 => Handler::Partition,
            _ => Handler::Publish,
        };
        let inboxes = self.subs.iter().filter(|(_, sub)| sub.is_online());
        let inboxes = inboxes.map(|(key, sub)| Handler::Ack {
            sub: key,
            generation: sub.generation,
        });
        let fixed = Handler::fixed().filter(|handler| *handler != left_out);
        let listed = (0..listed).map(Handler::listed);
        fixed
            .chain(inboxes)
            .map(Handler::id)
            .chain(listed)
            .collect()
    }

    /// Another writer's rows stand where this batch should go: they stay, ours follow them.
    fn renumber_behind(&mut self, lane: usize, flight: InFlight, last: &[(ChannelId, Sequence)]) {
        let mut next = Vec::with_capacity(last.len());
        for (id, last) in last {
            let Some(key) = self.channel_ids.get(id).copied() else {
                continue;
            };
            let notice = format!(
                "channel {} holds messages of another writer up to {last}; ours follow",
                self.channels[key].name
            );
            self.note(notice);
            let channel = &mut self.channels[key];
            channel.adopt_foreign(*last);
            next.push((key, channel.last.next()));
            self.pages.forget(key);
            self.doubt_totals(key);
            self.wake_channel(key);
        }
        let draft = flight.into_draft(lane::next(&mut self.draft_serials));
        self.lanes[lane].drafts.push_front(draft);
        self.renumber(lane, &mut next);
    }

    /// Numbers all rows of these channels that are not in flight, from the given sequences on.
    fn renumber(&mut self, lane: usize, next: &mut [(ChannelKey, Sequence)]) {
        for draft in &mut self.lanes[lane].drafts {
            draft.renumber(next);
        }
        for (key, next) in next {
            let assigned = Sequence(next.0 - 1);
            let channel = &mut self.channels[*key];
            channel.assigned = assigned;
            // A position taken from messages that are not there after all.
            for sub in &channel.subs {
                let sub = &mut self.subs[*sub];
                sub.last_sent = sub.last_sent.min(assigned);
            }
            for group in &channel.groups {
                let group = &mut self.groups[*group];
                group.last_sent = group.last_sent.min(assigned);
            }
        }
    }

    /// The store cannot take this batch. Messages are the likely cause: they are refused to their
    /// publishers and the changes are tried again alone. Changes alone fail for those who asked.
    fn refused(&mut self, lane: usize, flight: InFlight, reason: &str) {
        let notice = format!("the store refused a batch: {reason}");
        self.note(notice);
        if flight.batch.rows.is_empty() {
            self.settle_tickets(&flight.tickets, Err(reason));
            for change in &flight.batch.changes {
                self.change_refused(lane, change);
            }
            return;
        }
        let mut error = BytesMut::new();
        put_pub_ack(&mut error, b"", reason.as_bytes());
        let error = error.freeze();
        let PubAcks {
            replies,
            acks,
            places,
        } = &flight.answers;
        for place in places.iter().filter(|place| !place.reply.is_empty()) {
            self.effects.push_back(Effect::Publish {
                subject: replies.slice(place.reply.clone()),
                reply: Bytes::new(),
                payload: Payload {
                    body: acks.slice(place.ack.clone()),
                    tail: error.clone(),
                },
                request: None,
            });
        }
        let shares = flight.channels.iter().filter(|share| share.msgs > 0);
        let mut next: Vec<(ChannelKey, Sequence)> = shares
            .map(|share| (share.channel, self.channels[share.channel].last.next()))
            .collect();
        let serial = lane::next(&mut self.draft_serials);
        let changes = Draft::of_changes(serial, &flight.batch, flight.tickets);
        if !changes.is_empty() {
            self.lanes[lane].drafts.push_front(changes);
        }
        self.renumber(lane, &mut next);
    }

    fn change_refused(&mut self, lane: usize, change: &Change) {
        match change {
            Change::PutChannel { id, .. } => {
                let Some(key) = self.channel_ids.get(id).copied() else {
                    return;
                };
                if !self.forget_unused_channel(key)
                    && let Some(next) = self.lanes[lane].drafts.front_mut()
                {
                    // Somebody came to use it: tried again with what they brought.
                    next.changes.insert(0, change.clone());
                }
            }
            Change::PutPending { id, .. } => {
                let found = self
                    .subs
                    .iter()
                    .find(|(_, sub)| sub.id == *id)
                    .map(|(key, _)| key);
                if let Some(key) = found {
                    self.mark_dirty(key);
                }
            }
            Change::PutServerInfo(_)
            | Change::PutClient(_)
            | Change::DeleteClient { .. }
            | Change::DeleteChannel { .. }
            | Change::PutSubscription { .. }
            | Change::DeleteSubscription { .. }
            | Change::PutTotals { .. } => {}
        }
    }

    fn settle_tickets(&mut self, tickets: &[TicketId], outcome: Result<(), &str>) {
        for ticket in tickets {
            if let Some((promise, outcome)) = self.tickets.settle(*ticket, outcome) {
                self.keep_promise(promise, outcome);
            }
        }
    }

    fn keep_promise(&mut self, promise: Promise, outcome: Result<(), String>) {
        match promise {
            Promise::Connect {
                client,
                serial,
                reply,
                response,
            } => {
                self.answer_connect(client, serial, &reply, &response, outcome);
            }
            Promise::Subscribe {
                sub,
                generation,
                is_resume,
                reply,
            } => {
                self.answer_subscribe(sub, generation, is_resume, &reply, outcome);
            }
            Promise::ForgetClient { id, reply } => self.forget_client(id, reply),
            Promise::Close { reply } => self.answer_close(&reply, None),
            Promise::Unsubscribe { reply } => self.answer_unsubscribe(&reply, outcome),
            Promise::DeleteChannel(id) => self.channel_deleted(id, outcome),
        }
    }
}
