//! What every store must do, as generic tests: `store_conformance_suite!` stamps all of them onto a
//! store.
//!
//! The rules come from the reference's suite (`stores/common_test.go`), as far as the contract has
//! them, and from the ways in which a write can go wrong.

pub mod batches;
pub mod channels;
pub mod messages;
pub mod ownership;
pub mod postgres_server;
pub mod recovery;
pub mod subscriptions;
pub mod totals;

use std::{ops::RangeInclusive, rc::Rc, time::Duration};

use broker_core::durable::{Batch, ChannelId, FlushOutcome, Recovered, Sequence, StoredMessage};
use futures_util::future::LocalBoxFuture;
use tokio::time::{sleep, timeout};

use self::batches::BatchBuilder;
use crate::{Activation, Store};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes stores over one and the same data. It owns the data: directory, database, memory.
pub trait StoreFactory {
    /// A store as a newly started process would open it; not activated.
    fn open(&self) -> Rc<dyn Store>;

    /// Whether the data outlives the store and is protected by a lock. The methods below are called
    /// only if so.
    fn has_lock(&self) -> bool;

    /// Writes another owner into the lock row behind the owner's back.
    fn depose(&self) -> LocalBoxFuture<'_, ()>;

    /// Puts a message into the table behind the owner's back, as a server without fence does.
    fn intrude<'a>(
        &'a self,
        channel: ChannelId,
        sequence: Sequence,
        data: &'a [u8],
    ) -> LocalBoxFuture<'a, ()>;
}

/// Runs one test on a runtime of its own, as a store needs it: one thread, a `LocalSet`.
///
/// # Panics
/// When the test does.
pub fn run<F: StoreFactory>(factory: &F, test: impl AsyncFnOnce(&F)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    tokio::task::LocalSet::new().block_on(&runtime, test(factory));
}

/// Activates until the store is ours.
///
/// # Panics
/// It fails, or stays somebody else's.
pub async fn activate(store: &Rc<dyn Store>) -> Recovered {
    let activated = timeout(PATIENCE, async {
        loop {
            match store.activate().await.expect("the store can be opened") {
                Activation::Active(recovered) => return recovered,
                Activation::Standby { .. } => sleep(Duration::from_millis(200)).await,
            }
        }
    });
    activated.await.expect("the store is given back in time")
}

/// A store that has been made, and whose channel has messages of these sequences.
///
/// # Panics
/// It cannot be opened, or does not store them.
pub async fn founded<F: StoreFactory>(
    factory: &F,
    sequences: RangeInclusive<u64>,
) -> Rc<dyn Store> {
    let store = factory.open();
    activate(&store).await;
    let batch = BatchBuilder::founding().rows(batches::CHANNEL, sequences);
    put(&store, batch.build()).await;
    store
}

/// Ends a store in order and opens its data again, as a restart does.
pub async fn restart<F: StoreFactory>(
    factory: &F,
    store: Rc<dyn Store>,
) -> (Rc<dyn Store>, Recovered) {
    store.close().await;
    drop(store);
    let store = factory.open();
    let recovered = activate(&store).await;
    (store, recovered)
}

/// Flushes a batch that must be stored.
///
/// # Panics
/// It is not.
pub async fn put(store: &Rc<dyn Store>, batch: Batch) {
    let outcome = flush(store, batch).await;
    assert_eq!(outcome, FlushOutcome::Stored);
}

/// Flushes a batch on the lane of its channel, or on lane 0.
pub async fn flush(store: &Rc<dyn Store>, batch: Batch) -> FlushOutcome {
    let channel = batch.rows.first().map_or(0, |row| row.channel.0);
    let lane = channel as usize % store.lanes();
    store.flush(lane, batch.into()).await
}

/// All messages of a channel.
///
/// # Panics
/// They cannot be read.
pub async fn read_all(store: &Rc<dyn Store>, channel: ChannelId) -> Vec<StoredMessage> {
    let mut messages = Vec::new();
    let mut from = Sequence(0);
    loop {
        let read = store.read(channel, from, usize::MAX, usize::MAX);
        let range = read.await.expect("messages can be read");
        assert_eq!(range.corrupt, [], "no message is damaged");
        let Some(last) = range.last() else {
            return messages;
        };
        messages.extend(range.messages);
        from = last.next();
    }
}

/// Sequences of all messages of a channel.
pub async fn sequences(store: &Rc<dyn Store>, channel: ChannelId) -> Vec<u64> {
    let messages = read_all(store, channel).await;
    messages.iter().map(|message| message.sequence.0).collect()
}

/// Stamps the suite onto a store: one `#[test]` for each rule. The argument is an expression that
/// makes a fresh [`StoreFactory`].
#[macro_export]
macro_rules! store_conformance_suite {
    ($factory:expr) => {
        $crate::store_conformance_suite! { @tests $factory;
            recovery::fresh_store_recovers_nothing
            recovery::everything_comes_back_exactly
            recovery::the_last_server_info_wins
            recovery::clients_are_replaced_and_deleted
            recovery::channel_numbers_are_not_reused
            recovery::creating_a_channel_again_changes_nothing_else
            recovery::changes_and_rows_of_one_batch_are_both_there
            channels::a_deleted_channel_is_gone_and_its_numbers_are_not_given_again
            channels::the_name_of_a_deleted_channel_is_free
            channels::a_channel_made_and_deleted_at_once_leaves_its_number
            channels::only_the_deleted_channel_s_messages_go
            messages::what_was_flushed_is_read_at_once
            messages::ranges_end_at_rows_and_bytes
            messages::position_by_timestamp
            messages::a_batch_applied_twice_is_there_once
            messages::trims_remove_the_front
            messages::rows_trimmed_by_their_own_batch_are_gone
            messages::last_sequence_outlives_the_removal_of_all_messages
            messages::empty_payloads_and_large_ones_come_back
            messages::channels_do_not_mix
            subscriptions::record_is_replaced
            subscriptions::pending_set_is_replaced
            subscriptions::last_sent_never_falls
            subscriptions::deleted_number_is_never_given_again
            subscriptions::deleting_the_unknown_is_harmless
            subscriptions::pending_of_a_deleted_subscription_is_gone
            totals::what_was_written_down_and_what_came_behind_it_is_known
            totals::a_channel_that_was_trimmed_or_grew_since_is_not_counted
            totals::a_deleted_channel_leaves_no_totals
            totals::a_count_sees_what_is_there
            ownership::closing_twice_is_harmless
            ownership::every_activation_has_a_new_owner
            ownership::a_second_contender_stands_by
            ownership::a_closed_store_is_free_at_once
            ownership::a_deposed_owner_stores_nothing
            ownership::rows_of_another_writer_are_reported
            ownership::a_closed_store_stores_nothing
        }
    };
    (@tests $factory:expr; $($module:ident::$name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let factory = $factory;
                $crate::conformance::run(&factory, $crate::conformance::$module::$name);
            }
        )*
    };
}
