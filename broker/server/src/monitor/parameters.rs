//! Parameters of requests, and the words in which nats-server refuses them (`server/monitor.go`).
//! Parameters that nobody knows are ignored.

use std::{
    num::{IntErrorKind, ParseIntError},
    ops::Range,
};

use axum::{
    extract::Query,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    answer::refusal,
    details::ConnectionState,
    documents::{ConnzQuery, Sort, Subscriptions, SubszQuery},
};

/// Entries of a list where nothing else is asked for (`DefaultConnListSize`, `DefaultSubListSize`).
const DEFAULT_LIMIT: i64 = 1024;

/// Names and values as they came, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl From<Query<Vec<(String, String)>>> for Parameters {
    fn from(Query(pairs): Query<Vec<(String, String)>>) -> Self {
        Self(pairs)
    }
}

/// What is wrong with a parameter: the asker's fault. The text is the body of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error(
        "Error decoding boolean for '{name}': strconv.ParseBool: parsing {value:?}: invalid syntax"
    )]
    Boolean { name: &'static str, value: String },
    #[error("Error decoding int for '{name}': strconv.Atoi: parsing {value:?}: {reason}")]
    Integer {
        name: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("Error decoding uint64 for '{name}': strconv.ParseUint: parsing {value:?}: {reason}")]
    Unsigned {
        name: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("Error decoding state for {0}")]
    State(String),
    #[error("invalid sorting option: {0}")]
    Sort(String),
    #[error("sort by {0} only valid on closed connections")]
    SortOfClosed(&'static str),
    #[error("invalid test subject, must be valid publish subject: {0}")]
    TestSubject(String),
    #[error("Account {0} does not exist")]
    Account(String),
}

impl IntoResponse for ParameterError {
    fn into_response(self) -> Response {
        refusal(StatusCode::BAD_REQUEST, self.to_string())
    }
}

impl Parameters {
    /// The first value of this name; an empty one counts as none.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// False if it is not given. The words are those of Go's `ParseBool`.
    ///
    /// # Errors
    /// Another word.
    pub(crate) fn boolean(&self, name: &'static str) -> Result<bool, ParameterError> {
        match self.text(name) {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(value) => Err(ParameterError::Boolean {
                name,
                value: value.to_owned(),
            }),
        }
    }

    fn integer(&self, name: &'static str) -> Result<i64, ParameterError> {
        let Some(value) = self.text(name) else {
            return Ok(0);
        };
        value.parse().map_err(|error| ParameterError::Integer {
            name,
            value: value.to_owned(),
            reason: reason(&error),
        })
    }

    /// 0 stands for nothing. No sign is allowed.
    fn unsigned(&self, name: &'static str) -> Result<Option<u64>, ParameterError> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        let refused = |reason| ParameterError::Unsigned {
            name,
            value: value.to_owned(),
            reason,
        };
        if value.starts_with('+') {
            return Err(refused(SYNTAX));
        }
        let number: u64 = value.parse().map_err(|error| refused(reason(&error)))?;
        Ok(Some(number).filter(|number| *number > 0))
    }

    /// # Errors
    /// `offset` or `limit` is no number.
    pub(crate) fn window(&self) -> Result<Window, ParameterError> {
        let (offset, limit) = (self.integer("offset")?, self.integer("limit")?);
        Ok(Window {
            offset: offset.max(0),
            limit: if limit > 0 { limit } else { DEFAULT_LIMIT },
        })
    }

    /// # Errors
    /// `subs` is neither a truth value nor `detail`.
    pub(crate) fn subscriptions(&self) -> Result<Subscriptions, ParameterError> {
        let value = self.text("subs").unwrap_or_default();
        if value.eq_ignore_ascii_case("detail") {
            return Ok(Subscriptions::Detail);
        }
        Ok(if self.boolean("subs")? {
            Subscriptions::Subjects
        } else {
            Subscriptions::Count
        })
    }

    fn state(&self) -> Result<ConnectionState, ParameterError> {
        let value = self.text("state").unwrap_or_default();
        Ok(match value.to_ascii_lowercase().as_str() {
            "" | "open" => ConnectionState::Open,
            "closed" => ConnectionState::Closed,
            "any" | "all" => ConnectionState::Any,
            _ => return Err(ParameterError::State(value.to_owned())),
        })
    }

    /// Those of `/connz`. `filter_subject` is not among them: nats-server knows it in requests to its
    /// system account only.
    ///
    /// # Errors
    /// The first parameter that is wrong.
    pub(crate) fn connz(&self) -> Result<ConnzQuery, ParameterError> {
        let auth = self.boolean("auth")?;
        let subscriptions = self.subscriptions()?;
        let mut window = self.window()?;
        let cid = self.unsigned("cid")?;
        let state = self.state()?;
        let name = self.text("sort").unwrap_or_default();
        let sort = Sort::from_name(name).ok_or_else(|| ParameterError::Sort(name.to_owned()))?;
        let only_of_closed = match sort {
            Sort::Stop => Some("stop"),
            Sort::Reason => Some("reason"),
            _ => None,
        };
        if let Some(name) = only_of_closed.filter(|_| state != ConnectionState::Closed) {
            return Err(ParameterError::SortOfClosed(name));
        }
        if cid.is_some() {
            window.limit = 1;
        }
        let owned = |name| self.text(name).map(str::to_owned);
        Ok(ConnzQuery {
            sort,
            auth,
            subscriptions,
            window,
            cid,
            state,
            user: owned("user"),
            account: owned("acc"),
            mqtt_client: owned("mqtt_client"),
        })
    }

    /// Those of `/subsz`.
    ///
    /// # Errors
    /// The first parameter that is wrong.
    pub(crate) fn subsz(&self) -> Result<SubszQuery, ParameterError> {
        let list = self.boolean("subs")?;
        let window = self.window()?;
        let test = self.text("test").map(str::to_owned);
        if let Some(test) = &test
            && !broker_proto::subject::is_literal(test.as_bytes())
        {
            return Err(ParameterError::TestSubject(test.clone()));
        }
        Ok(SubszQuery {
            window,
            account: self.text("acc").map(str::to_owned),
            list,
            test,
        })
    }
}

