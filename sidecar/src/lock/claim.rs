//! The broker's own view of the lock: `GET /lockz` of its monitoring port.

use std::time::Duration;

use axum::body::Body;
use broker_store::watch::Claim;
use hyper::{Request, StatusCode, Uri, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

/// For the whole exchange with a neighbour on the same machine; looks are a second apart.
const EXCHANGE: Duration = Duration::from_millis(900);
const MAX_ANSWER_BYTES: usize = 4096;

/// Why the broker's claim is not known.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("connecting to the broker's monitoring failed")]
    Connect(#[source] std::io::Error),
    #[error("asking the broker's monitoring failed")]
    Http(#[from] hyper::Error),
    #[error("the broker's monitoring answered with status {0}")]
    Status(StatusCode),
    #[error("the broker's answer cannot be read")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the broker's monitoring did not answer in {EXCHANGE:?}")]
    TimedOut,
}

#[derive(Deserialize)]
struct Lockz {
    state: State,
    #[serde(default)]
    owner_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Active,
    Standby,
    None,
}

/// Asks the monitoring at `base` (`http://HOST[:PORT]`). Cancel-safe.
///
/// # Errors
/// See [`ClaimError`].
pub async fn ask(base: &Uri) -> Result<Claim, ClaimError> {
    timeout(EXCHANGE, exchange(base))
        .await
        .map_err(|_| ClaimError::TimedOut)?
}

async fn exchange(base: &Uri) -> Result<Claim, ClaimError> {
    let authority = base
        .authority()
        .expect("the configuration has checked that there is a host");
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port = base.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(ClaimError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .uri("/lockz")
        .header(HOST, authority.as_str())
        .body(Body::empty())
        .expect("a constant path and an authority that was parsed");
    let answer = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(ClaimError::Status(answer.status()));
        }
        axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES)
            .await
            .map_err(|error| ClaimError::Answer(error.into()))
    };
    tokio::pin!(answer);
    let body = tokio::select! {
        body = &mut answer => body?,
        ended = connection => {
            ended?;
            answer.await?
        }
    };
    let lockz: Lockz =
        serde_json::from_slice(&body).map_err(|error| ClaimError::Answer(error.into()))?;
    Ok(match lockz.state {
        State::Active => Claim::Active {
            owner_id: lockz.owner_id,
        },
        State::Standby => Claim::Standby,
        State::None => Claim::None,
    })
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use deploy_runtime::admin::AdminServer;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn broker_that_says(text: &'static str) -> Uri {
        let mut server = AdminServer::new(prometheus::Registry::new());
        server.merge(Router::new().route("/lockz", get(move || std::future::ready(text))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        tokio::spawn(server.serve(listener, CancellationToken::new()));
        base
    }

    #[tokio::test]
    async fn states_are_understood_and_others_are_errors() {
        for (text, expected) in [
            (
                r#"{"state":"active","owner_id":"x"}"#,
                Some(Claim::Active {
                    owner_id: "x".to_owned(),
                }),
            ),
            (r#"{"state":"standby","owner_id":""}"#, Some(Claim::Standby)),
            (r#"{"state":"none"}"#, Some(Claim::None)),
            (r#"{"state":"happy"}"#, None),
            ("no json", None),
        ] {
            let base = broker_that_says(text).await;
            assert_eq!(ask(&base).await.ok(), expected, "{text}");
        }
    }
}
