//! Lame duck mode.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tests::{patience, wire::Wire};

use crate::server::{BOTH, PATIENCE, Program, Server, client, flag};

/// Configuration with the shortest lame duck mode that both take.
fn lame_duck_config(dir: &Path) -> Vec<String> {
    let config = dir.join("config");
    let text = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"3s\"\n";
    fs::write(&config, text).unwrap();
    flag("--config", &config).to_vec()
}

#[tokio::test]
async fn a_lame_duck_sends_its_clients_away_one_by_one_and_ends_with_success() {
    for program in BOTH {
        let mut server = Server::start(program, lame_duck_config).await;
        let pid = server.pid();
        let (mut told, mut also_told) = (client(&server, 1).await, client(&server, 1).await);
        let mut old = client(&server, 0).await;

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
        for client in [&mut told, &mut also_told] {
            let news = client.answers().await.unwrap();
            assert_eq!(
                news.matches("\"ldm\":true").count(),
                1,
                "{program:?}: {news}"
            );
        }
        assert_eq!(old.answers().await.unwrap(), "", "{program:?}");

        server.signalled(&format!("term={pid}"));
        server.logs("Trapped \"terminated\" signal").await;
        assert_eq!(told.answers().await.unwrap(), "", "{program:?}");

        server.logs("[INF] Closing existing clients\n").await;
        let end = async |mut client: Wire| {
            let words = client.last_words().await.unwrap();
            (words, Instant::now())
        };
        let ends = tokio::join!(end(told), end(also_told), end(old));
        let (ends, words): (Vec<_>, Vec<_>) = [ends.0, ends.1, ends.2]
            .into_iter()
            .map(|(words, at)| (at, words))
            .unzip();
        assert_eq!(words, ["", "", ""], "{program:?}");
        // Two pauses of half a second to a second.
        let spread = *ends.iter().max().unwrap() - *ends.iter().min().unwrap();
        assert!(
            spread > Duration::from_millis(600),
            "{program:?}: {spread:?}"
        );
        server.ends_with_success().await;
        assert!(server.log().contains("[INF] Initiating Shutdown...\n"));
    }
}

#[tokio::test]
async fn a_lame_duck_without_clients_ends_at_once_and_one_with_clients_on_interrupt() {
    // Much less than the grace period, which is ten seconds.
    const SOON: Duration = Duration::from_secs(7);
    for program in BOTH {
        let mut server = Server::start(program, |_| Vec::new()).await;
        server.signalled(&format!("ldm={}", server.pid()));
        server.process.succeeds(SOON).await.unwrap();

        let mut server = Server::start(program, |_| Vec::new()).await;
        let mut client = client(&server, 1).await;
        server.signalled(&format!("ldm={}", server.pid()));
        server.logs("Entering lame duck mode").await;
        server.signalled(&format!("quit={}", server.pid()));
        server.process.succeeds(SOON).await.unwrap();
        client.last_words().await.unwrap();
    }
}

#[tokio::test]
async fn a_lame_duck_right_after_a_reload_is_not_forgotten() {
    // The reference drops signals that come while it is busy with one.
    let mut server = Server::start(Program::Broker, lame_duck_config).await;
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    kill_process(pid, Signal::USR2).unwrap();
    server.ends_with_success().await;
    let log = server.log();
    assert!(log.contains("Reloaded server configuration"), "{log}");
    assert!(log.contains("Entering lame duck mode"), "{log}");
}