/// Go's word for what is no number.
const SYNTAX: &str = "invalid syntax";

fn reason(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => SYNTAX,
    }
}

/// A part of a list, as it was asked for: `0 <= offset` and `0 < limit`, and both may be far beyond
/// any list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) offset: i64,
    pub(crate) limit: i64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            offset: 0,
            limit: DEFAULT_LIMIT,
        }
    }
}

impl Window {
    /// Which of `total` entries these are.
    pub(crate) fn range(self, total: usize) -> Range<usize> {
        let bounded = |number: i64| usize::try_from(number.max(0)).unwrap_or(usize::MAX);
        let start = bounded(self.offset).min(total);
        let end = start.saturating_add(bounded(self.limit)).min(total);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(text: &str) -> Parameters {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Parameters(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (name.to_owned(), value.to_owned())
                })
                .collect(),
        )
    }

    #[test]
    fn offsets_and_limits_may_have_any_value() {
        for (text, offset, limit, range) in [
            ("", 0, 1024, 0..3),
            ("offset=&limit=", 0, 1024, 0..3),
            ("offset=1&limit=1", 1, 1, 1..2),
            ("offset=+1&limit=+1", 1, 1, 1..2),
            ("offset=-1&limit=-1", 0, 1024, 0..3),
            ("limit=0", 0, 1024, 0..3),
            ("offset=3", 3, 1024, 3..3),
            ("offset=2147483648", 2_147_483_648, 1024, 3..3),
            ("limit=2147483647&offset=2", 2, 2_147_483_647, 2..3),
            (
                "offset=9223372036854775807&limit=9223372036854775807",
                i64::MAX,
                i64::MAX,
                3..3,
            ),
            ("offset=2&limit=9223372036854775807", 2, i64::MAX, 2..3),
            (
                "offset=-9223372036854775808&limit=-9223372036854775808",
                0,
                1024,
                0..3,
            ),
        ] {
            let window = parameters(text).window().unwrap();
            assert_eq!(window, Window { offset, limit }, "{text}");
            assert_eq!(window.range(3), range, "{text}");
            assert_eq!(window.range(0), 0..0, "{text}");
        }
        let last = Window {
            offset: i64::MAX,
            limit: i64::MAX,
        };
        let range = last.range(usize::MAX);
        assert!(range.start <= range.end, "{range:?}");
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_reference() {
        for (text, expected) in [
            (
                "offset=x",
                "Error decoding int for 'offset': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "limit=99999999999999999999",
                "Error decoding int for 'limit': strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            (
                "offset=-9223372036854775809",
                "Error decoding int for 'offset': strconv.Atoi: parsing \"-9223372036854775809\": value out of range",
            ),
            (
                "auth=yes",
                "Error decoding boolean for 'auth': strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (
                "subs=x",
                "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                "cid=-1",
                "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax",
            ),
            (
                "cid=18446744073709551616",
                "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"18446744073709551616\": value out of range",
            ),
            ("state=zz", "Error decoding state for zz"),
            ("sort=zzz", "invalid sorting option: zzz"),
            ("sort=stop", "sort by stop only valid on closed connections"),
            (
                "sort=reason&state=any",
                "sort by reason only valid on closed connections",
            ),
        ] {
            let error = parameters(text).connz().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let error = parameters("test=foo.*").subsz().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid test subject, must be valid publish subject: foo.*"
        );
        assert!(parameters("subs=detail").subsz().is_err(), "only /connz");
    }

    #[test]
    fn one_connection_is_a_list_of_at_most_one() {
        let query = parameters("cid=7&limit=50&state=ALL").connz().unwrap();
        assert_eq!((query.cid, query.window.limit), (Some(7), 1));
        assert_eq!(query.state, ConnectionState::Any);
        let none = parameters("cid=0").connz().unwrap();
        assert_eq!((none.cid, none.window.limit), (None, 1024));
    }
}
