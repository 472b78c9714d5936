//! What the clients of one history saw of a server, step by step, without anything that differs from run to run.

use std::collections::{BTreeMap, BTreeSet};

/// What was seen of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// By the number of the request, which is the order of asking.
    pub(crate) answers: BTreeMap<u64, String>,
    /// By subscription, or by queue group where the member is the server's choice.
    pub(crate) heard: BTreeMap<String, Heard>,
    /// What must not be, whatever the other server does.
    pub(crate) faults: Vec<String>,
}

/// What came for a subscription or a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// In the order of arrival.
    pub(crate) messages: Vec<String>,
    /// Sequences that came again where nothing but that can be said of a time.
    pub(crate) again: BTreeSet<u64>,
}

impl Heard {
    fn covers(&self, other: &Self) -> bool {
        self.messages.len() >= other.messages.len() && self.again.is_superset(&other.again)
    }
}

impl Seen {
    /// As much came as came in the other.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let empty = Heard::default();
        other
            .heard
            .iter()
            .all(|(name, heard)| self.heard.get(name).unwrap_or(&empty).covers(heard))
    }

    /// One line for each answer and for each that heard something.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.answers.values().cloned().collect();
        for (name, heard) in &self.heard {
            if !heard.messages.is_empty() {
                lines.push(format!("{name}: {}", heard.messages.join(", ")));
            }
            if !heard.again.is_empty() {
                lines.push(format!("{name} again: {:?}", heard.again));
            }
        }
        lines.extend(self.faults.iter().cloned());
        lines
    }
}
