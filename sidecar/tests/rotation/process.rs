//! The program itself: flags, signals, exit codes.

use std::{
    future::ready,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use sidecar::publish::read_meta;

use crate::support::{eventually, next_serial};
use certs::{
    profile::Profile,
    reload::{ClientTls, TlsFiles},
};
use rustix::process::{Pid, Signal, kill_process};

fn sidecar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanchion-sidecar"));
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn start(root: &Path) -> Child {
    let authority = root.join("authority");
    let out = format!("client={}", root.join("tls").display());
    let mut command = sidecar(&[
        "run",
        "--role",
        "client",
        "--source",
        "local",
        "--out",
        &out,
        "--admin",
        "127.0.0.1:0",
    ]);
    command
        .env("STANCHION_SIDECAR_AUTHORITY_DIR", authority)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn usr1_renews_and_term_ends_within_a_second_with_success() {
    let mut took = Vec::new();
    // A busy machine only makes it take longer: the quickest end counts.
    while took.iter().all(|one| *one >= Duration::from_secs(1)) {
        assert!(took.len() < 5, "{took:?}");
        let root = tempfile::tempdir().unwrap();
        let mut child = start(root.path());
        let dir = root.path().join("tls");
        let first = next_serial(&dir, "").await;
        signal(&child, Signal::USR1);
        next_serial(&dir, &first).await;
        let asked = Instant::now();
        signal(&child, Signal::TERM);
        let status = eventually("the end", || ready(child.try_wait().unwrap())).await;
        took.push(asked.elapsed());
        assert_eq!(status.code(), Some(0));
    }
}

/// Killed at any moment of a publication, the sidecar leaves a whole generation, and its successor
/// goes on from there.
#[tokio::test]
async fn kill_at_any_moment_leaves_a_whole_generation() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("tls");
    for round in 0..20 {
        let mut child = start(root.path());
        // Before that the signal would have its usual effect.
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("sidecar is running") {
            line.clear();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "the sidecar has ended"
            );
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(20 + round * 3) {
            signal(&child, Signal::USR1);
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        // The last link to be made; from then on the directory is whole at any moment.
        let last_link = dir.join("meta.json");
        eventually("the first generation", || {
            ready(last_link.exists().then_some(()))
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        let files = TlsFiles::in_dir(&dir, Profile::Client);
        let leaf = ClientTls::load(files.client()).unwrap().leaf().unwrap();
        assert_eq!(leaf.serial_hex, read_meta(&dir).unwrap().serial);
    }
}

#[test]
fn mistakes_are_one_line_and_exit_code_1() {
    for (args, expected) in [
        (
            &[
                "run",
                "--role",
                "client",
                "--source",
                "local",
                "--out",
                "client=/c",
            ][..],
            "--authority-dir",
        ),
        (&["run", "--role", "boss"][..], "boss"),
        (&["run", "--nonsense"][..], "--nonsense"),
        (&["run"][..], "--role"),
    ] {
        let Output { status, stderr, .. } = sidecar(args).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{args:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with("stanchion-sidecar: ") && stderr.contains(expected),
            "{stderr}"
        );
    }
}
