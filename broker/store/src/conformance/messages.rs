//! Appending, reading, finding, removing messages.

use broker_core::durable::{ChannelId, FlushOutcome, Sequence};

use super::{
    StoreFactory, activate,
    batches::{BatchBuilder, CHANNEL, STEP, message, timestamp},
    flush, founded, put, read_all, restart, sequences,
};

pub async fn what_was_flushed_is_read_at_once<F: StoreFactory>(factory: &F) {
    let store = founded(factory, 1..=1).await;
    put(&store, BatchBuilder::new().rows(CHANNEL, 2..=3).build()).await;
    let messages = read_all(&store, CHANNEL).await;
    assert_eq!(messages.len(), 3);
    for (found, sequence) in messages.iter().zip(1..) {
        assert_eq!(found.sequence, Sequence(sequence));
        assert_eq!(found.timestamp, timestamp(sequence));
        assert_eq!(
            found.data,
            message(sequence, sequence.to_string().as_bytes())
        );
    }
}

pub async fn ranges_end_at_rows_and_bytes<F: StoreFactory>(factory: &F) {
    let store = founded(factory, 1..=9).await;
    let size = message(1, b"1").len();
    for (from, rows, bytes, expected) in [
        (3, 4, usize::MAX, 3..=6),
        (0, 2, usize::MAX, 1..=2),
        (8, 100, usize::MAX, 8..=9),
        (2, 100, 1, 2..=2),
        (2, 100, size, 2..=2),
        (2, 100, size + 1, 2..=3),
        (2, 3, size * 100, 2..=4),
    ] {
        let read = store
            .read(CHANNEL, Sequence(from), rows, bytes)
            .await
            .unwrap();
        let found: Vec<_> = read
            .messages
            .iter()
            .map(|message| message.sequence.0)
            .collect();
        assert_eq!(
            found,
            expected.collect::<Vec<_>>(),
            "from {from}, {rows} rows, {bytes} bytes"
        );
    }
    let behind = store
        .read(CHANNEL, Sequence(10), 5, usize::MAX)
        .await
        .unwrap();
    assert_eq!(behind.last(), None);
    let unknown = store
        .read(ChannelId(99), Sequence(1), 5, usize::MAX)
        .await
        .unwrap();
    assert_eq!(unknown.last(), None);
}

pub async fn position_by_timestamp<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    put(&store, BatchBuilder::founding().build()).await;
    let at = async |timestamp| store.sequence_at(CHANNEL, timestamp).await.unwrap();
    assert_eq!(at(0).await, None);
    put(&store, BatchBuilder::new().rows(CHANNEL, 1..=20).build()).await;
    put(&store, BatchBuilder::new().trim(CHANNEL, 1, 4).build()).await;
    for (wanted, expected) in [
        (0, Some(5)),
        (timestamp(5), Some(5)),
        (timestamp(5) + 1, Some(6)),
        (timestamp(12) - STEP / 2, Some(12)),
        (timestamp(20), Some(20)),
        (timestamp(20) + 1, None),
        (i64::MAX, None),
    ] {
        assert_eq!(at(wanted).await, expected.map(Sequence), "{wanted}");
    }
    put(&store, BatchBuilder::new().trim(CHANNEL, 5, 20).build()).await;
    assert_eq!(at(0).await, None);
}

pub async fn a_batch_applied_twice_is_there_once<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .rows(CHANNEL, 1..=5)
        .trim(CHANNEL, 1, 2)
        .build();
    put(&store, batch.clone()).await;
    assert_eq!(flush(&store, batch).await, FlushOutcome::Stored);
    assert_eq!(sequences(&store, CHANNEL).await, [3, 4, 5]);
}

pub async fn trims_remove_the_front<F: StoreFactory>(factory: &F) {
    let store = founded(factory, 1..=10).await;
    let batch = BatchBuilder::new()
        .rows(CHANNEL, 11..=12)
        .trim(CHANNEL, 1, 3)
        .trim(CHANNEL, 4, 6);
    put(&store, batch.build()).await;
    assert_eq!(sequences(&store, CHANNEL).await, [7, 8, 9, 10, 11, 12]);
    let (_store, recovered) = restart(factory, store).await;
    let channel = &recovered.channels[0];
    assert_eq!(
        (channel.first, channel.last, channel.messages),
        (Sequence(7), Sequence(12), 6)
    );
}

pub async fn rows_trimmed_by_their_own_batch_are_gone<F: StoreFactory>(factory: &F) {
    let store = founded(factory, 1..=2).await;
    let batch = BatchBuilder::new()
        .rows(CHANNEL, 3..=9)
        .trim(CHANNEL, 1, 2)
        .trim(CHANNEL, 3, 7);
    put(&store, batch.build()).await;
    assert_eq!(sequences(&store, CHANNEL).await, [8, 9]);
}

/// Expiry can remove the newest message too. Without a record of it, sequences would begin again
/// after the second restart.
pub async fn last_sequence_outlives_the_removal_of_all_messages<F: StoreFactory>(factory: &F) {
    let store = founded(factory, 1..=100).await;
    put(&store, BatchBuilder::new().trim(CHANNEL, 1, 100).build()).await;
    let mut store = store;
    for _ in 0..2 {
        let (again, recovered) = restart(factory, store).await;
        let channel = &recovered.channels[0];
        assert_eq!(
            (channel.first, channel.last),
            (Sequence(101), Sequence(100))
        );
        assert_eq!(
            (channel.messages, channel.bytes, channel.last_timestamp),
            (0, 0, 0)
        );
        store = again;
    }
    put(&store, BatchBuilder::new().rows(CHANNEL, 101..=101).build()).await;
    let (_store, recovered) = restart(factory, store).await;
    let channel = &recovered.channels[0];
    assert_eq!(
        (channel.first, channel.last),
        (Sequence(101), Sequence(101))
    );
}

pub async fn empty_payloads_and_large_ones_come_back<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let large: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
    let batch = BatchBuilder::founding()
        .row(CHANNEL, 1, b"")
        .row(CHANNEL, 2, &large)
        .row(CHANNEL, 3, b"\x00\xff");
    put(&store, batch.build()).await;
    let messages = read_all(&store, CHANNEL).await;
    assert_eq!(messages[0].data, message(1, b""));
    assert_eq!(messages[1].data, message(2, &large));
    assert_eq!(messages[2].data, message(3, b"\x00\xff"));
}

pub async fn channels_do_not_mix<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let other = ChannelId(2);
    let batch = BatchBuilder::founding()
        .create_channel(other, "other")
        .rows(CHANNEL, 1..=3)
        .rows(other, 1..=1);
    put(&store, batch.build()).await;
    let batch = BatchBuilder::new().rows(other, 2..=4).trim(CHANNEL, 1, 2);
    put(&store, batch.build()).await;
    assert_eq!(sequences(&store, CHANNEL).await, [3]);
    assert_eq!(sequences(&store, other).await, [1, 2, 3, 4]);
}
