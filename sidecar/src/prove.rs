//! Proof of a renewal: asks the broker's port which certificate it serves.
//!
//! The broker follows its files by itself; whether it really did is seen from outside only. NATS
//! servers send an INFO line in clear and upgrade to TLS after it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certs::{
    inspect::CertificateInfo,
    reload::{ClientTls, ReloadError, TlsFiles},
    settings::TlsSettings,
};
use deploy_runtime::admin::ReadyHandle;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How long the broker may take to serve a new certificate. It looks at its files every few seconds.
pub const WITHIN: Duration = Duration::from_secs(60);
/// For one look: connecting, INFO, handshake.
const LOOK: Duration = Duration::from_secs(5);
/// Between looks while the proof may still succeed in time.
const PAUSE: Duration = Duration::from_millis(500);
/// Between looks once it is late: a broker that comes up later is still noticed.
const LATE_PAUSE: Duration = Duration::from_secs(5);
/// Longest INFO line that is read; the reference's clients accept 32 KiB.
const MAX_INFO_BYTES: usize = 64 * 1024;

/// Why a look at the port did not show a certificate.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("own TLS files cannot be used")]
    Files(#[from] ReloadError),
    #[error("{0} failed")]
    Io(&'static str, #[source] std::io::Error),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("no answer in {LOOK:?}")]
    TimedOut,
    #[error("the TLS handshake failed")]
    Handshake(#[source] std::io::Error),
}

/// Connects to the NATS port at `address` and gives back the serial of the certificate that is served
/// there, in the form of [`CertificateInfo::serial_hex`].
///
/// `own` are the files of a leaf to show where the server asks for one. The server's chain and name are
/// not verified, only that it holds the key of what it shows: a certificate from before a change of
/// names or authority is to be reported by its serial, not as a failed handshake.
///
/// # Errors
/// See [`LookError`].
pub async fn served_serial(address: &str, own: &Identity) -> Result<String, LookError> {
    timeout(LOOK, look(address, own))
        .await
        .map_err(|_| LookError::TimedOut)?
}

/// How the sidecar presents itself when it looks.
#[derive(Clone, Debug)]
pub enum Identity {
    /// With the leaf in these files.
    Certificate(TlsFiles),
    /// Without one; only the `ca` of these files is read.
    Anonymous(TlsFiles),
}

async fn look(address: &str, own: &Identity) -> Result<String, LookError> {
    let recorder = Arc::new(Recorder::default());
    let config = Arc::new(recording(own, Arc::clone(&recorder))?);
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|error| LookError::Io("connecting", error))?;
    read_info(&mut stream).await?;
    // Not verified, and an address sends no server name indication.
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let handshake = TlsConnector::from(config).connect(name, stream).await;
    // What was shown and signed for counts even if the server refuses us afterwards.
    match (recorder.proven(), handshake) {
        (Some(serial), _) => Ok(serial),
        (None, Err(error)) => Err(LookError::Handshake(error)),
        (None, Ok(_)) => Err(LookError::Protocol("the server showed no certificate")),
    }
}

/// The sidecar's own client configuration with a verifier that takes note.
fn recording(own: &Identity, recorder: Arc<Recorder>) -> Result<ClientConfig, ReloadError> {
    let tls = match own {
        Identity::Certificate(files) => ClientTls::load(files.clone().client())?,
        Identity::Anonymous(files) => ClientTls::load(TlsSettings::trusting(files.ca.clone()))?,
    };
    let mut config = ClientConfig::clone(&tls.current());
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    config.dangerous().set_certificate_verifier(recorder);
    Ok(config)
}

/// Reads up to the end of the INFO line and not a byte further.
async fn read_info(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), LookError> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(default)]
        tls_required: bool,
        #[serde(default)]
        tls_available: bool,
    }
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() >= MAX_INFO_BYTES {
            return Err(LookError::Protocol(
                "the first line is too long for an INFO",
            ));
        }
        let byte = stream
            .read_u8()
            .await
            .map_err(|error| LookError::Io("reading INFO", error))?;
        line.push(byte);
    }
    let json = line
        .strip_prefix(b"INFO ")
        .ok_or(LookError::Protocol("not a NATS server"))?;
    let info: Info = serde_json::from_slice(json)
        .map_err(|_| LookError::Protocol("the INFO line is not JSON"))?;
    if info.tls_required || info.tls_available {
        Ok(())
    } else {
        Err(LookError::Protocol("the server offers no TLS"))
    }
}

