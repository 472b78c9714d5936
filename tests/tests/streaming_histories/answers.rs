//! What the answers to requests say, and what a success means for what is known.

use broker_proto::streaming::{
    CloseResponse, ConnectResponse, PingResponse, PubAck, SubscriptionResponse,
};
use bytes::Bytes;
use prost::Message as _;

use crate::{connection::Delivery, known::Subscription, play::Player};

/// A request that was sent, and what a good answer to it means.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) label: String,
    pub(crate) kind: Kind,
    /// The step it belongs to; none for what the player asks for itself.
    pub(crate) place: Option<usize>,
    pub(crate) succeeded: Option<bool>,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Kind {
    Connect {
        client: usize,
        attempt: usize,
        conn_id: String,
    },
    Publish,
    Subscribe {
        number: usize,
        subscription: Option<Box<Subscription>>,
    },
    End {
        number: usize,
        keep: bool,
    },
    Close {
        client: usize,
    },
    Ping,
    /// A subscription of the barrier.
    Barrier,
    /// Whether a client is registered.
    Probe,
}

impl Player<'_> {
    pub(crate) fn take_reply(&mut self, delivery: &Delivery) {
        let number = delivery.number;
        let text = if delivery.no_responders {
            "nobody listens".to_owned()
        } else {
            self.read(number, &delivery.body)
        };
        if !self.awaited.remove(&number) {
            self.answered(number, &format!("{text}, though no answer was due"));
            return;
        }
        self.answered(number, &text);
    }

    pub(crate) fn answered(&mut self, number: u64, text: &str) {
        let Some(asked) = self.asked.get(&number) else {
            return;
        };
        let line = format!("{}: {}", asked.label, text.replace(&self.prefix, "@"));
        if let Some(seen) = asked.place.and_then(|place| self.seen.get_mut(place)) {
            let answer = seen.answers.entry(number).or_default();
            if !answer.is_empty() {
                answer.push_str("; ");
            }
            answer.push_str(&line);
        }
    }

    /// What an answer says; a success has its consequences.
    fn read(&mut self, number: u64, body: &Bytes) -> String {
        let Some(asked) = self.asked.get_mut(&number) else {
            return "an answer to nothing".to_owned();
        };
        let body = body.clone();
        let mut ack_inbox = None;
        let outcome = match asked.kind {
            Kind::Connect { .. } => ConnectResponse::decode(body)
                .map(|answer| (answer.error.clone(), connect_text(&answer))),
            Kind::Publish => PubAck::decode(body)
                .map(|answer| (answer.error, format!(" guid {:?}", answer.guid))),
            Kind::Subscribe { .. } | Kind::End { .. } => {
                SubscriptionResponse::decode(body).map(|answer| {
                    let given = if answer.ack_inbox.is_empty() {
                        ""
                    } else {
                        " with an ack inbox"
                    };
                    ack_inbox = Some(answer.ack_inbox);
                    (answer.error, given.to_owned())
                })
            }
            Kind::Close { .. } => {
                CloseResponse::decode(body).map(|answer| (answer.error, String::new()))
            }
            Kind::Ping => PingResponse::decode(body).map(|answer| (answer.error, String::new())),
            Kind::Probe => SubscriptionResponse::decode(body).map(|answer| {
                asked.succeeded = Some(!answer.error.contains("unknown"));
                (answer.error, String::new())
            }),
            Kind::Barrier => return String::new(),
        };
        match outcome {
            Err(_) => "not decodable".to_owned(),
            Ok((error, rest)) if error.is_empty() => {
                self.succeeded(number, ack_inbox);
                format!("ok{rest}")
            }
            Ok((error, rest)) => format!("{error:?}{rest}"),
        }
    }

    pub(crate) fn succeeded(&mut self, number: u64, ack_inbox: Option<String>) {
        let Some(asked) = self.asked.get_mut(&number) else {
            return;
        };
        match &mut asked.kind {
            Kind::Connect {
                client,
                attempt,
                conn_id,
            } => {
                let (client, attempt) = (*client, *attempt);
                let conn_id = Some(std::mem::take(conn_id)).filter(|id| !id.is_empty());
                if self.registered(client).is_some() {
                    self.known.close(client);
                }
                let known = self.known.clients.entry(client).or_default();
                known.former = std::mem::replace(&mut known.conn_id, conn_id);
                known.registered = Some(attempt);
            }
            Kind::Subscribe {
                number,
                subscription,
            } => {
                let number = *number;
                if let Some(mut subscription) = subscription.take() {
                    subscription.ack_inbox = ack_inbox;
                    self.known.join(number, *subscription);
                }
            }
            Kind::End { number, keep } => {
                let (number, keep) = (*number, *keep);
                self.known.leave(number, keep);
            }
            Kind::Close { client } => {
                let client = *client;
                self.known.close(client);
            }
            Kind::Publish | Kind::Ping | Kind::Barrier | Kind::Probe => {}
        }
    }
}

fn connect_text(answer: &ConnectResponse) -> String {
    format!(
        " {:?} {:?} {:?} {:?} {:?} {:?} {} {} {} {:?}",
        answer.pub_prefix,
        answer.sub_requests,
        answer.unsub_requests,
        answer.close_requests,
        answer.sub_close_requests,
        answer.ping_requests,
        answer.ping_interval,
        answer.ping_max_out,
        answer.protocol,
        answer.public_key
    )
}
