//! Why connections end.

use std::fmt;

use broker_core::cluster::mesh::CloseReason as RouteReason;
use broker_proto::op::ParseError;

/// The texts are those of the reference's list of closed connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    ClientClosed,
    AuthenticationTimeout,
    AuthenticationFailure,
    HandshakeFailure,
    PendingBytes,
    WriteDeadline,
    WriteError,
    ReadError,
    ParseError,
    StaleConnection,
    ProtocolViolation,
    ClientProtocol,
    MaxConnections,
    MaxPayload,
    MaxControlLine,
    NoRespondersRequiresHeaders,
    CredentialsRevoked,
    ServerShutdown,
    /// The mesh of servers decided so.
    Route(RouteReason),
}

impl CloseReason {
    /// Whether what waits is still sent.
    pub(crate) fn flushes(self) -> bool {
        !matches!(
            self,
            Self::PendingBytes
                | Self::WriteDeadline
                | Self::WriteError
                | Self::ReadError
                | Self::HandshakeFailure
        )
    }
}

impl CloseReason {
    /// As monitoring shows it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::AuthenticationFailure => "Authentication Failure",
            Self::HandshakeFailure => "TLS Handshake Failure",
            Self::PendingBytes => "Slow Consumer (Pending Bytes)",
            Self::WriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::StaleConnection => "Stale Connection",
            Self::ProtocolViolation => "Protocol Violation",
            Self::ClientProtocol => "Bad Client Protocol Version",
            Self::MaxConnections => "Maximum Connections Exceeded",
            Self::MaxPayload => "Maximum Message Payload Exceeded",
            Self::MaxControlLine => "Maximum Control Line Exceeded",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::CredentialsRevoked => "Credentials Revoked",
            Self::ServerShutdown => "Server Shutdown",
            Self::Route(reason) => match reason {
                RouteReason::DuplicateRoute => "Duplicate Route",
                RouteReason::ClusterNameConflict => "Cluster Name Conflict",
                RouteReason::DuplicateServerName => "Duplicate Server Name",
                RouteReason::WrongPort => "Incorrect Port",
                RouteReason::WrongGateway => "Wrong Gateway",
                RouteReason::ProtocolViolation => "Protocol Violation",
                RouteReason::AuthenticationTimeout => "Authentication Timeout",
                RouteReason::RouteRemoved => "Route Removed",
            },
        }
    }
}

impl From<ParseError> for CloseReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::UnknownOperation => Self::ProtocolViolation,
            ParseError::ControlLine => Self::MaxControlLine,
            ParseError::Payload => Self::MaxPayload,
            ParseError::Arguments => Self::ParseError,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