/// Accepts any certificate whose key signs the handshake, and remembers its serial.
#[derive(Debug)]
struct Recorder {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    serial: Option<String>,
    signed: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Self {
            algorithms: provider.signature_verification_algorithms,
            seen: Mutex::default(),
        }
    }
}

impl Recorder {
    fn proven(&self) -> Option<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.serial.clone().filter(|_| seen.signed)
    }

    fn signed(&self) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .signed = true;
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = CertificateInfo::from_der(end_entity)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .serial = Some(shown.serial_hex);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms).inspect(|_| self.signed())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms).inspect(|_| self.signed())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Proves every renewal of the server certificate.
#[derive(Debug)]
pub struct Prover {
    /// `HOST:PORT`.
    pub address: String,
    pub own: Identity,
    /// How long a proof may take before it counts as failed; [`WITHIN`].
    pub within: Duration,
    /// Serial of the newest certificate on disk, once there is one.
    pub expected: watch::Receiver<Option<String>>,
    pub metrics: Metrics,
    pub ready: ReadyHandle,
}

impl Prover {
    /// Runs until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        loop {
            let expected = self.expected.borrow_and_update().clone();
            let mut expected_changed = self.expected.clone();
            let proof = async {
                if let Some(expected) = expected {
                    self.prove(&expected).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = token.cancelled() => return,
                changed = expected_changed.changed() => if changed.is_err() {
                    return;
                },
                () = proof => {}
            }
        }
    }

    /// Looks until `expected` is served. After [`within`](Self::within) the failure is told, and
    /// looking goes on. Cancel-safe.
    async fn prove(&self, expected: &str) {
        self.metrics.proven_serial_match.set(0);
        let begin = Instant::now();
        let mut late = false;
        loop {
            let outcome = served_serial(&self.address, &self.own).await;
            if outcome.as_ref().is_ok_and(|served| served == expected) {
                self.proven(expected, begin.elapsed());
                return;
            }
            if !late && begin.elapsed() >= self.within {
                late = true;
                self.failed(expected, &outcome);
            }
            sleep(if late {
                LATE_PAUSE
            } else {
                PAUSE.min(self.within)
            })
            .await;
        }
    }

    fn proven(&self, serial: &str, took: Duration) {
        tracing::info!(
            serial,
            ?took,
            address = self.address,
            "the broker serves the certificate"
        );
        self.metrics.proven_serial_match.set(1);
        self.metrics.proofs.with_label_values(&["ok"]).inc();
        self.ready.set(true);
    }

    fn failed(&self, expected: &str, outcome: &Result<String, LookError>) {
        let (label, served, error) = match outcome {
            Ok(served) => ("wrong_serial", served.as_str(), String::new()),
            Err(error) => ("unreachable", "unknown", certs::causes::one_line(error)),
        };
        tracing::error!(
            address = self.address,
            served,
            expected,
            error,
            "the broker does not serve the newest certificate"
        );
        self.metrics.proofs.with_label_values(&[label]).inc();
        self.ready.set_with_reason(
            false,
            format!("served serial {served}, expected {expected}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_line_has_to_be_an_info_that_offers_tls() {
        for (line, good) in [
            ("INFO {\"server_id\":\"x\",\"tls_required\":true}\r\n", true),
            ("INFO {\"tls_available\":true} \r\n", true),
            ("INFO {\"server_id\":\"x\"}\r\n", false),
            ("INFO no json\r\n", false),
            ("HTTP/1.1 400 Bad Request\r\n", false),
            ("INFO {", false),
        ] {
            assert_eq!(
                read_info(&mut line.as_bytes()).await.is_ok(),
                good,
                "{line}"
            );
        }
        let long = vec![b'x'; MAX_INFO_BYTES + 1];
        assert!(matches!(
            read_info(&mut long.as_slice()).await,
            Err(LookError::Protocol(_))
        ));
    }
}
