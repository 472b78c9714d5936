//! Several servers with one cluster id on one NATS cluster, each with channels of its own.
//!
//! Before it serves, a server tells the others its list of channels; whoever has one of them says so,
//! and the server does not begin. The lists are told again when NATS servers have become connected, and
//! a conflict then ends both. Clients are registered with all servers, but a request may come before
//! the registration has: it waits for that, for a moment.

mod lists;

use std::collections::VecDeque;

use broker_proto::streaming::{CtrlMsg, PubMsgView, SubscriptionResponse};
use bytes::Bytes;
use prost::Message as _;

use super::{
    Engine, Phase, config::matches, keys::Handler, pending::Ticks, recover::StartError,
    texts::Refusal, timers::TimerKey,
};
use crate::{
    Now,
    effect::{Effect, Payload},
};

/// `CtrlMsg.msg_type` of lists and of what is said about them.
const PARTITIONING: i32 = 4;
/// How long there must be no answer to a list.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
/// Between two NATS servers that meet and the list: each must have heard what the other's clients want.
const SETTLING: std::time::Duration = std::time::Duration::from_millis(500);
/// How long a request waits for the registration of its client.
const REGISTRATION: Ticks = 1_000_000_000;
/// Senders that were waited for in vain, and are refused at once until they register.
const MAX_INVALID: usize = 256;
/// Bytes and number of waiting requests; more are refused at once.
const MAX_WAITING_BYTES: usize = 16 << 20;
const MAX_WAITING: usize = 10_000;
/// Last token of the subject that answers to lists come to.
pub(super) const ANSWERS: &str = "partition";

/// What a server of a partitioned cluster must know beside its channels, which are those with limits of
/// their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Of this process; unique in the NATS cluster.
    pub server_id: String,
    /// What the NATS servers take, in bytes.
    pub max_payload: usize,
}

/// Whether this server may have its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The others have not been heard yet, and no client is served.
    Asking,
    Held,
    /// Another server has one of them.
    Refused(String),
}

#[derive(Debug)]
pub(super) struct Partition {
    server_id: String,
    /// Wildcards as in subjects.
    pub(super) channels: Vec<String>,
    /// Encoded, none longer than a NATS server takes.
    lists: Vec<Bytes>,
    claim: Claim,
    /// The timer is for telling the lists, not for the end of the answers.
    is_settling: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    invalid: VecDeque<Sender>,
}

/// A client as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sender {
    Connection(Vec<u8>),
    Client(Vec<u8>),
}

impl Sender {
    fn new(client_id: &[u8], conn_id: &[u8]) -> Self {
        match conn_id.is_empty() {
            true => Self::Client(client_id.to_owned()),
            false => Self::Connection(conn_id.to_owned()),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    sender: Sender,
    until: Ticks,
    is_publish: bool,
    payload: Bytes,
    reply: Bytes,
}

impl Partition {
    /// # Errors
    /// No channel, or one whose name alone is too long for a message.
    pub(super) fn new(config: &PartitionConfig, channels: Vec<String>) -> Result<Self, StartError> {
        if channels.is_empty() {
            return Err(StartError::NoChannel);
        }
        let lists = lists::encode(config, &channels)?;
        Ok(Self {
            server_id: config.server_id.clone(),
            channels,
            lists,
            claim: Claim::Asking,
            is_settling: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            invalid: VecDeque::new(),
        })
    }

    /// Before the first service.
    pub(super) fn is_asking(&self) -> bool {
        self.claim == Claim::Asking
    }

    pub(super) fn serves(&self, channel: &str) -> bool {
        self.channels
            .iter()
            .any(|pattern| matches(pattern, channel))
    }

    /// What to say to another server's list; `None` to what is none.
    fn judge(&self, payload: &[u8]) -> Option<CtrlMsg> {
        let request = CtrlMsg::decode(payload).ok()?;
        if payload.is_empty() || request.server_id == self.server_id {
            return None;
        }
        let channels = lists::decode(&request.data)?;
        let conflict = channels.iter().find(|theirs| {
            let mut ours = self.channels.iter();
            ours.any(|ours| lists::overlap(ours, theirs))
        });
        Some(CtrlMsg {
            msg_type: PARTITIONING,
            server_id: self.server_id.clone(),
            data: conflict.map_or_else(Bytes::new, |name| Bytes::copy_from_slice(name.as_bytes())),
            ref_id: String::new(),
        })
    }

    fn take_waiting(&mut self, which: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (taken, left): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|waiting| which(waiting));
        self.waiting = left.into();
        self.waiting_bytes -= taken
            .iter()
            .map(|waiting| waiting.payload.len())
            .sum::<usize>();
        taken
    }

    fn remember_invalid(&mut self, sender: Sender) {
        if !self.invalid.contains(&sender) {
            if self.invalid.len() >= MAX_INVALID {
                self.invalid.pop_front();
            }
            self.invalid.push_back(sender);
        }
    }
}

impl Engine {
    /// Whether this server may have its channels; one that is not partitioned always may.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        static HELD: Claim = Claim::Held;
        self.partition.as_ref().map_or(&HELD, |one| &one.claim)
    }

