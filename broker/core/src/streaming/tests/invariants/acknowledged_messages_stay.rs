//! A publish is answered at most once, and with success only when its message is durable.

use std::collections::BTreeMap;

use super::{Event, Law, World};

/// What was published, by guid, until it is answered.
#[derive(Default)]
pub(super) struct Book(BTreeMap<String, (String, String)>);

impl Law for Book {
    fn see(&mut self, event: &Event, world: &World) {
        match event {
            Event::Published {
                guid,
                channel,
                data,
            } => {
                let before = self.0.insert(guid.clone(), (channel.clone(), data.clone()));
                assert!(before.is_none(), "the storm uses a guid once");
            }
            Event::Answered { guid, error } => {
                let sent = self.0.remove(guid);
                let (channel, data) = sent.expect("published, and not answered before");
                assert!(
                    !error.is_empty() || world.store.has_payload(&channel, &data),
                    "{guid} was acknowledged and is not durable"
                );
            }
            _ => {}
        }
    }
}
