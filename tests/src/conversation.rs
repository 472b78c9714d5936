//! Raw streaming requests, right and wrong, and a transcript of what the server made of them.
//!
//! A transcript holds what clients may rely on, and nothing that differs from run to run: subjects
//! that a server makes up are only told from missing ones. Two servers that are alike write the same.

use std::{fmt::Write as _, time::Duration};

use anyhow::Context;
use async_nats::{Client, StatusCode, Subscriber};
use broker_proto::streaming::{
    Ack, CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, MsgProto, Ping,
    PingResponse, PubAck, PubMsg, StartPosition, SubscriptionRequest, SubscriptionResponse,
    UnsubscribeRequest,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message;
use tokio::time::timeout;

use crate::streaming_server::CLUSTER_ID;

/// After this an answer is held not to come, unless nothing else comes either.
const SILENCE: Duration = Duration::from_secs(3);

/// How long a subscription is listened to for what must not come. A slow machine hides a fault here,
/// but makes none.
const QUIET: Duration = Duration::from_millis(300);

/// For what must come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection to a server, and what was seen through it.
#[derive(Debug)]
pub struct Conversation {
    nats: Client,
    subjects: ConnectResponse,
    lines: Vec<String>,
}

/// An open subscription.
#[derive(Debug)]
pub struct Heard {
    pub inbox: String,
    pub ack_inbox: String,
    deliveries: Subscriber,
}

impl Conversation {
    /// Connects to a server without TLS on loopback; no client is registered yet.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn begin(port: u16) -> anyhow::Result<Self> {
        let nats = async_nats::connect(format!("nats://127.0.0.1:{port}"))
            .await
            .context("connecting")?;
        Ok(Self {
            nats,
            subjects: ConnectResponse::default(),
            lines: Vec::new(),
        })
    }

    /// What was said, line by line.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// What was said so far, line by line.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Adds a line, for what a test has found out by itself.
    pub fn note(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Subjects of the last successful connect request.
    pub fn subjects(&self) -> &ConnectResponse {
        &self.subjects
    }

    /// A request with any bytes; what came back, or how nothing did.
    pub async fn ask(&mut self, subject: &str, payload: impl Into<Bytes>) -> Answer {
        let Ok(mut answers) = self.request(subject, payload.into()).await else {
            return Answer::Silence;
        };
        if let Ok(Some(answer)) = timeout(SILENCE, answers.next()).await {
            return answer.into();
        }
        // A busy machine is silent too. What is asked now is answered later.
        let _ = self.comes_and_goes().await;
        match timeout(QUIET, answers.next()).await {
            Ok(Some(answer)) => answer.into(),
            Ok(None) | Err(_) => Answer::Silence,
        }
    }

    /// Where the answer to a request comes.
    async fn request(&self, subject: &str, payload: Bytes) -> anyhow::Result<Subscriber> {
        let inbox = self.nats.new_inbox();
        let answers = self.nats.subscribe(inbox.clone()).await?;
        self.nats
            .publish_with_reply(subject.to_owned(), inbox, payload)
            .await?;
        Ok(answers)
    }

    /// A client is registered and closed; the server has then done what it was asked before. Where nobody answers, there
    /// is nothing to wait for.
    async fn comes_and_goes(&self) -> Option<()> {
        let discover = format!("_STAN.discover.{CLUSTER_ID}");
        let connect = connect_request("comes-and-goes").encode_to_vec();
        let mut answers = self.request(&discover, connect.into()).await.ok()?;
        let answer = timeout(PATIENCE, answers.next()).await.ok()??;
        let subjects = ConnectResponse::decode(answer.payload).ok()?;
        let close = CloseRequest {
            client_id: "comes-and-goes".to_owned(),
        };
        let close = close.encode_to_vec().into();
        let mut answers = self.request(&subjects.close_requests, close).await.ok()?;
        timeout(PATIENCE, answers.next()).await.ok()??;
        Some(())
    }

    /// A request whose answer is noted as `label: ...`.
    async fn ask_noted<A: Message + Default>(
        &mut self,
        label: &str,
        subject: &str,
        payload: impl Into<Bytes>,
        describe: impl FnOnce(&A) -> String,
    ) -> Option<A> {
        let answer = self.ask(subject, payload).await;
        let (text, decoded) = match answer {
            Answer::NobodyListens => ("nobody listens".to_owned(), None),
            Answer::Silence => ("silence".to_owned(), None),
            Answer::Payload(payload) => match A::decode(payload) {
                Ok(message) => (describe(&message), Some(message)),
                Err(_) => ("undecodable".to_owned(), None),
            },
        };
        self.note(format!("{label}: {text}"));
        decoded
    }

    /// Registers a client. Heartbeats to `heartbeat_inbox` are answered if `alive`.
    pub async fn connect(&mut self, label: &str, request: &ConnectRequest) {
        self.connect_bytes(label, request.encode_to_vec()).await;
    }

    /// As [`Self::connect`], with any bytes.
    pub async fn connect_bytes(&mut self, label: &str, payload: impl Into<Bytes>) {
        let subject = format!("_STAN.discover.{CLUSTER_ID}");
        let answer = self
            .ask_noted(label, &subject, payload, describe_connect)
            .await;
        if let Some(answer) = answer.filter(|answer| answer.error.is_empty()) {
            self.subjects = answer;
        }
    }

    /// Answers every heartbeat to the inbox, as a live client does, until the task is dropped.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn keep_alive(&self, inbox: &str) -> anyhow::Result<tokio::task::JoinSet<()>> {
        let nats = self.nats.clone();
        let mut heartbeats = nats.subscribe(inbox.to_owned()).await?;
        nats.flush().await?;
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            while let Some(heartbeat) = heartbeats.next().await {
                if let Some(reply) = heartbeat.reply {
                    // Lost only with the connection, which ends this as well.
                    let _ = nats.publish(reply, Bytes::new()).await;
                }
            }
        });
        Ok(task)
    }

    /// Publishes and notes the acknowledgement.
    pub async fn publish(&mut self, label: &str, message: &PubMsg) {
        self.publish_bytes(label, message.encode_to_vec()).await;
    }

    /// As [`Self::publish`], with any bytes.
    pub async fn publish_bytes(&mut self, label: &str, payload: impl Into<Bytes>) {
        let subject = format!("{}.any", self.subjects.pub_prefix);
        let describe = |ack: &PubAck| format!("guid {:?}, {}", ack.guid, outcome(&ack.error));
        self.ask_noted(label, &subject, payload, describe).await;
    }

    /// Subscribes, noting the answer; the subscription if it was accepted.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn subscribe(
        &mut self,
        label: &str,
        mut request: SubscriptionRequest,
    ) -> anyhow::Result<Option<Heard>> {
        let inbox = self.nats.new_inbox();
        let deliveries = self.nats.subscribe(inbox.clone()).await?;
        request.inbox.clone_from(&inbox);
        let answer = self
            .subscribe_bytes(label, request.encode_to_vec())
            .await
            .filter(|answer| answer.error.is_empty());
        Ok(answer.map(|answer| Heard {
            inbox,
            ack_inbox: answer.ack_inbox,
            deliveries,
        }))
    }

    /// A subscription request with any bytes.
    pub async fn subscribe_bytes(
        &mut self,
        label: &str,
        payload: impl Into<Bytes>,
    ) -> Option<SubscriptionResponse> {
        let subject = self.subjects.sub_requests.clone();
        self.ask_noted(label, &subject, payload, describe_subscription)
            .await
    }

    /// Ends a subscription: by unsubscribe, or by close if `keep`.
    pub async fn end(&mut self, label: &str, keep: bool, request: &UnsubscribeRequest) {
        self.end_bytes(label, keep, request.encode_to_vec()).await;
    }

    /// As [`Self::end`], with any bytes.
    pub async fn end_bytes(&mut self, label: &str, keep: bool, payload: impl Into<Bytes>) {
        let subjects = &self.subjects;
        let subject = if keep {
            subjects.sub_close_requests.clone()
        } else {
            subjects.unsub_requests.clone()
        };
        self.ask_noted(label, &subject, payload, describe_subscription)
            .await;
    }

    /// Closes a client.
    pub async fn close(&mut self, label: &str, client_id: &str) {
        let request = CloseRequest {
            client_id: client_id.to_owned(),
        };
        self.close_bytes(label, request.encode_to_vec()).await;
    }

    /// As [`Self::close`], with any bytes.
    pub async fn close_bytes(&mut self, label: &str, payload: impl Into<Bytes>) {
        let subject = self.subjects.close_requests.clone();
        let describe = |answer: &CloseResponse| outcome(&answer.error);
        self.ask_noted(label, &subject, payload, describe).await;
    }

    /// Asks whether a connection is known.
    pub async fn ping(&mut self, label: &str, conn_id: &str) {
        let request = Ping {
            conn_id: Bytes::copy_from_slice(conn_id.as_bytes()),
        };
        self.ping_bytes(label, request.encode_to_vec()).await;
    }

    /// As [`Self::ping`], with any bytes.
    pub async fn ping_bytes(&mut self, label: &str, payload: impl Into<Bytes>) {
        let subject = self.subjects.ping_requests.clone();
        let describe = |answer: &PingResponse| outcome(&answer.error);
        self.ask_noted(label, &subject, payload, describe).await;
    }

    /// Notes deliveries until there were `count`, and that no more follow.
    ///
    /// # Errors
    /// When fewer come.
    pub async fn hear(
        &mut self,
        label: &str,
        from: &mut Heard,
        count: usize,
    ) -> anyhow::Result<Vec<MsgProto>> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let next = timeout(PATIENCE, from.deliveries.next());
            let delivery = next
                .await
                .with_context(|| format!("{label}: {} of {count} came", heard.len()))?
                .context("the connection ended")?;
            heard.push(MsgProto::decode(delivery.payload)?);
        }
        let more = timeout(QUIET, from.deliveries.next()).await;
        let mut line = format!("{label}:");
        for message in &heard {
            line.push_str(&describe_delivery(message));
        }
        if let Ok(Some(delivery)) = more {
            let message = MsgProto::decode(delivery.payload)?;
            let _ = write!(line, " and one too many{}", describe_delivery(&message));
        }
        self.note(line);
        Ok(heard)
    }

    /// Acknowledges.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn ack(&self, heard: &Heard, message: &MsgProto) -> anyhow::Result<()> {
        let ack = Ack {
            subject: message.subject.clone(),
            sequence: message.sequence,
        };
        self.nats
            .publish(heard.ack_inbox.clone(), ack.encode_to_vec().into())
            .await?;
        self.nats.flush().await?;
        Ok(())
    }
}

