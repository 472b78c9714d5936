//! The steps of a history as bytes for a server.

use std::time::SystemTime;

use broker_proto::streaming::{
    Ack, CloseRequest, ConnectRequest, Ping, PubMsg, StartPosition, SubscriptionRequest,
    UnsubscribeRequest,
};
use bytes::Bytes;
use prost::Message as _;
use tests::streaming_server::CLUSTER_ID;

use crate::{
    answers::{Asked, Kind},
    history::{
        AckFault, Acknowledge, By, Connect, End, Fault, Op, Send, Start, Subscribe, Way, Which,
    },
    known::{Identity, Subscription},
    play::{Attempt, Inbox, Player},
};

/// The subscription that answers come to.
pub(crate) const REPLIES_SID: u64 = 1;
const HEARTBEAT_SIDS: u64 = 1_000;
const DELIVERY_SIDS: u64 = 1_000_000;

/// No message decodes from these.
const GARBAGE: &[u8] = b"\xff\xff\xff";
/// Client IDs that are not allowed.
const BAD_NAMES: [&str; 8] = ["", "a.b", "a b", "a\n", "\u{e9}", "a*", "a/b", "a>"];

impl Player<'_> {
    pub(crate) fn heartbeat_inbox(&self, attempt: usize) -> String {
        format!("{}.hb.{attempt}", self.prefix)
    }

    pub(crate) fn delivery_inbox(&self, number: usize) -> String {
        format!("{}.i.{number}", self.prefix)
    }

    pub(crate) fn client_id(&self, client: usize) -> String {
        format!("{}-{client}", self.prefix)
    }

    pub(crate) fn ask(
        &mut self,
        subject: &str,
        body: &[u8],
        label: String,
        kind: Kind,
        fault: Option<Fault>,
    ) {
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

    /// Nobody is answered, so what would be allowed is taken to have been done. A subscription shows itself by what it gets.
    fn assume(&mut self, number: u64) {
        let kind = &self.asked[&number].kind;
        let allowed = match kind {
            Kind::Close { client } => self.registered(*client).is_some(),
            Kind::End { number, .. } => self.known.subscriptions.contains_key(number),
            _ => false,
        };
        if allowed {
            self.succeeded(number, None);
        }
    }

    /// A subscription gets messages whose request wanted no answer.
    pub(crate) fn adopt(&mut self, wanted: usize) {
        let asked = self.asked.iter().find(|(request, asked)| {
            let same = matches!(asked.kind, Kind::Subscribe { number, .. } if number == wanted);
            same && !self.awaited.contains(request)
        });
        if let Some((request, _)) = asked {
            self.succeeded(*request, None);
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
