//! Whether another streaming server answers for this cluster id, asked before serving
//! (`ensureRunningStandAlone`): with a connect request whose client id is the cluster id.

use std::time::{Duration, Instant};

use broker_core::effect::HandlerId;
use broker_proto::streaming::{CloseRequest, ConnectRequest, ConnectResponse};
use prost::Message as _;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::driver::Shared;

/// How long another server may take to answer, as with the reference.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long after the start of the process routes may take to stand and to tell us what is wanted there.
const JOINING: Duration = Duration::from_millis(500);
const JOINING_POLL: Duration = Duration::from_millis(10);

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
    let host = shared.host();
    host.with_internal(|_, bus| bus.subscribe(inbox.as_bytes(), HANDLER));
    // Over a connection that is only just served, or lost, nobody would seem to be there.
    host.settled().await;
    let request = ConnectRequest {
        client_id: cluster_id.to_owned(),
        // Nobody listens there, so that the one who registers us forgets us soon.
        heartbeat_inbox: format!("{inbox}.hb"),
        ..ConnectRequest::default()
    };
    let answer = match shared.ask_whoever_comes(discovery, inbox, &request).await {
        true => timeout(PATIENCE, answered).await.ok().and_then(Result::ok),
        false => None,
    };
    host.with_internal(|_, bus| bus.unsubscribe(HANDLER));
    let Some(Answer::Payload(answer)) = answer else {
        return Ok(());
    };
    let response = ConnectResponse::decode(answer.as_slice())?;
    if !response.close_requests.is_empty() {
        let request = CloseRequest {
            client_id: cluster_id.to_owned(),
        };
        shared.publish(&response.close_requests, "", &request);
    }
    Err(Taken::Discovered(cluster_id.to_owned()))
}

impl Shared {
    /// Publishes until somebody is there who may answer; where routes are dialled that takes a moment after
    /// the start. False: nobody.
    async fn ask_whoever_comes(
        &self,
        discovery: &str,
        inbox: &str,
        request: &ConnectRequest,
    ) -> bool {
        let until = self.began() + JOINING;
        while !self.publish(discovery, inbox, request) {
            if !self.host().dials_routes() || Instant::now() >= until {
                return false;
            }
            sleep(JOINING_POLL).await;
        }
        true
    }

    /// Returns whether anybody may be there.
    fn publish(&self, subject: &str, reply: &str, message: &impl prost::Message) -> bool {
        let payload = message.encode_to_vec();
        let payloads: &[[&[u8]; 2]] = &[[&payload, b""]];
        let published = self
            .host()
            .with_internal(|_, bus| bus.publish(subject.as_bytes(), reply.as_bytes(), payloads));
        published.unwrap_or(false)
    }
}
