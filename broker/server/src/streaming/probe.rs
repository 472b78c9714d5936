//! Whether another streaming server answers for this cluster id, asked before serving
//! (`ensureRunningStandAlone`): with a connect request whose client id is the cluster id.

use std::time::Duration;

use broker_core::effect::{HandlerId, Payload};
use broker_proto::streaming::{CloseRequest, ConnectRequest, ConnectResponse};
use bytes::Bytes;
use prost::Message as _;
use tokio::{sync::oneshot, time::timeout};

use super::driver::Shared;

/// How long another server may take to answer, as with the reference.
const PATIENCE: Duration = Duration::from_millis(250);

/// Not a number of the engine's handlers.
pub(super) const HANDLER: HandlerId = HandlerId(u32::MAX as u64);

/// What came to our reply subject.
#[derive(Debug)]
pub(super) enum Answer {
    Payload(Vec<u8>),
    /// The NATS server's own: nobody is there.
    NoResponders,
}

/// The cluster id is taken. Wording of the reference.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Taken {
    #[error("discovered another streaming server with cluster ID {0:?}")]
    Discovered(String),
    /// Something answers that is no streaming server.
    #[error("unmarshall error while detecting another server instance: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

/// Asks on the discovery subject.
///
/// # Errors
/// Somebody has answered, whatever it was.
pub(super) async fn ask(
    shared: &Shared,
    discovery: &str,
    cluster_id: &str,
    inbox: &str,
) -> Result<(), Taken> {
    let (sender, answered) = oneshot::channel();
    shared.await_answer(sender);
    let request = ConnectRequest {
        client_id: cluster_id.to_owned(),
        // Nobody listens there, so that the one who registers us forgets us soon.
        heartbeat_inbox: format!("{inbox}.hb"),
        ..ConnectRequest::default()
    };
    shared
        .host()
        .with_internal(|_, bus| bus.subscribe(inbox.as_bytes(), HANDLER));
    let interest = shared.publish(discovery, inbox, request.encode_to_vec());
    let answer = match interest {
        true => timeout(PATIENCE, answered).await.ok().and_then(Result::ok),
        false => None,
    };
    shared
        .host()
        .with_internal(|_, bus| bus.unsubscribe(HANDLER));
    let Some(Answer::Payload(answer)) = answer else {
        return Ok(());
    };
    let response = ConnectResponse::decode(answer.as_slice())?;
    if !response.close_requests.is_empty() {
        let request = CloseRequest {
            client_id: cluster_id.to_owned(),
        };
        shared.publish(&response.close_requests, "", request.encode_to_vec());
    }
    Err(Taken::Discovered(cluster_id.to_owned()))
}

impl Shared {
    /// Returns whether anybody may be there.
    fn publish(&self, subject: &str, reply: &str, payload: Vec<u8>) -> bool {
        let payload = Payload::new(Bytes::from(payload));
        let published = self
            .host()
            .with_internal(|_, bus| bus.publish(subject.as_bytes(), reply.as_bytes(), &payload));
        published.unwrap_or(false)
    }
}
