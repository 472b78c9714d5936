//! Connect, ping and close requests; registration and its end.

use std::time::Duration;

use broker_proto::streaming::{
    ClientInfo, CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, Ping, PingResponse,
};
use bytes::Bytes;
use prost::Message as _;

use super::{
    Engine, clients::Probe, heartbeat::Inquiry, keys::ClientKey, names::is_client_id,
    texts::Refusal, tickets::Promise, timers::TimerKey,
};
use crate::{Now, durable::Change};

/// How long the owner of a client id may take to show that it is alive. Clients wait 2 s for the
/// answer to their connect request.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The protocol level announced to every client.
const PROTOCOL: i32 = 1;

impl Engine {
    pub(super) fn connect(&mut self, payload: &[u8], reply: &[u8], now: Now) {
        let reply = Bytes::copy_from_slice(reply);
        let request = match ConnectRequest::decode(payload) {
            Ok(request) if !request.heartbeat_inbox.is_empty() => request,
            _ => return self.refuse_connect(&reply, &Refusal::InvalidConnect),
        };
        if !is_client_id(&request.client_id) {
            return self.refuse_connect(&reply, &Refusal::InvalidClientId);
        }
        let Some(owner) = self.clients.by_id(&request.client_id) else {
            return self.register(request, reply, now);
        };
        if self.clients.get(owner).probe.is_some() {
            return self.refuse_connect(&reply, &Refusal::ClientIdTaken);
        }
        let probe = self.inquire(owner, Inquiry::Probe(owner), PROBE_TIMEOUT, now);
        self.clients.get_mut(owner).probe = Some(Probe {
            request: probe,
            connect: request,
            reply,
        });
    }

    /// The owner of a client id is alive.
    pub(super) fn probe_answered(&mut self, owner: ClientKey) {
        if let Some(probe) = self.clients.get_mut(owner).probe.take() {
            self.refuse_connect(&probe.reply, &Refusal::ClientIdTaken);
        }
    }

    fn register(&mut self, request: ConnectRequest, reply: Bytes, now: Now) {
        let response = self.connect_response(&request);
        let info = ClientInfo {
            id: request.client_id,
            hb_inbox: request.heartbeat_inbox,
            conn_id: request.conn_id,
            protocol: request.protocol,
            ping_interval: request.ping_interval,
            ping_max_out: request.ping_max_out,
        };
        let client = self.clients.register(info.clone());
        self.arm_heartbeat(client, now);
        let (id, conn_id) = (info.id.clone(), info.conn_id.clone());
        let serial = self.clients.get(client).serial;
        let ticket = self.tickets.issue(
            1,
            Promise::Connect {
                client,
                serial,
                reply,
                response,
            },
        );
        let draft = self.general_draft();
        draft.changes.push(Change::PutClient(info));
        draft.tickets.push(ticket);
        self.registered(&id, &conn_id, now);
    }

    fn connect_response(&self, request: &ConnectRequest) -> ConnectResponse {
        let info = &self.subjects.info;
        let response = ConnectResponse {
            pub_prefix: info.publish.clone(),
            sub_requests: info.subscribe.clone(),
            unsub_requests: info.unsubscribe.clone(),
            close_requests: info.close.clone(),
            sub_close_requests: info.sub_close.clone(),
            protocol: PROTOCOL,
            ..ConnectResponse::default()
        };
        if request.protocol < 1 {
            return response;
        }
        ConnectResponse {
            ping_requests: self.subjects.pings.clone(),
            ping_interval: request.ping_interval,
            ping_max_out: request.ping_max_out,
            ..response
        }
    }

    /// The registration is durable, or was refused.
    pub(super) fn answer_connect(
        &mut self,
        client: ClientKey,
        serial: u64,
        reply: &Bytes,
        response: &ConnectResponse,
        outcome: Result<(), String>,
    ) {
        match outcome {
            Ok(()) => self.answer(reply, response),
            Err(reason) => {
                if self.clients.is_current(client, serial) {
                    let now = self.now;
                    self.close_client(client, Bytes::new(), now);
                }
                self.refuse_connect(reply, &Refusal::Store(reason));
            }
        }
    }

