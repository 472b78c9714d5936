//! A place in a text, counting lines and columns.

use std::sync::Arc;

use super::{ParseError, Position, Problem};

pub(super) struct Cursor<'a> {
    file: Arc<str>,
    rest: &'a str,
    line: u32,
    column: u32,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            file: Arc::from(file),
            rest,
            line: 1,
            column: 1,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            file: Arc::clone(&self.file),
            line: self.line,
            column: self.column,
        }
    }

    pub(super) fn error(&self, problem: Problem) -> ParseError {
        ParseError {
            at: self.position(),
            problem,
        }
    }

    /// All text from here on.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        if next == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(next)
    }

    /// Takes characters up to the first one that `stop` names, or all.
    pub(super) fn take_until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let whole = self.rest;
        while self.peek().is_some_and(|next| !stop(next)) {
            self.bump();
        }
        &whole[..whole.len() - self.rest.len()]
    }

    /// Passes over blanks on this line.
    pub(super) fn skip_spaces(&mut self) {
        self.take_until(|next| !is_space(next));
    }

    /// Passes over blanks, newlines and comments.
    pub(super) fn skip_blank(&mut self) {
        loop {
            self.take_until(|next| !is_space(next) && next != '\n');
            if !self.skip_comment() {
                return;
            }
        }
    }

    /// Passes over a comment, up to its newline, if one starts here.
    pub(super) fn skip_comment(&mut self) -> bool {
        let found = self.at_comment();
        if found {
            self.take_until(|next| next == '\n');
        }
        found
    }

    pub(super) fn at_comment(&self) -> bool {
        self.rest.starts_with('#') || self.rest.starts_with("//")
    }
}

/// White space other than the newline, which ends an item.
pub(super) fn is_space(next: char) -> bool {
    next != '\n' && next.is_whitespace()
}
