//! A publish is answered at most once, and with success only when its message is durable.

use std::collections::BTreeMap;

use super::{Event, Law, World};

/// What was published, by guid, until it is answered.
#[derive(Default)]
pub(super) struct Book(BTreeMap<String, Sent>);

struct Sent {
    channel: String,
    data: String,
    /// How many channels of this name were gone by then: it belongs to none of the later ones.
    era: u64,
}

impl Law for Book {
    fn see(&mut self, event: &Event, world: &World) {
        match event {
            Event::Published {
                guid,
                channel,
                data,
            } => {
                let sent = Sent {
                    channel: channel.clone(),
                    data: data.clone(),
                    era: world.store.era(channel),
                };
                let before = self.0.insert(guid.clone(), sent);
                assert!(before.is_none(), "the storm uses a guid once");
            }
            Event::Answered { guid, error } => {
                let sent = self.0.remove(guid);
                let Sent { channel, data, era } = sent.expect("published, and not answered before");
                if error.is_empty() {
                    assert!(
                        world.store.has_payload(&channel, &data),
                        "{guid} was acknowledged and is not durable"
                    );
                    let now = world.store.era(&channel);
                    assert_eq!(now, era, "{guid} outlived its channel {channel}");
                }
            }
            _ => {}
        }
    }
}
