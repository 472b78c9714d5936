//! What monitoring and metrics show, gathered from the workers and the engine.

use std::{collections::BTreeMap, fmt};

use broker_core::streaming::{ChannelStatus, ClientStatus, Engine, SubscriptionStatus};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Ownership, QueryHandle};
use crate::{
    assemble::LoadedTls,
    inspect::CoreDetails,
    launch::StatsHandle,
    monitor::{
        ChannelView, ClientView, CoreFigures, FlushFigures, Health, KindCounts, Listing,
        LockFigures, LockState, MonitorSource, Page, StreamingFigures, SubscriptionView,
        details::{ServerDetails, Traffic},
    },
};

/// The running broker as monitoring sees it.
pub(crate) struct BrokerFigures {
    pub(crate) stats: StatsHandle,
    pub(crate) details: CoreDetails,
    pub(crate) tls: LoadedTls,
    pub(crate) query: QueryHandle,
    pub(crate) ownership: watch::Receiver<Ownership>,
    /// Cancelled when the broker begins to stop.
    pub(crate) stopping: CancellationToken,
}

impl fmt::Debug for BrokerFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerFigures").finish_non_exhaustive()
    }
}

impl BrokerFigures {
    /// Asks the engine; the default while there is none.
    fn engine<R: Default + Send + 'static>(
        &self,
        look: impl FnOnce(&Engine) -> R + Send + 'static,
    ) -> BoxFuture<'_, R> {
        let asked = self.query.clone();
        async move {
            asked
                .ask(|shared| shared.inspect(look))
                .await
                .flatten()
                .unwrap_or_default()
        }
        .boxed()
    }
}

impl MonitorSource for BrokerFigures {
    fn core(&self) -> BoxFuture<'_, CoreFigures> {
        let snapshot = self.stats.snapshot();
        let counters = snapshot.counters;
        let received = Traffic {
            msgs: counters.in_msgs,
            bytes: counters.in_bytes,
        };
        let sent = Traffic {
            msgs: counters.out_msgs,
            bytes: counters.out_bytes,
        };
        let figures = CoreFigures {
            connections: counters.connections,
            total_connections: counters.total_connections,
            cluster_name: snapshot.cluster_name,
            routes: counters.routes,
            remotes: counters.routes,
            received,
            sent,
            received_from_clients: Traffic {
                msgs: counters.in_msgs - counters.route_in_msgs,
                bytes: counters.in_bytes - counters.route_in_bytes,
            },
            sent_to_clients: Traffic {
                msgs: counters.out_msgs - counters.route_out_msgs,
                bytes: counters.out_bytes - counters.route_out_bytes,
            },
            slow_consumers: KindCounts {
                clients: counters.slow_clients,
                routes: counters.slow_routes,
            },
            stale_connections: KindCounts {
                clients: counters.stale_clients,
                routes: counters.stale_routes,
            },
            stalled_clients: counters.stalls,
            subscriptions: snapshot.subscriptions as u64,
            connect_urls: snapshot.connect_urls,
            certificate_not_after: self.tls.clients.as_ref().map(|tls| tls.not_after()),
            route_certificate_not_after: self.tls.routes.as_ref().map(|(tls, _)| tls.not_after()),
        };
        std::future::ready(figures).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let lame = self.stats.snapshot().is_lame_duck;
        let health = if lame || self.stopping.is_cancelled() {
            Health::NotAccepting
        } else {
            Health::Serving
        };
        std::future::ready(health).boxed()
    }

    fn details(&self) -> Option<&dyn ServerDetails> {
        Some(&self.details)
    }

    fn streaming(&self) -> BoxFuture<'_, StreamingFigures> {
        self.engine(|engine| {
            let counters = engine.counters();
            let mut figures = StreamingFigures {
                clients: engine.client_count() as u64,
                subscriptions: engine.subscription_count() as u64,
                channels: engine.channel_count() as u64,
                in_msgs: counters.publishes_received,
                in_bytes: counters.publish_bytes_received,
                out_msgs: counters.messages_delivered + counters.messages_redelivered,
                out_bytes: counters.bytes_delivered,
                corrupt_rows: counters.corrupt_rows,
                ..StreamingFigures::default()
            };
            for channel in engine.channels() {
                figures.total_msgs += channel.messages;
                figures.total_bytes += channel.bytes;
            }
            figures
        })
    }

    fn lock(&self) -> BoxFuture<'_, LockFigures> {
        let state = match *self.ownership.borrow() {
            Ownership::Active => LockState::Active,
            Ownership::Standby => LockState::Standby,
            Ownership::None => LockState::None,
        };
        async move {
            let owner_id = self
                .query
                .ask(|shared| shared.store.owner())
                .await
                .unwrap_or_default();
            LockFigures { state, owner_id }
        }
        .boxed()
    }

    fn flushes(&self) -> BoxFuture<'_, FlushFigures> {
        async move {
            self.query
                .ask(|shared| shared.flush_figures())
                .await
                .unwrap_or_default()
        }
        .boxed()
    }

    fn clients(&self, page: Page, subscriptions: bool) -> BoxFuture<'_, Listing<ClientView>> {
        self.engine(move |engine| {
            page.select(engine.clients(), |client| client.id.as_bytes())
                .map(|client| client_view(engine, client, subscriptions))
        })
    }

    fn client(&self, id: String, subscriptions: bool) -> BoxFuture<'_, Option<ClientView>> {
        self.engine(move |engine| {
            let client = engine.clients().find(|client| client.id == id)?;
            Some(client_view(engine, client, subscriptions))
        })
    }

    fn channel_names(&self, page: Page) -> BoxFuture<'_, Listing<String>> {
        self.engine(move |engine| {
            page.select(engine.channels(), |channel| channel.name.as_bytes())
                .map(|channel| channel.name.to_owned())
        })
    }

    fn channels(&self, page: Page, subscriptions: bool) -> BoxFuture<'_, Listing<ChannelView>> {
        self.engine(move |engine| {
            page.select(engine.channels(), |channel| channel.name.as_bytes())
                .map(|channel| channel_view(engine, channel, subscriptions))
        })
    }

    fn channel(&self, name: String, subscriptions: bool) -> BoxFuture<'_, Option<ChannelView>> {
        self.engine(move |engine| {
            engine
                .channel(&name)
                .map(|channel| channel_view(engine, channel, subscriptions))
        })
    }
}

