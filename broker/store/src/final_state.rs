//! The changes of a batch reduced to one final value for each key, so that a store can write them
//! as sets.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::durable::{Batch, Change, ChannelId, ChannelLimits, Row, Sequence, Totals};
use broker_proto::streaming::{ClientInfo, ServerInfo, SubState};

/// Final values of everything a batch changes, messages left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FinalState {
    pub(crate) server_info: Option<ServerInfo>,
    /// None: the client is gone.
    pub(crate) clients: BTreeMap<String, Option<ClientInfo>>,
    pub(crate) channels: BTreeMap<ChannelId, (String, ChannelLimits)>,
    /// May have been made by the same batch: the row of the highest number ever given must exist.
    pub(crate) channels_gone: BTreeSet<ChannelId>,
    pub(crate) subscriptions: BTreeMap<u64, SubscriptionChange>,
    /// Beside the state, as it were: what can be counted.
    pub(crate) totals: BTreeMap<ChannelId, Totals>,
}

/// What becomes of one subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SubscriptionChange {
    pub(crate) channel: ChannelId,
    /// The new record, if there is one. Kept beside `deleted`: the record of the highest number ever
    /// given must exist even if it was made and deleted in one batch.
    pub(crate) record: Option<SubState>,
    pub(crate) deleted: bool,
    pub(crate) pending: Option<PendingChange>,
}

/// The whole pending set of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PendingChange {
    pub(crate) last_sent: Sequence,
    pub(crate) pending: Vec<Sequence>,
}

impl FinalState {
    pub(crate) fn of(changes: &[Change]) -> Self {
        let mut state = Self::default();
        for change in changes {
            state.apply(change);
        }
        state
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::PutServerInfo(info) => self.server_info = Some(info.clone()),
            Change::PutClient(info) => {
                self.clients.insert(info.id.clone(), Some(info.clone()));
            }
            Change::DeleteClient { id } => {
                self.clients.insert(id.clone(), None);
            }
            Change::PutChannel { id, name, limits } => {
                self.channels.insert(*id, (name.clone(), *limits));
            }
            Change::DeleteChannel { id } => {
                self.channels_gone.insert(*id);
                self.totals.remove(id);
            }
            Change::PutSubscription { channel, state } => {
                self.subscription(*channel, state.id).record = Some(state.clone());
            }
            Change::DeleteSubscription { channel, id } => {
                let subscription = self.subscription(*channel, id.0);
                subscription.deleted = true;
                subscription.pending = None;
            }
            Change::PutTotals { channel, totals } => {
                self.totals.insert(*channel, *totals);
            }
            Change::PutPending {
                channel,
                id,
                last_sent,
                pending,
            } => {
                let subscription = self.subscription(*channel, id.0);
                if !subscription.deleted {
                    subscription.pending = Some(PendingChange {
                        last_sent: *last_sent,
                        pending: pending.clone(),
                    });
                }
            }
        }
    }

    fn subscription(&mut self, channel: ChannelId, id: u64) -> &mut SubscriptionChange {
        self.subscriptions
            .entry(id)
            .or_insert_with(|| SubscriptionChange {
                channel,
                record: None,
                deleted: false,
                pending: None,
            })
    }

    /// Whether nothing changes but, perhaps, totals.
    pub(crate) fn is_empty(&self) -> bool {
        self.server_info.is_none()
            && self.clients.is_empty()
            && self.channels.is_empty()
            && self.channels_gone.is_empty()
            && self.subscriptions.is_empty()
    }
}

impl SubscriptionChange {
    /// Highest sequence this batch says was sent; 0 if it says nothing.
    pub(crate) fn last_sent(&self) -> u64 {
        let of_record = self.record.as_ref().map_or(0, |record| record.last_sent);
        let of_pending = self.pending.as_ref().map_or(0, |change| change.last_sent.0);
        of_record.max(of_pending)
    }
}

/// Numbers of subscriptions that must not be given again.
///
/// The counter of a restarted owner continues behind the highest number on record. So the record of
/// that number stays, marked, when its subscription is deleted, until a higher one is on record.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubscriptionNumbers {
    /// Highest on record, marked ones included.
    pub(crate) highest: u64,
    /// Marked as deleted; at most a few.
    pub(crate) marked: Vec<(ChannelId, u64)>,
}

impl SubscriptionNumbers {
    /// The numbers once `state` is on record.
    pub(crate) fn after(&self, state: &FinalState) -> Self {
        let put =
            |(id, change): (&u64, &SubscriptionChange)| change.record.is_some().then_some(*id);
        let highest_put = state.subscriptions.iter().filter_map(put).max();
        let highest = self.highest.max(highest_put.unwrap_or(0));
        let newly_marked = state
            .subscriptions
            .iter()
            .filter(|(id, change)| change.deleted && **id == highest)
            .map(|(id, change)| (change.channel, *id));
        let mut marked: Vec<_> = self.marked.iter().copied().chain(newly_marked).collect();
        marked.retain(|(_, id)| *id >= highest);
        marked.dedup();
        Self { highest, marked }
    }

