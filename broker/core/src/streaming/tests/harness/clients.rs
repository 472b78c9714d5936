//! What the clients of a test do, and what they see.

use broker_proto::streaming::{
    Ack, CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, MsgProto, PubAck, PubMsg,
    SubscriptionRequest, SubscriptionResponse, UnsubscribeRequest,
};
use prost::Message as _;

use super::{ACKS, Sub, World};

impl World {
    pub(in crate::streaming::tests) fn connect_request(id: &str) -> ConnectRequest {
        ConnectRequest {
            client_id: id.into(),
            heartbeat_inbox: format!("hb.{id}"),
            protocol: 1,
            conn_id: format!("conn-{id}").into(),
            ping_interval: 5,
            ping_max_out: 3,
        }
    }

    pub(in crate::streaming::tests) fn try_connect(
        &mut self,
        request: &ConnectRequest,
    ) -> ConnectResponse {
        self.request("_STAN.discover.test-cluster", request)
    }

    /// Connects a client that answers heartbeats.
    pub(in crate::streaming::tests) fn connect(&mut self, id: &str) {
        self.alive.insert(format!("hb.{id}"));
        let response = self.try_connect(&Self::connect_request(id));
        assert_eq!(response.error, "");
    }

    pub(in crate::streaming::tests) fn close(&mut self, id: &str) -> String {
        let request = CloseRequest {
            client_id: id.into(),
        };
        self.request::<CloseResponse>("_STAN.close.test-cluster", &request)
            .error
    }

    pub(in crate::streaming::tests) fn pub_msg(
        &mut self,
        client: &str,
        channel: &str,
        data: &str,
    ) -> PubMsg {
        self.guids += 1;
        PubMsg {
            client_id: client.into(),
            guid: format!("guid-{}", self.guids),
            subject: channel.into(),
            data: data.to_owned().into(),
            conn_id: format!("conn-{client}").into(),
            ..PubMsg::default()
        }
    }

    /// Publishes in a pass of its own.
    pub(in crate::streaming::tests) fn publish(
        &mut self,
        client: &str,
        channel: &str,
        data: &str,
    ) -> String {
        let guid = self.publish_unflushed(client, channel, data);
        self.end_pass();
        guid
    }

    pub(in crate::streaming::tests) fn publish_unflushed(
        &mut self,
        client: &str,
        channel: &str,
        data: &str,
    ) -> String {
        let message = self.pub_msg(client, channel, data);
        let subject = format!("_STAN.pub.test-cluster.{channel}");
        self.send_unflushed(&subject, ACKS, &message.encode_to_vec());
        message.guid
    }

    /// Publishes `m1`, `m2`, ... and forgets the acks.
    pub(in crate::streaming::tests) fn publish_many(
        &mut self,
        client: &str,
        channel: &str,
        count: usize,
    ) {
        for number in 1..=count {
            self.publish(client, channel, &format!("m{number}"));
        }
        self.take(ACKS);
    }

    pub(in crate::streaming::tests) fn try_publish(&mut self, message: &PubMsg) -> PubAck {
        self.request("_STAN.pub.test-cluster.any", message)
    }

    pub(in crate::streaming::tests) fn acks(&mut self) -> Vec<PubAck> {
        self.take_as(ACKS)
    }

    /// A request for a plain subscription from the first message, 30 s, 1024 in flight.
    pub(in crate::streaming::tests) fn sub_request(
        client: &str,
        channel: &str,
    ) -> SubscriptionRequest {
        SubscriptionRequest {
            client_id: client.into(),
            subject: channel.into(),
            inbox: format!("in.{client}.{channel}"),
            max_in_flight: 1024,
            ack_wait_in_secs: 30,
            start_position: 4,
            ..SubscriptionRequest::default()
        }
    }

    pub(in crate::streaming::tests) fn try_subscribe(
        &mut self,
        request: &SubscriptionRequest,
    ) -> SubscriptionResponse {
        self.request("_STAN.sub.test-cluster", request)
    }

    pub(in crate::streaming::tests) fn subscribe(&mut self, request: &SubscriptionRequest) -> Sub {
        let response = self.try_subscribe(request);
        assert_eq!(response.error, "");
        Sub {
            client: request.client_id.clone(),
            channel: request.subject.clone(),
            inbox: request.inbox.clone(),
            ack_inbox: response.ack_inbox,
        }
    }

    /// A plain subscription with changed options.
    pub(in crate::streaming::tests) fn subscribe_with(
        &mut self,
        client: &str,
        channel: &str,
        change: impl FnOnce(&mut SubscriptionRequest),
    ) -> Sub {
        let mut request = Self::sub_request(client, channel);
        change(&mut request);
        self.subscribe(&request)
    }

    pub(in crate::streaming::tests) fn ack(&mut self, sub: &Sub, sequence: u64) {
        let ack = Ack {
            subject: sub.channel.clone(),
            sequence,
        };
        self.send(&sub.ack_inbox.clone(), "", &ack.encode_to_vec());
    }

    pub(in crate::streaming::tests) fn end(&mut self, sub: &Sub, kind: &str) -> String {
        let request = UnsubscribeRequest {
            client_id: sub.client.clone(),
            subject: sub.channel.clone(),
            inbox: sub.ack_inbox.clone(),
            ..UnsubscribeRequest::default()
        };
        let subject = format!("_STAN.{kind}.test-cluster");
        self.request::<SubscriptionResponse>(&subject, &request)
            .error
    }

    pub(in crate::streaming::tests) fn unsubscribe(&mut self, sub: &Sub) -> String {
        self.end(sub, "unsub")
    }

    pub(in crate::streaming::tests) fn sub_close(&mut self, sub: &Sub) -> String {
        self.end(sub, "subclose")
    }

    /// What came to a subscription's inbox since the last look.
    pub(in crate::streaming::tests) fn messages(&mut self, sub: &Sub) -> Vec<MsgProto> {
        self.take_as(&sub.inbox)
    }

    /// Sequences of what came, negative if redelivered.
    pub(in crate::streaming::tests) fn sequences(&mut self, sub: &Sub) -> Vec<i64> {
        let sequence = |message: MsgProto| {
            let sequence = i64::try_from(message.sequence).unwrap();
            assert_eq!(message.redelivered, message.redelivery_count > 0);
            if message.redelivered {
                -sequence
            } else {
                sequence
            }
        };
        self.messages(sub).into_iter().map(sequence).collect()
    }
}
