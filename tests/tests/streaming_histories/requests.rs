//! The steps of a history as bytes for a server, and what its answers mean for what is known.

use std::time::SystemTime;

use broker_proto::streaming::{
    Ack, CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, Ping, PingResponse, PubAck,
    PubMsg, StartPosition, SubscriptionRequest, SubscriptionResponse, UnsubscribeRequest,
};
use bytes::Bytes;
use prost::Message;
use tests::streaming_server::CLUSTER_ID;

use crate::{
    connection::Delivery,
    history::{
        AckFault, Acknowledge, By, Connect, End, Fault, Op, Send, Start, Subscribe, Way, Which,
    },
    known::{Identity, Subscription},
    play::{Attempt, Inbox, Player},
};

/// The subscription that answers come to.
pub(crate) const REPLIES_SID: u64 = 1;
const BARRIER_SID: u64 = 2;
const HEARTBEAT_SIDS: u64 = 1_000;
const DELIVERY_SIDS: u64 = 1_000_000;

/// No message decodes from these.
const GARBAGE: &[u8] = b"\xff\xff\xff";
/// Client IDs that are not allowed.
const BAD_NAMES: [&str; 8] = ["", "a.b", "a b", "a\n", "\u{e9}", "a*", "a/b", "a>"];

/// A request that was sent, and what a good answer to it means.
#[derive(Debug)]
pub(crate) struct Asked {
    label: String,
    kind: Kind,
    /// The step it belongs to; none for what the player asks for itself.
    place: Option<usize>,
    succeeded: Option<bool>,
}

#[derive(Debug)]
enum Kind {
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
    pub(crate) fn heartbeat_inbox(&self, attempt: usize) -> String {
        format!("{}.hb.{attempt}", self.prefix)
    }

    pub(crate) fn delivery_inbox(&self, number: usize) -> String {
        format!("{}.i.{number}", self.prefix)
    }

    fn client_id(&self, client: usize) -> String {
        format!("{}-{client}", self.prefix)
    }

    fn ask(&mut self, subject: &str, body: &[u8], label: String, kind: Kind, fault: Option<Fault>) {
        let number = self.next_request;
        self.next_request += 1;
        let own = matches!(kind, Kind::Barrier | Kind::Probe);
        let mute = matches!(
            (&kind, fault),
            (_, Some(Fault::NoReply)) | (Kind::Ping, Some(Fault::Garbage | Fault::Empty))
        );
        let body = match fault {
            Some(Fault::Garbage) => GARBAGE,
            Some(Fault::Empty) => b"",
            _ => body,
        };
        let reply = format!("{}.r.{number}", self.prefix);
        let reply = (fault != Some(Fault::NoReply)).then_some(&*reply);
        self.connection.publish(subject, reply, body);
        let place = (!own && !self.seen.is_empty()).then(|| self.seen.len() - 1);
        let asked = Asked {
            label,
            kind,
            place,
            succeeded: None,
        };
        self.asked.insert(number, asked);
        if !mute {
            self.awaited.insert(number);
        } else if fault == Some(Fault::NoReply) {
            self.assume(number);
        }
    }

    /// Nobody is answered, so what would be allowed is taken to have been done.
    fn assume(&mut self, number: u64) {
        let kind = &self.asked[&number].kind;
        let allowed = match kind {
            Kind::Close { client } => self.registered(*client).is_some(),
            Kind::End { number, .. } => self.known.subscriptions.contains_key(number),
            Kind::Subscribe {
                subscription: Some(new),
                ..
            } => {
                let online = self.known.holdings.get(&new.identity);
                let online = online.is_some_and(|holding| !holding.members.is_empty());
                self.registered(new.client).is_some()
                    && !(online && matches!(new.identity, Identity::Durable { .. }))
            }
            _ => false,
        };
        if allowed {
            self.succeeded(number, None);
        }
    }

    pub(crate) fn connect(&mut self, connect: &Connect) {
        let attempt = self.attempts.len();
        let sid = HEARTBEAT_SIDS + attempt as u64;
        let inbox = self.heartbeat_inbox(attempt);
        self.connection.subscribe(&inbox, sid);
        self.inboxes.insert(sid, Inbox::Heartbeats(attempt));
        self.attempts.push(Attempt {
            sid,
            answers: true,
            answered: 0,
            unanswered: 0,
        });
        let conn_id = if connect.nameless {
            String::new()
        } else {
            format!("{}-connection-{attempt}", self.prefix)
        };
        let request = ConnectRequest {
            client_id: match connect.fault {
                Some(Fault::Name(number)) => BAD_NAMES[number].to_owned(),
                _ => self.client_id(connect.client),
            },
            heartbeat_inbox: match connect.fault {
                Some(Fault::Missing) => String::new(),
                _ => inbox,
            },
            protocol: connect.protocol,
            conn_id: conn_id.clone().into(),
            ping_interval: connect.pings.0,
            ping_max_out: connect.pings.1,
        };
        let kind = Kind::Connect {
            client: connect.client,
            attempt,
            conn_id,
        };
        let label = format!("connect {}", connect.client);
        let subject = format!("_STAN.discover.{CLUSTER_ID}");
        self.ask(
            &subject,
            &request.encode_to_vec(),
            label,
            kind,
            connect.fault,
        );
    }

