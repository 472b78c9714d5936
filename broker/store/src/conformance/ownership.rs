//! Who may write. Rules about the lock say nothing of a store without one.

use std::rc::Rc;

use broker_core::durable::{FlushOutcome, Sequence};
use tokio::time::timeout;

use super::{
    PATIENCE, StoreFactory, activate,
    batches::{BatchBuilder, CHANNEL, message},
    flush, founded, put, restart, sequences,
};
use crate::Activation;

pub async fn closing_twice_is_harmless<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    store.close().await;
    store.close().await;
}

pub async fn every_activation_has_a_new_owner<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let first = store.owner();
    put(
        &store,
        BatchBuilder::founding().rows(CHANNEL, 1..=2).build(),
    )
    .await;
    store.close().await;
    let recovered = activate(&store).await;
    assert_eq!(recovered.channels[0].messages, 2);
    if factory.has_lock() {
        assert!(!first.is_empty() && first.len() <= 30);
        assert_ne!(first, store.owner());
    }
}

pub async fn a_second_contender_stands_by<F: StoreFactory>(factory: &F) {
    if !factory.has_lock() {
        return;
    }
    let store = factory.open();
    activate(&store).await;
    let contender = factory.open();
    for _ in 0..3 {
        let activation = contender.activate().await.unwrap();
        assert!(matches!(activation, Activation::Standby { .. }));
    }
    assert_eq!(
        flush(&contender, BatchBuilder::founding().build()).await,
        FlushOutcome::Deposed
    );
    put(
        &store,
        BatchBuilder::founding().rows(CHANNEL, 1..=1).build(),
    )
    .await;
}

pub async fn a_closed_store_is_free_at_once<F: StoreFactory>(factory: &F) {
    if !factory.has_lock() {
        return;
    }
    let store = factory.open();
    activate(&store).await;
    let contender = factory.open();
    assert!(matches!(
        contender.activate().await.unwrap(),
        Activation::Standby { .. }
    ));
    put(
        &store,
        BatchBuilder::founding().rows(CHANNEL, 1..=1).build(),
    )
    .await;
    store.close().await;
    let activation = contender.activate().await.unwrap();
    assert!(
        matches!(activation, Activation::Active(_)),
        "{activation:?}"
    );
}

pub async fn a_deposed_owner_stores_nothing<F: StoreFactory>(factory: &F) {
    if !factory.has_lock() {
        return;
    }
    let store = founded(factory, 1..=1).await;
    factory.depose().await;
    let batch = BatchBuilder::new()
        .rows(CHANNEL, 2..=2)
        .create_channel(CHANNEL, "renamed");
    assert_eq!(flush(&store, batch.build()).await, FlushOutcome::Deposed);
    timeout(PATIENCE, store.deposed())
        .await
        .expect("the loss is signalled");
    assert_eq!(
        flush(&store, BatchBuilder::new().rows(CHANNEL, 2..=2).build()).await,
        FlushOutcome::Deposed
    );
    let (store, recovered) = restart(factory, store).await;
    assert_ne!(recovered.channels[0].name, "renamed");
    assert_eq!(sequences(&store, CHANNEL).await, [1]);
}

/// The reference as a deposed owner is not fenced: its late rows stand on numbers that we are about
/// to use. They may have been acknowledged, so they stay.
pub async fn rows_of_another_writer_are_reported<F: StoreFactory>(factory: &F) {
    if !factory.has_lock() {
        return;
    }
    let store = founded(factory, 1..=2).await;
    for sequence in [4, 5] {
        factory
            .intrude(CHANNEL, Sequence(sequence), &message(sequence, b"intruder"))
            .await;
    }
    let outcome = flush(&store, BatchBuilder::new().rows(CHANNEL, 3..=4).build()).await;
    let expected = FlushOutcome::Foreign {
        last: vec![(CHANNEL, Sequence(5))],
    };
    assert_eq!(outcome, expected);
    assert_eq!(sequences(&store, CHANNEL).await, [1, 2, 4, 5]);
    put(&store, BatchBuilder::new().rows(CHANNEL, 6..=7).build()).await;
    assert_eq!(sequences(&store, CHANNEL).await, [1, 2, 4, 5, 6, 7]);
}

pub async fn a_closed_store_stores_nothing<F: StoreFactory>(factory: &F) {
    if !factory.has_lock() {
        return;
    }
    let store = factory.open();
    activate(&store).await;
    put(&store, BatchBuilder::founding().build()).await;
    store.close().await;
    let batch = BatchBuilder::new().rows(CHANNEL, 1..=1).build();
    assert_eq!(flush(&store, batch).await, FlushOutcome::Deposed);
    assert!(Rc::clone(&store).owner().is_empty());
}
