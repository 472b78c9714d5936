//! `/accountz` and `/accstatz`: what accounts there are, and what they do.

use serde::Serialize;

use super::{
    super::{
        details::{AccountFigures, Traffic},
        facts::Facts,
    },
    Stamp, is_false,
    subsz::Statistics,
};

/// All names, or one account in detail.
#[derive(Debug, Serialize)]
pub(crate) struct Accountz<'a> {
    server_id: &'a str,
    now: Stamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_account: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<Detail<'a>>,
}

#[derive(Debug, Serialize)]
struct Detail<'a> {
    account_name: &'a str,
    update_time: Stamp,
    #[serde(skip_serializing_if = "is_false")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u64,
    client_connections: u64,
    subscriptions: u64,
    name_tag: &'a str,
    sublist_stats: Statistics,
}

impl<'a> Accountz<'a> {
    /// The names in order.
    pub(crate) fn names(facts: &'a Facts, accounts: &'a [AccountFigures]) -> Self {
        let mut names: Vec<_> = accounts.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        Self {
            accounts: names,
            account_detail: None,
            ..Self::empty(facts)
        }
    }

    /// One account, if there is one of this name.
    pub(crate) fn detail(
        facts: &'a Facts,
        accounts: &'a [AccountFigures],
        name: &str,
    ) -> Option<Self> {
        let account = accounts.iter().find(|one| one.name == name)?;
        Some(Self {
            account_detail: Some(Detail {
                account_name: &account.name,
                update_time: account.updated.into(),
                is_system: account.is_system,
                // Those of operator mode can; ours are declared in the configuration.
                expired: false,
                complete: true,
                jetstream_enabled: false,
                leafnode_connections: 0,
                client_connections: account.connections,
                subscriptions: account.sublist.subscriptions,
                name_tag: &account.name,
                sublist_stats: account.sublist.into(),
            }),
            ..Self::empty(facts)
        })
    }

    fn empty(facts: &'a Facts) -> Self {
        Self {
            server_id: &facts.identity.server_id,
            now: Stamp::now(),
            system_account: &facts.system_account,
            accounts: Vec::new(),
            account_detail: None,
        }
    }
}

/// Traffic of accounts.
#[derive(Debug, Serialize)]
pub(crate) struct Accstatz<'a> {
    server_id: &'a str,
    now: Stamp,
    account_statz: Vec<Statz<'a>>,
}

#[derive(Debug, Serialize)]
struct Statz<'a> {
    acc: &'a str,
    name: &'a str,
    conns: u64,
    leafnodes: u64,
    total_conns: u64,
    num_subscriptions: u64,
    sent: Split,
    received: Split,
    slow_consumers: u64,
}

/// All traffic, and what of it went between servers.
#[derive(Debug, Serialize)]
struct Split {
    msgs: u64,
    bytes: u64,
    gateways: Part,
    routes: Part,
    leafs: Part,
}

#[derive(Debug, Default, Serialize)]
struct Part {
    msgs: u64,
    bytes: u64,
}

impl Split {
    fn new(all: Traffic, routes: Traffic) -> Self {
        Self {
            msgs: all.msgs,
            bytes: all.bytes,
            gateways: Part::default(),
            routes: Part {
                msgs: routes.msgs,
                bytes: routes.bytes,
            },
            leafs: Part::default(),
        }
    }
}

impl<'a> Accstatz<'a> {
    /// `accounts` is sorted by it. Those without a connection are left out unless `unused`.
    pub(crate) fn new(facts: &'a Facts, accounts: &'a mut [AccountFigures], unused: bool) -> Self {
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        let shown = accounts.iter().filter(|one| unused || one.connections > 0);
        Self {
            server_id: &facts.identity.server_id,
            now: Stamp::now(),
            account_statz: shown
                .map(|one| Statz {
                    acc: &one.name,
                    name: &one.name,
                    conns: one.connections,
                    leafnodes: 0,
                    total_conns: one.connections,
                    num_subscriptions: one.sublist.subscriptions,
                    sent: Split::new(one.sent, one.sent_to_routes),
                    received: Split::new(one.received, one.received_from_routes),
                    slow_consumers: one.slow_consumers,
                })
                .collect(),
        }
    }
}
