//! Applications on the real client libraries, over mutual TLS: ten thousand messages out and back, through a renewed
//! certificate and a broker that was killed, and on with the same durable.

use std::time::Duration;

use certs::profile::Profile;
use tempfile::TempDir;
use tests::application::{Application, Connection, Library, Task};
use tests::certificates::Certificates;
use tests::rotation::{self, Sidecar};
use tests::streaming_server::{Store, StreamingServer};

/// Messages before, and again after, the certificate is renewed.
const HALF: usize = 5_000;
/// Acknowledged publishes of the second half after which the broker is killed.
const KILL_AFTER: usize = 1_000;
/// Long enough for the first half, short enough to be renewed while one waits.
const LIFETIME_SECONDS: u32 = 15;
/// For one step, on a busy machine.
const STEP: Duration = Duration::from_secs(60);

#[tokio::test]
async fn go_application_survives_rotation_and_restart() {
    survives_rotation_and_restart(Library::Go).await;
}

#[tokio::test]
async fn node_application_survives_rotation_and_restart() {
    survives_rotation_and_restart(Library::Node).await;
}

#[tokio::test]
async fn python_application_survives_rotation_and_restart() {
    survives_rotation_and_restart(Library::Python).await;
}

async fn survives_rotation_and_restart(library: Library) {
    let dir = TempDir::new().unwrap();
    let certificates = Certificates::new(dir.path()).unwrap();
    let own = certificates.grant("application", Profile::Client).unwrap();
    let mut broker = StreamingServer::broker(dir.path(), &Store::Files).unwrap();
    let port = broker.port();
    let sidecar = Sidecar::beside_broker(
        dir.path(),
        &certificates.authority_dir(),
        LIFETIME_SECONDS,
        port,
    )
    .await
    .unwrap();
    broker.require_tls(sidecar.files());
    broker.start().await.unwrap();

    let start = |client_id: &str, task: Task| {
        let connection = Connection {
            port,
            tls: own.clone(),
            client_id: client_id.to_owned(),
            channel: "orders".to_owned(),
        };
        Application::start(library, &connection, &task, dir.path()).unwrap()
    };
    let publish = |first| Task::Publish { first, count: HALF };
    let subscribe = || Task::Subscribe {
        durable: "d".to_owned(),
        count: HALF,
    };

    let mut publisher = start("first-publisher", publish(0));
    let mut subscriber = start("subscriber", subscribe());
    assert_eq!(publisher.finishes(STEP).await.unwrap().acked, HALF);
    let read = subscriber.finishes(STEP).await.unwrap();
    assert_eq!((read.distinct, read.first), (HALF, 1));

    let serial = rotation::serial_served_at(port, &own).await.unwrap();
    let mut subscriber = start("subscriber", subscribe());
    subscriber.says("connected", 0, STEP).await.unwrap();
    rotation::renewal_at(port, &own, &serial, STEP)
        .await
        .unwrap();
    let reconnected = subscriber
        .events()
        .iter()
        .any(|said| said.event == "reconnected");
    assert!(!reconnected, "a renewal is no reason to lose a connection");

    let mut publisher = start("second-publisher", publish(HALF));
    publisher.says("acked", KILL_AFTER, STEP).await.unwrap();
    broker.start().await.unwrap();
    assert_eq!(publisher.finishes(STEP).await.unwrap().acked, HALF);
    let read = subscriber.finishes(STEP).await.unwrap();
    assert_eq!(read.distinct, HALF);
    // The durable went on where the first subscriber had left, though the broker was killed in between.
    assert_eq!(read.first, u64::try_from(HALF).unwrap() + 1);
    assert!(
        read.reconnects >= 1,
        "the broker was killed under the subscriber"
    );
}
