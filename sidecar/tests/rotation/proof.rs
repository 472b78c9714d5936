//! Source `local` end to end: certificates on disk, a server that follows them, and the proof.

use std::{path::Path, sync::Arc, time::Duration};

use crate::support::{Running, eventually, http, nats_like_server, next_serial, shows};
use certs::{
    profile::Profile,
    reload::{ServerTls, TlsFiles},
};
use deploy_runtime::admin::AdminServer;
use prometheus::Registry;
use sidecar::{
    config::{Config, Output, Role, Source, Subject},
    metrics::Metrics,
    prove::{Identity, Prover, served_serial},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Server and route certificates below `root` from an authority there.
fn config(root: &Path, prove: Option<String>) -> Config {
    let output = |profile: Profile| Output {
        profile,
        dir: root.join(profile.as_str()),
    };
    Config {
        role: Role::Broker,
        source: Source::Local {
            authority_dir: root.join("authority"),
            subject: Subject {
                common_name: "nats".to_owned(),
                dns_names: vec!["nats.nats-io.svc".to_owned()],
                ip_addresses: Vec::new(),
            },
            lifetime: Duration::from_secs(3600),
        },
        outputs: vec![output(Profile::Server), output(Profile::Route)],
        key_group: None,
        prove,
        store: None,
        admin: "127.0.0.1:0".parse().unwrap(),
    }
}

/// Runs a sidecar until the first certificates are there, and stops it.
async fn provide(root: &Path) {
    let running = Running::start(config(root, None)).await;
    next_serial(&root.join("server"), "").await;
    next_serial(&root.join("route"), "").await;
    running.stop().await;
}

fn server_tls(root: &Path) -> Arc<ServerTls> {
    let files = TlsFiles::in_dir(&root.join("server"), Profile::Server);
    Arc::new(ServerTls::load(files.verifying_server()).unwrap())
}

#[tokio::test]
async fn proof_sees_the_new_serial_after_every_renewal() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("server");
    provide(root.path()).await;
    let first = next_serial(&dir, "").await;
    let tls = server_tls(root.path());
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&tls).watch(stop.clone()));
    let address = nats_like_server(tls).await;

    let running = Running::start(config(root.path(), Some(address.clone()))).await;
    let admin = running.admin;
    shows(
        admin,
        "/metrics",
        "stanchion_sidecar_proven_serial_match 1\n",
    )
    .await;
    // A restart keeps what is still good.
    assert_eq!(next_serial(&dir, "").await, first);

    let mut serial = first;
    for proofs in 2..=3 {
        assert!(
            http(admin, "POST", "/rotate")
                .await
                .starts_with("HTTP/1.1 202")
        );
        serial = next_serial(&dir, &serial).await;
        let proven = format!("stanchion_sidecar_proofs_total{{outcome=\"ok\"}} {proofs}\n");
        shows(admin, "/metrics", &proven).await;
        let own =
            Identity::Certificate(TlsFiles::in_dir(&root.path().join("route"), Profile::Route));
        assert_eq!(served_serial(&address, &own).await.unwrap(), serial);
    }
    shows(admin, "/readyz", "\r\n\r\nok").await;
    stop.cancel();
    running.stop().await;
}

#[tokio::test]
async fn serial_is_read_also_from_a_server_that_refuses_us() {
    let root = tempfile::tempdir().unwrap();
    provide(root.path()).await;
    let tls = server_tls(root.path());
    let served = tls.leaf().serial_hex;
    let address = nats_like_server(tls).await;
    let own = Identity::Anonymous(TlsFiles::in_dir(
        &root.path().join("server"),
        Profile::Server,
    ));
    assert_eq!(served_serial(&address, &own).await.unwrap(), served);
}

#[tokio::test]
async fn wrong_serial_is_reported_with_both_and_a_later_success_heals() {
    let root = tempfile::tempdir().unwrap();
    provide(root.path()).await;
    let tls = server_tls(root.path());
    let served = tls.leaf().serial_hex;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    let admin = AdminServer::new(registry);
    let (expect, expected) = watch::channel(Some("ff00".to_owned()));
    let prover = Prover {
        address: nats_like_server(tls).await,
        own: Identity::Certificate(TlsFiles::in_dir(&root.path().join("route"), Profile::Route)),
        within: Duration::from_millis(100),
        expected,
        metrics: metrics.clone(),
        ready: admin.readiness("proof"),
    };
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(admin.serve(listener, stop.clone()));
    tokio::spawn(prover.run(stop.clone()));

    let report = format!("proof: served serial {served}, expected ff00\n");
    shows(address, "/readyz", &report).await;
    shows(
        address,
        "/metrics",
        "proofs_total{outcome=\"wrong_serial\"} 1\n",
    )
    .await;
    assert_eq!(metrics.proven_serial_match.get(), 0);

    expect.send_replace(Some(served));
    eventually("the proof", || async {
        (metrics.proven_serial_match.get() == 1).then_some(())
    })
    .await;
    shows(address, "/readyz", "\r\n\r\nok").await;
    stop.cancel();
}
