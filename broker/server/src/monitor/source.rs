//! What monitoring asks the rest of the broker for: plain values, gathered when somebody asks.

use std::{collections::BTreeMap, fmt};

use futures_util::future::BoxFuture;
use serde::Serialize;
use time::OffsetDateTime;

use super::details::{ServerDetails, Traffic};

/// Where the figures come from. One value of it serves HTTP monitoring and metrics; methods are
/// called from the runtime of the HTTP listener, whatever thread owns the data.
pub(crate) trait MonitorSource: fmt::Debug + Send + Sync + 'static {
    /// Counters of the NATS server.
    fn core(&self) -> BoxFuture<'_, CoreFigures>;

    /// Whether the NATS server serves clients.
    fn health(&self) -> BoxFuture<'_, Health>;

    /// The NATS server in detail. `None` leaves the documents that need it out.
    fn details(&self) -> Option<&dyn ServerDetails> {
        None
    }

    /// Totals of streaming; zeros while another process is active.
    fn streaming(&self) -> BoxFuture<'_, StreamingFigures>;

    /// Ownership of the store.
    fn lock(&self) -> BoxFuture<'_, LockFigures>;

    /// What the store has written since the start.
    fn flushes(&self) -> BoxFuture<'_, FlushFigures>;

    /// Clients in byte order of their ids.
    fn clients(&self, page: Page, subscriptions: bool) -> BoxFuture<'_, Listing<ClientView>>;

    /// None: not registered.
    fn client(&self, id: String, subscriptions: bool) -> BoxFuture<'_, Option<ClientView>>;

    /// Names of channels in byte order.
    fn channel_names(&self, page: Page) -> BoxFuture<'_, Listing<String>>;

    /// Channels in byte order of their names.
    fn channels(&self, page: Page, subscriptions: bool) -> BoxFuture<'_, Listing<ChannelView>>;

    /// None: no such channel.
    fn channel(&self, name: String, subscriptions: bool) -> BoxFuture<'_, Option<ChannelView>>;
}

/// What `/healthz` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Serving,
    /// New clients are refused: lame duck mode, or a listener that is not there yet.
    NotAccepting,
}

/// Sums over all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct CoreFigures {
    /// Open now.
    pub(crate) connections: u64,
    /// Ever accepted.
    pub(crate) total_connections: u64,
    /// As the servers have agreed on it; empty without a cluster.
    pub(crate) cluster_name: String,
    /// Connections to other servers, and how many servers these are.
    pub(crate) routes: u64,
    pub(crate) remotes: u64,
    /// From clients and routes, to clients and routes.
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
    /// The part of clients.
    pub(crate) received_from_clients: Traffic,
    pub(crate) sent_to_clients: Traffic,
    /// Connections cut because they did not read, and because they did not answer.
    pub(crate) slow_consumers: KindCounts,
    pub(crate) stale_connections: KindCounts,
    /// Publishers that had to wait for slow receivers.
    pub(crate) stalled_clients: u64,
    /// Internal ones included.
    pub(crate) subscriptions: u64,
    /// `host:port` that clients are told of: this server's and those of other servers. Empty without
    /// a cluster.
    pub(crate) connect_urls: Vec<String>,
    /// End of the certificate that clients are shown, and of the one for routes.
    pub(crate) certificate_not_after: Option<OffsetDateTime>,
    pub(crate) route_certificate_not_after: Option<OffsetDateTime>,
}

/// Connections of both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KindCounts {
    pub(crate) clients: u64,
    pub(crate) routes: u64,
}

impl KindCounts {
    /// Both together.
    pub(crate) fn total(self) -> u64 {
        self.clients.saturating_add(self.routes)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamingFigures {
    pub(crate) clients: u64,
    /// Online, plus offline durables and shadows.
    pub(crate) subscriptions: u64,
    pub(crate) channels: u64,
    pub(crate) total_msgs: u64,
    pub(crate) total_bytes: u64,
    /// Decodable publish requests, valid or not, and their encoded length.
    pub(crate) in_msgs: u64,
    pub(crate) in_bytes: u64,
    /// Deliveries, redeliveries included, and their encoded length.
    pub(crate) out_msgs: u64,
    pub(crate) out_bytes: u64,
    /// Rows that were no messages, each time they were read.
    pub(crate) corrupt_rows: u64,
}

/// What this process is to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LockState {
    /// Serving.
    Active,
    /// Another process serves.
    Standby,
    /// Not decided yet, or no more.
    None,
}

impl LockState {
    pub(crate) const ALL: [Self; 3] = [Self::Active, Self::Standby, Self::None];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::None => "none",
        }
    }
}

