//! `/subsz`: subscriptions of all accounts or of one, and how they are found.

use broker_proto::subject;
use serde::Serialize;

use super::{
    super::{
        details::{SublistFigures, SublistStats},
        facts::Facts,
        parameters::Window,
    },
    Number, Stamp, SubscriptionDetail,
};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubszQuery {
    pub(crate) window: Window,
    pub(crate) account: Option<String>,
    /// List them.
    pub(crate) list: bool,
    /// Only those that a message to this literal subject reaches.
    pub(crate) test: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Subsz<'a> {
    server_id: &'a str,
    now: Stamp,
    #[serde(flatten)]
    stats: Statistics,
    total: usize,
    offset: i64,
    limit: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubscriptionDetail>,
}

/// Figures of a sublist (`SublistStats` in `server/sublist.go`).
#[derive(Debug, Serialize)]
pub(super) struct Statistics {
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: Number,
    max_fanout: u64,
    avg_fanout: Number,
}

impl From<SublistStats> for Statistics {
    fn from(stats: SublistStats) -> Self {
        Self {
            num_subscriptions: stats.subscriptions,
            num_cache: stats.cached,
            num_inserts: stats.inserts,
            num_removes: stats.removes,
            num_matches: stats.matches,
            cache_hit_rate: Number::ratio(stats.cache_hits, stats.matches),
            max_fanout: stats.max_fanout,
            avg_fanout: Number::ratio(stats.total_fanout, stats.cached),
        }
    }
}

impl<'a> Subsz<'a> {
    /// `total` counts those that are listed on any page, so it is 0 without a list.
    pub(crate) fn new(facts: &'a Facts, query: &SubszQuery, figures: SublistFigures) -> Self {
        let mut list = figures.list;
        if let Some(test) = &query.test {
            list.retain(|one| subject::matches(one.subject.as_bytes(), test.as_bytes()));
        }
        if let Some(account) = &query.account {
            list.retain(|one| one.account == *account);
        }
        list.sort_by(|a, b| {
            (&a.account, &a.subject, a.cid, &a.sid).cmp(&(&b.account, &b.subject, b.cid, &b.sid))
        });
        let total = list.len();
        let page = list.drain(query.window.range(total));
        Self {
            server_id: &facts.identity.server_id,
            now: Stamp::now(),
            stats: figures.stats.into(),
            total,
            offset: query.window.offset,
            limit: query.window.limit,
            subscriptions_list: page.map(SubscriptionDetail::with_account).collect(),
        }
    }
}
