//! Reads from the store: one a channel at a time for its readers, in the order in which they came
//! to need one; and searches by time.

use std::{fmt::Write as _, time::Duration};

use super::{
    Engine,
    channel::{ActiveLoad, MAX_TRIM, Reader, Waiter},
    keys::ChannelKey,
    timers::TimerKey,
};
use crate::{
    Now,
    durable::{CorruptRow, Sequence, StoredRange, Trim},
    effect::{Effect, LoadId},
};

/// Rows of one read. Fewer cost throughput in replays, more gain little.
pub(super) const MAX_READ_ROWS: usize = 1_000;

/// Bytes of one read.
const MAX_READ_BYTES: usize = 1 << 20;

/// After a failed read; whatever happens on the channel earlier tries again, too.
const RETRY_READS_AFTER: Duration = Duration::from_secs(1);

/// What an answer from the store is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Messages for the readers of a channel.
    Read(ChannelKey),
    /// Timestamp of the oldest message, to set the expiry timer.
    OldestTimestamp(ChannelKey),
    /// First message that has not expired; all up to `last` were durable when it was asked for.
    ExpiryBoundary { channel: ChannelKey, last: Sequence },
    /// First message at or after the start time of a subscription.
    StartTime(ChannelKey),
    /// How much a channel holds.
    Count(ChannelKey),
}

impl Purpose {
    pub(super) fn channel(self) -> ChannelKey {
        match self {
            Self::Read(channel)
            | Self::OldestTimestamp(channel)
            | Self::ExpiryBoundary { channel, .. }
            | Self::StartTime(channel)
            | Self::Count(channel) => channel,
        }
    }
}

impl Engine {
    pub(super) fn next_load(&mut self, purpose: Purpose) -> LoadId {
        self.last_load += 1;
        let load = LoadId(self.last_load);
        self.loads.insert(load, purpose);
        load
    }

    /// Puts a reader in line for a read. The caller has marked it as waiting.
    pub(super) fn wait_for_read(&mut self, key: ChannelKey, waiter: Waiter) {
        self.channels[key].waiters.push_back(waiter);
        self.start_read(key);
    }

    fn start_read(&mut self, key: ChannelKey) {
        let channel = &self.channels[key];
        if channel.active_load.is_some() {
            return;
        }
        if let Some(Waiter { from, max_rows, .. }) = channel.waiters.front().copied() {
            self.load(key, from, max_rows);
        }
    }

    /// Asks for the page behind the one that a reader at `from` has come to, so that it need not wait for it.
    pub(super) fn read_ahead(&mut self, key: ChannelKey, from: Sequence) {
        let channel = &self.channels[key];
        if channel.active_load.is_none()
            && let Some(next) = self.pages.follow(key, from)
            && channel.is_stored_only(next)
        {
            self.load(key, next, MAX_READ_ROWS);
        }
    }

    fn load(&mut self, key: ChannelKey, from: Sequence, max_rows: usize) {
        let load = self.next_load(Purpose::Read(key));
        let channel = &mut self.channels[key];
        channel.active_load = Some(ActiveLoad {
            load,
            from,
            last: channel.last,
        });
        self.effects.push_back(Effect::Load {
            load,
            channel: channel.id,
            from,
            max_rows,
            max_bytes: MAX_READ_BYTES,
        });
    }

    pub(super) fn finish_load(
        &mut self,
        load: LoadId,
        result: Result<StoredRange, String>,
        now: Now,
    ) {
        match self.loads.remove(&load) {
            Some(Purpose::Read(key)) => match result {
                Ok(range) => self.read_done(key, load, range),
                Err(reason) => self.read_failed(key, &reason, now),
            },
            Some(Purpose::OldestTimestamp(key)) => {
                let oldest = result.ok().and_then(|range| range.first_timestamp());
                self.oldest_known(key, oldest);
            }
            Some(Purpose::ExpiryBoundary { .. } | Purpose::StartTime(_) | Purpose::Count(_))
            | None => {}
        }
    }

    fn read_done(&mut self, key: ChannelKey, load: LoadId, mut range: StoredRange) {
        let channel = &mut self.channels[key];
        let Some(active) = channel.active_load.take_if(|active| active.load == load) else {
            return;
        };
        range.set_corrupt_apart(&channel.name);
        if !range.corrupt.is_empty() {
            let notice = corrupt_notice(&channel.name, &range.corrupt);
            self.counters.corrupt_rows += range.corrupt.len() as u64;
            self.note(notice);
        }
        let to = self.pages.insert(key, active.from, active.last, range);
        let channel = &mut self.channels[key];
        let (served, waiting): (Vec<_>, Vec<_>) = channel
            .waiters
            .drain(..)
            .partition(|waiter| waiter.from >= active.from && waiter.from <= to);
        channel.waiters.extend(waiting);
        // Those served need more soon, and queue up behind the ones who still wait.
        self.start_read(key);
        for waiter in served {
            self.stop_waiting(waiter.reader);
            self.wake(waiter.reader);
        }
    }

    fn read_failed(&mut self, key: ChannelKey, reason: &str, now: Now) {
        let channel = &self.channels[key];
        let notice = format!(
            "channel {}: a read from the store failed: {reason}",
            channel.name
        );
        self.note(notice);
        let channel = &mut self.channels[key];
        channel.active_load = None;
        let waiters: Vec<Waiter> = channel.waiters.drain(..).collect();
        for waiter in waiters {
            self.stop_waiting(waiter.reader);
            if let Reader::Redelivery(sub) = waiter.reader {
                self.postpone_redelivery(sub, now);
            }
        }
        self.timers
            .arm_earlier(TimerKey::RetryReads(key), now.monotonic + RETRY_READS_AFTER);
    }

