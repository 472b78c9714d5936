//! Documents of what this server does not have: gateways, leaf nodes, JetStream. Tools that ask for
//! them find that there is nothing.

use serde::Serialize;

use super::{super::facts::Facts, Empty, Stamp};

/// `/gatewayz`
#[derive(Debug, Serialize)]
pub(crate) struct Gatewayz<'a> {
    server_id: &'a str,
    now: Stamp,
    outbound_gateways: Empty,
    inbound_gateways: Empty,
}

/// `/leafz`
#[derive(Debug, Serialize)]
pub(crate) struct Leafz<'a> {
    server_id: &'a str,
    now: Stamp,
    leafnodes: u64,
    leafs: [Empty; 0],
}

/// `/jsz` with JetStream disabled.
#[derive(Debug, Serialize)]
pub(crate) struct Jsz<'a> {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: Api,
    server_id: &'a str,
    now: Stamp,
    disabled: bool,
    config: Limits,
    streams: u64,
    consumers: u64,
    messages: u64,
    bytes: u64,
    total: u64,
}

#[derive(Debug, Default, Serialize)]
struct Api {
    level: u64,
    total: u64,
    errors: u64,
}

#[derive(Debug, Default, Serialize)]
struct Limits {
    max_memory: u64,
    max_storage: u64,
}

impl<'a> Gatewayz<'a> {
    pub(crate) fn new(facts: &'a Facts) -> Self {
        Self {
            server_id: &facts.identity.server_id,
            now: Stamp::now(),
            outbound_gateways: Empty {},
            inbound_gateways: Empty {},
        }
    }
}

impl<'a> Leafz<'a> {
    pub(crate) fn new(facts: &'a Facts) -> Self {
        Self {
            server_id: &facts.identity.server_id,
            now: Stamp::now(),
            leafnodes: 0,
            leafs: [],
        }
    }
}

impl<'a> Jsz<'a> {
    pub(crate) fn new(facts: &'a Facts) -> Self {
        Self {
            memory: 0,
            storage: 0,
            reserved_memory: 0,
            reserved_storage: 0,
            accounts: 0,
            ha_assets: 0,
            api: Api::default(),
            server_id: &facts.identity.server_id,
            now: Stamp::now(),
            disabled: true,
            config: Limits::default(),
            streams: 0,
            consumers: 0,
            messages: 0,
            bytes: 0,
            total: 0,
        }
    }
}
