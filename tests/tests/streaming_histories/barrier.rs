//! What the player asks for itself: requests whose answers show that a server has done everything before them.

use broker_proto::streaming::{
    CloseRequest, ConnectRequest, PubMsg, StartPosition, SubscriptionRequest, UnsubscribeRequest,
};
use prost::Message;
use tests::streaming_server::CLUSTER_ID;

use crate::{
    answers::Kind,
    play::{Attempt, Inbox, Player},
};

const DELIVERIES_SID: u64 = 2;
const HEARTBEATS_SID: u64 = 3;

impl Player<'_> {
    fn barrier_id(&self) -> String {
        format!("{}-barrier", self.prefix)
    }

    pub(crate) fn barrier_channel(&self) -> String {
        format!("{}.barrier", self.prefix)
    }

    pub(crate) fn barrier_inbox(&self) -> String {
        format!("{}.barrier.i", self.prefix)
    }

    /// A request that belongs to no step: it matters when it is answered, and not how.
    fn ask_for_barrier(&mut self, subject: &str, request: &impl Message) {
        let label = "barrier".to_owned();
        self.ask(
            subject,
            &request.encode_to_vec(),
            label,
            Kind::Barrier,
            None,
        );
    }

    /// Registers the barrier's client.
    pub(crate) fn introduce_barrier(&mut self) {
        let attempt = self.attempts.len();
        let heartbeats = self.heartbeat_inbox(attempt);
        let deliveries = self.barrier_inbox();
        self.attempts.push(Attempt {
            sid: HEARTBEATS_SID,
            answers: true,
            answered: 0,
            unanswered: 0,
        });
        for (subject, sid, inbox) in [
            (&heartbeats, HEARTBEATS_SID, Inbox::Heartbeats(attempt)),
            (&deliveries, DELIVERIES_SID, Inbox::Barrier),
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
        self.ask_for_barrier(&subject, &request);
    }

    /// Gives a channel a message.
    pub(crate) fn fill(&mut self, channel: &str) {
        let message = PubMsg {
            client_id: self.barrier_id(),
            guid: "barrier".to_owned(),
            subject: channel.to_owned(),
            ..PubMsg::default()
        };
        let subject = format!("_STAN.pub.{CLUSTER_ID}.any");
        self.ask_for_barrier(&subject, &message);
    }

    /// The answers wait for everything that was sent before, acknowledgements included. The reference takes unsubscribe
    /// and close requests of subscriptions side by side, so each kind has its own.
    pub(crate) fn ask_behind_everything(&mut self) {
        let request = UnsubscribeRequest {
            client_id: self.barrier_id(),
            subject: format!("{}.none", self.prefix),
            ..UnsubscribeRequest::default()
        };
        for kind in ["unsub", "subclose"] {
            self.ask_for_barrier(&format!("_STAN.{kind}.{CLUSTER_ID}"), &request);
        }
    }

    pub(crate) fn subscribe_barrier(&mut self) {
        let request = SubscriptionRequest {
            client_id: self.barrier_id(),
            subject: self.barrier_channel(),
            inbox: self.barrier_inbox(),
            max_in_flight: 10,
            ack_wait_in_secs: 120,
            start_position: StartPosition::LastReceived.into(),
            ..SubscriptionRequest::default()
        };
        let subject = format!("_STAN.sub.{CLUSTER_ID}");
        self.ask_for_barrier(&subject, &request);
    }

    pub(crate) fn end_barrier(&mut self) {
        let request = UnsubscribeRequest {
            client_id: self.barrier_id(),
            subject: self.barrier_channel(),
            inbox: self.barrier_inbox(),
            ..UnsubscribeRequest::default()
        };
        let subject = format!("_STAN.unsub.{CLUSTER_ID}");
        self.ask_for_barrier(&subject, &request);
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

    /// Closes every client, the barrier's own as the last.
    pub(crate) fn ask_all_to_close(&mut self) {
        let clients: Vec<_> = self.known.clients.keys().copied().collect();
        let mut ids: Vec<_> = clients
            .iter()
            .map(|client| self.client_id(*client))
            .collect();
        ids.push(self.barrier_id());
        for client_id in ids {
            let request = CloseRequest { client_id };
            let subject = format!("_STAN.close.{CLUSTER_ID}");
            self.ask_for_barrier(&subject, &request);
        }
    }
}