    fn refuse_connect(&mut self, reply: &Bytes, refusal: &Refusal) {
        let response = ConnectResponse {
            error: refusal.to_string(),
            ..ConnectResponse::default()
        };
        self.answer(reply, &response);
    }

    pub(super) fn ping(&mut self, payload: &[u8], reply: &[u8], now: Now) {
        let Ok(ping) = Ping::decode(payload) else {
            return;
        };
        if payload.is_empty() {
            return;
        }
        let client = match ping.conn_id.is_empty() {
            true => None,
            false => self.clients.by_conn_id(&ping.conn_id),
        };
        let error = client.map_or_else(|| Refusal::ClientReplaced.to_string(), |_| String::new());
        self.answer(&Bytes::copy_from_slice(reply), &PingResponse { error });
        if let Some(key) = client {
            let client = self.clients.get(key);
            // It is there after all: asked at once, so that it gets its messages again.
            if client.failed_heartbeats > 0 && client.heartbeat.is_none() {
                self.send_heartbeat(key, now);
            }
        }
    }

    pub(super) fn close(&mut self, payload: &[u8], reply: &[u8], now: Now) {
        let reply = Bytes::copy_from_slice(reply);
        let Ok(request) = CloseRequest::decode(payload) else {
            return self.answer_close(&reply, Some(&Refusal::InvalidClose));
        };
        match self.clients.by_id(&request.client_id) {
            Some(client) => self.close_client(client, reply, now),
            None => self.answer_close(&reply, Some(&Refusal::UnknownClient)),
        }
    }

    /// Ends a registration: plain subscriptions go, durables go offline. The reply is answered when
    /// that is durable.
    ///
    /// The client's record is removed after those of its subscriptions, since a member of a durable
    /// group without a client is taken for a ghost at recovery.
    pub(super) fn close_client(&mut self, key: ClientKey, reply: Bytes, now: Now) {
        self.timers.disarm(TimerKey::Heartbeat(key));
        let subs = std::mem::take(&mut self.clients.get_mut(key).subs);
        let mut lanes = Vec::new();
        for sub in subs {
            let lane = self.lane_of(self.subs[sub].channel);
            if !lanes.contains(&lane) {
                lanes.push(lane);
            }
            self.leave(sub, true, now);
        }
        let client = self.clients.unregister(key);
        if let Some(request) = client.heartbeat {
            self.end_inquiry(request);
        }
        lanes.retain(|lane| *lane != 0);
        if lanes.is_empty() {
            self.forget_client(client.info.id, reply);
        } else {
            let promise = Promise::ForgetClient {
                id: client.info.id,
                reply,
            };
            let ticket = self.tickets.issue(lanes.len(), promise);
            for lane in lanes {
                self.lanes[lane]
                    .open(&mut self.draft_serials)
                    .tickets
                    .push(ticket);
            }
        }
        if let Some(probe) = client.probe {
            self.end_inquiry(probe.request);
            self.register(probe.connect, probe.reply, now);
        }
    }

    /// Removes the record of a closed client, unless a new one has taken the id and the record.
    pub(super) fn forget_client(&mut self, id: String, reply: Bytes) {
        let ticket = self.tickets.issue(1, Promise::Close { reply });
        let is_taken = self.clients.by_id(&id).is_some();
        let draft = self.general_draft();
        if !is_taken {
            draft.changes.push(Change::DeleteClient { id });
        }
        draft.tickets.push(ticket);
    }

    pub(super) fn answer_close(&mut self, reply: &Bytes, refusal: Option<&Refusal>) {
        let error = refusal.map_or_else(String::new, Refusal::to_string);
        self.answer(reply, &CloseResponse { error });
    }
}
