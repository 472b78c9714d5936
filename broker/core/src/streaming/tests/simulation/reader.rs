//! Subscriptions of the storm, as their clients know them.

use std::{collections::BTreeSet, time::Duration};

use broker_proto::streaming::SubscriptionRequest;

use super::{
    super::{harness::World, invariants::Terms},
    CHANNELS, LASTING,
};

/// Who shares a position, the channel, and how many of its name were gone by then: another one begins anew.
pub(super) type Position = (String, String, u64);

/// A subscription as its client knows it.
pub(super) struct Reader {
    pub(super) request: SubscriptionRequest,
    /// Known once the server has answered.
    pub(super) ack_inbox: Option<String>,
    pub(super) is_asked: bool,
    /// Requests so far: an answer to an old one means nothing.
    pub(super) attempts: usize,
    /// The server died before it had answered: it may think that this subscription is open.
    pub(super) is_unsure: bool,
    pub(super) outstanding: BTreeSet<u64>,
}

impl Reader {
    pub(super) fn new(number: usize) -> Self {
        let (client, channel) = (["x", "y"][number % 2], CHANNELS[number / 2 % 3]);
        let request = SubscriptionRequest {
            inbox: format!("in.{number}"),
            q_group: if matches!(number, 6..LASTING | 14..) {
                "q".into()
            } else {
                String::new()
            },
            durable_name: if number < LASTING {
                "d".into()
            } else {
                String::new()
            },
            ack_wait_in_secs: 1 + i32::try_from(number % 2).unwrap(),
            max_in_flight: [3, 50][number / 2 % 2],
            ..World::sub_request(client, channel)
        };
        Self {
            request,
            ack_inbox: None,
            is_asked: false,
            attempts: 0,
            is_unsure: false,
            outstanding: BTreeSet::new(),
        }
    }

    pub(super) fn terms(&self) -> Terms {
        let request = &self.request;
        let group = match (&*request.q_group, &*request.durable_name) {
            ("", _) => String::new(),
            (name, "") => name.into(),
            (name, durable) => format!("{durable}:{name}"),
        };
        Terms {
            channel: request.subject.clone(),
            inbox: request.inbox.clone(),
            durable_name: request.durable_name.clone(),
            owner: request.client_id.clone(),
            group,
            max_in_flight: request.max_in_flight as usize,
            ack_wait: Duration::from_secs(request.ack_wait_in_secs as u64),
        }
    }

    /// It begins at a time, long ago: the store has to look where that is.
    pub(super) fn start_by_time(&mut self) {
        self.request.start_position = 2;
        self.request.start_time_delta = 3_600_000_000_000;
    }

    /// Those who share a position: one durable, or one group.
    pub(super) fn position(&self, era: u64) -> Position {
        let SubscriptionRequest {
            client_id,
            subject,
            q_group,
            ..
        } = &self.request;
        let owner = if q_group.is_empty() {
            client_id
        } else {
            q_group
        };
        (owner.clone(), subject.clone(), era)
    }
}
