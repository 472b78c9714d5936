//! Encryption before a store: what the medium holds, and what comes back.

use std::rc::Rc;

use broker_core::durable::{FlushOutcome, Sequence};
use broker_proto::streaming::MsgProto;
use broker_store::{
    Activation, Cipher, MemoryStore, SealedStore, Store, StoreError,
    conformance::{
        activate,
        batches::{BatchBuilder, CHANNEL, CHANNEL_NAME, message},
        flush, put, read_all,
    },
};
use prost::Message;

const PAYLOAD: &[u8] = b"a payload that must not be seen";

fn sealed(medium: &Rc<dyn Store>, key: &str) -> Rc<dyn Store> {
    let medium = Rc::clone(medium);
    Rc::new(SealedStore::new(medium, key.as_bytes(), Cipher::default()))
}

fn medium() -> Rc<dyn Store> {
    Rc::new(MemoryStore::new())
}

fn payload(stored: &[u8]) -> Vec<u8> {
    MsgProto::decode(stored).unwrap().data.to_vec()
}

#[tokio::test]
async fn the_medium_sees_no_payload_and_readers_do() {
    let medium = medium();
    let store = sealed(&medium, "key");
    activate(&store).await;
    put(
        &store,
        BatchBuilder::founding()
            .row(CHANNEL, 1, PAYLOAD)
            .row(CHANNEL, 2, b"")
            .row(CHANNEL, 3, PAYLOAD)
            .build(),
    )
    .await;
    let held = read_all(&medium, CHANNEL).await;
    for stored in [&held[0], &held[2]] {
        assert!(
            stored
                .data
                .windows(9)
                .all(|part| !PAYLOAD.starts_with(part))
        );
        let MsgProto {
            sequence, subject, ..
        } = MsgProto::decode(&*stored.data).unwrap();
        assert_eq!((sequence, &*subject), (stored.sequence.0, CHANNEL_NAME));
    }
    assert_ne!(payload(&held[0].data), payload(&held[2].data));
    assert_eq!(held[1].data, message(2, b""));

    let again = sealed(&medium, "key");
    activate(&again).await;
    for store in [store, again] {
        let read = read_all(&store, CHANNEL).await;
        let read: Vec<_> = read.into_iter().map(|message| message.data).collect();
        assert_eq!(
            read,
            [message(1, PAYLOAD), message(2, b""), message(3, PAYLOAD)]
        );
    }
}

#[tokio::test]
async fn another_key_is_refused_at_the_start() {
    let medium = medium();
    let store = sealed(&medium, "key");
    activate(&store).await;
    put(
        &store,
        BatchBuilder::founding().row(CHANNEL, 1, PAYLOAD).build(),
    )
    .await;
    let other = sealed(&medium, "hunter2");
    let Err(StoreError::Config(text)) = other.activate().await else {
        panic!("the wrong key was accepted");
    };
    assert!(text.contains(CHANNEL_NAME), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_was_stored_before_encryption_stays_readable() {
    let medium = medium();
    activate(&medium).await;
    put(
        &medium,
        BatchBuilder::founding().row(CHANNEL, 1, PAYLOAD).build(),
    )
    .await;
    let store = sealed(&medium, "key");
    activate(&store).await;
    put(&store, BatchBuilder::new().row(CHANNEL, 2, PAYLOAD).build()).await;
    let read = read_all(&store, CHANNEL).await;
    assert_eq!(payload(&read[0].data), PAYLOAD);
    assert_eq!(payload(&read[1].data), PAYLOAD);
}

#[tokio::test]
async fn a_damaged_message_is_set_apart() {
    let medium = medium();
    let store = sealed(&medium, "key");
    activate(&store).await;
    put(
        &store,
        BatchBuilder::founding().row(CHANNEL, 1, PAYLOAD).build(),
    )
    .await;
    // As a cipher's, but not sealed by it.
    put(
        &medium,
        BatchBuilder::new().row(CHANNEL, 2, &[1; 64]).build(),
    )
    .await;
    let read = store.read(CHANNEL, Sequence(1), 10, 1000).await.unwrap();
    assert_eq!(payload(&read.messages[0].data), PAYLOAD);
    let corrupt: Vec<_> = read.corrupt.iter().map(|row| row.sequence.0).collect();
    assert_eq!((read.messages.len(), corrupt), (1, vec![2]));
}

#[tokio::test]
async fn the_same_batch_again_is_the_same_bytes() {
    let medium = medium();
    let store = sealed(&medium, "key");
    assert!(matches!(store.activate().await, Ok(Activation::Active(_))));
    let batch = || BatchBuilder::founding().row(CHANNEL, 1, PAYLOAD).build();
    put(&store, batch()).await;
    let before = read_all(&medium, CHANNEL).await;
    assert_eq!(flush(&store, batch()).await, FlushOutcome::Stored);
    assert_eq!(read_all(&medium, CHANNEL).await, before);
}
