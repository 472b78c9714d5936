//! Rows that were damaged, or that somebody else has put there, in a real database.

#[expect(dead_code, reason = "other tests use more of it")]
mod database;

use broker_core::durable::{ChannelId, Recovered, Sequence};
use broker_store::conformance::{
    StoreFactory, activate,
    batches::{BatchBuilder, CHANNEL, subscription},
    put, restart, run,
};
use database::Database;

const OTHER: ChannelId = ChannelId(2);

/// One statement a kind of damage, each on a sequence of its own.
const DAMAGE: &str = "
    UPDATE Messages SET data = set_byte(data, 1, 99) WHERE id = 1 AND seq = 1;
    UPDATE Messages SET data = substr(data, 1, length(data) - 3) WHERE id = 1 AND seq = 2;
    UPDATE Messages SET size = size + 1 WHERE id = 1 AND seq = 3;
    DELETE FROM Messages WHERE id = 1 AND seq = 4;
    UPDATE Messages SET data = NULL WHERE id = 1 AND seq = 5;
    UPDATE Messages SET timestamp = timestamp + 1 WHERE id = 1 AND seq = 6;
    INSERT INTO Messages SELECT 1, 7, timestamp, size, data FROM Messages WHERE id = 2 AND seq = 1;
    INSERT INTO Messages VALUES (1, -1, 1, 1, '\\x00'), (1, 0, NULL, NULL, NULL), (9, 1, 1, 1, '\\x00')";

#[test]
fn what_is_no_message_is_told_apart_from_those_that_are() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        let batch = BatchBuilder::founding().rows(CHANNEL, 1..=6);
        put(&store, batch.rows(CHANNEL, 8..=10).build()).await;
        let other = BatchBuilder::new().create_channel(OTHER, "other");
        put(&store, other.rows(OTHER, 1..=3).build()).await;
        database.run(DAMAGE);
        let (store, recovered) = restart(database, store).await;
        let channel = &recovered.channels[0];
        assert_eq!((channel.first, channel.last), (Sequence(1), Sequence(10)));

        let mut read = store
            .read(CHANNEL, Sequence(1), 100, 1 << 20)
            .await
            .unwrap();
        read.set_corrupt_apart(&channel.name);
        let good: Vec<_> = read.messages.iter().map(|one| one.sequence.0).collect();
        let corrupt: Vec<_> = read.corrupt.iter().map(|one| one.sequence.0).collect();
        assert_eq!((good, corrupt), (vec![8, 9, 10], vec![1, 2, 3, 5, 6, 7]));

        let other = store.read(OTHER, Sequence(1), 100, 1 << 20).await.unwrap();
        assert_eq!((other.messages.len(), other.corrupt.len()), (3, 0));
    });
}

#[test]
fn damaged_records_do_not_keep_the_others_from_being_served() {
    run(&Database::new(), async |database: &Database| {
        let store = database.open();
        activate(&store).await;
        let batch = BatchBuilder::founding()
            .rows(CHANNEL, 1..=3)
            .put_subscription(CHANNEL, subscription(1))
            .put_subscription(CHANNEL, subscription(2));
        put(&store, batch.build()).await;
        database.run(
            "UPDATE Subscriptions SET proto = '\\xff', lastsent = 40 WHERE subid = 1;
             INSERT INTO SubsPending VALUES (2, 1000, 0, 0, 'junk', NULL);
             INSERT INTO Clients VALUES ('odd', 'inbox', '\\xff')",
        );
        let (_store, recovered) = restart(database, store).await;
        let Recovered {
            clients, channels, ..
        } = &recovered;
        let odd = clients.iter().find(|client| client.id == "odd").unwrap();
        assert_eq!(odd.hb_inbox, "inbox");
        let ids: Vec<_> = channels[0]
            .subscriptions
            .iter()
            .map(|sub| sub.state.id)
            .collect();
        assert_eq!((ids, channels[0].last), (vec![2], Sequence(40)));
    });
}
