//! Every option of the streaming client libraries: what stan.go, node-nats-streaming, asyncio-nats-streaming and
//! java-nats-streaming do with nats-streaming-server, they do with the broker.
//!
//! With the path of nats-streaming-server in `STANCHION_STREAMING_SERVER` the same scenarios are played against that.

mod expected;
mod server;

use tests::streaming_client::{LIBRARIES, StreamingClient};

use crate::server::{Nats, PATIENCE, Server};

#[tokio::test]
async fn every_option_works() {
    play(Nats::Embedded, false).await;
}

#[tokio::test]
async fn every_option_works_over_tls() {
    play(Nats::Embedded, true).await;
}

#[tokio::test]
async fn every_option_works_beside_nats_server() {
    play(Nats::External("nats-server"), false).await;
}

#[tokio::test]
async fn every_option_works_beside_nats_server_over_tls() {
    play(Nats::External("nats-server"), true).await;
}

/// The series that most streaming clusters were run on.
#[tokio::test]
async fn every_option_works_beside_an_older_nats_server() {
    play(Nats::External("nats-server-2.9.24"), false).await;
}

#[tokio::test]
async fn every_option_works_beside_an_older_nats_server_over_tls() {
    play(Nats::External("nats-server-2.9.24"), true).await;
}

/// All scenarios, each by all libraries at once.
async fn play(nats: Nats, secure: bool) {
    let server = Server::start(nats, secure).await;
    for scenario in expected::SCENARIOS {
        for client in &mut start(scenario, &server) {
            let library = client.library();
            let found = client.finishes(PATIENCE).await.unwrap();
            let wanted = expected::result(scenario, library);
            assert_eq!(found, wanted, "{library}, {scenario}");
        }
    }
    lose(&server).await;
}

/// Publishers and their pings get no answer any more, though the connections stand.
async fn lose(server: &Server) {
    let mut clients = start("lost", server);
    for client in &mut clients {
        client.says("ready", PATIENCE).await.unwrap();
    }
    server.freeze();
    for client in &mut clients {
        let library = client.library();
        let found = client.finishes(PATIENCE).await.unwrap();
        assert_eq!(found, expected::result("lost", library), "{library}");
    }
}

fn start(scenario: &str, server: &Server) -> Vec<StreamingClient> {
    let (tls, dir) = (server.tls.as_ref(), server.dir.path());
    let clients = LIBRARIES
        .into_iter()
        .map(|library| StreamingClient::start(library, scenario, server.port, tls, dir).unwrap());
    clients.collect()
}