    fn identify(&self, client: usize, by: By) -> (String, String) {
        let known = self.known.clients.get(&client);
        let conn_id = known.and_then(|client| client.conn_id.clone());
        let conn_id = conn_id.unwrap_or_default();
        let former = known.and_then(|client| client.former.clone());
        let id = self.client_id(client);
        match by {
            By::Both => (id, conn_id),
            By::ClientId => (id, String::new()),
            By::ConnId => ("somebody".to_owned(), conn_id),
            By::Former => (id, former.unwrap_or_else(|| "none".to_owned())),
            By::Nobody => ("nobody".to_owned(), String::new()),
        }
    }

    pub(crate) fn op(&mut self, op: &Op) {
        match op {
            Op::Send(send) => self.send(send),
            Op::Acknowledge(acknowledge) => self.acknowledge(acknowledge),
            Op::End(end) => self.end(end),
            Op::Close { client, fault } => {
                let request = CloseRequest {
                    client_id: match fault {
                        Some(Fault::Missing) => String::new(),
                        _ => self.client_id(*client),
                    },
                };
                let subject = format!("_STAN.close.{CLUSTER_ID}");
                let kind = Kind::Close { client: *client };
                let label = format!("close {client}");
                self.ask(&subject, &request.encode_to_vec(), label, kind, *fault);
            }
            Op::Ping { client, by, fault } => {
                let (_, conn_id) = self.identify(*client, *by);
                let request = Ping {
                    conn_id: match fault {
                        Some(Fault::Missing) => Bytes::new(),
                        _ => conn_id.into(),
                    },
                };
                let body = request.encode_to_vec();
                // The same bytes as no bytes.
                let fault = if body.is_empty() {
                    Some(Fault::Empty)
                } else {
                    *fault
                };
                let subject = format!("_STAN.discover.{CLUSTER_ID}.pings");
                self.ask(&subject, &body, format!("ping {client}"), Kind::Ping, fault);
            }
        }
    }

    fn send(&mut self, send: &Send) {
        self.payloads += 1;
        let (client_id, conn_id) = self.identify(send.client, send.by);
        let mut data = format!("{:<width$}", self.payloads, width = send.payload_bytes);
        data.truncate(send.payload_bytes);
        let channel = self.channel(send.channel);
        let message = PubMsg {
            client_id,
            guid: match send.fault {
                Some(Fault::Missing) => String::new(),
                _ => format!("guid-{}", self.payloads),
            },
            reply: if send.reply {
                "an.answer".to_owned()
            } else {
                String::new()
            },
            data: data.into(),
            conn_id: conn_id.into(),
            subject: channel,
            ..PubMsg::default()
        };
        let subject = format!("_STAN.pub.{CLUSTER_ID}.any");
        let label = format!("publish {}", self.payloads);
        self.ask(
            &subject,
            &message.encode_to_vec(),
            label,
            Kind::Publish,
            send.fault,
        );
    }

    pub(crate) fn subscribe(&mut self, subscribe: &Subscribe) {
        let number = subscribe.subscription;
        let sid = DELIVERY_SIDS + number as u64;
        let inbox = self.delivery_inbox(number);
        self.connection.subscribe(&inbox, sid);
        self.inboxes.insert(sid, Inbox::Deliveries(number));
        let (start_position, start_sequence, start_time_delta) = self.start(subscribe.start);
        let request = SubscriptionRequest {
            client_id: match subscribe.fault {
                Some(Fault::Missing) => String::new(),
                _ => self.client_id(subscribe.client),
            },
            subject: self.channel(subscribe.channel),
            q_group: subscribe.group.unwrap_or_default().to_owned(),
            inbox,
            max_in_flight: subscribe.max_in_flight,
            ack_wait_in_secs: subscribe.ack_wait_secs,
            durable_name: subscribe.durable.unwrap_or_default().to_owned(),
            start_position,
            start_sequence,
            start_time_delta,
        };
        let subscription = Subscription {
            client: subscribe.client,
            identity: Identity::of(subscribe),
            channel: request.subject.clone(),
            ack_inbox: None,
            ack_wait_secs: subscribe.ack_wait_secs,
            open: true,
            latest: 0,
        };
        let kind = Kind::Subscribe {
            number,
            subscription: Some(Box::new(subscription)),
        };
        let label = format!("subscribe {number}");
        let subject = format!("_STAN.sub.{CLUSTER_ID}");
        self.ask(
            &subject,
            &request.encode_to_vec(),
            label,
            kind,
            subscribe.fault,
        );
    }

