//! Laws that hold whatever happens; one file each. A law sees everything that clients do and see, and the store as it
//! is, and panics when it is broken.

mod ack_wait_is_kept;
mod acknowledged_messages_stay;
mod closed_is_silent;
mod first_deliveries_rise;
mod one_message_per_sequence;
mod positions_follow_acks;
mod used_channels_stay;
mod window_is_kept;

use std::time::Duration;

use broker_proto::streaming::MsgProto;

use super::harness::World;

/// What was agreed with a subscription that comes and goes.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) channel: String,
    pub(super) inbox: String,
    pub(super) durable_name: String,
    /// Client of a durable or plain subscription; nobody for members of groups.
    pub(super) owner: String,
    /// As the store has it; empty if none.
    pub(super) group: String,
    pub(super) max_in_flight: usize,
    pub(super) ack_wait: Duration,
}

impl Terms {
    /// Whether what one has is what the other one has: the same subscription, or the same group.
    fn shares_position(&self, other: &Self) -> bool {
        self.channel == other.channel
            && if self.group.is_empty() {
                self.inbox == other.inbox
            } else {
                self.group == other.group
            }
    }

    fn is_durable(&self) -> bool {
        !self.durable_name.is_empty()
    }
}

/// Something that clients did or saw. Readers are named by their place among the terms.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Published {
        guid: String,
        channel: String,
        data: String,
    },
    /// The answer to a publish; the error is empty for success.
    Answered {
        guid: String,
        error: String,
    },
    /// The server has a request for a subscription.
    Asked {
        reader: usize,
    },
    /// The server accepted a subscription.
    Opened {
        reader: usize,
    },
    Delivered {
        reader: usize,
        message: MsgProto,
    },
    /// The server has this ack.
    Acked {
        reader: usize,
        sequence: u64,
    },
    /// The server has the request for the end of a subscription.
    Ending {
        reader: usize,
    },
    /// And has answered it.
    Ended {
        reader: usize,
    },
    /// A flush ended well.
    Stored,
    /// The store has deleted a channel with all that was in it. Another one of this name begins anew.
    Deleted {
        channel: String,
    },
    /// The store did not do what it was asked for, or not yet.
    StoreLags,
    /// The server died and is there again.
    Restarted,
    /// Time went by; everything that was due has been dealt with.
    Passed,
}

pub(super) trait Law {
    /// # Panics
    /// When the law is broken.
    fn see(&mut self, event: &Event, world: &World);
}

/// Every law, for these subscriptions.
pub(super) fn all(terms: &[Terms]) -> Vec<Box<dyn Law>> {
    vec![
        Box::new(acknowledged_messages_stay::Book::default()),
        Box::new(used_channels_stay::Book::new(terms)),
        Box::new(one_message_per_sequence::Book::default()),
        Box::new(first_deliveries_rise::Book::new(terms)),
        Box::new(window_is_kept::Book::new(terms)),
        Box::new(ack_wait_is_kept::Book::new(terms)),
        Box::new(positions_follow_acks::Book::new(terms)),
        Box::new(closed_is_silent::Book::new(terms)),
    ]
}
