//! The reference and the broker take turns over the same tables and the same port, and their clients
//! do not notice: registrations, durables, pending messages and sequences go both ways.

use std::{collections::BTreeSet, path::Path, time::Duration};

use broker_store::conformance::postgres_server::PostgresServer;
use tests::{
    ledger::{Entry, Ledger},
    stan::{Client, Options, SubscribeOptions, Subscription},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};

const CHANNEL: &str = "orders";
/// Messages published to each server.
const MESSAGES: u64 = 300;
/// The last messages of a turn, which are left without acknowledgement until the next.
const PENDING: u64 = 40;
/// More than are left to the next turn, so that there is room to go on.
const MAX_IN_FLIGHT: u16 = 64;
/// Long enough that nothing comes again within one turn, short enough to wait for in the next.
const ACK_WAIT_SECS: u16 = 6;
/// For a delivery, also of what was pending when the server changed.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn clients_live_through_the_change_to_the_broker_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::shared().unwrap();
    let store = Store::sql_of_the_reference(dir.path(), &postgres).unwrap();
    let folder = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let mut reference = StreamingServer::reference(&folder("reference"), &store).unwrap();
    let broker_dir = folder("broker");
    let broker = |place: &StreamingServer| in_place(&broker_dir, &store, place);

    reference.start().await.unwrap();
    let url = format!("nats://127.0.0.1:{}", reference.port());
    let client = Client::connect(Options::new(&url, CLUSTER_ID, "application"))
        .await
        .unwrap();
    let durable = SubscribeOptions::from_first()
        .durable("d")
        .ack_wait_secs(ACK_WAIT_SECS)
        .max_in_flight(MAX_IN_FLIGHT);
    let subscription = client.subscribe(CHANNEL, durable).await.unwrap();
    let mut application = Application {
        client,
        subscription,
        ledger: Ledger::default(),
        published: 0,
        seen: BTreeSet::new(),
        acked: BTreeSet::new(),
        settled: BTreeSet::new(),
    };
    application.turn(PENDING).await;
    reference.stop().await.unwrap();

    let mut broker = broker(&reference);
    broker.start().await.unwrap();
    application.turn(PENDING).await;
    broker.stop().await.unwrap();

    reference.start().await.unwrap();
    application.turn(0).await;
    application.check_whole(&url).await;
    reference.stop().await.unwrap();
}

fn in_place(dir: &Path, store: &Store, place: &StreamingServer) -> StreamingServer {
    StreamingServer::broker(dir, store)
        .unwrap()
        .in_place_of(place)
}

/// One client that stays, and what it knows.
struct Application {
    client: Client,
    subscription: Subscription,
    ledger: Ledger,
    published: u64,
    seen: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// Those that a server has taken in the acknowledgement of, for certain.
    settled: BTreeSet<u64>,
}

impl Application {
    /// Publishes, then reads on until everything published so far was seen and acknowledged by this
    /// side, but for the last messages, which are left to the next turn.
    async fn turn(&mut self, left: u64) {
        let mut under_way = Vec::new();
        for number in self.published + 1..=self.published + MESSAGES {
            let entry = Entry {
                publisher: "application".to_owned(),
                number,
            };
            let pending = self.client.publish_async(CHANNEL, entry.payload());
            under_way.push((pending.await.unwrap(), entry));
        }
        for (pending, entry) in under_way {
            pending.await.unwrap();
            self.ledger.ack(&entry);
        }
        self.published += MESSAGES;
        let wanted: BTreeSet<u64> = (1..=self.published - left).collect();
        let all = usize::try_from(self.published).unwrap();
        while self.seen.len() < all || !self.acked.is_superset(&wanted) {
            let next = tokio::time::timeout(PATIENCE, self.subscription.next());
            let delivery = next
                .await
                .unwrap_or_else(|_| panic!("{} of {all} seen", self.seen.len()))
                .unwrap();
            let number = Entry::parse(&delivery.payload).unwrap().number;
            assert_eq!(delivery.sequence, number, "published in this order");
            self.seen.insert(number);
            // The window went on beyond these, so their acknowledgements were taken in before the stop.
            assert!(
                !self.settled.contains(&number),
                "{number} was acknowledged to an earlier server and came again"
            );
            if wanted.contains(&number) {
                self.subscription.ack(&delivery).await.unwrap();
                self.acked.insert(number);
            }
        }
        let beyond = self.published - u64::from(MAX_IN_FLIGHT);
        self.settled = self.acked.range(..beyond).copied().collect();
        assert_eq!(self.client.lost(), None);
    }

    /// Reads the channel with fresh eyes, and closes.
    async fn check_whole(self, url: &str) {
        assert!(self.client.reconnects() >= 2);
        let reader = Client::connect(Options::new(url, CLUSTER_ID, "reader"))
            .await
            .unwrap();
        let mut all = reader
            .subscribe(CHANNEL, SubscribeOptions::from_first())
            .await
            .unwrap();
        let mut held = Vec::new();
        for _ in 0..self.published {
            let delivery = tokio::time::timeout(PATIENCE, all.next());
            let delivery = delivery.await.expect("a delivery in time").unwrap();
            all.ack(&delivery).await.unwrap();
            held.push((delivery.sequence, Entry::parse(&delivery.payload).unwrap()));
        }
        self.ledger.check(&held).unwrap();
        reader.close().await.unwrap();
        self.subscription.close().await.unwrap();
        self.client.close().await.unwrap();
    }
}
