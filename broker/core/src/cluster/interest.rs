//! What peers know of our subscribers.
//!
//! A peer is told of a filter with its first plain subscription here and again with the end of its
//! last, and of a queue group with every member that comes or goes, because its members count when
//! the peer chooses among groups. All peers are told the same.

use std::collections::HashMap;

use ahash::RandomState;
use broker_proto::{encode::Sink, route::encode};
use smallvec::SmallVec;

use super::settings::ClusterSettings;
use crate::auth::permissions::{PermissionError, Rules};

/// What may pass between us and our peers.
#[derive(Debug, Default)]
pub struct RoutePermissions {
    import: Rules,
    export: Rules,
}

impl RoutePermissions {
    /// Makes settings ready to be asked.
    ///
    /// # Errors
    /// An entry is not a legal filter.
    pub fn new(settings: &ClusterSettings) -> Result<Self, PermissionError> {
        Ok(Self {
            import: Rules::new(&settings.import)?,
            export: Rules::new(&settings.export)?,
        })
    }

    /// Peers are told of subscriptions with this filter. As in the reference it is looked up as if it
    /// were a subject, so that one which reaches beyond a deny entry is still told; messages are
    /// judged one by one.
    #[must_use]
    pub fn announces(&self, filter: &[u8]) -> bool {
        self.import.permits(filter)
    }

    /// A message of a peer is taken.
    #[must_use]
    pub fn imports(&self, subject: &[u8]) -> bool {
        self.import.permits(subject)
    }

    /// A peer's interest is noted.
    #[must_use]
    pub fn accepts(&self, filter: &[u8]) -> bool {
        self.export.permits_filter(filter, b"")
    }

    /// A message is given to peers.
    #[must_use]
    pub fn exports(&self, subject: &[u8]) -> bool {
        self.export.permits(subject)
    }
}

/// Subscriptions of our own clients and services, counted.
#[derive(Debug, Default)]
pub struct LocalInterest {
    permissions: RoutePermissions,
    accounts: HashMap<Box<[u8]>, Filters, RandomState>,
}

/// The filters of an account.
#[derive(Debug, Default)]
struct Filters {
    /// Number of subscriptions, never 0.
    plain: HashMap<Box<[u8]>, u32, RandomState>,
    groups: HashMap<Box<[u8]>, Groups, RandomState>,
}

/// Queue groups of one filter with their number of members, never 0. Nearly always one.
type Groups = SmallVec<[(Box<[u8]>, u32); 1]>;

impl LocalInterest {
    /// Nobody subscribed yet.
    #[must_use]
    pub fn new(permissions: RoutePermissions) -> Self {
        Self {
            permissions,
            accounts: HashMap::default(),
        }
    }

    /// What may pass between us and our peers.
    #[must_use]
    pub fn permissions(&self) -> &RoutePermissions {
        &self.permissions
    }

    /// A subscription was made; `queue_group` is empty for a plain one. Writes what all peers must be
    /// told.
    pub fn add<S: Sink>(&mut self, account: &[u8], filter: &[u8], queue_group: &[u8], out: &mut S) {
        if !self.accounts.contains_key(account) {
            self.accounts.insert(account.into(), Filters::default());
        }
        let Some(filters) = self.accounts.get_mut(account) else {
            return;
        };
        let count = filters.count(filter, queue_group);
        *count += 1;
        let news = match (queue_group.is_empty(), *count) {
            (true, 1) => None,
            (true, _) => return,
            (false, weight) => Some((queue_group, weight)),
        };
        if is_told(&self.permissions, account, filter) {
            encode::interest(account, filter, news, out);
        }
    }

    /// A subscription that was added has gone. Writes what all peers must be told.
    pub fn remove<S: Sink>(
        &mut self,
        account: &[u8],
        filter: &[u8],
        queue_group: &[u8],
        out: &mut S,
    ) {
        let Some(filters) = self.accounts.get_mut(account) else {
            debug_assert!(false, "an account without subscriptions");
            return;
        };
        let Some(left) = filters.take(filter, queue_group) else {
            debug_assert!(false, "a subscription that was never added");
            return;
        };
        if filters.plain.is_empty() && filters.groups.is_empty() {
            self.accounts.remove(account);
        }
        if !is_told(&self.permissions, account, filter) {
            return;
        }
        let group = (!queue_group.is_empty()).then_some(queue_group);
        match (group, left) {
            (group, 0) => encode::no_interest(account, filter, group, out),
            (Some(name), weight) => encode::interest(account, filter, Some((name, weight)), out),
            (None, _) => {}
        }
    }

