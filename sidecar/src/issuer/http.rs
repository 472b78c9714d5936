//! The issuer of the webhook: a request over HTTPS, with a token that says which pod is asking.
//!
//! Token and authorities are read for every attempt: the kubelet renews the token within its life, and
//! a sidecar that had read it once would be refused from then on.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use axum::body::Body;
use certs::{
    csr::Csr, inspect::CertificateInfo, key::PrivateKey, profile::Profile, reload::ClientTls,
    settings::TlsSettings,
};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Granted, IssueError, Issuer, Issuing};

/// For the whole exchange, from resolving the name to the last byte.
const EXCHANGE: Duration = Duration::from_secs(10);
/// A chain and a bundle of a dozen authorities have some 20 KiB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Of an error text, as much as is worth a log line.
const MAX_MESSAGE_CHARS: usize = 300;

/// Asks `POST /v1/certificates`.
#[derive(Clone, Debug)]
pub struct HttpIssuer {
    url: Uri,
    ca: PathBuf,
    token_file: PathBuf,
    common_name: String,
}

#[derive(Serialize)]
struct Ask<'a> {
    profile: &'a str,
    csr: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    chain: String,
    bundle: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl HttpIssuer {
    /// `url` is `https://HOST[:PORT]`; `common_name` goes into requests for people to read.
    pub fn new(url: Uri, ca: PathBuf, token_file: PathBuf, common_name: String) -> Self {
        Self {
            url,
            ca,
            token_file,
            common_name,
        }
    }

    fn host(&self) -> &str {
        self.url
            .host()
            .expect("the configuration has checked that there is a host")
    }

    fn authority(&self) -> &str {
        self.url
            .authority()
            .expect("a URL with a host has an authority")
            .as_str()
    }

    fn unreachable<E>(&self, action: &'static str) -> impl Fn(E) -> IssueError + '_
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| IssueError::Unreachable {
            host: self.authority().to_owned(),
            action,
            source: source.into(),
        }
    }

    fn token(&self) -> Result<String, IssueError> {
        let failed = |source| IssueError::Token {
            path: self.token_file.clone(),
            source,
        };
        let text = fs::read_to_string(&self.token_file).map_err(failed)?;
        let token = text.trim();
        if token.is_empty() {
            return Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(token.to_owned())
    }

    fn request(&self, profile: Profile, key: &PrivateKey) -> Result<Request<Body>, IssueError> {
        let csr = Csr::make(key, &self.common_name)
            .map_err(|error| IssueError::Request(error.to_string()))?;
        let ask = serde_json::to_vec(&Ask {
            profile: profile.as_str(),
            csr: &csr,
        })
        .expect("two strings are always JSON");
        let mut bearer = hyper::header::HeaderValue::try_from(format!("Bearer {}", self.token()?))
            .map_err(|_| IssueError::Token {
                path: self.token_file.clone(),
                source: io::Error::from(io::ErrorKind::InvalidData),
            })?;
        bearer.set_sensitive(true);
        Request::builder()
            .method(Method::POST)
            .uri("/v1/certificates")
            .header(HOST, self.authority())
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(ask))
            .map_err(|error| IssueError::Request(error.to_string()))
    }

    async fn exchange(
        &self,
        request: Request<Body>,
        tls: Arc<ClientConfig>,
    ) -> Result<(StatusCode, Vec<u8>), IssueError> {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_u16().unwrap_or(443);
        let name = ServerName::try_from(host.to_owned())
            .map_err(self.unreachable("understanding the host name"))?;
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(self.unreachable("connecting"))?;
        let stream = TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(self.unreachable("the TLS handshake"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(self.unreachable("HTTP"))?;
        let answer = async {
            let answer = sender
                .send_request(request)
                .await
                .map_err(self.unreachable("HTTP"))?;
            let status = answer.status();
            let bytes = axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES)
                .await
                .map_err(self.unreachable("reading the answer"))?;
            Ok((status, bytes.to_vec()))
        };
        // The connection is driven here and ends with this future, so cancelling leaves nothing behind.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => match ended {
                // Everything may have arrived by the time that the peer closes.
                Ok(()) => answer.await,
                Err(error) => Err(self.unreachable("HTTP")(error)),
            },
        }
    }

    async fn ask(&self, profile: Profile, key: &PrivateKey) -> Result<Granted, IssueError> {
        let request = self.request(profile, key)?;
        let tls =
            ClientTls::load(TlsSettings::trusting(self.ca.clone())).map_err(IssueError::Trust)?;
        let exchange = timeout(EXCHANGE, self.exchange(request, tls.current()));
        let (status, body) = exchange.await.map_err(|_| IssueError::TimedOut {
            host: self.authority().to_owned(),
        })??;
        if status != StatusCode::OK {
            return Err(IssueError::Refused {
                status: status.as_u16(),
                message: message(&body),
            });
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| IssueError::Answer(error.to_string()))?;
        Ok(Granted {
            chain_pem: answer.chain,
            bundle_pem: answer.bundle,
        })
    }
}

/// The error text of a refusal, fit for a log line.
fn message(body: &[u8]) -> String {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        return "no reason given".to_owned();
    };
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    refusal
        .error
        .chars()
        .map(printable)
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

impl Issuer for HttpIssuer {
    fn issue<'a>(&'a self, profile: Profile, key: &'a PrivateKey) -> Issuing<'a> {
        Box::pin(self.ask(profile, key))
    }

    fn still_wanted(&self, _leaf: &CertificateInfo) -> bool {
        // Policy is known to the issuer only; a change of it ends the pod's life, not the leaf's.
        true
    }
}
