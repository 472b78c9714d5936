//! What a client may ask, and the exact texts with which it may be refused.

use std::fmt;

use crate::quote::Quoted;

/// One operation of a client. Slices point into the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// The JSON object, not yet looked at.
    Connect(&'a [u8]),
    /// `PUB` or `HPUB` with its complete body.
    Publish(Publication<'a>),
    /// `queue_group` is empty for a plain subscription.
    Subscribe {
        subject: &'a [u8],
        queue_group: &'a [u8],
        sid: &'a [u8],
    },
    /// `max` counts deliveries since `SUB`; 0 means now, as does anything that is not a number.
    Unsubscribe {
        sid: &'a [u8],
        max: u32,
    },
    Ping,
    Pong,
    /// `+OK` and `INFO`, which mean nothing to a server.
    Ignored,
    /// `-ERR`: the client gives up.
    Error(&'a [u8]),
}

/// A message as published.
///
/// The bytes after the subject already have the form in which they are delivered, provided that the
/// client wrote single blanks and CR LF. Then `tail` begins with them (`[reply ]size CR LF`), else it
/// begins with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    pub subject: &'a [u8],
    /// Empty if there is none.
    pub reply: &'a [u8],
    /// Ends with the CR LF after the body.
    pub(crate) tail: &'a [u8],
    /// Offset of the body in `tail`; 0 says that `tail` is not in canonical form.
    pub(crate) body_offset: u32,
    /// Size of the header block at the start of the body.
    pub(crate) header_bytes: u32,
    /// How many digits the client spent on the sizes: leading zeros are passed on.
    pub(crate) header_digits: u8,
    pub(crate) size_digits: u8,
}

impl<'a> Publication<'a> {
    /// Everything after the subject and its blank, if it can be delivered as it is.
    #[must_use]
    pub fn canonical_tail(&self) -> Option<&'a [u8]> {
        (self.body_offset > 0).then_some(self.tail)
    }

    /// Header block and payload.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.tail[self.body_offset as usize..self.tail.len() - 2]
    }

    /// The header block, empty if there is none.
    #[must_use]
    pub fn headers(&self) -> &'a [u8] {
        &self.body()[..self.header_bytes as usize]
    }

    /// The body without its header block.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.body()[self.header_bytes as usize..]
    }

    /// Whether subscribers that understand headers get an `HMSG`.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.header_bytes > 0
    }
}

/// The texts of `-ERR`, byte for byte those of nats-server. Clients compare them and close for good
/// on any they do not know, so nothing may be added here that the reference does not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerError<'a> {
    UnknownOperation,
    AuthorizationViolation,
    AuthenticationTimeout,
    MaxConnections,
    MaxControlLine,
    MaxPayload,
    StaleConnection,
    TlsRequired,
    InvalidClientProtocol,
    NoRespondersRequiresHeaders,
    /// A client on the port of routes.
    RoutePort,
    /// Too many TLS handshakes a second.
    Throttled,
    InvalidSubject,
    InvalidPublishSubject,
    MaxSubscriptions,
    PublishDenied(&'a [u8]),
    ReplyDenied(&'a [u8]),
    /// `queue_group` is empty for a plain subscription.
    SubscriptionDenied {
        subject: &'a [u8],
        queue_group: &'a [u8],
    },
    /// The filter has more tokens than allowed.
    TooManyTokens(&'a [u8]),
    /// A reload took the right away from a subscription.
    SubscriptionRevoked {
        subject: &'a [u8],
        sid: &'a [u8],
    },
}

impl ServerError<'_> {
    /// Whether the connection is closed after this text.
    #[must_use]
    pub fn closes(&self) -> bool {
        !matches!(
            self,
            Self::InvalidSubject
                | Self::InvalidPublishSubject
                | Self::MaxSubscriptions
                | Self::PublishDenied(_)
                | Self::ReplyDenied(_)
                | Self::SubscriptionDenied { .. }
                | Self::TooManyTokens(_)
                | Self::SubscriptionRevoked { .. }
        )
    }
}

impl fmt::Display for ServerError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownOperation => "Unknown Protocol Operation",
            Self::AuthorizationViolation => "Authorization Violation",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::MaxConnections => "maximum connections exceeded",
            Self::MaxControlLine => "maximum control line exceeded",
            Self::MaxPayload => "Maximum Payload Violation",
            Self::StaleConnection => "Stale Connection",
            Self::TlsRequired => "Secure Connection - TLS Required",
            Self::InvalidClientProtocol => "invalid client protocol",
            Self::NoRespondersRequiresHeaders => "no responders requires headers support",
            Self::InvalidSubject => "Invalid Subject",
            Self::InvalidPublishSubject => "Invalid Publish Subject",
            Self::MaxSubscriptions => "maximum subscriptions exceeded",
            Self::RoutePort => "attempted to connect to route port",
            Self::Throttled => "Connection throttling is active. Please try again later.",
            Self::PublishDenied(subject) => {
                return write!(
                    f,
                    "Permissions Violation for Publish to {}",
                    Quoted(subject)
                );
            }
            Self::ReplyDenied(reply) => {
                return write!(
                    f,
                    "Permissions Violation for Publish with Reply of {}",
                    Quoted(reply)
                );
            }
            Self::SubscriptionDenied {
                subject,
                queue_group: b"",
            } => return write!(f, "{SUBSCRIPTION} {}", Quoted(subject)),
            Self::SubscriptionDenied {
                subject,
                queue_group,
            } => {
                let (subject, group) = (Quoted(subject), Quoted(queue_group));
                return write!(f, "{SUBSCRIPTION} {subject} using queue {group}");
            }
            Self::TooManyTokens(subject) => {
                return write!(f, "{SUBSCRIPTION} {}, too many tokens", Quoted(subject));
            }
            Self::SubscriptionRevoked { subject, sid } => {
                let (subject, sid) = (Quoted(subject), Quoted(sid));
                return write!(f, "{SUBSCRIPTION} {subject} (sid {sid})");
            }
        })
    }
}