/// What a request led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Payload(Bytes),
    NobodyListens,
    Silence,
}

impl From<async_nats::Message> for Answer {
    fn from(message: async_nats::Message) -> Self {
        match message.status {
            Some(StatusCode::NO_RESPONDERS) => Self::NobodyListens,
            _ => Self::Payload(message.payload),
        }
    }
}

/// A connect request as a client of today makes it.
pub fn connect_request(client_id: &str) -> ConnectRequest {
    ConnectRequest {
        client_id: client_id.to_owned(),
        heartbeat_inbox: format!("heartbeats.{client_id}"),
        protocol: 1,
        conn_id: Bytes::from(format!("conn-{client_id}")),
        ping_interval: 5,
        ping_max_out: 88,
    }
}

/// A publish as a client of today makes it; the guid is the text.
pub fn pub_msg(client_id: &str, channel: &str, text: &str) -> PubMsg {
    PubMsg {
        client_id: client_id.to_owned(),
        guid: format!("guid-{text}"),
        subject: channel.to_owned(),
        data: Bytes::copy_from_slice(text.as_bytes()),
        conn_id: Bytes::from(format!("conn-{client_id}")),
        ..PubMsg::default()
    }
}

/// A subscription to everything that a channel holds.
pub fn subscription_request(client_id: &str, channel: &str) -> SubscriptionRequest {
    SubscriptionRequest {
        client_id: client_id.to_owned(),
        subject: channel.to_owned(),
        max_in_flight: 16,
        ack_wait_in_secs: 30,
        start_position: StartPosition::First.into(),
        ..SubscriptionRequest::default()
    }
}