fn client_view(engine: &Engine, client: ClientStatus<'_>, subscriptions: bool) -> ClientView {
    let mut by_channel: BTreeMap<String, Vec<SubscriptionView>> = BTreeMap::new();
    if subscriptions {
        for subscription in engine.client_subscriptions(client.id) {
            let of_channel = by_channel
                .entry(subscription.channel.to_owned())
                .or_default();
            of_channel.push(subscription_view(subscription));
        }
    }
    ClientView {
        id: client.id.to_owned(),
        hb_inbox: client.heartbeat_inbox.to_owned(),
        subs_count: client.subscriptions,
        subscriptions: by_channel,
    }
}

fn channel_view(engine: &Engine, channel: ChannelStatus<'_>, subscriptions: bool) -> ChannelView {
    let shown = if subscriptions {
        engine
            .subscriptions(channel.name)
            .map(subscription_view)
            .collect()
    } else {
        Vec::new()
    };
    ChannelView {
        name: channel.name.to_owned(),
        msgs: channel.messages,
        bytes: channel.bytes,
        first_seq: channel.first.0,
        last_seq: channel.last.0,
        subs_count: channel.subscriptions,
        subscriptions: shown,
    }
}

fn subscription_view(subscription: SubscriptionStatus<'_>) -> SubscriptionView {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    SubscriptionView {
        client_id: subscription.client_id.to_owned(),
        inbox: text(subscription.inbox),
        ack_inbox: text(subscription.ack_inbox),
        durable_name: subscription.durable_name.to_owned(),
        queue_name: subscription.queue_name.to_owned(),
        is_durable: subscription.is_durable,
        is_offline: subscription.is_offline,
        max_inflight: subscription.max_in_flight,
        ack_wait: subscription.ack_wait_secs,
        last_sent: subscription.last_sent.0,
        pending_count: subscription.pending,
        is_stalled: subscription.is_stalled,
    }
}
