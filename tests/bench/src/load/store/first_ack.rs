//! A start on a store that holds much, until somebody can publish.

use std::path::Path;
use std::time::{Duration, Instant};

use super::publish::channel;
use crate::server::{Contender, Server};
use crate::streaming::StreamingClient;

/// Every payload, bytes.
const PAYLOAD_BYTES: usize = 128;
/// A server listens before it answers streaming requests: asked again so often ...
const AGAIN: Duration = Duration::from_millis(20);
/// ... and so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// From before exec until a publication to a channel that is stored already is acknowledged.
///
/// # Errors
/// When the server does not start or refuses the publication.
pub(crate) fn start(contender: &Contender, logs: &Path) -> anyhow::Result<(Server, Duration)> {
    let began = Instant::now();
    let server = contender.start(None, logs)?;
    let mut client = StreamingClient::connect_asking(server.address, AGAIN, PATIENCE)?;
    client.publish_to(&[channel(0)], PAYLOAD_BYTES);
    client.wait(true)?;
    client.publish_and_wait()?;
    client.expect_all_acknowledged()?;
    Ok((server, began.elapsed()))
}