    fn stop_waiting(&mut self, reader: Reader) {
        match reader {
            Reader::Sub(sub) => {
                if let Some(sub) = self.subs.get_mut(sub) {
                    sub.is_waiting = false;
                }
            }
            Reader::Group(group) => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.is_waiting = false;
                }
            }
            Reader::Redelivery(sub) => {
                if let Some(run) = self.subs.get_mut(sub).and_then(|sub| sub.run.as_mut()) {
                    run.is_waiting = false;
                }
            }
        }
    }

    /// Takes a reader out of the line; it is gone or has nothing to wait for any more.
    pub(super) fn forget_waiter(&mut self, key: ChannelKey, reader: Reader) {
        self.channels[key]
            .waiters
            .retain(|waiter| waiter.reader != reader);
    }

    pub(super) fn finish_search(
        &mut self,
        load: LoadId,
        result: Result<Option<Sequence>, String>,
        now: Now,
    ) {
        match self.loads.remove(&load) {
            Some(Purpose::StartTime(key)) => self.start_time_found(key, load, result, now),
            Some(Purpose::ExpiryBoundary { channel, last }) => {
                self.expiry_boundary_found(channel, last, result);
            }
            Some(Purpose::Read(_) | Purpose::OldestTimestamp(_) | Purpose::Count(_)) | None => {}
        }
    }

    /// Sets the timer for the oldest message of a channel with `max_age`.
    pub(super) fn arm_expiry(&mut self, key: ChannelKey) {
        let channel = &self.channels[key];
        if channel.first > channel.last || channel.age_search.is_some() {
            return;
        }
        if let Some(timestamp) = channel.first_timestamp() {
            self.arm_expiry_at(key, timestamp);
            return;
        }
        let (id, from) = (channel.id, channel.first);
        let load = self.next_load(Purpose::OldestTimestamp(key));
        self.channels[key].age_search = Some(load);
        self.effects.push_back(Effect::Load {
            load,
            channel: id,
            from,
            max_rows: 1,
            max_bytes: 1,
        });
    }

    /// Timers know the monotonic clock only; `started` is one moment on both.
    fn arm_expiry_at(&mut self, key: ChannelKey, timestamp: i64) {
        let max_age = i64::try_from(self.channels[key].limits.max_age_nanos).unwrap_or(i64::MAX);
        let due = timestamp
            .saturating_add(max_age)
            .saturating_sub(self.started_unix_nanos);
        let due = self.instant(u64::try_from(due).unwrap_or(0).min(u64::MAX / 4));
        self.timers.arm(TimerKey::Expiry(key), due);
    }

    fn oldest_known(&mut self, key: ChannelKey, timestamp: Option<i64>) {
        self.channels[key].age_search = None;
        match timestamp {
            Some(timestamp) => self.arm_expiry_at(key, timestamp),
            None => self.retry_expiry(key),
        }
    }

    /// The oldest message of a channel is due: asks where the others that are begin to end.
    pub(super) fn search_expired(&mut self, key: ChannelKey, now: Now) {
        let Some(channel) = self.channels.get(key) else {
            return;
        };
        if channel.first > channel.last || channel.age_search.is_some() {
            return;
        }
        if channel.is_estimated {
            // Nothing is removed while the store counts.
            self.retry_expiry(key);
            return;
        }
        let max_age = i64::try_from(channel.limits.max_age_nanos).unwrap_or(i64::MAX);
        let timestamp = now.unix_nanos.saturating_sub(max_age).saturating_add(1);
        let (id, last) = (channel.id, channel.last);
        let load = self.next_load(Purpose::ExpiryBoundary { channel: key, last });
        self.channels[key].age_search = Some(load);
        self.effects.push_back(Effect::FindSequence {
            load,
            channel: id,
            timestamp,
        });
    }

    fn expiry_boundary_found(
        &mut self,
        key: ChannelKey,
        last: Sequence,
        result: Result<Option<Sequence>, String>,
    ) {
        let channel = &mut self.channels[key];
        channel.age_search = None;
        let keep = result.map_or(channel.first, |found| found.unwrap_or(last.next()));
        if channel.is_being_deleted {
            // Everything in it goes, or the limits are looked at again.
            return;
        }
        if keep > channel.first {
            // The timer is set again when they are gone, for the next piece too.
            let (from, keep) = (channel.first, keep.0.min(channel.first.0 + MAX_TRIM));
            let to = Sequence(keep - 1);
            let trim = Trim {
                channel: channel.id,
                from,
                to,
            };
            self.channel_draft(key).trims.push(trim);
        } else {
            // A failure, or the two clocks went apart.
            self.retry_expiry(key);
        }
    }

    /// Looks for expired messages a little later.
    pub(super) fn retry_expiry(&mut self, key: ChannelKey) {
        if self.channels[key].limits.max_age_nanos > 0 {
            let at = self.now.monotonic + RETRY_READS_AFTER;
            self.timers.arm(TimerKey::Expiry(key), at);
        }
    }
}

/// Names the first few of them.
fn corrupt_notice(channel: &str, rows: &[CorruptRow]) -> String {
    const NAMED: usize = 5;
    let mut notice = format!(
        "channel {channel}: {} stored messages are corrupt and not delivered:",
        rows.len()
    );
    for CorruptRow {
        sequence, reason, ..
    } in rows.iter().take(NAMED)
    {
        let _ = write!(notice, " {sequence} ({reason})");
    }
    if rows.len() > NAMED {
        notice.push_str(" ...");
    }
    notice
}
