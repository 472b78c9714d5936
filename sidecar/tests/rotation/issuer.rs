//! Source `issuer`, against a small issuer of our own over real HTTPS.

use std::{
    collections::VecDeque,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{Running, http, next_serial, shows};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use certs::{
    authority::{Authority, AuthorityParams},
    csr::Csr,
    inspect::CertificateInfo,
    key::{PrivateKey, PublicKey},
    leaf::LeafRequest,
    profile::Profile,
    reload::{ServerTls, TlsFiles},
};
use deploy_runtime::{Limits, tls_serve};
use serde_json::{Value, json};
use sidecar::{
    config::{Config, Output, Role, Source},
    issuer::{HttpIssuer, IssueError, Issuer},
};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// An issuer that grants client leaves to whoever has the token of the moment.
struct TestIssuer {
    authority: Authority,
    token: Mutex<String>,
    /// Answered before anything is granted.
    refusals: Mutex<VecDeque<StatusCode>>,
    keys: Mutex<Vec<PublicKey>>,
    tokens_seen: Mutex<Vec<String>>,
}

impl TestIssuer {
    fn leaf(&self, profile: Profile, name: &str, key: PublicKey) -> String {
        let request = LeafRequest {
            profile,
            common_name: name.to_owned(),
            dns_names: vec![name.to_owned()],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            uris: Vec::new(),
            lifetime: Duration::from_secs(3600),
            public_key: key,
        };
        self.authority
            .issue(&request, OffsetDateTime::now_utc())
            .unwrap()
            .chain_pem
    }

    fn answer(&self, headers: &HeaderMap, body: &Value) -> (StatusCode, Json<Value>) {
        let bearer = headers["authorization"].to_str().unwrap().to_owned();
        self.tokens_seen.lock().unwrap().push(bearer.clone());
        if bearer != format!("Bearer {}", self.token.lock().unwrap()) {
            return (
                StatusCode::UNAUTHORIZED,
                Json(json!({"error": "token is not valid"})),
            );
        }
        if let Some(status) = self.refusals.lock().unwrap().pop_front() {
            return (status, Json(json!({"error": "come back later"})));
        }
        let csr = Csr::parse(body["csr"].as_str().unwrap()).unwrap();
        self.keys.lock().unwrap().push(csr.public_key().clone());
        let profile = body["profile"].as_str().unwrap().parse().unwrap();
        let chain = self.leaf(profile, "orders.shop", csr.public_key().clone());
        let leaf = CertificateInfo::from_pem(&chain).unwrap();
        let answer = json!({
            "chain": chain,
            "bundle": self.authority.bundle_pem(),
            "serial": leaf.serial_hex,
            "not_before": "2026-01-01T00:00:00Z",
            "not_after": "2026-01-01T00:00:00Z",
        });
        (StatusCode::OK, Json(answer))
    }
}

/// Starts an issuer; its authority is in `dir/issuer-ca.pem`, the token of the moment in `dir/token`.
async fn start_issuer(dir: &Path) -> (Arc<TestIssuer>, SocketAddr) {
    let now = OffsetDateTime::now_utc();
    let issuer = Arc::new(TestIssuer {
        authority: Authority::generate(&AuthorityParams::default(), now).unwrap(),
        token: Mutex::new("first-token".to_owned()),
        refusals: Mutex::default(),
        keys: Mutex::default(),
        tokens_seen: Mutex::default(),
    });
    fs::write(dir.join("issuer-ca.pem"), issuer.authority.bundle_pem()).unwrap();
    fs::write(dir.join("token"), "first-token\n").unwrap();
    let files = TlsFiles::in_dir(dir, Profile::Server);
    let key = PrivateKey::generate().unwrap();
    fs::write(
        &files.cert,
        issuer.leaf(Profile::Server, "issuer", key.public_key()),
    )
    .unwrap();
    fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
    let tls = ServerTls::load(files.server()).unwrap();

    let routes =
        Router::new()
            .route(
                "/v1/certificates",
                post(
                    |State(issuer): State<Arc<TestIssuer>>,
                     headers: HeaderMap,
                     body: Json<Value>| async move {
                        issuer.answer(&headers, &body)
                    },
                ),
            )
            .with_state(Arc::clone(&issuer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tls_serve::serve(
        listener,
        routes,
        move || tls.current(),
        Limits::default(),
        CancellationToken::new(),
    );
    tokio::spawn(serving);
    (issuer, address)
}

fn client_of(dir: &Path, address: SocketAddr) -> HttpIssuer {
    let url = format!("https://{address}").parse().unwrap();
    HttpIssuer::new(
        url,
        dir.join("issuer-ca.pem"),
        dir.join("token"),
        "orders".to_owned(),
    )
}

#[tokio::test]
async fn refusals_name_status_and_reason_and_never_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let (issuer, address) = start_issuer(dir.path()).await;
    let client = client_of(dir.path(), address);
    let key = PrivateKey::generate().unwrap();

    let granted = client.issue(Profile::Client, &key).await.unwrap();
    assert_eq!(granted.bundle_pem, issuer.authority.bundle_pem());
    granted
        .check(Profile::Client, &key, OffsetDateTime::now_utc())
        .unwrap();
    // The right answer to another question is not taken.
    let other = PrivateKey::generate().unwrap();
    assert!(
        granted
            .check(Profile::Client, &other, OffsetDateTime::now_utc())
            .is_err()
    );
    assert!(
        granted
            .check(Profile::Server, &key, OffsetDateTime::now_utc())
            .is_err()
    );

    fs::write(dir.path().join("token"), "stolen-secret").unwrap();
    let error = client.issue(Profile::Client, &key).await.unwrap_err();
    assert!(
        matches!(error, IssueError::Refused { status: 401, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("token is not valid"));
    assert!(!format!("{error:?}").contains("stolen-secret"));

    fs::remove_file(dir.path().join("token")).unwrap();
    let error = client.issue(Profile::Client, &key).await.unwrap_err();
    assert!(matches!(error, IssueError::Token { .. }), "{error:?}");
}

#[tokio::test]
async fn issuer_that_cannot_be_verified_is_shown_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let (issuer, address) = start_issuer(dir.path()).await;
    let now = OffsetDateTime::now_utc();
    let stranger = Authority::generate(&AuthorityParams::default(), now).unwrap();
    fs::write(dir.path().join("issuer-ca.pem"), stranger.bundle_pem()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let error = client_of(dir.path(), address)
        .issue(Profile::Client, &key)
        .await
        .unwrap_err();
    assert!(matches!(error, IssueError::Unreachable { .. }), "{error:?}");
    assert!(issuer.tokens_seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn sidecar_retries_rereads_its_token_and_makes_a_key_for_every_issuance() {
    let dir = tempfile::tempdir().unwrap();
    let (issuer, address) = start_issuer(dir.path()).await;
    issuer
        .refusals
        .lock()
        .unwrap()
        .extend([StatusCode::SERVICE_UNAVAILABLE]);
    let out = dir.path().join("tls");
    let config = Config {
        role: Role::Client,
        source: Source::Issuer {
            url: format!("https://{address}").parse().unwrap(),
            ca: dir.path().join("issuer-ca.pem"),
            token_file: dir.path().join("token"),
            common_name: "orders".to_owned(),
        },
        outputs: vec![Output {
            profile: Profile::Client,
            dir: out.clone(),
        }],
        key_group: None,
        prove: None,
        store: None,
        admin: "127.0.0.1:0".parse().unwrap(),
    };
    let running = Running::start(config).await;
    let admin = running.admin;

    let first = next_serial(&out, "").await;
    shows(admin, "/startupz", "\r\n\r\nok").await;
    shows(admin, "/readyz", "\r\n\r\nok").await;
    shows(
        admin,
        "/metrics",
        "issued_total{outcome=\"refused\",profile=\"client\"} 1\n",
    )
    .await;
    shows(
        admin,
        "/metrics",
        "renewals_failed_total{profile=\"client\"} 1\n",
    )
    .await;

    // The kubelet replaces the token; the one of the start would be refused now.
    *issuer.token.lock().unwrap() = "second-token".to_owned();
    fs::write(dir.path().join("token"), "second-token").unwrap();
    assert!(
        http(admin, "POST", "/rotate")
            .await
            .starts_with("HTTP/1.1 202")
    );
    let second = next_serial(&out, &first).await;
    assert_ne!(first, second);
    shows(
        admin,
        "/metrics",
        "issued_total{outcome=\"ok\",profile=\"client\"} 2\n",
    )
    .await;
    let keys = issuer.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);

    running.stop().await;
}