    /// Marked records that `after` no longer needs.
    pub(crate) fn purged_by<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (ChannelId, u64)> + 'a {
        self.marked
            .iter()
            .copied()
            .filter(|(_, id)| *id < after.highest)
    }
}

/// What a batch removes of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) from: Sequence,
    pub(crate) to: Sequence,
    /// No row of the batch stands behind the removed ones, so the channel may be empty afterwards and
    /// its last sequence must be kept apart (`Channels.maxseq`).
    pub(crate) may_empty: bool,
}

/// Removals of a batch, one a channel. Messages leave a channel at its front only, so several
/// removals of one channel touch each other.
pub(crate) fn removals(batch: &Batch) -> BTreeMap<ChannelId, Removal> {
    let mut removals = BTreeMap::new();
    for trim in &batch.trims {
        let removal = removals.entry(trim.channel).or_insert(Removal {
            from: trim.from,
            to: trim.to,
            may_empty: true,
        });
        removal.from = removal.from.min(trim.from);
        removal.to = removal.to.max(trim.to);
    }
    if !removals.is_empty() {
        for row in &batch.rows {
            if let Some(removal) = removals.get_mut(&row.channel) {
                removal.may_empty &= row.sequence <= removal.to;
            }
        }
    }
    removals
}

/// Rows of a batch that its own removals leave, which are the only ones worth writing.
pub(crate) fn surviving_rows<'a>(
    batch: &'a Batch,
    removals: &'a BTreeMap<ChannelId, Removal>,
) -> impl Iterator<Item = &'a Row> {
    batch.rows.iter().filter(move |row| {
        removals.is_empty()
            || removals
                .get(&row.channel)
                .is_none_or(|removal| row.sequence > removal.to)
    })
}

#[cfg(test)]
mod tests {
    use broker_core::durable::{SubscriptionId, Trim};

    use super::*;

    const CHANNEL: ChannelId = ChannelId(1);

    fn put(id: u64) -> Change {
        Change::PutSubscription {
            channel: CHANNEL,
            state: SubState {
                id,
                ..SubState::default()
            },
        }
    }

    fn delete(id: u64) -> Change {
        Change::DeleteSubscription {
            channel: CHANNEL,
            id: SubscriptionId(id),
        }
    }

    fn pend(id: u64, last_sent: u64) -> Change {
        Change::PutPending {
            channel: CHANNEL,
            id: SubscriptionId(id),
            last_sent: Sequence(last_sent),
            pending: vec![Sequence(last_sent)],
        }
    }

    #[test]
    fn the_last_change_of_a_key_wins() {
        let state = FinalState::of(&[
            put(1),
            pend(1, 4),
            pend(1, 5),
            put(2),
            pend(2, 1),
            delete(2),
        ]);
        assert_eq!(state.subscriptions[&1].last_sent(), 5);
        assert!(state.subscriptions[&2].deleted);
        assert_eq!(state.subscriptions[&2].pending, None);
    }

    #[test]
    fn deleted_highest_number_is_marked_until_a_higher_one_exists() {
        let none = SubscriptionNumbers::default();
        let marked = none.after(&FinalState::of(&[put(7), delete(7)]));
        assert_eq!(marked.marked, [(CHANNEL, 7)]);
        let unchanged = marked.after(&FinalState::of(&[delete(3)]));
        assert_eq!(unchanged.marked, [(CHANNEL, 7)]);
        let purged = unchanged.after(&FinalState::of(&[put(8)]));
        assert_eq!((purged.highest, purged.marked.len()), (8, 0));
        assert_eq!(
            unchanged.purged_by(&purged).collect::<Vec<_>>(),
            [(CHANNEL, 7)]
        );
    }

    #[test]
    fn rows_removed_by_their_own_batch_are_not_written() {
        let row = |sequence| Row {
            channel: CHANNEL,
            sequence: Sequence(sequence),
            timestamp: 0,
            start: 0,
            end: 0,
        };
        let trim = |from, to| Trim {
            channel: CHANNEL,
            from: Sequence(from),
            to: Sequence(to),
        };
        let mut batch = Batch {
            rows: vec![row(5), row(6), row(7)],
            trims: vec![trim(1, 4), trim(5, 6)],
            ..Batch::default()
        };
        let removed = removals(&batch);
        assert_eq!(
            removed[&CHANNEL],
            Removal {
                from: Sequence(1),
                to: Sequence(6),
                may_empty: false
            }
        );
        let kept: Vec<_> = surviving_rows(&batch, &removed).collect();
        assert_eq!(kept, [&row(7)]);
        batch.trims.push(trim(7, 7));
        assert!(removals(&batch)[&CHANNEL].may_empty);
    }
}
