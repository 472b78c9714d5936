//! The program as a process, over a real socket: offline admission with a certificate of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A running `stanchion-webhook serve`, killed when dropped.
struct Webhook {
    process: Child,
    address: String,
}

impl Webhook {
    fn start(authority: &Path, namespaces: &Path, lifetime: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_stanchion-webhook"))
            .args([
                "serve",
                "--offline",
                "--roles=admission",
                "--log-format=json",
            ])
            .args([
                "--listen=127.0.0.1:0",
                "--admin=127.0.0.1:0",
                "--drain-delay=0s",
            ])
            .arg("--serving-name=127.0.0.1")
            .arg(format!("--serving-lifetime={lifetime}"))
            .arg(format!("--authority-dir={}", authority.display()))
            .arg(format!("--namespaces={}", namespaces.display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "ended before it served"
            );
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "serving" {
                break entry["address"].as_str().unwrap().to_owned();
            }
        };
        // A full pipe would stop the program in the middle of a log line.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, address }
    }

    /// One exchange on a new connection; with the certificate that was served.
    async fn post(&self, authority: &Path, body: Vec<u8>) -> (StatusCode, Value, Vec<u8>) {
        let mut roots = rustls::RootCertStore::empty();
        let ca = std::fs::read(authority.join("ca.pem")).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&ca).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let served = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let talk = tokio::spawn(connection);
        let request = Request::post("/mutate")
            .header("host", "webhook")
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(Body::new(answer.into_body()), usize::MAX)
            .await
            .unwrap();
        drop(sender);
        talk.abort();
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or_default(),
            served,
        )
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn review(annotations: &Value) -> Vec<u8> {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u-1", "operation": "CREATE", "namespace": "app",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {"metadata": {"generateName": "a-", "annotations": annotations},
                       "spec": {"containers": [{"name": "app", "image": "app"}]}}},
    })
    .to_string()
    .into_bytes()
}

const NAMESPACES: &str = "
kind: Namespace
metadata: {name: nats-io, annotations: {stanchion.dev/allow-namespaces: app}}
";

#[tokio::test]
async fn a_review_over_https_gets_its_patch_and_the_certificate_renews_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, namespaces) = (
        directory.path().join("ca"),
        directory.path().join("namespaces.yaml"),
    );
    std::fs::write(&namespaces, NAMESPACES).unwrap();
    let webhook = Webhook::start(&authority, &namespaces, "12s");
    let asks = json!({"stanchion.dev/inject": "true", "stanchion.dev/cluster": "nats-io/labs"});
    let (status, answer, first) = webhook.post(&authority, review(&asks)).await;
    assert_eq!(
        (status, &answer["response"]["allowed"]),
        (StatusCode::OK, &json!(true))
    );
    assert_eq!(answer["response"]["patchType"], "JSONPatch");

    // It is replaced within its life, of which a third is left for a busy machine, under the open listener.
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(100));
    loop {
        looks.tick().await;
        let (_, answer, served) = webhook
            .post(&authority, review(&json!({"stanchion.dev/injekt": "true"})))
            .await;
        assert_eq!(answer["response"]["allowed"], false);
        if served != first {
            break;
        }
        assert!(
            tokio::time::Instant::now() < patience,
            "the certificate was never replaced"
        );
    }
}

#[tokio::test]
async fn what_is_too_large_or_no_review_is_answered_with_a_review() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, namespaces) = (
        directory.path().join("ca"),
        directory.path().join("namespaces.yaml"),
    );
    std::fs::write(&namespaces, NAMESPACES).unwrap();
    let webhook = Webhook::start(&authority, &namespaces, "1h");
    let (status, answer, _) = webhook.post(&authority, b"no review".to_vec()).await;
    assert_eq!(
        (status, &answer["response"]["status"]["code"]),
        (StatusCode::OK, &json!(400))
    );
    let (status, answer, _) = webhook
        .post(&authority, vec![b' '; 7 * 1024 * 1024 + 1])
        .await;
    assert_eq!(
        (status, &answer["response"]["status"]["code"]),
        (StatusCode::OK, &json!(413))
    );
}

#[tokio::test]
async fn a_request_to_stop_ends_it_with_success() {
    let directory = tempfile::tempdir().unwrap();
    let namespaces = directory.path().join("namespaces.yaml");
    std::fs::write(&namespaces, NAMESPACES).unwrap();
    let mut webhook = Webhook::start(&directory.path().join("ca"), &namespaces, "1h");
    let process = webhook.process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &process])
            .status()
            .unwrap()
            .success()
    );
    assert!(webhook.process.wait().unwrap().success());
}

#[test]
fn flags_that_contradict_each_other_end_it_with_one_line() {
    let refused = Command::new(env!("CARGO_BIN_EXE_stanchion-webhook"))
        .args([
            "serve",
            "--offline",
            "--roles=admission,issuer",
            "--authority-dir=/nowhere",
        ])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the issuer needs an API server"), "{said}");
}
