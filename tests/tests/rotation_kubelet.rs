//! From `kubectl apply` to a published message: admitted pods run as processes, their sidecars get certificates from
//! the issuer with bound tokens, the broker keeps messages in PostgreSQL, and certificates are renewed under all that.

use std::time::Duration;

use anyhow::ensure;
use broker_store::conformance::postgres_server::PostgresServer;
use certs::inspect::CertificateInfo;
use certs::profile::Profile;
use certs::reload::TlsFiles;
use tests::control_plane::ControlPlane;
use tests::kubelet::{Kubelet, RunningPod};
use tests::stan::{Client, Options, SubscribeOptions};
use tests::webhook::Webhook;
use tests::{patience, probe, programs, rotation};

/// What the application in `seed.yaml` publishes.
const MESSAGES: u64 = 1_000;
/// Life of issued certificates: they are renewed every twenty seconds.
const LIFETIME: &str = "30s";
/// For one step, on a busy machine.
const STEP: Duration = Duration::from_secs(60);

/// Ports of the broker's pod, as the pod has them.
const CLIENTS: u16 = 4222;
const SIDECAR_ADMIN: u16 = 7778;

#[tokio::test]
async fn admitted_pods_rotate_certificates_and_exchange_messages() {
    let postgres = PostgresServer::start().unwrap();
    let source = postgres.create_database().unwrap();
    let plane = ControlPlane::start().await.unwrap();
    let mut webhook = Webhook::start(&plane, LIFETIME).await.unwrap();
    plane.apply("seed.yaml", &[("SOURCE", &source)]).unwrap();
    let images = [
        (
            "stanchion-broker",
            programs::ours("stanchion-broker").unwrap(),
        ),
        (
            "stanchion-sidecar",
            programs::ours("stanchion-sidecar").unwrap(),
        ),
        ("client-go", programs::obtained("client-go/client").unwrap()),
    ];
    let mut kubelet = Kubelet::register(&plane, &images).await.unwrap();

    let mut broker = kubelet.run("nats-io", "app=nats").await.unwrap();
    broker.becomes_ready().await.unwrap();
    let port = broker.port(CLIENTS).unwrap();
    the_issuer_wrote_the_names_of_the_service(&broker);

    kubelet.route("labs-nats-cluster.nats-io.svc:4222", port);
    let mut orders = kubelet.run("appnamespace", "app=orders").await.unwrap();
    orders
        .container("orders")
        .unwrap()
        .succeeds(STEP)
        .await
        .unwrap();
    let stored = postgres
        .run(&source, "SELECT count(*) FROM Messages")
        .unwrap();
    assert_eq!(stored.trim(), MESSAGES.to_string());

    let own = TlsFiles::in_dir(&orders.volume("stanchion-tls"), Profile::Client);
    let serial = rotation::serial_served_at(port, &own).await.unwrap();
    rotation::renewal_at(port, &own, &serial, STEP)
        .await
        .unwrap();
    the_sidecar_has_proven_the_renewal(&broker).await;
    everything_is_read_back(port, own).await;

    webhook.check_alive().unwrap();
    orders.stop().await.unwrap();
    broker.stop().await.unwrap();
}

fn the_issuer_wrote_the_names_of_the_service(broker: &RunningPod) {
    let file = broker.volume("stanchion-tls").join("server.pem");
    let leaf = CertificateInfo::from_pem(&std::fs::read_to_string(file).unwrap()).unwrap();
    let service = "labs-nats-cluster.nats-io.svc".to_owned();
    assert!(leaf.dns_names.contains(&service), "{:?}", leaf.dns_names);
    assert!(leaf.server_auth);
}

async fn the_sidecar_has_proven_the_renewal(broker: &RunningPod) {
    let admin = broker.port(SIDECAR_ADMIN).unwrap();
    let proven = patience::until(
        "the sidecar has seen the renewal served",
        STEP,
        async || {
            let metrics = probe::get(admin, "/metrics").await?.body;
            ensure!(
                metrics.contains("stanchion_sidecar_proven_serial_match 1"),
                "{metrics}"
            );
            Ok(())
        },
    );
    proven.await.unwrap();
}

async fn everything_is_read_back(port: u16, own: TlsFiles) {
    let options = Options::new(
        &format!("tls://127.0.0.1:{port}"),
        "labs-nats-stan",
        "reader",
    );
    let client = Client::connect(options.tls(own)).await.unwrap();
    let mut orders = client
        .subscribe("orders", SubscribeOptions::from_first())
        .await
        .unwrap();
    for sequence in 1..=MESSAGES {
        let delivery = tokio::time::timeout(STEP, orders.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(delivery.sequence, sequence);
        orders.ack(&delivery).await.unwrap();
    }
    client.close().await.unwrap();
}
