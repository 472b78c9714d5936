//! What the engine says to clients when it refuses. The texts are part of the protocol: clients
//! show them and some test for them, spelling mistakes included.

/// A refusal as it goes on the wire. The client is at fault unless noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("stan: invalid connection request")]
    InvalidConnect,
    #[error("stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed")]
    InvalidClientId,
    #[error("stan: clientID already registered")]
    ClientIdTaken,
    #[error("stan: invalid publish request")]
    InvalidPublish,
    /// With that of an invalid request, as the reference has it.
    #[error("stan: invalid publish request")]
    UnknownSender,
    /// The server's limit; another channel may go.
    #[error("too many channels")]
    TooManyChannels,
    #[error(
        "rejecting channel \"{new}\" because channel \"{old}\" alreay exists (different cases not allowed)"
    )]
    ChannelCase { new: String, old: String },
    /// For a moment: its name will be free.
    #[error("stan: channel is being deleted")]
    ChannelBeingDeleted,
    #[error("stan: invalid subscription request")]
    InvalidSubscription,
    #[error("stan: clientID missing")]
    ClientIdMissing,
    #[error("stan: invalid ack wait time, should be >= 1s")]
    InvalidAckWait,
    #[error("stan: invalid MaxInflight, should be >= 1")]
    InvalidMaxInFlight,
    #[error("stan: invalid start position")]
    InvalidStartPosition,
    #[error("stan: invalid subject")]
    InvalidSubject,
    #[error("stan: unknown clientID")]
    UnknownClient,
    #[error("stan: durable name of a durable queue subscriber can't contain the character ':'")]
    InvalidDurableName,
    #[error("stan: duplicate durable registration")]
    DuplicateDurable,
    /// The channel's limit.
    #[error("too many subscriptions per channel")]
    TooManySubscriptions,
    /// Never sent: another server answers.
    #[error("channel of another server")]
    NotServed,
    #[error("stan: invalid unsubscribe request")]
    InvalidUnsubscribe,
    #[error("stan: unknown channel")]
    UnknownChannel,
    #[error("stan: invalid subscription")]
    UnknownSubscription,
    #[error("stan: invalid close request")]
    InvalidClose,
    #[error("client has been replaced or is no longer registered")]
    ClientReplaced,
    /// The store is at fault; the text is its own.
    #[error("{0}")]
    Store(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_refusal_names_both_channels() {
        let refusal = Refusal::ChannelCase {
            new: "Foo2".into(),
            old: "foo2".into(),
        };
        assert_eq!(
            refusal.to_string(),
            "rejecting channel \"Foo2\" because channel \"foo2\" alreay exists (different cases not allowed)"
        );
    }
}
