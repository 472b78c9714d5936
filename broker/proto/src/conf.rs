//! The configuration syntax of NATS servers: text to values that know where they were written.
//!
//! Pure: files to include and environment variables come through a [`Resolver`]. What keys mean,
//! and which exist, is the caller's business.
//!
//! ```text
//! # comment                        // comment
//! port: 4222                       separators: ':', '=' or blanks; items end at newline ',' ';'
//! store_limits { max_bytes 1GB }   k m g t p e = powers of 1000; kb ki kib ... = powers of 1024
//! hosts = [a, "b"]                 strings: bare, 'raw', "with \t \n \r \" \\ \xHH", ( block )
//! password: $DB_PASSWORD           enclosing maps outwards, then the environment
//! include ./other.conf             merged into the map it stands in
//! ```
//!
//! A file that is one JSON object is accepted as well, hence the escapes `\/ \b \f \uXXXX`, which
//! nats-server (`conf/lex.go`) does not have.

mod cursor;
mod parser;
mod print;
mod scalar;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

/// Deepest nesting of maps, arrays, included files and variables together; real files use five.
const MAX_DEPTH: usize = 64;

/// Most values plus bytes of text that variables may add to a file by repetition.
const MAX_EXPANSION: usize = 1 << 20;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Name of the file as the caller or the resolver gave it; `$NAME` inside a variable.
    pub file: Arc<str>,
    /// From 1; 0 for a value that was not read from a file.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Position {
    /// Of a value that a program made.
    #[must_use]
    pub fn nowhere() -> Self {
        Self {
            file: Arc::from(""),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What a value is.
#[derive(Clone, PartialEq)]
pub enum Kind {
    Map(Map),
    Array(Vec<Value>),
    String(String),
    Boolean(bool),
    Integer(i64),
    Float(f64),
    /// `2006-01-02T15:04:05Z`, checked for shape and ranges.
    Date(String),
}

/// A value and where it stands. Two values are equal when their contents are. `Debug` shows no
/// content, because it may be a password.
#[derive(Clone)]
pub struct Value {
    pub kind: Kind,
    pub at: Position,
    /// The word as written, of an unquoted scalar: `5m` is the integer 5000000 to this syntax and
    /// five minutes to somebody who asks for a duration.
    token: Option<Box<str>>,
}

impl Value {
    /// A value that was not read from a file.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            at: Position::nowhere(),
            token: None,
        }
    }

    /// The map, if it is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        if let Kind::Map(map) = &self.kind {
            Some(map)
        } else {
            None
        }
    }

    /// The elements, if it is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Kind::Array(items) = &self.kind {
            Some(items)
        } else {
            None
        }
    }

    /// The text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Kind::String(text) = &self.kind {
            Some(text)
        } else {
            None
        }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Kind::Boolean(value) = self.kind {
            Some(value)
        } else {
            None
        }
    }

    /// The number, if it is an integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        if let Kind::Integer(value) = self.kind {
            Some(value)
        } else {
            None
        }
    }

    /// The number, if it is a float or an integer.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a setting that takes fractions is small"
    )]
    pub fn as_float(&self) -> Option<f64> {
        match self.kind {
            Kind::Float(value) => Some(value),
            Kind::Integer(value) => Some(value as f64),
            Kind::Map(_) | Kind::Array(_) | Kind::String(_) | Kind::Boolean(_) | Kind::Date(_) => {
                None
            }
        }
    }

    /// The word as it was written, of an unquoted scalar read from a file.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// What it is, as nats-streaming-server's messages call it (`int64`, `slice`, ...).
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Map(_) => "map",
            Kind::Array(_) => "slice",
            Kind::String(_) => "string",
            Kind::Boolean(_) => "bool",
            Kind::Integer(_) => "int64",
            Kind::Float(_) => "float64",
            Kind::Date(_) => "date",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.type_name(), self.at)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Value::new(self.clone()).type_name())
    }
}

/// One key of a map.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As written.
    pub key: String,
    /// Of the key.
    pub at: Position,
    pub value: Value,
    /// A variable took its value from here, so a key that has no other meaning is no mistake.
    pub referenced: bool,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

/// Keys in the order written. Of equal keys only the last one is left; keys that differ by case only
/// are kept apart, since a map may be keyed by channel names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

impl Map {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value under a key, letter case aside; the last one if several differ by case only.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Value> {
        self.entries
            .iter()
            .rev()
            .find(|entry| entry.key.eq_ignore_ascii_case(key))
            .map(|entry| &entry.value)
    }

    /// All keys.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// No key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets a key, as a program that makes a configuration does.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) {
        self.put(key.into(), Position::nowhere(), value);
    }

    fn put(&mut self, key: String, at: Position, value: Value) {
        let earlier = self.entries.iter().position(|entry| entry.key == key);
        let referenced = earlier.is_some_and(|index| self.entries.remove(index).referenced);
        self.entries.push(Entry {
            key,
            at,
            value,
            referenced,
        });
    }
}

/// Text to parse, with the name that positions and errors show.
#[derive(Clone)]
pub struct Source {
    /// Identity as well: a file that includes itself is found by it, so resolvers of real files give
    /// a path without `.` and `..`.
    pub name: String,
    pub text: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a file may refer to outside of itself.
pub trait Resolver {
    /// The file that `path`, written in the file `from`, means: relative to the folder of `from`.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    fn include(&self, from: &str, path: &str) -> Result<Source, String>;

    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
}

/// Refuses includes and knows no variable.
#[derive(Clone, Copy, Debug)]
pub struct Isolated;

impl Resolver for Isolated {
    fn include(&self, _from: &str, _path: &str) -> Result<Source, String> {
        Err("includes are not allowed here".to_owned())
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Text that is not a configuration, and where. The writer of the file is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct ParseError {
    pub at: Position,
    pub problem: Problem,
}

/// What is wrong. Never shows text of a value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("expected a key, found {0:?}")]
    KeyExpected(char),
    #[error("key {0:?} has no value")]
    ValueMissing(String),
    #[error("expected a value")]
    ValueExpected,
    #[error("expected a newline, ',' or ';' after the value")]
    ItemEndExpected,
    #[error("{0} is not closed")]
    Unclosed(&'static str),
    #[error("text after the closing brace")]
    TrailingText,
    #[error("unknown escape in a string; allowed are \\xHH \\t \\n \\r \\\" \\\\")]
    Escape,
    #[error("escapes in the string do not make valid UTF-8")]
    Utf8,
    #[error("integer out of range")]
    IntegerRange,
    #[error("a float must start with a digit")]
    FloatStart,
    #[error("invalid date")]
    Date,
    /// Wording of `conf/parse.go`.
    #[error("variable reference for '{name}' on line {line} can not be found")]
    VariableUnknown { name: String, line: u32 },
    #[error("variable {0:?} refers to itself")]
    VariableCycle(String),
    #[error("include of {path:?}: {reason}")]
    Include { path: String, reason: String },
    #[error("{0:?} includes itself")]
    IncludeCycle(String),
    #[error("nested more than {MAX_DEPTH} deep")]
    Depth,
    #[error("variables repeat too much text")]
    Expansion,
}

/// Parses a configuration. `name` is what positions show, and the file that includes are relative to.
///
/// # Errors
/// The first place that is not understood.
pub fn parse(name: &str, text: &str, resolver: &dyn Resolver) -> Result<Map, ParseError> {
    parser::parse(name, text, resolver)
}

/// An integer with an optional suffix (`64k`, `1GB`), as flags take it too.
#[must_use]
pub fn size(word: &str) -> Option<i64> {
    scalar::integer(word).ok().flatten()
}
