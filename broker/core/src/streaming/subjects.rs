//! Subjects the server listens on. The persisted ones win over what would be computed today.

use broker_proto::streaming::ServerInfo;
use bytes::Bytes;

use super::keys::Handler;

#[derive(Debug)]
pub(super) struct Subjects {
    pub(super) info: ServerInfo,
    pub(super) pings: String,
    /// Prefix of the reply subjects of our own requests, without the final dot.
    pub(super) answers: String,
}

/// What a first start persists.
pub(super) fn first_server_info(cluster_id: &str, discover_prefix: &str) -> ServerInfo {
    ServerInfo {
        cluster_id: cluster_id.to_owned(),
        discovery: format!("{discover_prefix}.{cluster_id}"),
        publish: format!("_STAN.pub.{cluster_id}"),
        subscribe: format!("_STAN.sub.{cluster_id}"),
        unsubscribe: format!("_STAN.unsub.{cluster_id}"),
        close: format!("_STAN.close.{cluster_id}"),
        sub_close: sub_close(cluster_id),
        acks_subs: format!("_STAN.ack.{cluster_id}"),
        node_id: String::new(),
    }
}

/// Very old servers did not persist this one.
pub(super) fn sub_close(cluster_id: &str) -> String {
    format!("_STAN.subclose.{cluster_id}")
}

impl Subjects {
    /// `answers` is a fresh inbox.
    pub(super) fn new(info: ServerInfo, answers: String) -> Self {
        let pings = format!("{}.pings", info.discovery);
        Self {
            info,
            pings,
            answers,
        }
    }

    /// Where servers tell each other their channels.
    pub(super) fn partition(&self) -> String {
        format!("_STAN.part.{}", self.info.cluster_id)
    }

    /// What each handler that lives as long as the engine listens on.
    pub(super) fn subject_of(&self, handler: Handler) -> Option<Bytes> {
        let subject = match handler {
            Handler::Connect => self.info.discovery.clone(),
            Handler::Ping => self.pings.clone(),
            Handler::Publish => format!("{}.>", self.info.publish),
            Handler::Subscribe => self.info.subscribe.clone(),
            Handler::Unsubscribe => self.info.unsubscribe.clone(),
            Handler::SubClose => self.info.sub_close.clone(),
            Handler::Close => self.info.close.clone(),
            Handler::Answer => format!("{}.*", self.answers),
            Handler::Partition => self.partition(),
            Handler::Ack { .. } => return None,
        };
        Some(subject.into())
    }
}
