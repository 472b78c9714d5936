//! Many filters at once: which of them match a subject, cover another filter, or overlap one.
//!
//! A filter may be limited to queue groups whose name matches a pattern, as entries `subject queue`
//! of permissions are. The set is built once and then only asked, from many threads.

use broker_proto::subject;

/// Filters as a tree of tokens.
#[derive(Debug, Default)]
pub(super) struct FilterSet {
    root: Level,
}

/// The branches at one depth.
#[derive(Debug, Default)]
struct Level {
    /// Sorted by token.
    literals: Vec<(Box<[u8]>, Node)>,
    /// Behind `*`.
    partial: Option<Box<Node>>,
    /// Behind `>`, where nothing can follow.
    full: Option<Groups>,
}

#[derive(Debug, Default)]
struct Node {
    /// Of the filter that ends here.
    end: Option<Groups>,
    next: Level,
}

/// Whom a filter concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// Everyone, whatever the queue group.
    plain: bool,
    /// Members of the queue groups that match one of these.
    patterns: Vec<Box<[u8]>>,
}

/// How the filters that were found concern a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// An entry without a queue group.
    pub(super) plain: bool,
    /// An entry with some queue group, while the subscription has one too.
    pub(super) grouped: bool,
    /// An entry whose queue group fits the subscription's.
    pub(super) fitting: bool,
}

/// What a filter of the set must do to the one that is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// Match it as if it were a literal: its wildcards are plain tokens.
    Matches,
    /// Match every literal that it matches.
    Covers,
    /// Match some literal that it matches.
    Overlaps,
}

impl Groups {
    fn add(&mut self, pattern: Option<&[u8]>) {
        match pattern {
            None => self.plain = true,
            Some(pattern) => self.patterns.push(pattern.into()),
        }
    }

    fn note(&self, queue_group: &[u8], found: &mut Found) {
        found.plain |= self.plain;
        if !queue_group.is_empty() && !self.patterns.is_empty() {
            found.grouped = true;
            found.fitting |= self
                .patterns
                .iter()
                .any(|pattern| fits(pattern, queue_group));
        }
    }
}

/// Whether a queue group's name, which may contain wildcard characters of its own, is the pattern or
/// within it.
fn fits(pattern: &[u8], queue_group: &[u8]) -> bool {
    pattern == queue_group || is_subset(queue_group, pattern)
}

/// Whether every literal that `filter` matches is matched by `of` as well.
#[must_use]
pub(super) fn is_subset(filter: &[u8], of: &[u8]) -> bool {
    if subject::has_empty_token(filter) {
        return false;
    }
    let mut wanted = subject::tokens(of);
    let mut given = subject::tokens(filter);
    loop {
        match (wanted.next(), given.next()) {
            (Some(b">"), Some(_)) | (None, None) => return true,
            (Some(b"*"), Some(token)) if token != b">" => {}
            (Some(want), Some(have)) if want == have => {}
            _ => return false,
        }
    }
}

impl FilterSet {
    /// Adds a legal filter, for all or for the queue groups that match a pattern.
    pub(super) fn insert(&mut self, filter: &[u8], queue_group: Option<&[u8]>) {
        let mut level = &mut self.root;
        let mut tokens = subject::tokens(filter).peekable();
        while let Some(token) = tokens.next() {
            if token == b">" {
                level.full.get_or_insert_default().add(queue_group);
                return;
            }
            let node = level.branch(token);
            if tokens.peek().is_none() {
                node.end.get_or_insert_default().add(queue_group);
                return;
            }
            level = &mut node.next;
        }
    }

    /// Some filter matches a literal subject, whose wildcard characters are plain bytes.
    pub(super) fn matches(&self, subject: &[u8]) -> bool {
        self.matching(subject, b"").plain
    }

    /// The filters that match a literal subject.
    pub(super) fn matching(&self, subject: &[u8], queue_group: &[u8]) -> Found {
        self.find(subject, queue_group, Relation::Matches)
    }

    /// The filters that match everything `filter` matches.
    pub(super) fn covering(&self, filter: &[u8], queue_group: &[u8]) -> Found {
        self.find(filter, queue_group, Relation::Covers)
    }

    /// The filters that match something `filter` matches.
    pub(super) fn overlapping(&self, filter: &[u8], queue_group: &[u8]) -> Found {
        self.find(filter, queue_group, Relation::Overlaps)
    }

    fn find(&self, filter: &[u8], queue_group: &[u8], relation: Relation) -> Found {
        let mut found = Found::default();
        if !subject::has_empty_token(filter) {
            let mut note = |groups: &Groups| groups.note(queue_group, &mut found);
            self.root
                .visit(subject::tokens(filter), relation, &mut note);
        }
        found
    }
}

impl Level {
    fn branch(&mut self, token: &[u8]) -> &mut Node {
        if token == b"*" {
            return self.partial.get_or_insert_default();
        }
        let place = match self.place(token) {
            Ok(place) => place,
            Err(place) => {
                self.literals.insert(place, (token.into(), Node::default()));
                place
            }
        };
        &mut self.literals[place].1
    }

    fn place(&self, token: &[u8]) -> Result<usize, usize> {
        self.literals
            .binary_search_by(|(known, _)| (**known).cmp(token))
    }

    /// Calls `note` for every filter that stands in `relation` to the tokens left. No deeper than
    /// the filters of the set are long.
    fn visit<'a>(
        &self,
        mut tokens: impl Iterator<Item = &'a [u8]> + Clone,
        relation: Relation,
        note: &mut impl FnMut(&Groups),
    ) {
        let Some(token) = tokens.next() else {
            return;
        };
        if let Some(groups) = &self.full {
            note(groups);
        }
        match (token, relation) {
            (b">", Relation::Covers) => return,
            (b">", Relation::Overlaps) => return self.visit_all(note),
            (b"*", Relation::Overlaps) => {
                for (_, node) in &self.literals {
                    node.visit(tokens.clone(), relation, note);
                }
            }
            _ => {
                if let Ok(place) = self.place(token) {
                    self.literals[place].1.visit(tokens.clone(), relation, note);
                }
            }
        }
        if let Some(node) = &self.partial {
            node.visit(tokens, relation, note);
        }
    }

    /// Everything below; the caller has seen to `full`.
    fn visit_all(&self, note: &mut impl FnMut(&Groups)) {
        let literals = self.literals.iter().map(|(_, node)| node);
        for node in literals.chain(self.partial.as_deref()) {
            let ends = [&node.end, &node.next.full];
            ends.into_iter().flatten().for_each(&mut *note);
            node.next.visit_all(note);
        }
    }
}

impl Node {
    fn visit<'a>(
        &self,
        tokens: impl Iterator<Item = &'a [u8]> + Clone,
        relation: Relation,
        note: &mut impl FnMut(&Groups),
    ) {
        if tokens.clone().next().is_some() {
            self.next.visit(tokens, relation, note);
        } else if let Some(groups) = &self.end {
            note(groups);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
