//! Channels that are deleted.

use broker_core::durable::ChannelId;

use super::{
    StoreFactory, activate,
    batches::{BatchBuilder, CHANNEL, CHANNEL_NAME, subscription},
    founded, put, restart, sequences,
};

const OTHER: ChannelId = ChannelId(2);

fn delete() -> BatchBuilder {
    BatchBuilder::new()
        .delete_subscription(CHANNEL, 1)
        .delete_channel(CHANNEL)
}

pub async fn a_deleted_channel_is_gone_and_its_numbers_are_not_given_again<F: StoreFactory>(
    factory: &F,
) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .put_subscription(CHANNEL, subscription(1))
        .pending(CHANNEL, 1, 3, &[2, 3])
        .rows(CHANNEL, 1..=5);
    put(&store, batch.build()).await;
    put(&store, delete().build()).await;
    // Again is as good as once.
    put(&store, delete().build()).await;
    let (_store, recovered) = restart(factory, store).await;
    assert!(recovered.channels.is_empty());
    assert_eq!(
        (recovered.last_channel_id, recovered.last_subscription_id),
        (1, 1)
    );
}

pub async fn the_name_of_a_deleted_channel_is_free<F: StoreFactory>(factory: &F) {
    let store = founded(factory, 1..=5).await;
    put(&store, delete().build()).await;
    let batch = BatchBuilder::new()
        .create_channel(OTHER, CHANNEL_NAME)
        .rows(OTHER, 1..=2);
    put(&store, batch.build()).await;
    assert_eq!(sequences(&store, OTHER).await, [1, 2]);
    let (store, recovered) = restart(factory, store).await;
    let channels = recovered.channels.iter();
    let channels: Vec<_> = channels
        .map(|channel| (channel.id, channel.messages))
        .collect();
    assert_eq!(channels, [(OTHER, 2)]);
    assert_eq!(sequences(&store, OTHER).await, [1, 2]);
}

pub async fn a_channel_made_and_deleted_at_once_leaves_its_number<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .create_channel(OTHER, "short-lived")
        .put_subscription(OTHER, subscription(7))
        .delete_subscription(OTHER, 7)
        .delete_channel(OTHER);
    put(&store, batch.build()).await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.channels.len(), 1);
    assert_eq!(
        (recovered.last_channel_id, recovered.last_subscription_id),
        (2, 7)
    );
}

/// More messages than go in one piece, of two channels; the others' stay.
pub async fn only_the_deleted_channel_s_messages_go<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().create_channel(OTHER, "other");
    put(&store, batch.build()).await;
    for from in [1, 4_001, 8_001] {
        let to = from + 3_999;
        for channel in [CHANNEL, OTHER] {
            put(&store, BatchBuilder::new().rows(channel, from..=to).build()).await;
        }
    }
    put(&store, delete().build()).await;
    let (store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.channels.len(), 1);
    assert_eq!(recovered.channels[0].messages, 12_000);
    let batch = BatchBuilder::new().rows(OTHER, 12_001..=12_002);
    put(&store, batch.build()).await;
    assert_eq!(sequences(&store, OTHER).await.len(), 12_002);
}
