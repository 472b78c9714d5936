//! Permissions of users, of accounts and of routes.

use std::time::Duration;

use broker_core::auth::settings::{PermissionSettings, ResponseSettings, SubjectRules};
use broker_proto::{
    conf::{Entry, Position},
    subject,
};

use super::{
    Reader,
    value::{Bare, Keys},
};

pub(in super::super) const KEYS: Keys = &[
    &["publish", "pub", "import"],
    &["subscribe", "sub", "export"],
    &[
        "allow_responses",
        "allow_response",
        "publish_allow_responses",
    ],
];

pub(in super::super) const RULES: Keys = &[&["allow"], &["deny"]];

pub(in super::super) const RESPONSES: Keys = &[
    &["max", "max_msgs", "max_messages", "max_responses"],
    &["expires", "expiration", "ttl"],
];

/// Whether an entry may be `subject queue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queues {
    Allowed,
    Refused,
}

impl Reader<'_> {
    /// `queues` is about the subscribe side. Of routes `import` is the publish side.
    pub(super) fn permissions(
        &mut self,
        entry: &Entry,
        queues: Queues,
    ) -> Option<PermissionSettings> {
        let mut permissions = PermissionSettings::default();
        for entry in self.map(entry)?.entries() {
            match self.field(entry, KEYS) {
                Some("publish") => permissions.publish = self.rules(entry, Queues::Refused),
                Some("subscribe") => permissions.subscribe = self.rules(entry, queues),
                Some(_) => permissions.responses = self.responses(entry),
                None => {}
            }
        }
        Some(permissions)
    }

    /// A subject, a list of them, or a map of what is allowed and what is not.
    fn rules(&mut self, entry: &Entry, queues: Queues) -> SubjectRules {
        let mut rules = SubjectRules::default();
        let Some(map) = entry.value.as_map() else {
            rules.allow = self.subjects(entry, queues);
            return rules;
        };
        for entry in map.entries() {
            match self.field(entry, RULES) {
                Some("allow") => rules.allow = self.subjects(entry, queues),
                Some(_) => rules.deny = self.subjects(entry, queues),
                None => {}
            }
        }
        rules
    }

    /// An empty list is refused: who writes `allow: []` hardly means that everything is allowed,
    /// which is what the reference makes of it.
    fn subjects(&mut self, entry: &Entry, queues: Queues) -> Vec<String> {
        if entry.value.as_array().is_some_and(<[_]>::is_empty) {
            let text = format!(
                "{} is an empty list; to forbid all subjects, deny \">\"",
                entry.key
            );
            self.problem(&entry.value, &text);
        }
        let mut subjects = Vec::new();
        for (text, at) in self.words(entry) {
            if self.is_subject(&text, &at, queues) {
                subjects.push(text);
            }
        }
        subjects
    }

    /// Wording of `server/opts.go`.
    fn is_subject(&mut self, text: &str, at: &Position, queues: Queues) -> bool {
        let is_valid = |part: &str| subject::is_filter(part.as_bytes());
        let parts: Vec<_> = text.split_whitespace().collect();
        let problem = match parts.as_slice() {
            [whole] if *whole == text && is_valid(whole) => return true,
            [subject, queue] if queues == Queues::Allowed => {
                match (is_valid(subject), is_valid(queue)) {
                    (true, true) => return true,
                    (true, false) => format!("queue {queue:?} is not a valid queue"),
                    (false, _) => format!("subject {subject:?} is not a valid subject"),
                }
            }
            _ => format!("subject {text:?} is not a valid subject"),
        };
        self.problem_at(at, &problem);
        false
    }

    /// 0 stands for the default and a negative number for no limit, as in `server/opts.go`.
    fn responses(&mut self, entry: &Entry) -> Option<ResponseSettings> {
        if let Some(allowed) = entry.value.as_bool() {
            return allowed.then(ResponseSettings::default);
        }
        let Some(map) = entry.value.as_map() else {
            self.mismatch(entry, "bool or a map");
            return None;
        };
        let mut responses = ResponseSettings::default();
        for entry in map.entries() {
            match self.field(entry, RESPONSES) {
                Some("max") => match self.number(entry) {
                    Some(0) | None => {}
                    Some(max) if max < 0 => responses.max = None,
                    Some(max) => responses.max = Some(u32::try_from(max).unwrap_or(u32::MAX)),
                },
                Some(_) => match self.nanos(entry, Bare::Refused) {
                    Some(0) | None => {}
                    Some(nanos) => {
                        responses.expires = u64::try_from(nanos).ok().map(Duration::from_nanos);
                    }
                },
                None => {}
            }
        }
        Some(responses)
    }
}
