//! Subscriptions with acknowledgement by hand.

use std::{sync::Arc, time::Duration};

use broker_proto::streaming::{
    Ack, MsgProto, StartPosition, SubscriptionRequest, SubscriptionResponse, UnsubscribeRequest,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;

use super::{Shared, StanError, refused_if, request_answer};

/// What a subscription asks for. Times are whole seconds on the wire.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    start: StartPosition,
    start_sequence: u64,
    start_time_delta: Duration,
    durable: String,
    queue_group: String,
    max_in_flight: i32,
    ack_wait_secs: i32,
}

impl SubscribeOptions {
    fn from_position(start: StartPosition) -> Self {
        Self {
            start,
            start_sequence: 0,
            start_time_delta: Duration::ZERO,
            durable: String::new(),
            queue_group: String::new(),
            max_in_flight: 1024,
            ack_wait_secs: 30,
        }
    }

    /// Everything that the channel holds.
    pub fn from_first() -> Self {
        Self::from_position(StartPosition::First)
    }

    /// What is published from now on.
    pub fn new_only() -> Self {
        Self::from_position(StartPosition::NewOnly)
    }

    /// The last message and what follows.
    pub fn from_last() -> Self {
        Self::from_position(StartPosition::LastReceived)
    }

    /// From this sequence.
    pub fn from_sequence(sequence: u64) -> Self {
        Self {
            start_sequence: sequence,
            ..Self::from_position(StartPosition::SequenceStart)
        }
    }

    /// From this long ago.
    pub fn from_ago(ago: Duration) -> Self {
        Self {
            start_time_delta: ago,
            ..Self::from_position(StartPosition::TimeDeltaStart)
        }
    }

    /// The server remembers the position under this name.
    #[must_use]
    pub fn durable(mut self, name: &str) -> Self {
        name.clone_into(&mut self.durable);
        self
    }

    /// Shares the messages with the other members of the group.
    #[must_use]
    pub fn queue_group(mut self, name: &str) -> Self {
        name.clone_into(&mut self.queue_group);
        self
    }

    /// Most messages without acknowledgement.
    #[must_use]
    pub fn max_in_flight(mut self, messages: u16) -> Self {
        self.max_in_flight = messages.into();
        self
    }

    /// Seconds before a message without acknowledgement is delivered again.
    #[must_use]
    pub fn ack_wait_secs(mut self, seconds: u16) -> Self {
        self.ack_wait_secs = seconds.into();
        self
    }
}

/// A message as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub channel: String,
    pub sequence: u64,
    pub payload: Bytes,
    /// Nanoseconds since the Unix epoch, by the server's clock.
    pub timestamp: i64,
    pub redelivered: bool,
    /// 0 for the first delivery.
    pub redelivery_count: u32,
}

/// An open subscription. Dropping it stops deliveries without telling the streaming server.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    channel: String,
    durable: String,
    ack_inbox: String,
    deliveries: async_nats::Subscriber,
}

pub(super) async fn open(
    shared: Arc<Shared>,
    channel: &str,
    options: SubscribeOptions,
) -> Result<Subscription, StanError> {
    let inbox = shared.nats.new_inbox();
    let deliveries = super::subscribe(&shared.nats, &inbox).await?;
    let request = SubscriptionRequest {
        client_id: shared.options.client_id.clone(),
        subject: channel.to_owned(),
        q_group: options.queue_group,
        inbox,
        max_in_flight: options.max_in_flight,
        ack_wait_in_secs: options.ack_wait_secs,
        durable_name: options.durable.clone(),
        start_position: options.start.into(),
        start_sequence: options.start_sequence,
        start_time_delta: i64::try_from(options.start_time_delta.as_nanos()).unwrap_or(i64::MAX),
    };
    let answer: SubscriptionResponse = request_answer(
        &shared.nats,
        "subscribe",
        &shared.subjects.sub_requests,
        &request,
        shared.options.request_wait,
    )
    .await?;
    refused_if("subscribe", &answer.error)?;
    Ok(Subscription {
        shared,
        channel: channel.to_owned(),
        durable: options.durable,
        ack_inbox: answer.ack_inbox,
        deliveries,
    })
}

impl Subscription {
    /// The next message; none when the connection is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let message = self.deliveries.next().await?;
            // Only the server knows the inbox; what makes no sense is not a delivery.
            if let Ok(message) = MsgProto::decode(message.payload) {
                return Some(Delivery {
                    channel: message.subject,
                    sequence: message.sequence,
                    payload: message.data,
                    timestamp: message.timestamp,
                    redelivered: message.redelivered,
                    redelivery_count: message.redelivery_count,
                });
            }
        }
    }

    /// Acknowledges a message. The server does not answer.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn ack(&self, delivery: &Delivery) -> Result<(), StanError> {
        let ack = Ack {
            subject: delivery.channel.clone(),
            sequence: delivery.sequence,
        };
        let sent = self
            .shared
            .nats
            .publish(self.ack_inbox.clone(), ack.encode_to_vec().into());
        sent.await
            .map_err(|error| StanError::Nats(error.to_string()))
    }

    /// Ends the subscription; a durable is forgotten.
    ///
    /// # Errors
    /// When the server does not answer or does not know it.
    pub async fn unsubscribe(self) -> Result<(), StanError> {
        let subject = self.shared.subjects.unsub_requests.clone();
        self.end("unsubscribe", &subject).await
    }

    /// Ends the subscription; a durable keeps its position.
    ///
    /// # Errors
    /// When the server does not answer or does not know it.
    pub async fn close(self) -> Result<(), StanError> {
        let subject = self.shared.subjects.sub_close_requests.clone();
        self.end("subscription close", &subject).await
    }

    async fn end(mut self, name: &'static str, subject: &str) -> Result<(), StanError> {
        // The connection may be closed, which ends the deliveries as well.
        let _ = self.deliveries.unsubscribe().await;
        // Acknowledgements go another way through the server than requests; they are to be there first.
        let _ = self.shared.nats.flush().await;
        let request = UnsubscribeRequest {
            client_id: self.shared.options.client_id.clone(),
            subject: self.channel,
            inbox: self.ack_inbox,
            durable_name: self.durable,
        };
        let wait = self.shared.options.request_wait;
        let answer: SubscriptionResponse =
            request_answer(&self.shared.nats, name, subject, &request, wait).await?;
        refused_if(name, &answer.error)
    }
}
