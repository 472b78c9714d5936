//! Which answer is due to any bytes, said in the plainest way: the exact one for what cannot be read or has a fault,
//! one of few for what depends on what was there before.

use broker_proto::streaming::{
    CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, CtrlMsg, Ping, PingResponse,
    PubMsgView, SubscriptionRequest, SubscriptionResponse, UnsubscribeRequest,
};
use prost::Message;

use super::Shell;

const REPLY: &str = "reply.to.anything";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Connect,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    SubClose,
    Close,
    /// Ack inbox of the bystander.
    Acks,
    /// Where clients answer heartbeats.
    Answers,
}

impl Subject {
    pub(super) fn of(byte: u8) -> Self {
        use Subject::{
            Acks, Answers, Close, Connect, Ping, Publish, SubClose, Subscribe, Unsubscribe,
        };
        let all = [
            Connect,
            Ping,
            Publish,
            Subscribe,
            Unsubscribe,
            SubClose,
            Close,
            Acks,
            Answers,
        ];
        all[usize::from(byte) % all.len()]
    }
}

/// Whether a request would, rightly, end what is that client's, or have messages come where answers do.
pub(super) fn is_out_of_bounds(client: &str, subject: Subject, payload: &[u8]) -> bool {
    match subject {
        Subject::Unsubscribe | Subject::SubClose => {
            UnsubscribeRequest::decode(payload).is_ok_and(|request| request.client_id == client)
        }
        Subject::Close => {
            CloseRequest::decode(payload).is_ok_and(|request| request.client_id == client)
        }
        Subject::Subscribe => {
            SubscriptionRequest::decode(payload).is_ok_and(|request| request.inbox == REPLY)
        }
        _ => false,
    }
}

/// Sends the bytes and judges what comes back.
pub(super) fn check(shell: &mut Shell, subject: Subject, ack_inbox: &str, payload: &[u8]) {
    let answers = format!("{}.7", shell.answers());
    let to = match subject {
        Subject::Connect => "_STAN.discover.test-cluster",
        Subject::Ping => "_STAN.discover.test-cluster.pings",
        Subject::Publish => "_STAN.pub.test-cluster.anything",
        Subject::Subscribe => "_STAN.sub.test-cluster",
        Subject::Unsubscribe => "_STAN.unsub.test-cluster",
        Subject::SubClose => "_STAN.subclose.test-cluster",
        Subject::Close => "_STAN.close.test-cluster",
        Subject::Acks => ack_inbox,
        Subject::Answers => &answers,
    };
    shell.send(to, REPLY, payload);
    let published = shell.taken();
    let answers: Vec<&[u8]> = published
        .iter()
        .filter(|(subject, _)| subject == REPLY)
        .map(|(_, body)| &body[..])
        .collect();
    let due = due(subject, payload);
    if due.is_empty() {
        assert!(answers.is_empty(), "{subject:?} is not answered");
        return;
    }
    let [answer] = answers[..] else {
        panic!("{subject:?} has {} answers", answers.len());
    };
    let error = error_in(subject, answer);
    let is_due = due
        .iter()
        .any(|text| *text == error || (*text == CASE && error.starts_with("rejecting channel \"")));
    assert!(is_due, "{subject:?} got {error:?} instead of {due:?}");
}

const CASE: &str = "another channel differs in case only";
const INVALID_PUBLISH: &str = "stan: invalid publish request";