    /// NATS servers have become connected: there may be streaming servers that were not heard before.
    pub fn servers_changed(&mut self, now: Now) {
        let is_running = self.phase == Phase::Running;
        if let Some(partition) = self.partition.as_mut().filter(|_| is_running) {
            self.now = now;
            partition.is_settling = true;
            self.timers.arm(TimerKey::Claim, now.monotonic + SETTLING);
        }
    }

    /// Listens to other servers, and tells them the channels.
    pub(super) fn begin_claim(&mut self) {
        for handler in [Handler::Partition, Handler::Answer] {
            if let Some(subject) = self.subjects.subject_of(handler) {
                let handler = handler.id();
                self.effects
                    .push_back(Effect::Subscribe { subject, handler });
            }
        }
        self.tell_lists();
    }

    fn tell_lists(&mut self) {
        let Some(partition) = &self.partition else {
            return;
        };
        let reply = Bytes::from(format!("{}.{ANSWERS}", self.subjects.answers));
        for list in &partition.lists {
            self.effects.push_back(Effect::Publish {
                subject: self.subjects.partition().into(),
                reply: reply.clone(),
                payload: Payload::new(list.clone()),
                request: None,
            });
        }
        let at = self.now.monotonic + PATIENCE;
        self.timers.arm(TimerKey::Claim, at);
    }

    /// The lists are to be told, or nobody has answered to them for long enough.
    pub(super) fn claim_due(&mut self, now: Now) {
        let Some(partition) = &mut self.partition else {
            return;
        };
        if std::mem::take(&mut partition.is_settling) {
            self.tell_lists();
        } else if std::mem::replace(&mut partition.claim, Claim::Held) == Claim::Asking {
            self.go_on_line(now);
        }
    }

    /// Another server's list.
    pub(super) fn foreign_list(&mut self, payload: &[u8], reply: &[u8]) {
        let judged = self.partition.as_ref().and_then(|one| one.judge(payload));
        if let Some(answer) = judged {
            self.answer(&Bytes::copy_from_slice(reply), &answer);
        }
    }

    /// What another server says to ours.
    pub(super) fn list_answered(&mut self, payload: &[u8]) {
        let Some(partition) = &mut self.partition else {
            return;
        };
        let refused = match CtrlMsg::decode(payload) {
            Err(error) => format!("unable to decode partitioning response: {error}"),
            Ok(answer) if answer.data.is_empty() => {
                if !partition.is_settling {
                    self.timers
                        .arm(TimerKey::Claim, self.now.monotonic + PATIENCE);
                }
                return;
            }
            Ok(CtrlMsg {
                data, server_id, ..
            }) => {
                let channel = String::from_utf8_lossy(&data);
                format!("channel {channel:?} causes conflict with channels on server {server_id:?}")
            }
        };
        self.depose();
        if let Some(partition) = &mut self.partition {
            partition.claim = Claim::Refused(refused);
        }
    }

    /// Requests that wait, and senders that were waited for in vain.
    #[cfg(test)]
    pub(super) fn unregistered(&self) -> (usize, usize) {
        let partition = self.partition.as_ref();
        partition.map_or((0, 0), |one| (one.waiting.len(), one.invalid.len()))
    }

    /// Whether requests for a channel are this server's.
    pub(super) fn serves(&self, channel: &str) -> bool {
        let partition = self.partition.as_ref();
        partition.is_none_or(|partition| partition.serves(channel))
    }

    /// Keeps a request of an unknown sender until that registers; false if it is to be refused.
    pub(super) fn awaits_registration(
        &mut self,
        sender: (&[u8], &[u8]),
        is_publish: bool,
        payload: &[u8],
        reply: &[u8],
    ) -> bool {
        let until = self.ticks(self.now) + REGISTRATION;
        let Some(partition) = &mut self.partition else {
            return false;
        };
        let sender = Sender::new(sender.0, sender.1);
        if partition.waiting.len() >= MAX_WAITING
            || partition.waiting_bytes + payload.len() > MAX_WAITING_BYTES
            || partition.invalid.contains(&sender)
        {
            return false;
        }
        partition.waiting_bytes += payload.len();
        partition.waiting.push_back(Waiting {
            sender,
            until,
            is_publish,
            payload: Bytes::copy_from_slice(payload),
            reply: Bytes::copy_from_slice(reply),
        });
        let at = self.instant(until);
        self.timers.arm_earlier(TimerKey::Registration, at);
        true
    }