/// Answer of `/lockz`, by which a sidecar learns the broker's own claim.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LockFigures {
    pub(crate) state: LockState,
    /// `StoreLock.id` while active; empty for a store without lock.
    pub(crate) owner_id: String,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FlushFigures {
    pub(crate) flushes: u64,
    /// Messages among what was flushed.
    pub(crate) rows: u64,
    /// Sum of the durations of all flushes.
    pub(crate) seconds: f64,
}

/// A part of a sorted list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

impl Page {
    /// Entries of a page where nothing else is asked for (`server/monitor.go`).
    pub(crate) const DEFAULT_LIMIT: usize = 1024;

    /// The first page.
    pub(crate) const FIRST: Self = Self {
        offset: 0,
        limit: Self::DEFAULT_LIMIT,
    };

    /// The entries of this page, out of all in any order. Sorts no more than it has to, because it
    /// runs on the thread that serves.
    pub(crate) fn select<T>(
        self,
        all: impl Iterator<Item = T>,
        name: impl Fn(&T) -> &[u8],
    ) -> Listing<T> {
        let mut items: Vec<T> = all.collect();
        let total = items.len();
        let compare = |a: &T, b: &T| name(a).cmp(name(b));
        let start = self.offset.min(total);
        let end = start.saturating_add(self.limit).min(total);
        if end < total {
            items.select_nth_unstable_by(end, compare);
            items.truncate(end);
        }
        if start > 0 && start < items.len() {
            items.select_nth_unstable_by(start, compare);
        }
        items.drain(..start);
        items.sort_unstable_by(compare);
        Listing { total, items }
    }
}

/// One page and the size of the whole.
#[derive(Clone, Debug)]
pub(crate) struct Listing<T> {
    pub(crate) total: usize,
    pub(crate) items: Vec<T>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            total: 0,
            items: Vec::new(),
        }
    }
}

impl<T> Listing<T> {
    /// Turns the entries into what is shown of them.
    pub(crate) fn map<U>(self, show: impl FnMut(T) -> U) -> Listing<U> {
        Listing {
            total: self.total,
            items: self.items.into_iter().map(show).collect(),
        }
    }
}

/// A registered client.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClientView {
    pub(crate) id: String,
    pub(crate) hb_inbox: String,
    /// Online subscriptions.
    pub(crate) subs_count: usize,
    /// By channel, if asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) subscriptions: BTreeMap<String, Vec<SubscriptionView>>,
}

/// A channel.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ChannelView {
    pub(crate) name: String,
    pub(crate) msgs: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) subs_count: u64,
    /// If asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) subscriptions: Vec<SubscriptionView>,
}

/// A subscription of a channel.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SubscriptionView {
    /// The last owner of an offline durable.
    pub(crate) client_id: String,
    pub(crate) inbox: String,
    pub(crate) ack_inbox: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) durable_name: String,
    /// `durable:group` for a durable queue group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) queue_name: String,
    pub(crate) is_durable: bool,
    pub(crate) is_offline: bool,
    pub(crate) max_inflight: i32,
    /// Seconds.
    pub(crate) ack_wait: i32,
    pub(crate) last_sent: u64,
    pub(crate) pending_count: usize,
    pub(crate) is_stalled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_from_the_sorted_whole() {
        let all: Vec<String> = (0..100)
            .rev()
            .map(|number| format!("{number:02}"))
            .collect();
        for (offset, limit) in [
            (0, 5),
            (3, 4),
            (95, 10),
            (100, 1),
            (200, 1),
            (0, 1000),
            (0, usize::MAX),
            (7, usize::MAX),
        ] {
            let page = Page { offset, limit };
            let listing = page.select(all.iter(), |name| name.as_bytes());
            let expected: Vec<_> = (0..100)
                .skip(offset)
                .take(limit)
                .map(|number| format!("{number:02}"))
                .collect();
            assert_eq!(
                listing.items.into_iter().cloned().collect::<Vec<_>>(),
                expected,
                "{page:?}"
            );
            assert_eq!(listing.total, 100);
        }
    }
}
