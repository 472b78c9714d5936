//! Single values of a file, with the mistakes that can be made in them.

use broker_proto::conf::{Entry, Kind, Map, Position, Value};

use super::{
    super::{duration, nearest::nearest},
    Reader,
};

/// Keys of one block: every element is the names of one key, the first of which it is known by.
pub(in super::super) type Keys = &'static [&'static [&'static str]];

/// What a duration without a unit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    Seconds,
    /// The same, but it is no longer the way to write it.
    SecondsOfOld,
    Refused,
}

impl Reader<'_> {
    /// First name of the key of an entry. A key that is not among them is reported, unless it only
    /// feeds a variable.
    pub(super) fn field(&mut self, entry: &Entry, keys: Keys) -> Option<&'static str> {
        let known = keys.iter().find(|names| {
            names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&entry.key))
        });
        if known.is_none() && !entry.referenced {
            let names = keys.iter().flat_map(|names| names.iter().copied());
            let hint = nearest(&entry.key.to_ascii_lowercase(), names);
            self.problem_at(&entry.at, &format!("unknown field {:?}{hint}", entry.key));
        }
        known.map(|names| names[0])
    }

    pub(super) fn map<'m>(&mut self, entry: &'m Entry) -> Option<&'m Map> {
        let map = entry.value.as_map();
        if map.is_none() {
            let got = entry.value.type_name();
            let text = format!("expected {} to be a map/struct, got {got}", entry.key);
            self.problem(&entry.value, &text);
        }
        map
    }

    pub(super) fn switch(&mut self, entry: &Entry) -> Option<bool> {
        let value = entry.value.as_bool();
        self.expect(entry, value, "bool")
    }

    pub(super) fn text(&mut self, entry: &Entry) -> Option<String> {
        let value = entry.value.as_str().map(str::to_owned);
        self.expect(entry, value, "string")
    }

    pub(super) fn number(&mut self, entry: &Entry) -> Option<i64> {
        let value = entry.value.as_integer();
        self.expect(entry, value, "int64")
    }

    fn expect<T>(&mut self, entry: &Entry, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            self.mismatch(entry, expected);
        }
        value
    }

    /// One string, or a list of strings.
    pub(super) fn words(&mut self, entry: &Entry) -> Vec<(String, Position)> {
        let word = |value: &Value| Some((value.as_str()?.to_owned(), value.at.clone()));
        if let Some(word) = word(&entry.value) {
            return vec![word];
        }
        let Some(items) = entry.value.as_array() else {
            self.mismatch(entry, "string or a list of them");
            return Vec::new();
        };
        for item in items.iter().filter(|item| item.as_str().is_none()) {
            let got = item.type_name();
            let text = format!(
                "an element of {:?} is expected to be string, got {got}",
                entry.key
            );
            self.problem(item, &text);
        }
        items.iter().filter_map(word).collect()
    }

    /// `host:port`, `:port` or a port.
    pub(super) fn address(&mut self, entry: &Entry) -> Option<(Option<String>, i64)> {
        let address = match &entry.value.kind {
            Kind::Integer(port) => Some((None, *port)),
            Kind::String(text) => host_port(text),
            Kind::Map(_) | Kind::Array(_) | Kind::Boolean(_) | Kind::Float(_) | Kind::Date(_) => {
                None
            }
        };
        if address.is_none() {
            let text = format!("{} must be host:port or a port", entry.key);
            self.problem(&entry.value, &text);
        }
        address
    }

    /// Go duration text. An unquoted `5m` is a number to the syntax, and five minutes here.
    pub(super) fn nanos(&mut self, entry: &Entry, bare: Bare) -> Option<i64> {
        let value = &entry.value;
        let nanos = match &value.kind {
            Kind::String(text) => match duration::parse(text) {
                Ok(nanos) => return Some(nanos),
                Err(error) => {
                    self.problem(value, &format!("parameter {:?}: {error}", entry.key));
                    return None;
                }
            },
            Kind::Integer(seconds) => {
                let written = value.token().and_then(|token| duration::parse(token).ok());
                if written.is_some_and(|nanos| nanos != 0) {
                    return written;
                }
                seconds.checked_mul(1_000_000_000)
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates, and the range is checked later"
            )]
            Kind::Float(seconds) => Some((seconds * 1e9) as i64),
            Kind::Map(_) | Kind::Array(_) | Kind::Boolean(_) | Kind::Date(_) => None,
        };
        match nanos {
            Some(nanos) if bare != Bare::Refused => {
                if bare == Bare::SecondsOfOld {
                    // Wording of `server/opts.go`.
                    let text = format!("{} should be converted to a duration", entry.key);
                    self.warning(entry, &text);
                }
                Some(nanos)
            }
            _ => {
                self.mismatch(entry, "string (a duration such as \"5m\")");
                None
            }
        }
    }

    /// Wording of `server/conf.go` of nats-streaming-server.
    pub(super) fn mismatch(&mut self, entry: &Entry, expected: &str) {
        let got = entry.value.type_name();
        let text = format!(
            "parameter {:?} value is expected to be {expected}, got {got}",
            entry.key
        );
        self.problem(&entry.value, &text);
    }

    pub(super) fn problem(&mut self, value: &Value, text: &str) {
        self.problem_at(&value.at, text);
    }

    pub(super) fn problem_at(&mut self, at: &Position, text: &str) {
        self.report.problems.push(format!("{at}: {text}"));
    }

    pub(super) fn warning(&mut self, entry: &Entry, text: &str) {
        self.report.warnings.push(format!("{}: {text}", entry.at));
    }
}

/// The host without brackets, if there is one, and the port.
pub(in super::super) fn host_port(text: &str) -> Option<(Option<String>, i64)> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if bracketed.is_none() && host.contains(':') {
        return None;
    }
    let host = bracketed.unwrap_or(host);
    let host = (!host.is_empty()).then(|| host.to_owned());
    Some((host, port.parse().ok()?))
}
