//! Places of the engine's records, and how they travel through the router inside a `HandlerId`.

use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::effect::HandlerId;

macro_rules! place {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(super) struct $name(pub(super) u32);

        impl From<usize> for $name {
            fn from(index: usize) -> Self {
                Self(u32::try_from(index).expect("fewer than 2^32 records are held in memory"))
            }
        }

        impl From<$name> for usize {
            fn from(key: $name) -> Self {
                key.0 as usize
            }
        }
    };
}

place!(
    /// Place of a registered client.
    ClientKey
);
place!(
    /// Place of a channel. Free again when the channel is deleted, or the store refused its creation.
    ChannelKey
);
place!(
    /// Place of a subscription, offline ones and shadows included.
    SubKey
);
place!(
    /// Place of a queue group.
    GroupKey
);

/// A slab that only its own kind of key opens.
#[derive(Debug)]
pub(super) struct Table<K, T> {
    records: Slab<T>,
    key: std::marker::PhantomData<K>,
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self {
            records: Slab::new(),
            key: std::marker::PhantomData,
        }
    }
}

impl<K: From<usize> + Into<usize>, T> Table<K, T> {
    pub(super) fn insert(&mut self, record: T) -> K {
        self.records.insert(record).into()
    }

    pub(super) fn get(&self, key: K) -> Option<&T> {
        self.records.get(key.into())
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.records.get_mut(key.into())
    }

    pub(super) fn remove(&mut self, key: K) -> T {
        self.records.remove(key.into())
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.records
            .iter()
            .map(|(index, record)| (index.into(), record))
    }

    pub(super) fn keys(&self) -> Vec<K> {
        self.records.iter().map(|(index, _)| index.into()).collect()
    }
}

impl<K: Into<usize>, T> Index<K> for Table<K, T> {
    type Output = T;

    fn index(&self, key: K) -> &T {
        &self.records[key.into()]
    }
}

impl<K: Into<usize>, T> IndexMut<K> for Table<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        &mut self.records[key.into()]
    }
}

/// What a message from the router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handler {
    Connect,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    SubClose,
    Close,
    /// An answer to a heartbeat, a probe or a list of channels.
    Answer,
    /// Another server's list of channels.
    Partition,
    /// An ack inbox. The generation tells a resumed subscription from its former self and from
    /// another one that took its place.
    Ack {
        sub: SubKey,
        generation: u32,
    },
}

/// Ack inboxes have a generation of at least 1, so the upper half of the number tells them apart.
const FIXED: [Handler; 9] = [
    Handler::Connect,
    Handler::Ping,
    Handler::Publish,
    Handler::Subscribe,
    Handler::Unsubscribe,
    Handler::SubClose,
    Handler::Close,
    Handler::Answer,
    Handler::Partition,
];

impl Handler {
    pub(super) fn id(self) -> HandlerId {
        match self {
            Self::Ack { sub, generation } => {
                HandlerId(u64::from(generation) << 32 | u64::from(sub.0))
            }
            fixed => {
                let index = FIXED.iter().position(|handler| *handler == fixed);
                HandlerId(index.expect("every other handler is in the list") as u64)
            }
        }
    }

    pub(super) fn from_id(id: HandlerId) -> Option<Self> {
        let (generation, low) = ((id.0 >> 32) as u32, id.0 as u32);
        if generation == 0 {
            // Behind them the publish subjects of a list of channels.
            let fixed = FIXED.get(low as usize).copied();
            return Some(fixed.unwrap_or(Self::Publish));
        }
        Some(Self::Ack {
            sub: SubKey(low),
            generation,
        })
    }

    /// For the publish subject of one channel of a list.
    pub(super) fn listed(index: usize) -> HandlerId {
        HandlerId((FIXED.len() + index) as u64)
    }

    /// The handlers that exist as long as the engine.
    pub(super) fn fixed() -> impl Iterator<Item = Self> {
        FIXED.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_survives_the_way_through_the_router() {
        let ack = Handler::Ack {
            sub: SubKey(7),
            generation: 1,
        };
        for handler in Handler::fixed().chain([ack]) {
            assert_eq!(Handler::from_id(handler.id()), Some(handler));
        }
        for index in [0, 1, 1_000_000] {
            let listed = Handler::listed(index);
            assert_eq!(Handler::from_id(listed), Some(Handler::Publish));
        }
    }
}