    fn start(&self, start: Start) -> (i32, u64, i64) {
        let since = |number| {
            let paused = self.pauses.get(&number).copied();
            let ago = SystemTime::now().duration_since(paused.unwrap_or(SystemTime::UNIX_EPOCH));
            ago.map_or(0, |ago| i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))
        };
        match start {
            Start::NewOnly => (StartPosition::NewOnly.into(), 0, 0),
            Start::Last => (StartPosition::LastReceived.into(), 0, 0),
            Start::First => (StartPosition::First.into(), 0, 0),
            Start::Sequence(sequence) => (StartPosition::SequenceStart.into(), sequence, 0),
            Start::Ago(nanos) => (StartPosition::TimeDeltaStart.into(), 0, nanos),
            Start::Since(pause) => (StartPosition::TimeDeltaStart.into(), 0, since(pause)),
            Start::Unknown(number) => (number, 0, 0),
        }
    }

    fn acknowledge(&mut self, acknowledge: &Acknowledge) {
        let number = acknowledge.subscription;
        let Some(subscription) = self.known.subscriptions.get(&number) else {
            return;
        };
        let pending = self.known.pending(number);
        let latest = subscription.latest;
        let chosen: Vec<(u64, usize)> = match acknowledge.which {
            Which::Oldest => pending.into_iter().take(1).collect(),
            Which::Newest => pending.into_iter().next_back().into_iter().collect(),
            Which::All => pending,
            Which::Again => vec![(latest, number)],
            Which::Sequence(sequence) => vec![(sequence, number)],
        };
        let channel = subscription.channel.clone();
        for (sequence, holder) in chosen {
            let via = acknowledge.via.unwrap_or(holder);
            let Some(via_subscription) = self.known.subscriptions.get(&via) else {
                continue;
            };
            let Some(ack_inbox) = via_subscription.ack_inbox.clone() else {
                continue;
            };
            let right = via_subscription.channel == channel;
            let subject = match acknowledge.fault {
                Some(AckFault::OtherChannel) => self.other_channel(&channel),
                Some(AckFault::UnknownChannel) => format!("{}.none", self.prefix),
                _ => channel.clone(),
            };
            let ack = Ack { subject, sequence }.encode_to_vec();
            let body = match acknowledge.fault {
                Some(AckFault::Garbage) => GARBAGE,
                _ => &*ack,
            };
            self.connection.publish(&ack_inbox, None, body);
            if acknowledge.fault.is_none() && right {
                self.known.acknowledged(via, sequence);
            }
        }
    }

    fn other_channel(&self, channel: &str) -> String {
        let (a, b) = (format!("{}.a", self.prefix), format!("{}.b", self.prefix));
        if channel == a { b } else { a }
    }

    fn end(&mut self, end: &End) {
        let number = end.subscription;
        let Some(subscription) = self.known.subscriptions.get(&number) else {
            return;
        };
        let channel = subscription.channel.clone();
        let owner = match end.way {
            Way::OtherClient => subscription.client + 1,
            _ => subscription.client,
        };
        let inbox = match end.way {
            Way::DeliveryInbox => self.delivery_inbox(number),
            Way::UnknownInbox => "none".to_owned(),
            _ => subscription.ack_inbox.clone().unwrap_or_default(),
        };
        let fault = match end.way {
            Way::Faulty(fault) => Some(fault),
            _ => None,
        };
        let request = UnsubscribeRequest {
            client_id: match fault {
                Some(Fault::Missing) => String::new(),
                _ => self.client_id(owner),
            },
            subject: match end.way {
                Way::OtherChannel => self.other_channel(&channel),
                Way::UnknownChannel => format!("{}.none", self.prefix),
                _ => channel,
            },
            inbox,
            durable_name: String::new(),
        };
        let (name, subject) = if end.keep {
            ("close", "subclose")
        } else {
            ("unsubscribe", "unsub")
        };
        let kind = Kind::End {
            number,
            keep: end.keep,
        };
        let subject = format!("_STAN.{subject}.{CLUSTER_ID}");
        self.ask(
            &subject,
            &request.encode_to_vec(),
            format!("{name} {number}"),
            kind,
            fault,
        );
    }
}

