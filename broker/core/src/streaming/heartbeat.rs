//! Requests of the server to its clients: heartbeats, and the question whether the owner of a
//! client id is still there. "No responders" is never a sign of life.

use bytes::Bytes;

use super::{Engine, keys::ClientKey, names::is_publishable, timers::TimerKey};
use crate::{
    Now,
    effect::{Effect, Payload, RequestId},
};

/// What a request to a client is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inquiry {
    Heartbeat(ClientKey),
    Probe(ClientKey),
}

impl Engine {
    pub(super) fn arm_heartbeat(&mut self, key: ClientKey, now: Now) {
        let at = now.monotonic + self.config.heartbeat_interval;
        self.timers.arm(TimerKey::Heartbeat(key), at);
    }

    pub(super) fn send_heartbeat(&mut self, key: ClientKey, now: Now) {
        let timeout = self.config.heartbeat_timeout;
        self.timers.disarm(TimerKey::Heartbeat(key));
        let request = self.inquire(key, Inquiry::Heartbeat(key), timeout, now);
        self.clients.get_mut(key).heartbeat = Some(request);
    }

    /// Sends an empty request to a client's heartbeat inbox.
    pub(super) fn inquire(
        &mut self,
        key: ClientKey,
        inquiry: Inquiry,
        timeout: std::time::Duration,
        now: Now,
    ) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.inquiries.insert(request, inquiry);
        self.timers
            .arm(TimerKey::Unanswered(request.0), now.monotonic + timeout);
        let inbox = &self.clients.get(key).info.hb_inbox;
        if is_publishable(inbox) {
            self.effects.push_back(Effect::Publish {
                subject: Bytes::copy_from_slice(inbox.as_bytes()),
                reply: format!("{}.{}", self.subjects.answers, request.0).into(),
                payload: Payload::default(),
                request: Some(request),
            });
        }
        request
    }

    /// A message came to one of our reply subjects.
    pub(super) fn answered(&mut self, subject: &[u8], now: Now) {
        let Some(inquiry) = request_of(subject).and_then(|request| self.end_inquiry(request))
        else {
            return;
        };
        match inquiry {
            Inquiry::Heartbeat(key) => {
                let client = self.clients.get_mut(key);
                client.heartbeat = None;
                client.failed_heartbeats = 0;
                self.arm_heartbeat(key, now);
            }
            Inquiry::Probe(key) => self.probe_answered(key),
        }
    }

    /// Nobody answered in time, or nobody was there to answer.
    pub(super) fn unanswered(&mut self, request: RequestId, now: Now) {
        match self.end_inquiry(request) {
            Some(Inquiry::Heartbeat(key)) => {
                let client = self.clients.get_mut(key);
                client.heartbeat = None;
                client.failed_heartbeats += 1;
                if client.failed_heartbeats > self.config.heartbeat_fail_count {
                    self.close_client(key, Bytes::new(), now);
                } else {
                    self.arm_heartbeat(key, now);
                }
            }
            // The one who waits takes the id over.
            Some(Inquiry::Probe(key)) => self.close_client(key, Bytes::new(), now),
            None => {}
        }
    }

    /// The NATS server says on a reply subject of ours that nobody was there.
    pub fn no_responders_on(&mut self, reply: &[u8], now: Now) {
        if let Some(request) = request_of(reply) {
            self.no_responders(request, now);
        }
    }

    /// Stops waiting for a request.
    pub(super) fn end_inquiry(&mut self, request: RequestId) -> Option<Inquiry> {
        let inquiry = self.inquiries.remove(&request)?;
        self.timers.disarm(TimerKey::Unanswered(request.0));
        Some(inquiry)
    }
}

fn request_of(subject: &[u8]) -> Option<RequestId> {
    let token = subject.rsplit(|byte| *byte == b'.').next()?;
    std::str::from_utf8(token).ok()?.parse().ok().map(RequestId)
}
