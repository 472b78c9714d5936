//! Lame duck mode.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tests::patience;

use crate::server::{BOTH, PATIENCE, Program, Server, client, flag};

/// So many that the pauses between their ends are together longer than a test is ever held up.
const CLIENTS: usize = 8;

const CLOSING: &str = "[INF] Closing existing clients\n";

fn lame_duck_config(dir: &Path, duration: &str, grace: &str) -> Vec<String> {
    let config = dir.join("config");
    let text = format!("lame_duck_duration: \"{duration}\"\nlame_duck_grace_period: \"{grace}\"\n");
    fs::write(&config, text).unwrap();
    flag("--config", &config).to_vec()
}

/// The shortest lame duck mode that both take.
fn short(dir: &Path) -> Vec<String> {
    lame_duck_config(dir, "30s", "3s")
}

/// Whoever waits for its time of grace is found out.
fn long(dir: &Path) -> Vec<String> {
    lame_duck_config(dir, "10m", "5m")
}

async fn goes_as_a_lame_duck(program: Program) {
    let mut server = Server::start(program, short).await;
    let pid = server.pid();
    let mut told = Vec::new();
    for _ in 0..CLIENTS {
        told.push(client(&server, 1).await);
    }
    let old = client(&server, 0).await;
    let mut asks = client(&server, 1).await;

    server.signalled(&format!("ldm={pid}"));
    server
        .logs("[INF] Entering lame duck mode, stop accepting new clients\n")
        .await;
    let refused = patience::until("no new clients", PATIENCE, async || {
        let connected = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await;
        anyhow::ensure!(connected.is_err(), "still taken in");
        Ok(())
    });
    refused.await.unwrap();

    server.signalled(&format!("term={pid}"));
    server.logs("Trapped \"terminated\" signal").await;
    let served = asks.answers().await;
    // A slow machine hides a fault here, but makes none: the time of grace may be over.
    if !server.log().contains(CLOSING) {
        served.unwrap();
    }

    server.logs(CLOSING).await;
    // None of these says anything, so everything that they were told is there to the end.
    let ends = join_all(told.into_iter().chain([old]).map(async |mut client| {
        let words = client.last_words().await.unwrap();
        (words, Instant::now())
    }));
    let (words, ends): (Vec<_>, Vec<_>) = ends.await.into_iter().unzip();
    let (of_old, of_told) = words.split_last().unwrap();
    for news in of_told {
        let times = news.matches("\"ldm\":true").count();
        assert_eq!(times, 1, "{program:?}: {news}");
    }
    assert_eq!(of_old, "", "{program:?}");
    // Pauses of half a second to a second, of which this test may have slept through some.
    let spread = *ends.iter().max().unwrap() - *ends.iter().min().unwrap();
    assert!(
        spread > Duration::from_millis(600),
        "{program:?}: {spread:?}"
    );
    server.ends_with_success().await;
    assert!(server.log().contains("[INF] Initiating Shutdown...\n"));
}

#[tokio::test]
async fn a_lame_duck_sends_its_clients_away_one_by_one_and_ends_with_success() {
    join_all(BOTH.map(goes_as_a_lame_duck)).await;
}

#[tokio::test]
async fn a_lame_duck_without_clients_ends_at_once_and_one_with_clients_on_interrupt() {
    for program in BOTH {
        let mut server = Server::start(program, long).await;
        server.signalled(&format!("ldm={}", server.pid()));
        server.ends_with_success().await;

        let mut server = Server::start(program, long).await;
        let mut client = client(&server, 1).await;
        server.signalled(&format!("ldm={}", server.pid()));
        server.logs("Entering lame duck mode").await;
        server.signalled(&format!("quit={}", server.pid()));
        server.ends_with_success().await;
        client.last_words().await.unwrap();
    }
}

#[tokio::test]
async fn a_lame_duck_right_after_a_reload_is_not_forgotten() {
    // The reference drops signals that come while it is busy with one.
    let mut server = Server::start(Program::Broker, short).await;
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    kill_process(pid, Signal::USR2).unwrap();
    server.ends_with_success().await;
    let log = server.log();
    assert!(log.contains("Reloaded server configuration"), "{log}");
    assert!(log.contains("Entering lame duck mode"), "{log}");
}