fn outcome(error: &str) -> String {
    if error.is_empty() {
        "ok".to_owned()
    } else {
        format!("error {error:?}")
    }
}

fn presence(text: &str) -> &'static str {
    if text.is_empty() { "absent" } else { "present" }
}

fn describe_connect(answer: &ConnectResponse) -> String {
    format!(
        "{}, publish {}, subscribe {}, unsubscribe {}, close {}, sub-close {}, ping {}, \
         interval {}, max out {}, protocol {}, key {:?}",
        outcome(&answer.error),
        presence(&answer.pub_prefix),
        presence(&answer.sub_requests),
        presence(&answer.unsub_requests),
        presence(&answer.close_requests),
        presence(&answer.sub_close_requests),
        presence(&answer.ping_requests),
        answer.ping_interval,
        answer.ping_max_out,
        answer.protocol,
        answer.public_key,
    )
}

fn describe_subscription(answer: &SubscriptionResponse) -> String {
    format!(
        "{}, ack inbox {}",
        outcome(&answer.error),
        presence(&answer.ack_inbox)
    )
}

fn describe_delivery(message: &MsgProto) -> String {
    let mark = match (message.redelivered, message.redelivery_count) {
        (false, 0) => String::new(),
        (redelivered, count) => format!(" (redelivered {redelivered}, count {count})"),
    };
    let reply = if message.reply.is_empty() {
        String::new()
    } else {
        format!(" reply {}", message.reply)
    };
    let stamp = if message.timestamp > 0 {
        ""
    } else {
        " without time"
    };
    format!(
        " [{} {} {}{reply}{mark}{stamp}]",
        message.subject,
        message.sequence,
        String::from_utf8_lossy(&message.data)
    )
}