/// What the player asks for itself.
impl Player<'_> {
    fn barrier_id(&self) -> String {
        format!("{}-barrier", self.prefix)
    }

    fn barrier_channel(&self) -> String {
        format!("{}.barrier", self.prefix)
    }

    pub(crate) fn barrier_inbox(&self) -> String {
        format!("{}.barrier.i", self.prefix)
    }

    /// Registers the barrier's client.
    pub(crate) fn introduce_barrier(&mut self) {
        let attempt = self.attempts.len();
        let heartbeats = self.heartbeat_inbox(attempt);
        let deliveries = self.barrier_inbox();
        self.attempts.push(Attempt {
            sid: BARRIER_SID + 1,
            answers: true,
            answered: 0,
            unanswered: 0,
        });
        for (subject, sid, inbox) in [
            (&heartbeats, BARRIER_SID + 1, Inbox::Heartbeats(attempt)),
            (&deliveries, BARRIER_SID, Inbox::Barrier),
        ] {
            self.connection.subscribe(subject, sid);
            self.inboxes.insert(sid, inbox);
        }
        let request = ConnectRequest {
            client_id: self.barrier_id(),
            heartbeat_inbox: heartbeats,
            ..ConnectRequest::default()
        };
        let subject = format!("_STAN.discover.{CLUSTER_ID}");
        self.ask(
            &subject,
            &request.encode_to_vec(),
            "barrier".to_owned(),
            Kind::Barrier,
            None,
        );
    }

    /// Gives the barrier's channel its one message.
    pub(crate) fn fill_barrier(&mut self) {
        let message = PubMsg {
            client_id: self.barrier_id(),
            guid: "barrier".to_owned(),
            subject: self.barrier_channel(),
            ..PubMsg::default()
        };
        let subject = format!("_STAN.pub.{CLUSTER_ID}.any");
        self.ask(
            &subject,
            &message.encode_to_vec(),
            "barrier".to_owned(),
            Kind::Barrier,
            None,
        );
    }

    /// Its answer waits for everything that was sent before, acknowledgements included.
    pub(crate) fn ask_behind_everything(&mut self) {
        let request = UnsubscribeRequest {
            client_id: self.barrier_id(),
            subject: format!("{}.none", self.prefix),
            ..UnsubscribeRequest::default()
        };
        let subject = format!("_STAN.unsub.{CLUSTER_ID}");
        self.ask(
            &subject,
            &request.encode_to_vec(),
            "barrier".to_owned(),
            Kind::Barrier,
            None,
        );
    }

    pub(crate) fn subscribe_barrier(&mut self) {
        let request = SubscriptionRequest {
            client_id: self.barrier_id(),
            subject: self.barrier_channel(),
            inbox: self.barrier_inbox(),
            max_in_flight: 10,
            ack_wait_in_secs: 120,
            start_position: StartPosition::First.into(),
            ..SubscriptionRequest::default()
        };
        let subject = format!("_STAN.sub.{CLUSTER_ID}");
        self.ask(
            &subject,
            &request.encode_to_vec(),
            "barrier".to_owned(),
            Kind::Barrier,
            None,
        );
    }

    pub(crate) fn end_barrier(&mut self) {
        let request = UnsubscribeRequest {
            client_id: self.barrier_id(),
            subject: self.barrier_channel(),
            inbox: self.barrier_inbox(),
            ..UnsubscribeRequest::default()
        };
        let subject = format!("_STAN.unsub.{CLUSTER_ID}");
        self.ask(
            &subject,
            &request.encode_to_vec(),
            "barrier".to_owned(),
            Kind::Barrier,
            None,
        );
    }

    /// A subscription request that fails in one way for a registered client and in another for others.
    pub(crate) fn ask_whether_known(&mut self, client: usize) -> u64 {
        let request = SubscriptionRequest {
            client_id: self.client_id(client),
            subject: self.barrier_channel(),
            q_group: "group".to_owned(),
            durable_name: "with:colon".to_owned(),
            max_in_flight: 1,
            ack_wait_in_secs: 1,
            ..SubscriptionRequest::default()
        };
        let subject = format!("_STAN.sub.{CLUSTER_ID}");
        let number = self.next_request;
        self.ask(
            &subject,
            &request.encode_to_vec(),
            "probe".to_owned(),
            Kind::Probe,
            None,
        );
        number
    }

    /// What that has shown.
    pub(crate) fn take_known(&mut self, number: u64) -> bool {
        self.asked
            .remove(&number)
            .is_some_and(|asked| asked.succeeded == Some(true))
    }
}

/// Answers.
impl Player<'_> {
    pub(crate) fn take_reply(&mut self, delivery: &Delivery) {
        let number = delivery.number;
        let text = if delivery.no_responders {
            "nobody listens".to_owned()
        } else {
            self.read(number, &delivery.body)
        };
        if !self.awaited.remove(&number) {
            self.answered(number, format!("{text}, though no answer was due"));
            return;
        }
        self.answered(number, text);
    }

    pub(crate) fn answered(&mut self, number: u64, text: String) {
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

    fn succeeded(&mut self, number: u64, ack_inbox: Option<String>) {
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
