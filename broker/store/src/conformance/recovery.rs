//! What a restart finds.

use broker_core::durable::{
    Change, ChannelId, ChannelLimits, RecordedLimits, Recovered, RecoveredChannel,
    RecoveredSubscription, Sequence,
};

use super::{
    StoreFactory, activate,
    batches::{
        BatchBuilder, CHANNEL, CHANNEL_NAME, UNLIMITED, client, message, server_info, subscription,
        timestamp,
    },
    founded, put, restart, sequences,
};

pub async fn fresh_store_recovers_nothing<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    assert_eq!(activate(&store).await, Recovered::default());
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered, Recovered::default());
}

pub async fn everything_comes_back_exactly<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding()
        .change(Change::PutClient(client("me")))
        .put_subscription(CHANNEL, subscription(1))
        .pending(CHANNEL, 1, 4, &[2, 4])
        .rows(CHANNEL, 1..=5)
        .build();
    let bytes =
        (1..=5_u64).map(|sequence| message(sequence, sequence.to_string().as_bytes()).len() as u64);
    put(&store, batch).await;
    let (_store, recovered) = restart(factory, store).await;
    let mut state = subscription(1);
    state.last_sent = 4;
    let expected = Recovered {
        server_info: Some(server_info()),
        clients: vec![client("me")],
        channels: vec![RecoveredChannel {
            id: CHANNEL,
            name: CHANNEL_NAME.to_owned(),
            limits: RecordedLimits::default(),
            first: Sequence(1),
            last: Sequence(5),
            messages: 5,
            bytes: bytes.sum(),
            is_counted: true,
            last_timestamp: timestamp(5),
            subscriptions: vec![RecoveredSubscription {
                state,
                pending: vec![Sequence(2), Sequence(4)],
            }],
        }],
        last_channel_id: 1,
        last_subscription_id: 1,
    };
    assert_eq!(recovered, expected);
}

pub async fn the_last_server_info_wins<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let mut changed = server_info();
    changed.node_id = "other".to_owned();
    put(&store, BatchBuilder::founding().build()).await;
    let batch = BatchBuilder::new().change(Change::PutServerInfo(changed.clone()));
    put(&store, batch.build()).await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.server_info, Some(changed));
}

pub async fn clients_are_replaced_and_deleted<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let delete = |id: &str| Change::DeleteClient { id: id.to_owned() };
    let mut again = client("a");
    again.hb_inbox = "_INBOX.again".to_owned();
    let first = BatchBuilder::founding()
        .change(Change::PutClient(client("a")))
        .change(Change::PutClient(client("b")))
        .change(Change::PutClient(client("c")));
    put(&store, first.build()).await;
    let second = BatchBuilder::new()
        .change(Change::PutClient(again.clone()))
        .change(delete("b"))
        .change(delete("unknown"))
        .change(delete("c"))
        .change(Change::PutClient(client("c")));
    put(&store, second.build()).await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.clients, [again, client("c")]);
}

pub async fn channel_numbers_are_not_reused<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().create_channel(ChannelId(7), "seven");
    put(&store, batch.build()).await;
    let (_store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.last_channel_id, 7);
    let names: Vec<_> = recovered
        .channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    assert_eq!(names, [CHANNEL_NAME, "seven"]);
    let empty = &recovered.channels[1];
    assert_eq!((empty.first, empty.last), (Sequence(0), Sequence(0)));
}

/// The same again, and then other limits.
pub async fn creating_a_channel_again_changes_nothing_else<F: StoreFactory>(factory: &F) {
    let store = founded(factory, 1..=3).await;
    put(&store, BatchBuilder::founding().build()).await;
    let limits = ChannelLimits {
        max_msgs: 10,
        max_bytes: 1 << 40,
        max_age_nanos: 3_600_000_000_000,
        ..UNLIMITED
    };
    let other_limits = BatchBuilder::new().change(Change::PutChannel {
        id: CHANNEL,
        name: CHANNEL_NAME.to_owned(),
        limits,
    });
    put(&store, other_limits.build()).await;
    let (store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.channels.len(), 1);
    assert_eq!(recovered.channels[0].last, Sequence(3));
    assert_eq!(recovered.channels[0].limits, limits.into());
    assert_eq!(sequences(&store, CHANNEL).await, [1, 2, 3]);
}

/// A message must never be there without its channel.
pub async fn changes_and_rows_of_one_batch_are_both_there<F: StoreFactory>(factory: &F) {
    let store = factory.open();
    activate(&store).await;
    put(&store, BatchBuilder::founding().build()).await;
    let other = ChannelId(2);
    let batch = BatchBuilder::new()
        .create_channel(other, "other")
        .rows(other, 1..=2);
    put(&store, batch.build()).await;
    let (store, recovered) = restart(factory, store).await;
    assert_eq!(recovered.channels[1].name, "other");
    assert_eq!(recovered.channels[1].messages, 2);
    assert_eq!(sequences(&store, other).await, [1, 2]);
}
