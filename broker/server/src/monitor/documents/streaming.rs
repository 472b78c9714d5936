//! The documents of streaming, with the keys and in the order of nats-streaming-server
//! (`server/monitor.go`).

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

use super::{
    super::{
        facts::StreamingFacts,
        process::{self, Running},
        source::{
            ChannelView, ClientView, Listing, LockFigures, LockState, Page, StreamingFigures,
        },
    },
    LANGUAGE, Stamp, is_zero,
};
use crate::config::Limits;

impl StreamingFacts {
    pub(crate) fn serverz(
        &self,
        figures: StreamingFigures,
        lock: &LockFigures,
        running: &Running,
    ) -> Serverz<'_> {
        let (open_fds, max_fds) = process::file_descriptors();
        Serverz {
            cluster_id: &self.cluster_id,
            server_id: &self.server_id,
            version: env!("CARGO_PKG_VERSION"),
            go: LANGUAGE,
            state: state(lock),
            now: Stamp(OffsetDateTime::now_utc()),
            start_time: Stamp(running.since),
            uptime: running.uptime(),
            clients: figures.clients,
            subscriptions: figures.subscriptions,
            channels: figures.channels,
            total_msgs: figures.total_msgs,
            total_bytes: figures.total_bytes,
            in_msgs: figures.in_msgs,
            in_bytes: figures.in_bytes,
            out_msgs: figures.out_msgs,
            out_bytes: figures.out_bytes,
            open_fds,
            max_fds,
        }
    }

    pub(crate) fn storez(&self, figures: StreamingFigures) -> Storez<'_> {
        let channels = self.limits.channels.iter();
        Storez {
            cluster_id: &self.cluster_id,
            server_id: &self.server_id,
            now: Stamp(OffsetDateTime::now_utc()),
            store: self.store,
            limits: LimitsView {
                max_channels: self.limits.max_channels,
                general: ChannelLimitsView::new(&self.limits.general),
                channels: channels
                    .map(|entry| {
                        (
                            entry.pattern.as_str(),
                            ChannelLimitsView::new(&entry.limits),
                        )
                    })
                    .collect(),
            },
            total_msgs: figures.total_msgs,
            total_bytes: figures.total_bytes,
        }
    }

    pub(crate) fn clientsz(&self, page: Page, clients: Listing<ClientView>) -> Clientsz<'_> {
        Clientsz {
            head: self.head(page, &clients),
            clients: clients.items,
        }
    }

    pub(crate) fn channel_names(&self, page: Page, names: Listing<String>) -> Channelsz<'_> {
        Channelsz {
            head: self.head(page, &names),
            names: names.items,
            channels: Vec::new(),
        }
    }

    pub(crate) fn channelsz(&self, page: Page, channels: Listing<ChannelView>) -> Channelsz<'_> {
        Channelsz {
            head: self.head(page, &channels),
            names: Vec::new(),
            channels: channels.items,
        }
    }

    fn head<T>(&self, page: Page, listing: &Listing<T>) -> Head<'_> {
        Head {
            cluster_id: &self.cluster_id,
            server_id: &self.server_id,
            now: Stamp(OffsetDateTime::now_utc()),
            offset: page.offset,
            limit: page.limit,
            count: listing.items.len(),
            total: listing.total,
        }
    }
}

/// State names of the reference. A store with a lock makes what it calls fault tolerance.
fn state(lock: &LockFigures) -> &'static str {
    match lock.state {
        LockState::Active if lock.owner_id.is_empty() => "STANDALONE",
        LockState::Active => "FT_ACTIVE",
        LockState::Standby | LockState::None => "FT_STANDBY",
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Serverz<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    version: &'a str,
    go: &'a str,
    state: &'a str,
    now: Stamp,
    start_time: Stamp,
    uptime: String,
    clients: u64,
    subscriptions: u64,
    channels: u64,
    total_msgs: u64,
    total_bytes: u64,
    in_msgs: u64,
    in_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    open_fds: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_fds: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Storez<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    now: Stamp,
    #[serde(rename = "type")]
    store: &'a str,
    limits: LimitsView<'a>,
    total_msgs: u64,
    total_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LimitsView<'a> {
    max_channels: u64,
    #[serde(flatten)]
    general: ChannelLimitsView,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<&'a str, ChannelLimitsView>,
}

#[derive(Debug, Serialize)]
struct ChannelLimitsView {
    max_msgs: u64,
    max_bytes: u64,
    /// Nanoseconds.
    max_age: u64,
    max_subscriptions: u64,
    /// Nanoseconds.
    max_inactivity: u64,
}

impl ChannelLimitsView {
    fn new(limits: &Limits) -> Self {
        Self {
            max_msgs: limits.max_msgs,
            max_bytes: limits.max_bytes,
            max_age: limits.max_age_nanos,
            max_subscriptions: limits.max_subs,
            max_inactivity: limits.max_inactivity_nanos,
        }
    }
}

/// What lists have in common.
#[derive(Debug, Serialize)]
struct Head<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    now: Stamp,
    offset: usize,
    limit: usize,
    count: usize,
    total: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Clientsz<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    clients: Vec<ClientView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Channelsz<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<ChannelView>,
}
