//! How much a channel holds: on record, added up, counted.

use broker_core::durable::{Change, Recovered, Sequence, Totals};

use super::{
    StoreFactory, activate,
    batches::{BatchBuilder, CHANNEL},
    put, restart,
};
use crate::Store;

fn put_totals(totals: Totals) -> BatchBuilder {
    let channel = CHANNEL;
    BatchBuilder::new().change(Change::PutTotals { channel, totals })
}

async fn count(store: &dyn Store, up_to: u64) -> Totals {
    let counted = store.count(CHANNEL, Sequence(up_to)).await;
    counted.expect("messages can be counted")
}

/// First, last, messages and bytes of the channel, and whether they are known.
fn known(recovered: &Recovered) -> (Totals, bool) {
    let channel = &recovered.channels[0];
    let totals = Totals {
        first: channel.first,
        last: channel.last,
        messages: channel.messages,
        bytes: channel.bytes,
    };
    (totals, channel.is_counted)
}

pub async fn what_was_written_down_and_what_came_behind_it_is_known<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().rows(CHANNEL, 1..=3_000);
    put(&store, batch.build()).await;
    let batch = BatchBuilder::new().trim(CHANNEL, 1, 10);
    put(&store, batch.build()).await;
    let written = count(&*store, 3_000).await;
    put(&store, put_totals(written).build()).await;
    let (store, recovered) = restart(factory, store).await;
    assert_eq!(known(&recovered), (written, true));
    let batch = BatchBuilder::new().rows(CHANNEL, 3_001..=3_400);
    put(&store, batch.build()).await;
    let all = count(&*store, 3_400).await;
    let (store, recovered) = restart(factory, store).await;
    assert_eq!(known(&recovered), (all, true));
    // All that the record tells of goes.
    let batch = BatchBuilder::new().trim(CHANNEL, 11, 3_100);
    put(&store, batch.build()).await;
    let rest = count(&*store, 3_400).await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(known(&recovered), (rest, true));
}

pub async fn a_channel_that_was_trimmed_or_grew_since_is_not_counted<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().rows(CHANNEL, 1..=2_000);
    put(&store, batch.build()).await;
    let written = count(&*store, 2_000).await;
    put(&store, put_totals(written).build()).await;
    put(&store, BatchBuilder::new().trim(CHANNEL, 1, 1).build()).await;
    let (store, recovered) = restart(factory, store).await;
    let (totals, is_counted) = known(&recovered);
    assert_eq!(is_counted, !factory.has_lock(), "memory knows always");
    assert_eq!((totals.first, totals.last), (Sequence(2), Sequence(2_000)));
    put(&store, put_totals(count(&*store, 2_000).await).build()).await;
    let batch = BatchBuilder::new().rows(CHANNEL, 2_001..=4_000);
    put(&store, batch.build()).await;
    let (_store, recovered) = restart(factory, store).await;
    let (totals, is_counted) = known(&recovered);
    assert_eq!(is_counted, !factory.has_lock(), "memory knows always");
    assert_eq!((totals.first, totals.last), (Sequence(2), Sequence(4_000)));
}

pub async fn a_deleted_channel_leaves_no_totals<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().rows(CHANNEL, 1..=5);
    put(&store, batch.build()).await;
    let totals = count(&*store, 5).await;
    let batch = put_totals(totals).delete_channel(CHANNEL);
    put(&store, batch.build()).await;
    let (_store, recovered) = restart(factory, store).await;
    assert!(recovered.channels.is_empty());
}

pub async fn a_count_sees_what_is_there<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().rows(CHANNEL, 1..=9);
    put(&store, batch.build()).await;
    put(&store, BatchBuilder::new().trim(CHANNEL, 1, 2).build()).await;
    let some = count(&*store, 5).await;
    assert_eq!((some.first, some.last), (Sequence(3), Sequence(5)));
    assert_eq!(some.messages, 3);
    let all = count(&*store, 9).await;
    assert_eq!((all.messages, all.bytes), (7, some.bytes / 3 * 7));
    let none = count(&*store, 2).await;
    assert_eq!((none.first, none.last), (Sequence(3), Sequence(2)));
    assert_eq!((none.messages, none.bytes), (0, 0));
}
