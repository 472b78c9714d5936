//! A connection's memory of which subjects it may publish to, so that a stream of messages to the
//! same few subjects is not judged one by one.

use std::{fmt, sync::Arc};

use ahash::RandomState;

use super::permissions::Permissions;

/// Subjects remembered, a power of two.
const SLOTS: usize = 128;

/// Longer subjects are judged every time. Bounds the memory to 32 KiB for each connection.
const MAX_SUBJECT_BYTES: usize = 256;

/// Verdicts of one user's permissions on the subjects a connection used last.
pub struct PublishVerdicts {
    permissions: Arc<Permissions>,
    /// A subject has one place, and takes it from whichever was there before. Empty until used.
    slots: Vec<Slot>,
    /// Seeded, as subjects come from clients.
    hasher: RandomState,
}

/// An empty subject marks a free slot: it is judged like any other, but never remembered.
#[derive(Clone, Default)]
struct Slot {
    subject: Vec<u8>,
    permitted: bool,
}

impl PublishVerdicts {
    /// Nothing judged yet.
    #[must_use]
    pub fn new(permissions: Arc<Permissions>) -> Self {
        Self {
            permissions,
            slots: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    /// Whose verdicts these are.
    #[must_use]
    pub fn permissions(&self) -> &Arc<Permissions> {
        &self.permissions
    }

    /// The same as [`Permissions::may_publish`], faster the second time.
    pub fn may_publish(&mut self, subject: &[u8]) -> bool {
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
            return self.permissions.may_publish(subject);
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let place = self.hasher.hash_one(subject) as usize % SLOTS;
        let slot = &mut self.slots[place];
        if slot.subject != subject {
            slot.permitted = self.permissions.may_publish(subject);
            slot.subject.clear();
            slot.subject.extend_from_slice(subject);
        }
        slot.permitted
    }
}

impl fmt::Debug for PublishVerdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishVerdicts").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::settings::{PermissionSettings, SubjectRules};

    fn permissions() -> Arc<Permissions> {
        let publish = SubjectRules {
            allow: vec!["*.a".to_owned(), "b.>".to_owned()],
            deny: vec!["b.c".to_owned()],
        };
        let settings = PermissionSettings {
            publish,
            ..PermissionSettings::default()
        };
        Arc::new(Permissions::new(settings).unwrap())
    }

    proptest! {
        /// Ten times as many subjects as slots, so that many are driven out and come back.
        #[test]
        fn remembered_verdicts_are_the_permissions_own(
            subjects in prop::collection::vec("[a-c]?(\\.[a-c]{1,3}){0,2}", 1..1280),
        ) {
            let mut verdicts = PublishVerdicts::new(permissions());
            for subject in subjects.iter().chain(&subjects) {
                let subject = subject.as_bytes();
                prop_assert_eq!(verdicts.may_publish(subject), permissions().may_publish(subject));
            }
        }
    }

    #[test]
    fn long_subjects_are_judged_but_not_kept() {
        let mut verdicts = PublishVerdicts::new(permissions());
        let long = [b"b.".as_slice(), &[b'x'; MAX_SUBJECT_BYTES]].concat();
        assert!(verdicts.may_publish(&long));
        assert!(verdicts.slots.iter().all(|slot| slot.subject.is_empty()));
    }
}