const SUBSCRIPTION: &str = "Permissions Violation for Subscription to";

/// Why the input of a client cannot be read on. All of them end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Told to the client.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// Told to the client.
    #[error("control line too long")]
    ControlLine,
    /// Told to the client, before any of the payload is read.
    #[error("payload too large")]
    Payload,
    /// Wrong arguments to a known verb. The reference closes without a word.
    #[error("malformed arguments")]
    Arguments,
}

impl ParseError {
    /// What the client is told, if anything.
    #[must_use]
    pub fn reply(self) -> Option<ServerError<'static>> {
        match self {
            Self::UnknownOperation => Some(ServerError::UnknownOperation),
            Self::ControlLine => Some(ServerError::MaxControlLine),
            Self::Payload => Some(ServerError::MaxPayload),
            Self::Arguments => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_those_of_the_reference() {
        for (error, text, closes) in [
            (
                ServerError::UnknownOperation,
                "Unknown Protocol Operation",
                true,
            ),
            (
                ServerError::AuthorizationViolation,
                "Authorization Violation",
                true,
            ),
            (
                ServerError::AuthenticationTimeout,
                "Authentication Timeout",
                true,
            ),
            (
                ServerError::MaxConnections,
                "maximum connections exceeded",
                true,
            ),
            (
                ServerError::MaxControlLine,
                "maximum control line exceeded",
                true,
            ),
            (ServerError::MaxPayload, "Maximum Payload Violation", true),
            (ServerError::StaleConnection, "Stale Connection", true),
            (
                ServerError::TlsRequired,
                "Secure Connection - TLS Required",
                true,
            ),
            (
                ServerError::InvalidClientProtocol,
                "invalid client protocol",
                true,
            ),
            (
                ServerError::NoRespondersRequiresHeaders,
                "no responders requires headers support",
                true,
            ),
            (ServerError::InvalidSubject, "Invalid Subject", false),
            (
                ServerError::InvalidPublishSubject,
                "Invalid Publish Subject",
                false,
            ),
            (
                ServerError::MaxSubscriptions,
                "maximum subscriptions exceeded",
                false,
            ),
            (
                ServerError::RoutePort,
                "attempted to connect to route port",
                true,
            ),
            (
                ServerError::Throttled,
                "Connection throttling is active. Please try again later.",
                true,
            ),
            (
                ServerError::PublishDenied(b"a"),
                r#"Permissions Violation for Publish to "a""#,
                false,
            ),
            (
                ServerError::ReplyDenied(b"a"),
                r#"Permissions Violation for Publish with Reply of "a""#,
                false,
            ),
            (
                ServerError::SubscriptionDenied {
                    subject: b"a",
                    queue_group: b"",
                },
                r#"Permissions Violation for Subscription to "a""#,
                false,
            ),
            (
                ServerError::SubscriptionDenied {
                    subject: b"a",
                    queue_group: b"_sys_",
                },
                r#"Permissions Violation for Subscription to "a" using queue "_sys_""#,
                false,
            ),
            (
                ServerError::TooManyTokens(b"a.b.c.d"),
                r#"Permissions Violation for Subscription to "a.b.c.d", too many tokens"#,
                false,
            ),
            (
                ServerError::SubscriptionRevoked {
                    subject: b"a",
                    sid: b"7",
                },
                r#"Permissions Violation for Subscription to "a" (sid "7")"#,
                false,
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.closes(), closes, "{text}");
        }
    }
}