/// Errors that may be in the answer, where the empty one is success; none if silence is due.
fn due(subject: Subject, payload: &[u8]) -> Vec<&'static str> {
    match subject {
        Subject::Connect => connect(payload),
        Subject::Ping => match Ping::decode(payload) {
            Err(_) => vec![],
            Ok(_) if payload.is_empty() => vec![],
            Ok(ping) if ping.conn_id.is_empty() => vec![REPLACED],
            Ok(_) => vec!["", REPLACED],
        },
        Subject::Publish => publish(payload),
        Subject::Subscribe => subscribe(payload),
        Subject::Unsubscribe | Subject::SubClose => match UnsubscribeRequest::decode(payload) {
            Err(_) => vec!["stan: invalid unsubscribe request"],
            Ok(request) if request.subject.is_empty() => vec!["stan: unknown channel"],
            Ok(_) => vec![
                "",
                "stan: unknown channel",
                "stan: invalid subscription",
                "stan: unknown clientID",
            ],
        },
        Subject::Close => match CloseRequest::decode(payload) {
            Err(_) => vec!["stan: invalid close request"],
            Ok(_) => vec!["", "stan: unknown clientID"],
        },
        Subject::Acks | Subject::Answers => vec![],
    }
}

const REPLACED: &str = "client has been replaced or is no longer registered";

fn connect(payload: &[u8]) -> Vec<&'static str> {
    let request = match ConnectRequest::decode(payload) {
        Ok(request) if !request.heartbeat_inbox.is_empty() => request,
        _ => return vec!["stan: invalid connection request"],
    };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if request.client_id.is_empty() || !request.client_id.bytes().all(is_word) {
        return vec!["stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"];
    }
    if request.client_id == super::BYSTANDER {
        return vec!["stan: clientID already registered"];
    }
    vec!["", "stan: clientID already registered"]
}

fn publish(payload: &[u8]) -> Vec<&'static str> {
    let Ok(message) = PubMsgView::decode(payload) else {
        let is_control = CtrlMsg::decode(payload).is_ok();
        return if is_control {
            vec![]
        } else {
            vec![INVALID_PUBLISH]
        };
    };
    let is_named = std::str::from_utf8(message.subject).is_ok_and(is_channel);
    if message.guid.is_empty() || !is_named {
        return vec![INVALID_PUBLISH];
    }
    vec!["", INVALID_PUBLISH, "too many channels", CASE]
}

fn is_channel(name: &str) -> bool {
    !name.contains(['*', '>', '/']) && name.split('.').all(|token| !token.is_empty())
}

fn subscribe(payload: &[u8]) -> Vec<&'static str> {
    let Ok(request) = SubscriptionRequest::decode(payload) else {
        return vec!["stan: invalid subscription request"];
    };
    if request.client_id.is_empty() {
        return vec!["stan: clientID missing"];
    }
    if request.ack_wait_in_secs < 1 {
        return vec!["stan: invalid ack wait time, should be >= 1s"];
    }
    if request.max_in_flight < 1 {
        return vec!["stan: invalid MaxInflight, should be >= 1"];
    }
    if !(0..=4).contains(&request.start_position) {
        return vec!["stan: invalid start position"];
    }
    if !is_channel(&request.subject) {
        return vec!["stan: invalid subject"];
    }
    vec![
        "",
        "stan: unknown clientID",
        "stan: durable name of a durable queue subscriber can't contain the character ':'",
        "stan: duplicate durable registration",
        "too many subscriptions per channel",
        "too many channels",
        CASE,
    ]
}

/// A `PubAck` whose guid comes back as it was, text or not.
#[derive(Message)]
struct AnyPubAck {
    #[prost(bytes = "vec", tag = "1")]
    guid: Vec<u8>,
    #[prost(string, tag = "2")]
    error: String,
}

/// The error in an answer, which must be one of the kind that is due.
fn error_in(subject: Subject, answer: &[u8]) -> String {
    let error = match subject {
        Subject::Connect => ConnectResponse::decode(answer).map(|answer| answer.error),
        Subject::Ping => PingResponse::decode(answer).map(|answer| answer.error),
        Subject::Publish => AnyPubAck::decode(answer).map(|answer| answer.error),
        Subject::Close => CloseResponse::decode(answer).map(|answer| answer.error),
        _ => SubscriptionResponse::decode(answer).map(|answer| answer.error),
    };
    error.expect("an answer can be read")
}
