//! The program itself: flags, signals, exit codes.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::support::{eventually, next_serial};
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
    let root = tempfile::tempdir().unwrap();
    let mut child = start(root.path());
    let dir = root.path().join("tls");
    let first = next_serial(&dir, "").await;
    signal(&child, Signal::USR1);
    next_serial(&dir, &first).await;
    let asked = Instant::now();
    signal(&child, Signal::TERM);
    let status = eventually("the end", || std::future::ready(child.try_wait().unwrap())).await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(status.code(), Some(0));
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
