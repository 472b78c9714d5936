//! Records of subscriptions and what is pending on them.

use broker_core::durable::{Recovered, Sequence};

use super::{
    StoreFactory, activate,
    batches::{BatchBuilder, CHANNEL, subscription},
    put, restart,
};

/// Pending sequences and last sent position of the only subscription.
fn pending(recovered: &Recovered) -> (Vec<u64>, u64) {
    let subscription = &recovered.channels[0].subscriptions[0];
    let pending = subscription.pending.iter().map(|sequence| sequence.0);
    (pending.collect(), subscription.state.last_sent)
}

pub async fn record_is_replaced<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let mut durable = subscription(1);
    durable.durable_name = "durable".to_owned();
    durable.is_durable = true;
    put(
        &store,
        BatchBuilder::founding()
            .put_subscription(CHANNEL, durable.clone())
            .build(),
    )
    .await;
    put(
        &store,
        BatchBuilder::new().pending(CHANNEL, 1, 3, &[3]).build(),
    )
    .await;
    durable.is_closed = true;
    put(
        &store,
        BatchBuilder::new()
            .put_subscription(CHANNEL, durable.clone())
            .build(),
    )
    .await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(pending(&recovered), (vec![3], 3));
    durable.last_sent = 3;
    assert_eq!(recovered.channels[0].subscriptions[0].state, durable);
}

pub async fn pending_set_is_replaced<F: StoreFactory>(factory: &F) {
    let mut store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .rows(CHANNEL, 1..=9)
        .put_subscription(CHANNEL, subscription(1));
    put(&store, batch.build()).await;
    for (last_sent, set) in [
        (3, vec![1, 2, 3]),
        (5, vec![2, 4, 5]),
        (5, vec![5]),
        (7, vec![]),
        (9, vec![8, 9]),
    ] {
        let batch = BatchBuilder::new()
            .pending(CHANNEL, 1, last_sent, &[1, 9])
            .pending(CHANNEL, 1, last_sent, &set);
        put(&store, batch.build()).await;
        let (again, recovered) = restart(factory, store).await;
        assert_eq!(pending(&recovered), (set, last_sent));
        store = again;
    }
}

pub async fn last_sent_never_falls<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .rows(CHANNEL, 1..=3)
        .put_subscription(CHANNEL, subscription(1));
    put(&store, batch.build()).await;
    put(
        &store,
        BatchBuilder::new().pending(CHANNEL, 1, 3, &[]).build(),
    )
    .await;
    put(
        &store,
        BatchBuilder::new()
            .put_subscription(CHANNEL, subscription(1))
            .build(),
    )
    .await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(pending(&recovered), (vec![], 3));
    assert_eq!(recovered.channels[0].last, Sequence(3));
}

pub async fn deleted_number_is_never_given_again<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .put_subscription(CHANNEL, subscription(1))
        .put_subscription(CHANNEL, subscription(2));
    put(&store, batch.build()).await;
    put(
        &store,
        BatchBuilder::new().delete_subscription(CHANNEL, 2).build(),
    )
    .await;
    put(
        &store,
        BatchBuilder::new().delete_subscription(CHANNEL, 1).build(),
    )
    .await;
    let (store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.last_subscription_id, 2);
    assert!(recovered.channels[0].subscriptions.is_empty());
    let made_and_deleted = BatchBuilder::new()
        .put_subscription(CHANNEL, subscription(3))
        .delete_subscription(CHANNEL, 3);
    put(&store, made_and_deleted.build()).await;
    let (store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.last_subscription_id, 3);
    put(
        &store,
        BatchBuilder::new()
            .put_subscription(CHANNEL, subscription(4))
            .build(),
    )
    .await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.last_subscription_id, 4);
    assert_eq!(recovered.channels[0].subscriptions.len(), 1);
}

pub async fn deleting_the_unknown_is_harmless<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().put_subscription(CHANNEL, subscription(5));
    put(&store, batch.build()).await;
    let batch = BatchBuilder::new()
        .delete_subscription(CHANNEL, 3)
        .delete_subscription(CHANNEL, 77)
        .pending(CHANNEL, 3, 1, &[]);
    put(&store, batch.build()).await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.channels[0].subscriptions.len(), 1);
    assert_eq!(recovered.last_subscription_id, 5);
}

pub async fn pending_of_a_deleted_subscription_is_gone<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .rows(CHANNEL, 1..=5)
        .put_subscription(CHANNEL, subscription(1))
        .put_subscription(CHANNEL, subscription(2))
        .pending(CHANNEL, 1, 2, &[1, 2])
        .pending(CHANNEL, 2, 2, &[2]);
    put(&store, batch.build()).await;
    put(
        &store,
        BatchBuilder::new().delete_subscription(CHANNEL, 1).build(),
    )
    .await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.channels[0].subscriptions.len(), 1);
    assert_eq!(pending(&recovered), (vec![2], 2));
}
