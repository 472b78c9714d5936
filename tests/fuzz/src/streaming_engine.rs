//! Any bytes on any subject that the streaming engine listens on: no panic, the answer that is due and no other, and a
//! client that goes about its business next to it is not disturbed.

mod answers;
mod shell;

use broker_proto::streaming::{
    Ack, ConnectRequest, MsgProto, PubAck, PubMsg, SubscriptionRequest, SubscriptionResponse,
};
use prost::Message;

use self::{answers::Subject, shell::Shell};
use crate::universe::Words;

/// The client that must not be disturbed, and everything that is its own.
const BYSTANDER: &str = "bystander";
const CHANNEL: &str = "of.the.bystander";
const INBOX: &str = "inbox.of.the.bystander";
const ACKS: &str = "acks.of.the.bystander";

/// Messages in one input.
const MOST: usize = 40;

pub(crate) fn run(input: &[u8]) {
    let mut shell = Shell::new();
    let ack_inbox = settle_in(&mut shell);
    let mut words = Words(input);
    for number in 0..MOST {
        if words.0.is_empty() {
            break;
        }
        let subject = Subject::of(words.byte());
        let length = usize::from(words.byte()).min(words.0.len());
        let (payload, rest) = words.0.split_at(length);
        words.0 = rest;
        if !answers::is_out_of_bounds(BYSTANDER, subject, payload) {
            answers::check(&mut shell, subject, &ack_inbox, payload);
        }
        go_on(&mut shell, number, &ack_inbox);
    }
}

/// The bystander connects and subscribes; its ack inbox.
fn settle_in(shell: &mut Shell) -> String {
    shell.alive = "heartbeats.of.the.bystander";
    let connect = ConnectRequest {
        client_id: BYSTANDER.to_owned(),
        heartbeat_inbox: shell.alive.to_owned(),
        protocol: 1,
        conn_id: BYSTANDER.into(),
        ..ConnectRequest::default()
    };
    shell.send("_STAN.discover.test-cluster", "r", &connect.encode_to_vec());
    shell.taken();
    let subscribe = SubscriptionRequest {
        client_id: BYSTANDER.to_owned(),
        subject: CHANNEL.to_owned(),
        inbox: INBOX.to_owned(),
        max_in_flight: i32::MAX,
        ack_wait_in_secs: i32::MAX,
        start_position: 4,
        ..SubscriptionRequest::default()
    };
    shell.send("_STAN.sub.test-cluster", "r", &subscribe.encode_to_vec());
    let answer = shell.taken().pop().expect("a subscription is answered");
    SubscriptionResponse::decode(&answer.1[..])
        .expect("by a response")
        .ack_inbox
}

/// The bystander publishes, receives its message, then the ack of it, and acknowledges.
fn go_on(shell: &mut Shell, number: usize, ack_inbox: &str) {
    let text = format!("{BYSTANDER} {number}");
    let message = PubMsg {
        client_id: BYSTANDER.to_owned(),
        guid: text.clone(),
        subject: CHANNEL.to_owned(),
        data: text.clone().into(),
        conn_id: BYSTANDER.into(),
        ..PubMsg::default()
    };
    shell.send("_STAN.pub.test-cluster.x", ACKS, &message.encode_to_vec());
    let published = shell.taken();
    let acked = PubAck {
        guid: text.clone(),
        error: String::new(),
    }
    .encode_to_vec();
    let ack_at = published
        .iter()
        .position(|(subject, body)| subject == ACKS && *body == acked);
    let delivery = published
        .iter()
        .enumerate()
        .find_map(|(at, (subject, body))| {
            let message = MsgProto::decode(&body[..]).ok()?;
            (subject == INBOX && message.data == text && !message.redelivered)
                .then_some((at, message.sequence))
        });
    let (delivered_at, sequence) = delivery.expect("the bystander receives its message");
    assert!(
        ack_at.is_some_and(|at| at > delivered_at),
        "and then the ack of it"
    );
    let ack = Ack {
        subject: CHANNEL.to_owned(),
        sequence,
    };
    shell.send(ack_inbox, "", &ack.encode_to_vec());
    // What comes again to others meanwhile is no business of the bystander.
    shell.taken();
}
