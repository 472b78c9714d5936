//! Messages that were not acknowledged in time, or before a resume or restart, are sent again.

use std::{collections::VecDeque, time::Duration};

use super::{
    Engine,
    channel::{Lookup, Message, Reader, Waiter},
    delivery::{SERVED_AT_ONCE, nanos},
    keys::{GroupKey, SubKey},
    loads::MAX_READ_ROWS,
    pending::{Entry, Ticks},
    subscription::{Run, RunKind},
    timers::TimerKey,
};
use crate::{Now, durable::Sequence};

/// What expires this soon is redelivered together with what has expired.
const LOOK_AHEAD: Duration = Duration::from_millis(15);

/// How soon the messages of a member that left are looked at by those who got them.
pub(super) const HAND_OVER_AFTER: Duration = Duration::from_millis(100);

impl Engine {
    /// The ack timer of a subscription fired.
    pub(super) fn ack_wait_over(&mut self, key: SubKey, now: Now) {
        let due_before = self.ticks(now).saturating_add(nanos(LOOK_AHEAD));
        let sub = &self.subs[key];
        if sub.pending.is_empty() || sub.run.is_some() {
            return;
        }
        if sub.group.is_none() && self.clients.is_failing(sub.client) {
            let at = now.monotonic + sub.ack_wait();
            self.timers.arm(TimerKey::AckWait(key), at);
            return;
        }
        let mut due: Vec<Entry> = sub
            .pending
            .iter()
            .filter(|entry| is_due(entry, due_before))
            .collect();
        due.sort_unstable_by_key(|entry| (entry.expires, entry.sequence));
        let queue = due.into_iter().map(|entry| entry.sequence).collect();
        self.start_run(key, RunKind::Expired, queue, now);
    }

    /// Redelivers all that is pending at a subscription that came back, or what has expired of it
    /// after a restart; new messages wait until that is done.
    pub(super) fn redeliver_pending(&mut self, key: SubKey, kind: RunKind, now: Now) {
        let queue = VecDeque::from(self.subs[key].pending.sequences());
        self.start_run(key, kind, queue, now);
    }

    fn start_run(&mut self, key: SubKey, kind: RunKind, queue: VecDeque<Sequence>, now: Now) {
        self.timers.disarm(TimerKey::AckWait(key));
        self.subs[key].run = Some(Run {
            kind,
            queue,
            is_waiting: false,
        });
        self.continue_run(key, now);
    }

    /// Goes on until the run is done or needs the store.
    pub(super) fn continue_run(&mut self, key: SubKey, now: Now) {
        for _ in 0..SERVED_AT_ONCE {
            let Some(sub) = self.subs.get_mut(key) else {
                return;
            };
            let channel_key = sub.channel;
            let Some(run) = sub.run.as_mut().filter(|run| !run.is_waiting) else {
                return;
            };
            let kind = run.kind;
            let Some(sequence) = run.queue.front().copied() else {
                self.finish_run(key, now);
                return;
            };
            // An ack may have come meanwhile, or another run may have taken care of it.
            let Some(entry) = sub.pending.get(sequence) else {
                run.queue.pop_front();
                continue;
            };
            let channel = &self.channels[channel_key];
            match channel.lookup(channel_key, sequence, &mut self.pages) {
                Lookup::Absent(from) if from == sequence => {
                    run.is_waiting = true;
                    let last = run.queue.iter().max().copied().unwrap_or(sequence);
                    let max_rows = (last.0 - sequence.0 + 1).min(MAX_READ_ROWS as u64) as usize;
                    let waiter = Waiter {
                        reader: Reader::Redelivery(key),
                        from,
                        max_rows,
                    };
                    self.wait_for_read(channel_key, waiter);
                    return;
                }
                Lookup::Found(message)
                    if message.sequence == sequence
                        && !channel.is_expired(message.timestamp, now.unix_nanos) =>
                {
                    run.queue.pop_front();
                    self.redeliver(key, kind, entry, &message, now);
                }
                Lookup::Found(_) | Lookup::Absent(_) | Lookup::End => {
                    run.queue.pop_front();
                    self.acknowledge(key, sequence);
                    self.free_if_room(key);
                }
            }
        }
        self.wake(Reader::Redelivery(key));
    }

