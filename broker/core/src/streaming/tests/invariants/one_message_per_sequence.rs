//! A sequence of a channel is one message for everybody until the channel is deleted, and no message has two sequences
//! or comes back in a later channel of the same name.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Event, Law, World};

#[derive(Default)]
pub(super) struct Book {
    /// By channel, how many of this name were gone by then, and sequence.
    messages: BTreeMap<(String, u64, u64), Bytes>,
    /// The other way round.
    sequences: BTreeMap<(String, Bytes), (u64, u64)>,
}

impl Law for Book {
    fn see(&mut self, event: &Event, world: &World) {
        let Event::Delivered { message, .. } = event else {
            return;
        };
        let (channel, sequence, data) = (&message.subject, message.sequence, &message.data);
        assert!(
            world.store.has_held(channel, sequence, data),
            "{sequence} of {channel} was delivered and is not durable"
        );
        let era = world.store.era(channel);
        let known = self
            .messages
            .entry((channel.clone(), era, sequence))
            .or_insert_with(|| data.clone());
        assert_eq!(known, data, "{sequence} of {channel} is two messages");
        // Those of another writer are all alike.
        if data.starts_with(b"payload") {
            let known = *self
                .sequences
                .entry((channel.clone(), data.clone()))
                .or_insert((era, sequence));
            let place = (era, sequence);
            assert_eq!(known, place, "a message of {channel} is there twice");
        }
    }
}
