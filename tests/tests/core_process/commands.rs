//! `--signal`: which server is meant, and what is refused.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;
use tests::ports;

use crate::server::{BOTH, Program, Server, text};

/// Under a name of its own, so that servers of other tests are not meant.
fn renamed_broker(dir: &TempDir) -> (PathBuf, String) {
    let name = format!("broker-{}", ports::free());
    let path = dir.path().join(&name);
    let original = Program::Broker.path();
    if fs::hard_link(&original, &path).is_err() {
        // By another process: a file that is open for writing is no program, and what is open here is for a moment open
        // in every child that another test starts meanwhile.
        let copied = Command::new("cp").arg(&original).arg(&path).status();
        assert!(copied.unwrap().success());
    }
    (path, name)
}

#[tokio::test]
async fn a_server_is_found_by_its_program_or_the_beginning_of_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let (program, name) = renamed_broker(&dir);
    let start = || {
        let dir = tempfile::tempdir().unwrap();
        Server::start_as(Program::Broker, program.clone(), dir, |_| Vec::new())
    };

    let mut one = start().await;
    one.signalled("reopen");
    one.logs("File log re-open ignored, not a file logger")
        .await;

    let mut two = start().await;
    let output = one.signal("term");
    assert_eq!(output.status.code(), Some(1));
    let mut pids = [one.pid(), two.pid()];
    pids.sort_unstable();
    let [first, second] = pids;
    assert_eq!(
        text(&output.stderr),
        format!("stanchion-broker: multiple {name} processes running: {first} {second}\n")
    );

    one.signalled(&format!("term={}*", one.pid()));
    one.ends_with_success().await;
    two.process.check_alive().unwrap();
    two.signalled("term=*");
    two.ends_with_success().await;

    let output = two.signal("term");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!("stanchion-broker: no {name} processes running\n")
    );
}

#[test]
fn signals_that_cannot_be_sent_are_refused_with_the_words_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let gone = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let missing = dir.path().join("missing.pid").display().to_string();
    let no_process = format!("signal \"reload\" {gone}: no such process");
    for (what, reason) in [
        (format!("reload={gone}"), no_process.as_str()),
        ("reload=x".to_owned(), "invalid pid: x"),
        (
            format!("reload={missing}"),
            &format!("invalid pid: {missing}"),
        ),
        ("dance=1".to_owned(), "unknown signal \"dance\""),
    ] {
        for program in BOTH {
            let mut command = Command::new(program.path());
            let output = command.args(["--signal", &what]).output().unwrap();
            let shown = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{program:?}: {shown}");
            assert!(shown.contains(reason), "{program:?}: {shown}");
            if program == Program::Broker {
                assert_eq!(shown.lines().count(), 1, "{shown}");
            }
        }
    }
}