    /// A client is registered: what it has sent before is dealt with.
    pub(super) fn registered(&mut self, client_id: &str, conn_id: &[u8], now: Now) {
        let Some(partition) = &mut self.partition else {
            return;
        };
        let is_it = |sender: &Sender| match sender {
            Sender::Connection(id) => id == conn_id,
            Sender::Client(id) => id == client_id.as_bytes(),
        };
        partition.invalid.retain(|sender| !is_it(sender));
        for waiting in partition.take_waiting(|waiting| is_it(&waiting.sender)) {
            match waiting.is_publish {
                true => self.publish(&waiting.payload, &waiting.reply, now),
                false => self.subscribe(&waiting.payload, &waiting.reply, now),
            }
        }
    }

    /// Some have waited for long enough.
    pub(super) fn registration_due(&mut self, now: Now) {
        let ticks = self.ticks(now);
        let Some(partition) = &mut self.partition else {
            return;
        };
        let late = partition.take_waiting(|waiting| waiting.until <= ticks);
        for waiting in &late {
            partition.remember_invalid(waiting.sender.clone());
        }
        let next = partition.waiting.front().map(|waiting| waiting.until);
        for waiting in late {
            self.refuse_waiting(&waiting);
        }
        if let Some(until) = next {
            let at = self.instant(until);
            self.timers.arm(TimerKey::Registration, at);
        }
    }

    fn refuse_waiting(&mut self, waiting: &Waiting) {
        if waiting.is_publish {
            let guid =
                PubMsgView::decode(&waiting.payload).map_or(&b""[..], |message| message.guid);
            self.refuse_publish(&waiting.reply, guid, &Refusal::InvalidPublish);
        } else {
            let error = Refusal::InvalidSubscription.to_string();
            let response = SubscriptionResponse {
                error,
                ..SubscriptionResponse::default()
            };
            self.answer(&waiting.reply, &response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(max_payload: usize, channels: &[&str]) -> Result<Partition, StartError> {
        let config = PartitionConfig {
            server_id: "me".to_owned(),
            max_payload,
        };
        let channels = channels.iter().map(|&name| name.to_owned()).collect();
        Partition::new(&config, channels)
    }

    #[test]
    fn long_lists_are_split_and_come_back_whole() {
        let names: Vec<String> = (0..50).map(|number| format!("channel.{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let whole = partition(1 << 20, &names).unwrap();
        assert_eq!(whole.lists.len(), 1);
        let split = partition(100, &names).unwrap();
        assert!(split.lists.len() > 5 && split.lists.iter().all(|list| list.len() <= 100));
        for lists in [whole.lists, split.lists] {
            let decoded = lists.iter().flat_map(|list| {
                let message = CtrlMsg::decode(&**list).unwrap();
                lists::decode(&message.data).unwrap()
            });
            assert_eq!(decoded.collect::<Vec<_>>(), names);
        }
        let long = "x".repeat(200);
        assert_eq!(
            partition(100, &[&long]).unwrap_err(),
            StartError::ChannelTooLong
        );
        assert_eq!(partition(100, &[]).unwrap_err(), StartError::NoChannel);
    }

    #[test]
    fn what_is_no_list_gets_no_answer() {
        let ours = partition(1000, &["foo"]).unwrap();
        let message = |server_id: &str, data: &'static [u8]| {
            let message = CtrlMsg {
                msg_type: PARTITIONING,
                server_id: server_id.to_owned(),
                data: Bytes::from_static(data),
                ref_id: String::new(),
            };
            message.encode_to_vec()
        };
        assert_eq!(ours.judge(b""), None);
        assert_eq!(ours.judge(b"\xff\xff"), None);
        assert_eq!(ours.judge(&message("me", b"\x03\x00foo")), None);
        assert_eq!(ours.judge(&message("you", b"\x09\x00foo")), None);
        assert_eq!(ours.judge(&message("you", b"\x03")), None);
        let answer = ours.judge(&message("you", b"\x03\x00bar\x03\x00foo"));
        assert_eq!(&*answer.unwrap().data, b"foo");
        let answer = ours.judge(&message("you", b"\x03\x00bar"));
        assert_eq!(&*answer.unwrap().data, b"");
    }
}