    fn redeliver(&mut self, key: SubKey, kind: RunKind, entry: Entry, message: &Message, now: Now) {
        let ticks = self.ticks(now);
        let sub = &mut self.subs[key];
        if kind == RunKind::Recovered {
            let age = now.unix_nanos.saturating_sub(message.timestamp);
            let left = nanos(sub.ack_wait()).saturating_sub(u64::try_from(age).unwrap_or(0));
            if left > 0 {
                sub.pending.insert(Entry {
                    expires: Some(ticks.saturating_add(left)),
                    ..entry
                });
                return;
            }
        }
        let target = match (kind, sub.group) {
            (RunKind::Expired, Some(group)) => self.choose_again(group).unwrap_or(key),
            _ => key,
        };
        if !self.subs[target].takes_again() {
            // Not answered yet, say: stays where it is until the next round.
            let expires = Some(ticks.saturating_add(nanos(self.subs[key].ack_wait())));
            self.subs[key].pending.insert(Entry { expires, ..entry });
            return;
        }
        let count = entry.redeliveries.saturating_add(1);
        self.send_again(target, message, count);
        let taker = &mut self.subs[target];
        let ack_wait = taker.ack_wait();
        let expires = Some(ticks.saturating_add(nanos(ack_wait)));
        taker.pending.insert(Entry {
            sequence: entry.sequence,
            expires,
            redeliveries: count,
        });
        if target != key {
            taker.last_sent = taker.last_sent.max(entry.sequence);
            let needs_timer = taker.run.is_none();
            self.mark_dirty(target);
            if needs_timer {
                self.timers
                    .arm_earlier(TimerKey::AckWait(target), now.monotonic + ack_wait);
            }
            self.acknowledge(key, entry.sequence);
            self.free_if_room(key);
        }
    }

    /// The member for a redelivery: as for a new message, but if none has room, the first one.
    fn choose_again(&mut self, key: GroupKey) -> Option<SubKey> {
        let mut best: Option<(usize, usize)> = None;
        for (place, member) in self.groups[key].members.iter().enumerate() {
            let sub = &self.subs[*member];
            if sub.takes_again() && !sub.is_stalled && !self.clients.is_failing(sub.client) {
                let candidate = (sub.pending.len(), place);
                if best.is_none_or(|best| candidate < best) {
                    best = Some(candidate);
                }
            }
        }
        let subs = &self.subs;
        let group = &mut self.groups[key];
        let place = match best {
            Some((_, place)) => place,
            None => group
                .members
                .iter()
                .position(|member| subs[*member].takes_again())?,
        };
        let member = group.members[place];
        group.rotate(place);
        Some(member)
    }

    /// Everything the run was about has been dealt with.
    fn finish_run(&mut self, key: SubKey, now: Now) {
        let soon = self.ticks(now).saturating_add(nanos(LOOK_AHEAD));
        let sub = &mut self.subs[key];
        sub.run = None;
        if std::mem::take(&mut sub.is_on_hold)
            && let Some(group) = sub.group
        {
            self.groups[group].members_on_hold -= 1;
        }
        if !sub.pending.is_empty() {
            let after_ack_wait = now.monotonic + sub.ack_wait();
            let next = sub.pending.iter().filter_map(|entry| entry.expires).min();
            let at = match next {
                Some(next) if next > soon => self.instant(next),
                // Expired, or was handed over, while the run was on.
                Some(_) => now.monotonic + HAND_OVER_AFTER,
                None => after_ack_wait,
            };
            self.timers.arm(TimerKey::AckWait(key), at);
        }
        self.wake_reader_of(key);
    }

    /// The store could not be read: what is left stays pending, until the timer fires again.
    pub(super) fn postpone_redelivery(&mut self, key: SubKey, now: Now) {
        let Some(sub) = self.subs.get_mut(key) else {
            return;
        };
        let Some(run) = sub.run.take_if(|run| run.kind == RunKind::Expired) else {
            // What is on hold must come before anything new: tried again by the retry timer.
            return;
        };
        drop(run);
        let at = now.monotonic + sub.ack_wait();
        self.timers.arm(TimerKey::AckWait(key), at);
    }

    /// Hands the pending messages of a member that left to the others, one after the other.
    pub(super) fn hand_over(&mut self, entries: Vec<Entry>, group: GroupKey, now: Now) {
        let ticks = self.ticks(now);
        let members = self.groups[group].members.clone();
        for (entry, member) in entries.into_iter().zip(members.iter().cycle()) {
            let sub = &mut self.subs[*member];
            sub.pending.insert(Entry {
                expires: Some(ticks),
                ..entry
            });
            let needs_timer = sub.run.is_none();
            self.mark_dirty(*member);
            if needs_timer {
                let at = now.monotonic + HAND_OVER_AFTER;
                self.timers.arm_earlier(TimerKey::AckWait(*member), at);
            }
        }
    }
}

fn is_due(entry: &Entry, before: Ticks) -> bool {
    entry.expires.is_none_or(|expires| expires <= before)
}
