//! What a history consists of: steps of a few clients, all of them named by small numbers so that a step keeps its
//! meaning when others are taken away.

use std::fmt;

/// Channels of a history, by their last token. What is special about them is in `profiles::CONFIG`.
pub(crate) const CHANNELS: [&str; 7] = ["a", "b", "few", "bytes", "subs", "age", "rest"];
/// Keeps three messages.
pub(crate) const FEW: usize = 2;
/// Keeps some bytes.
pub(crate) const BYTES: usize = 3;
/// Keeps messages for [`crate::profiles::MAX_AGE`].
pub(crate) const AGE: usize = 5;
/// Is deleted when nobody has used it for [`crate::profiles::MAX_INACTIVITY`].
pub(crate) const REST: usize = 6;

/// Names that are no channel, or no other than one that differs in case; `@` stands for the history's own token.
pub(crate) const STRANGE_CHANNELS: [&str; 14] = [
    "", "@.", ".@", "@..a", "@.*", "@.>", "@.a*", ">", "*", "@/a", "@.A", "@.Few", "@.a b",
    "@.\u{e9}",
];

/// A channel: one of [`CHANNELS`] or one of [`STRANGE_CHANNELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    Usual(usize),
    Strange(usize),
}

/// Who a request claims to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Client and connection ID, as clients of today do.
    Both,
    ClientId,
    ConnId,
    /// The connection ID before the present one.
    Former,
    Nobody,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Bytes that decode as nothing.
    Garbage,
    /// No bytes.
    Empty,
    /// The field that must be there is not: heartbeat inbox, guid, client ID.
    Missing,
    /// A client ID that is not allowed, by number.
    Name(usize),
    /// No reply subject: nobody can be answered.
    NoReply,
}

#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) client: usize,
    pub(crate) protocol: i32,
    pub(crate) pings: (i32, i32),
    /// Without a connection ID, though the protocol has it.
    pub(crate) nameless: bool,
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(crate) client: usize,
    pub(crate) by: By,
    pub(crate) channel: Channel,
    pub(crate) payload_bytes: usize,
    pub(crate) reply: bool,
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    NewOnly,
    Last,
    First,
    Sequence(u64),
    /// So many nanoseconds ago.
    Ago(i64),
    /// Since the pause of this number.
    Since(usize),
    /// A number that is no start position.
    Unknown(i32),
}

#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    pub(crate) subscription: usize,
    pub(crate) client: usize,
    pub(crate) channel: Channel,
    pub(crate) group: Option<&'static str>,
    pub(crate) durable: Option<&'static str>,
    pub(crate) start: Start,
    pub(crate) max_in_flight: i32,
    pub(crate) ack_wait_secs: i32,
    pub(crate) fault: Option<Fault>,
}

/// Which messages are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Oldest,
    Newest,
    All,
    /// The one that was acknowledged last.
    Again,
    Sequence(u64),
}

/// How an acknowledgement is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckFault {
    OtherChannel,
    UnknownChannel,
    Garbage,
}

#[derive(Clone, Debug)]
pub(crate) struct Acknowledge {
    pub(crate) subscription: usize,
    pub(crate) which: Which,
    /// On the ack inbox of another subscription.
    pub(crate) via: Option<usize>,
    pub(crate) fault: Option<AckFault>,
}

/// How the end of a subscription is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    AckInbox,
    DeliveryInbox,
    UnknownInbox,
    OtherChannel,
    UnknownChannel,
    /// By the client that follows the owner.
    OtherClient,
    Faulty(Fault),
}

#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) subscription: usize,
    /// Close, which lets a durable live.
    pub(crate) keep: bool,
    pub(crate) way: Way,
}

/// A request or a message of a client that may go out together with others.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Send(Send),
    Acknowledge(Acknowledge),
    End(End),
    Close {
        client: usize,
        fault: Option<Fault>,
    },
    Ping {
        client: usize,
        by: By,
        fault: Option<Fault>,
    },
}

impl Op {
    /// A message that nobody gets an acknowledgement of.
    pub(crate) fn is_sent_without_reply(&self) -> bool {
        matches!(self, Self::Send(send) if send.fault == Some(Fault::NoReply))
    }

    /// The client that it closes, if nobody is told when that is done.
    pub(crate) fn closes_without_reply(&self) -> Option<usize> {
        match self {
            Self::Close {
                client,
                fault: Some(Fault::NoReply),
            } => Some(*client),
            _ => None,
        }
    }
}

/// What happens before everybody waits until both servers have nothing more to say.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Connect(Connect),
    Subscribe(Subscribe),
    /// Written at once.
    Together(Vec<Op>),
    /// Nothing happens for a moment that subscriptions can begin at, under this number.
    Pause(usize),
    /// Time passes until what can be redelivered was.
    AckWait,
    /// Time passes until channels with an age limit are empty.
    Age,
    /// Time passes until channels that nobody uses are deleted, where that is so.
    Rest,
    /// The client's connection is gone: nobody listens any more.
    Vanish {
        client: usize,
    },
    /// The client listens, but answers no heartbeat.
    Deafen {
        client: usize,
    },
    /// The client answers heartbeats again.
    Revive {
        client: usize,
    },
    /// Time passes until a client that answers nothing is dropped by the server.
    Dropped {
        client: usize,
    },
    /// Time passes until the server knows that the client does not answer.
    Missed {
        client: usize,
    },
    /// The streaming server stops and starts.
    Restart,
}

/// One history.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) steps: Vec<Step>,
}

impl History {
    /// The steps between restarts.
    pub(crate) fn segments(&self) -> Vec<std::ops::Range<usize>> {
        let mut segments = Vec::new();
        let mut start = 0;
        for (place, step) in self.steps.iter().enumerate() {
            if matches!(step, Step::Restart) {
                segments.push(start..place);
                start = place;
            }
        }
        segments.push(start..self.steps.len());
        segments
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {place:>3} {step:?}")?;
        }
        Ok(())
    }
}
