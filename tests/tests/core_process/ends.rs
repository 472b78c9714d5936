//! How the process ends: on request, by force, and when it cannot start.

use std::{fs, process::Command};

use tests::patience;

use crate::server::{BOTH, PATIENCE, Program, Server, text};

#[tokio::test]
async fn both_requests_to_stop_end_with_success() {
    for program in BOTH {
        for (word, name) in [("term", "terminated"), ("quit", "interrupt")] {
            let mut server = Server::start(program, |_| Vec::new()).await;
            server.signalled(&format!("{word}={}", server.pid()));
            server.ends_with_success().await;
            let log = server.log();
            for line in [
                format!("[INF] Trapped \"{name}\" signal\n"),
                "[INF] Initiating Shutdown...\n".to_owned(),
                "[INF] Server Exiting..\n".to_owned(),
            ] {
                assert!(log.contains(&line), "{program:?}: {log}");
            }
        }
    }
}

#[tokio::test]
async fn stop_is_not_heard_by_the_process_at_all() {
    let mut server = Server::start(Program::Broker, |_| Vec::new()).await;
    server.signalled(&format!("stop={}", server.pid()));
    let ended = patience::until("the end", PATIENCE, async || {
        server.process.ended().ok_or(anyhow::anyhow!("still there"))
    });
    assert_eq!(ended.await.unwrap().code(), None);
    assert!(!server.log().contains("Trapped"));
}

#[test]
fn what_cannot_be_started_ends_with_one_line_and_code_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    fs::write(&config, "no_such_key: 1\n").unwrap();
    let config = config.display().to_string();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let nowhere = dir.path().join("no/log").display().to_string();
    for args in [
        ["-c", &config],
        ["-c", "/no/such/file"],
        ["-p", &taken],
        ["--log", &nowhere],
    ] {
        for program in BOTH {
            let output = Command::new(program.path()).args(args).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{program:?} {args:?}");
            let errors = text(&output.stderr);
            let last = errors.lines().last().unwrap_or_default();
            if program == Program::Broker {
                assert!(last.starts_with("stanchion-broker: "), "{args:?}: {errors}");
                let plain = errors.lines().filter(|line| !line.starts_with('['));
                assert_eq!(plain.count(), 1, "{args:?}: {errors}");
            }
        }
    }
}

#[test]
fn a_failed_start_is_in_the_log_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for program in BOTH {
        let log = dir.path().join(format!("{program:?}"));
        let mut command = Command::new(program.path());
        let output = command.args(["-p", &taken]).arg("--log").arg(&log);
        assert_eq!(output.output().unwrap().status.code(), Some(1));
        let log = fs::read_to_string(log).unwrap();
        let last = log.lines().last().unwrap();
        assert!(last.contains(" [FTL] "), "{program:?}: {log}");
        assert!(last.contains(&taken), "{program:?}: {log}");
    }
}
