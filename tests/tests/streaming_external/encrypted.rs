//! TLS with an external server.

use std::{fs, path::Path};

use certs::{profile::Profile, reload::TlsFiles};
use tests::{certificates::Certificates, stan::Options, streaming_server::CLUSTER_ID};

use super::stage::{Broker, Nats, PATIENCE, RELEASES, stream};

struct Files {
    server: TlsFiles,
    client: TlsFiles,
}

impl Files {
    fn new(dir: &Path) -> Self {
        let certificates = Certificates::new(dir).unwrap();
        Self {
            server: certificates.grant("server", Profile::Server).unwrap(),
            client: certificates.grant("client", Profile::Client).unwrap(),
        }
    }

    /// The server's block.
    fn block(&self, verify: bool) -> String {
        let TlsFiles { cert, key, ca } = &self.server;
        format!(
            "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: {verify} }}"
        )
    }

    fn ca(&self) -> &str {
        self.server.ca.to_str().unwrap()
    }
}

#[tokio::test]
async fn n07_a_client_certificate_is_shown_to_who_asks_for_it() {
    for release in RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let nats = Nats::started(dir.path(), release, &files.block(true)).await;
        let (cert, key) = (files.client.cert.clone(), files.client.key.clone());
        let shown = [
            "-tls_client_cacert",
            files.ca(),
            "-tls_client_cert",
            cert.to_str().unwrap(),
            "-tls_client_key",
            key.to_str().unwrap(),
        ];
        let mut broker = Broker::on(&nats, dir.path(), &shown).await;
        let url = format!("tls://localhost:{}", nats.port);
        let options = Options::new(&url, CLUSTER_ID, "me").ack_wait(PATIENCE);
        stream(options.tls(files.client.clone())).await.unwrap();
        assert!(broker.stop().await.success());

        let url = nats.url();
        let without = ["-ns", &url, "-tls_client_cacert", files.ca()];
        let output = Broker::run(dir.path(), &without).fails().await;
        assert!(output.contains("no servers available"), "{output}");
    }
}

#[tokio::test]
async fn n07_tls_begins_when_the_server_requires_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    let nats = Nats::started(dir.path(), RELEASES[0], &files.block(false)).await;
    let url = nats.url();
    // Nothing about TLS is configured, so that the system's authorities count, and ours is none.
    let output = Broker::run(dir.path(), &["-ns", &url]).fails().await;
    assert!(output.contains("UnknownIssuer"), "{output}");
    let output = Broker::run(dir.path(), &["-ns", &url, "-secure"])
        .fails()
        .await;
    assert!(output.contains("UnknownIssuer"), "{output}");
    let mut broker = Broker::on(&nats, dir.path(), &["-tls_client_cacert", files.ca()]).await;
    assert!(broker.stop().await.success());
}

#[tokio::test]
async fn n07_a_plain_server_is_refused_where_tls_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    let nats = Nats::started(dir.path(), RELEASES[0], "").await;
    let (plain, tls) = (nats.url(), format!("tls://127.0.0.1:{}", nats.port));
    for flags in [
        vec!["-ns", &plain, "-secure"],
        vec!["-ns", &plain, "-tls_client_cacert", files.ca()],
        vec!["-ns", &tls],
    ] {
        let output = Broker::run(dir.path(), &flags).fails().await;
        assert!(
            output.contains("nats: secure connection not available"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn n07_another_name_can_be_expected_and_the_check_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    let nats = Nats::started(dir.path(), RELEASES[0], &files.block(false)).await;
    let url = nats.url();
    let config = dir.path().join("stan.conf");
    let flags = ["-ns", &url, "-sc", config.to_str().unwrap()];
    let block = |rest: &str| format!("streaming {{ tls {{ {rest} }} }}");

    let named = |name: &str| block(&format!("client_ca: {:?}, server_name: {name}", files.ca()));
    fs::write(&config, named("localhost")).unwrap();
    let mut broker = Broker::ready(dir.path(), &flags).await;
    assert!(broker.stop().await.success());
    fs::write(&config, named("example.com")).unwrap();
    let output = Broker::run(dir.path(), &flags).fails().await;
    assert!(output.contains("example.com"), "{output}");

    fs::write(&config, block("skip_verify: true")).unwrap();
    let mut broker = Broker::ready(dir.path(), &flags).await;
    broker.writes("DO NOT USE IN PRODUCTION!").await;
    assert!(broker.stop().await.success());
}
