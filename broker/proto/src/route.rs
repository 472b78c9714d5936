//! What servers say to each other over a route, and how it is written.
//!
//! The dialect is that of nats-server with one connection for all accounts: every line names the
//! account. Lines of leaf nodes and of account routes are errors here, because nothing we announce
//! allows a peer to send them.

pub mod encode;
mod handshake;
mod parse;

use smallvec::SmallVec;

pub use handshake::{BadHandshake, RouteConnect, RouteInfo, SubjectPermission};
pub use parse::{CONTROL_LINE_FACTOR, parse};

use crate::op::Publication;

/// One operation of a peer. Slices point into the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteOp<'a> {
    /// The JSON object, for [`RouteConnect::from_json`].
    Connect(&'a [u8]),
    /// The JSON object, for [`RouteInfo::from_json`].
    Info(&'a [u8]),
    /// `RMSG` or `HMSG` with its complete body.
    Message(RouteMessage<'a>),
    /// `RS+`. The subject is not looked at: it may not be a legal filter.
    Interest {
        account: &'a [u8],
        subject: &'a [u8],
        /// Empty for plain subscriptions.
        queue_group: &'a [u8],
        /// Members of the queue group at the peer, replacing the number said before. Zero is what a
        /// peer says that has none; 1 for plain subscriptions.
        weight: u32,
    },
    /// `RS-`.
    NoInterest {
        account: &'a [u8],
        subject: &'a [u8],
        /// Empty for plain subscriptions.
        queue_group: &'a [u8],
    },
    Ping,
    Pong,
    /// `+OK`.
    Ignored,
    /// `-ERR`: the peer gives up, and says why.
    Error(&'a [u8]),
}

/// A message from a peer: for all plain subscribers, and for one member of each queue group listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMessage<'a> {
    pub account: &'a [u8],
    pub queue_groups: SmallVec<[&'a [u8]; 4]>,
    /// Its tail is canonical for all forms in which nothing stands between reply and size.
    pub publication: Publication<'a>,
}

#[cfg(test)]
mod tests;