    /// Writes everything, for a new peer.
    pub fn all<S: Sink>(&self, out: &mut S) {
        self.each(|account, filter, group| {
            if is_told(&self.permissions, account, filter) {
                encode::interest(account, filter, group, out);
            }
        });
    }

    /// Other permissions apply from now on. Writes what all peers must be told.
    pub fn permit<S: Sink>(&mut self, permissions: RoutePermissions, out: &mut S) {
        let old = std::mem::replace(&mut self.permissions, permissions);
        self.each(|account, filter, group| {
            let was_told = is_told(&old, account, filter);
            match (was_told, is_told(&self.permissions, account, filter)) {
                (false, true) => encode::interest(account, filter, group, out),
                (true, false) => {
                    encode::no_interest(account, filter, group.map(|(name, _)| name), out);
                }
                _ => {}
            }
        });
    }

    fn each(&self, mut visit: impl FnMut(&[u8], &[u8], Option<(&[u8], u32)>)) {
        for (account, filters) in &self.accounts {
            for filter in filters.plain.keys() {
                visit(account, filter, None);
            }
            for (filter, groups) in &filters.groups {
                for (name, weight) in groups {
                    visit(account, filter, Some((name, *weight)));
                }
            }
        }
    }
}

/// A name with a blank in it would be read as something else: no peer can know such an account.
fn is_told(permissions: &RoutePermissions, account: &[u8], filter: &[u8]) -> bool {
    permissions.announces(filter) && encode::is_argument(account)
}

impl Filters {
    /// The number of subscriptions, 0 if there was none yet.
    fn count(&mut self, filter: &[u8], queue_group: &[u8]) -> &mut u32 {
        if queue_group.is_empty() {
            // Looked up twice rather than copied each time.
            if !self.plain.contains_key(filter) {
                self.plain.insert(filter.into(), 0);
            }
            return self.plain.get_mut(filter).expect("present or inserted");
        }
        if !self.groups.contains_key(filter) {
            self.groups.insert(filter.into(), Groups::new());
        }
        let groups = self.groups.get_mut(filter).expect("present or inserted");
        let index = match groups.iter().position(|(name, _)| **name == *queue_group) {
            Some(index) => index,
            None => {
                groups.push((queue_group.into(), 0));
                groups.len() - 1
            }
        };
        &mut groups[index].1
    }

