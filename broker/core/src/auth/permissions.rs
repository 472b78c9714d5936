//! What a user may publish, subscribe to, and be given.
//!
//! A subscription must lie within one entry of the allow list and not within one of the deny list.
//! Where it merely overlaps a deny entry it is accepted, and the messages in question are withheld
//! one by one: whoever delivers asks [`Permissions::may_receive`] every time, for members of queue
//! groups too, before choosing one. (Deciding once at `SUB` is how deny rules were evaded in
//! CVE-2022-29946.)
//!
//! nats-server 2.15.2 takes `SUB foo.>` under an allow entry `foo.*`, because it looks the filter up
//! as if it were a subject, and then delivers `foo.a.b`. That hole is not copied.

use broker_proto::subject;
use thiserror::Error;

use super::{
    filters::FilterSet,
    settings::{PermissionSettings, ResponseSettings, SubjectRules},
};

/// An entry of a configuration that cannot be understood; the words are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PermissionError {
    #[error("subject \"{0}\" is not a valid subject")]
    Subject(String),
    #[error("queue \"{0}\" is not a valid queue")]
    QueueGroup(String),
}

/// One direction: allow and deny lists, ready to be asked.
#[derive(Debug, Default)]
pub struct Rules {
    /// `None`: everything.
    allow: Option<FilterSet>,
    /// `None`: nothing.
    deny: Option<FilterSet>,
}

impl Rules {
    /// Rules whose entries are filters only: those for publications, and for what routes import
    /// and export.
    ///
    /// # Errors
    /// An entry is not a legal filter.
    pub fn new(rules: &SubjectRules) -> Result<Self, PermissionError> {
        Self::build(rules, |entry| Ok((entry, None)))
    }

    /// Rules whose entries may be `subject queue`.
    fn with_queue_groups(rules: &SubjectRules) -> Result<Self, PermissionError> {
        Self::build(rules, split_entry)
    }

    fn build<'a>(
        rules: &'a SubjectRules,
        split: impl Fn(&'a str) -> Result<(&'a str, Option<&'a str>), PermissionError>,
    ) -> Result<Self, PermissionError> {
        let collect = |entries: &'a [String]| {
            let mut set = FilterSet::default();
            for entry in entries {
                let (filter, queue_group) = split(entry)?;
                if !is_entry(filter) {
                    return Err(PermissionError::Subject(entry.clone()));
                }
                if let Some(bad) = queue_group.filter(|pattern| !is_entry(pattern)) {
                    return Err(PermissionError::QueueGroup(bad.to_owned()));
                }
                set.insert(filter.as_bytes(), queue_group.map(str::as_bytes));
            }
            Ok((!entries.is_empty()).then_some(set))
        };
        Ok(Self {
            allow: collect(&rules.allow)?,
            deny: collect(&rules.deny)?,
        })
    }

    /// A message on a literal subject may pass.
    #[must_use]
    pub fn permits(&self, subject: &[u8]) -> bool {
        self.allow.as_ref().is_none_or(|set| set.matches(subject))
            && !self.deny.as_ref().is_some_and(|set| set.matches(subject))
    }

    /// A subscription may be made. Its queue group is empty if it has none.
    #[must_use]
    pub fn permits_filter(&self, filter: &[u8], queue_group: &[u8]) -> bool {
        if let Some(set) = &self.allow {
            let found = set.covering(filter, queue_group);
            // Where entries name queue groups, one without does not help members of other groups.
            let allowed = if found.grouped {
                found.fitting
            } else {
                found.plain
            };
            if !allowed {
                return false;
            }
        }
        // The reference takes the filter's wildcards as plain tokens here, so that a deny entry
        // `foo.*` refuses `foo.>` too. That errs on the safe side, and clients see it.
        !self.denies(filter, queue_group)
    }

    /// A message must be kept from a subscription of that queue group, which may be empty.
    #[must_use]
    pub fn denies(&self, subject: &[u8], queue_group: &[u8]) -> bool {
        self.deny.as_ref().is_some_and(|set| {
            let found = set.matching(subject, queue_group);
            found.plain || found.fitting
        })
    }

    /// Some message that the filter matches would be kept from its subscription.
    #[must_use]
    pub fn denies_part_of(&self, filter: &[u8], queue_group: &[u8]) -> bool {
        self.deny.as_ref().is_some_and(|set| {
            let found = set.overlapping(filter, queue_group);
            found.plain || found.fitting
        })
    }
}

/// Filter and queue group of an entry, which any amount of blanks may separate.
fn split_entry(entry: &str) -> Result<(&str, Option<&str>), PermissionError> {
    let mut words = entry.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(filter), queue_group, None) => Ok((filter, queue_group)),
        _ => Err(PermissionError::Subject(entry.to_owned())),
    }
}

fn is_entry(filter: &str) -> bool {
    subject::is_filter(filter.as_bytes()) && !filter.contains(|c: char| c.is_ascii_whitespace())
}

/// Everything a user may do. Shared by all its connections.
#[derive(Debug)]
pub struct Permissions {
    publish: Rules,
    subscribe: Rules,
    settings: PermissionSettings,
}

impl Permissions {
    /// Makes settings ready to be asked.
    ///
    /// # Errors
    /// An entry is not a legal filter or queue group.
    pub fn new(settings: PermissionSettings) -> Result<Self, PermissionError> {
        let mut publish = Rules::new(&settings.publish)?;
        if settings.responses.is_some() {
            // Who may respond may do nothing else that is not spelled out.
            publish.allow.get_or_insert_default();
        }
        Ok(Self {
            publish,
            subscribe: Rules::with_queue_groups(&settings.subscribe)?,
            settings,
        })
    }

    /// A publication on a literal subject, its wildcard characters being plain bytes. Responses are
    /// judged by [`super::responses::ResponsePermits`], and only if this says no.
    #[must_use]
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        self.publish.permits(subject)
    }

    /// A subscription to a legal filter. The queue group is empty if it has none.
    #[must_use]
    pub fn may_subscribe(&self, filter: &[u8], queue_group: &[u8]) -> bool {
        self.subscribe.permits_filter(filter, queue_group)
    }

    /// A delivery to one of the user's subscriptions. To be asked for every message.
    #[must_use]
    pub fn may_receive(&self, queue_group: &[u8], subject: &[u8]) -> bool {
        !self.subscribe.denies(subject, queue_group)
    }

    /// Some delivery could be withheld. If not, [`Self::may_receive`] is always true.
    #[must_use]
    pub fn restricts_deliveries(&self) -> bool {
        self.subscribe.deny.is_some()
    }

    /// Some delivery to this very subscription could be withheld. If not, [`Self::may_receive`] is
    /// always true for what the filter matches.
    #[must_use]
    pub fn restricts_deliveries_to(&self, filter: &[u8], queue_group: &[u8]) -> bool {
        self.subscribe.denies_part_of(filter, queue_group)
    }

    /// `allow_responses`.
    #[must_use]
    pub fn responses(&self) -> Option<ResponseSettings> {
        self.settings.responses
    }

    /// What they were made of, for those who ask about themselves and for comparison.
    #[must_use]
    pub fn settings(&self) -> &PermissionSettings {
        &self.settings
    }
}

impl PartialEq for Permissions {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Permissions {}

#[cfg(test)]
mod tests;