    /// Takes one off and says how many are left; `None` if there was none.
    fn take(&mut self, filter: &[u8], queue_group: &[u8]) -> Option<u32> {
        if queue_group.is_empty() {
            let count = self.plain.get_mut(filter)?;
            *count -= 1;
            let left = *count;
            if left == 0 {
                self.plain.remove(filter);
            }
            return Some(left);
        }
        let groups = self.groups.get_mut(filter)?;
        let index = groups.iter().position(|(name, _)| **name == *queue_group)?;
        groups[index].1 -= 1;
        let left = groups[index].1;
        if left == 0 {
            groups.swap_remove(index);
            if groups.is_empty() {
                self.groups.remove(filter);
            }
        }
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use broker_proto::{
        parser::{Limits, Step},
        route::{RouteOp, parse},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::auth::settings::SubjectRules;

    const LIMITS: Limits = Limits {
        max_control_line: 4096,
        max_payload: 0,
        headers: true,
    };

    fn permissions(allow: &[&str], deny: &[&str]) -> RoutePermissions {
        let list = |filters: &[&str]| filters.iter().map(|&filter| filter.to_owned()).collect();
        let settings = ClusterSettings {
            import: SubjectRules {
                allow: list(allow),
                deny: list(deny),
            },
            ..ClusterSettings::default()
        };
        RoutePermissions::new(&settings).unwrap()
    }

    /// What a peer knows: members by account, filter and queue group.
    type Knowledge = BTreeMap<(Vec<u8>, Vec<u8>, Vec<u8>), u32>;

    fn learn(knowledge: &mut Knowledge, mut lines: &[u8]) {
        while !lines.is_empty() {
            let Ok(Step::Taken { op, consumed }) = parse(lines, &LIMITS) else {
                panic!("{}", lines.escape_ascii());
            };
            match op {
                RouteOp::Interest {
                    account,
                    subject,
                    queue_group,
                    weight,
                } => {
                    assert!(weight > 0);
                    let key = (account.into(), subject.into(), queue_group.into());
                    let before = knowledge.insert(key, weight);
                    assert!(before != Some(weight), "told twice");
                }
                RouteOp::NoInterest {
                    account,
                    subject,
                    queue_group,
                } => {
                    let key = (account.into(), subject.into(), queue_group.into());
                    assert!(knowledge.remove(&key).is_some(), "taken back twice");
                }
                other => panic!("{other:?}"),
            }
            lines = &lines[consumed..];
        }
    }

    #[test]
    fn plain_interest_is_told_once_and_weights_each_time() {
        let mut local = LocalInterest::default();
        let mut out = Vec::new();
        local.add(b"$G", b"a", b"", &mut out);
        local.add(b"$G", b"a", b"", &mut out);
        local.add(b"$G", b"a", b"q", &mut out);
        local.add(b"$G", b"a", b"q", &mut out);
        local.remove(b"$G", b"a", b"q", &mut out);
        local.remove(b"$G", b"a", b"", &mut out);
        local.remove(b"$G", b"a", b"", &mut out);
        local.remove(b"$G", b"a", b"q", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "RS+ $G a\r\nRS+ $G a q 1\r\nRS+ $G a q 2\r\nRS+ $G a q 1\r\nRS- $G a\r\nRS- $G a q\r\n"
        );
        assert!(local.accounts.is_empty());
    }

    #[test]
    fn what_may_not_be_imported_is_not_asked_for() {
        let mut local = LocalInterest::new(permissions(&["a.>"], &["a.secret"]));
        let mut out = Vec::new();
        for filter in ["a.b", "a.*", "a.secret", "b", ">"] {
            local.add(b"$G", filter.as_bytes(), b"", &mut out);
        }
        assert_eq!(out, b"RS+ $G a.b\r\nRS+ $G a.*\r\n");
        out.clear();
        local.permit(permissions(&["b"], &[]), &mut out);
        let lines: BTreeSet<_> = out.split_inclusive(|&byte| byte == b'\n').collect();
        let expected: [&[u8]; 3] = [b"RS+ $G b\r\n", b"RS- $G a.*\r\n", b"RS- $G a.b\r\n"];
        assert_eq!(lines, BTreeSet::from(expected));
        assert!(!local.permissions().imports(b"a.b"));
    }

    #[test]
    fn an_account_that_cannot_be_written_is_kept_to_ourselves() {
        let mut local = LocalInterest::default();
        let mut out = Vec::new();
        local.add(b"two words", b"a", b"", &mut out);
        local.all(&mut out);
        local.remove(b"two words", b"a", b"", &mut out);
        assert!(out.is_empty());
    }

    proptest! {
        /// A peer that heard every line knows what one knows that is told everything at the end, and
        /// both know what there is.
        #[test]
        fn peers_know_what_there_is(
            changes in prop::collection::vec((0..2u8, 0..3u8, 0..3u8, any::<prop::sample::Index>(), any::<bool>()), 0..80),
        ) {
            let mut local = LocalInterest::default();
            let (mut told, mut present) = (Knowledge::new(), Vec::new());
            for (account, filter, group, index, removes) in changes {
                let mut out = Vec::new();
                if removes && !present.is_empty() {
                    let (account, filter, group): (Vec<u8>, Vec<u8>, Vec<u8>) =
                        present.swap_remove(index.index(present.len()));
                    local.remove(&account, &filter, &group, &mut out);
                } else {
                    let group = if group == 0 { Vec::new() } else { vec![b'p' + group] };
                    let one = (vec![b'A' + account], vec![b'a' + filter], group);
                    local.add(&one.0, &one.1, &one.2, &mut out);
                    present.push(one);
                }
                learn(&mut told, &out);
            }
            let (mut newcomer, mut all) = (Knowledge::new(), Vec::new());
            local.all(&mut all);
            learn(&mut newcomer, &all);
            prop_assert_eq!(&told, &newcomer);
            let mut expected = Knowledge::new();
            for one in present {
                let plain = one.2.is_empty();
                let weight = expected.entry(one).or_default();
                *weight = if plain { 1 } else { *weight + 1 };
            }
            prop_assert_eq!(told, expected);
        }
    }
}
