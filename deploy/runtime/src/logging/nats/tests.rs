use std::{fs, path::Path};

use proptest::prelude::*;
use tempfile::TempDir;
use time::macros::format_description;

use super::*;
use crate::logging::escape::is_dangerous;

fn settings(dir: &Path, name: &str) -> NatsLogSettings {
    NatsLogSettings {
        filter: "info".into(),
        file: Some(LogFileSettings {
            path: dir.join(name),
            size_limit: None,
            max_files: None,
        }),
        time: false,
        utc: true,
    }
}

/// A log in a folder of its own that only this thread writes to, and what becomes of `act`.
fn logged(
    change: impl FnOnce(&mut NatsLogSettings),
    act: impl FnOnce(&NatsLog, &NatsLogSettings, &Path),
) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path(), "log");
    change(&mut settings);
    let (log, subscriber) = NatsLog::build(&settings).unwrap();
    tracing::subscriber::with_default(subscriber, || act(&log, &settings, dir.path()));
    dir
}

fn read(dir: &Path, name: &str) -> String {
    let pid = format!("[{}] ", std::process::id());
    let text = fs::read_to_string(dir.join(name)).unwrap();
    let lines = text.lines().map(|line| {
        let line = line.strip_prefix(&pid);
        line.expect("each line begins with the process id")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn lines_have_the_tags_of_nats_server() {
    let dir = logged(
        |settings| settings.filter = "trace".into(),
        |_, _, _| {
            tracing::error!(target: FATAL, "a");
            tracing::error!("b");
            tracing::warn!("c");
            tracing::info!(answer = 42, "d");
            tracing::debug!("e");
            tracing::trace!("f");
        },
    );
    assert_eq!(
        read(dir.path(), "log"),
        "[FTL] a\n[ERR] b\n[WRN] c\n[INF] d answer=42\n[DBG] e\n[TRC] f"
    );
}

#[test]
fn time_stamps_have_six_digits_behind_the_second() {
    let before = OffsetDateTime::now_utc() - time::Duration::SECOND;
    let dir = logged(
        |settings| settings.time = true,
        |_, _, _| tracing::info!("Server is ready"),
    );
    let line = read(dir.path(), "log");
    let stamp = line.strip_suffix(" [INF] Server is ready").unwrap();
    assert_eq!(stamp.len(), "2006/01/02 15:04:05.000000".len(), "{stamp}");
    let parsed = time::PrimitiveDateTime::parse(
        stamp,
        format_description!("[year]/[month]/[day] [hour]:[minute]:[second].[subsecond digits:6]"),
    );
    let at = parsed.unwrap().assume_utc();
    assert!(before <= at && at <= OffsetDateTime::now_utc(), "{at}");
}

#[test]
fn settings_change_while_the_log_is_written() {
    let dir = logged(
        |_| {},
        |log, first, dir| {
            tracing::debug!("not yet");
            tracing::info!("one");
            let second = NatsLogSettings {
                filter: "debug".into(),
                ..settings(dir, "second")
            };
            log.change(&second).unwrap();
            tracing::debug!("two");
            log.change(first).unwrap();
            tracing::debug!("no more");
            tracing::info!("three");
        },
    );
    assert_eq!(read(dir.path(), "log"), "[INF] one\n[INF] three");
    assert_eq!(read(dir.path(), "second"), "[DBG] two");
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let dir = logged(
        |_| {},
        |log, first, dir| {
            let mut nowhere = settings(dir, "no/such/folder");
            nowhere.filter = "debug".into();
            let error = log.change(&nowhere).unwrap_err().to_string();
            assert!(error.starts_with("opening log file "), "{error}");
            let nonsense = NatsLogSettings {
                filter: "==".into(),
                ..settings(dir, "other")
            };
            log.change(&nonsense).unwrap_err();
            assert!(first.file.is_some());
            tracing::debug!("no");
            tracing::info!("yes");
        },
    );
    assert_eq!(read(dir.path(), "log"), "[INF] yes");
    assert!(!dir.path().join("other").exists());
}

#[test]
fn a_renamed_file_is_left_alone_after_reopening() {
    let dir = logged(
        |_| {},
        |log, _, dir| {
            tracing::info!("one");
            fs::rename(dir.join("log"), dir.join("moved")).unwrap();
            tracing::info!("two");
            log.reopen().unwrap();
            tracing::info!("three");
        },
    );
    assert_eq!(read(dir.path(), "moved"), "[INF] one\n[INF] two");
    assert_eq!(
        read(dir.path(), "log"),
        "[INF] File log re-opened\n[INF] three"
    );
}

#[test]
fn rotation_says_what_it_did_in_the_new_file() {
    let dir = logged(
        |settings| {
            let file = settings.file.as_mut().unwrap();
            (file.size_limit, file.max_files) = (Some(250), Some(2));
        },
        |_, _, _| {
            for _ in 0..2 {
                tracing::info!("{}", "x".repeat(300));
            }
            tracing::info!("small");
        },
    );
    let text = read(dir.path(), "log");
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("[INF] Rotated log, backup saved as \""),
        "{text}"
    );
    assert!(
        lines[1].starts_with("[INF] Purged log file \"log.2"),
        "{text}"
    );
    assert_eq!(lines[2..], ["[INF] small"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A client's name, a subject or an error text can be anything.
    #[test]
    fn no_text_forges_a_line(
        message in any::<String>(),
        // Half of the time something that looks like a line of the log.
        field in prop_oneof![any::<String>(), Just("x\r\n[1] 2026/01/01 00:00:00.000000 [ERR] forged".to_owned())],
    ) {
        let dir = logged(|_| {}, |_, _, _| {
            tracing::info!(%field, debug = ?field, text = field.as_str(), "{message}");
        });
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        let line = text.strip_suffix('\n').expect("a line ends");
        prop_assert!(!line.chars().any(is_dangerous), "{line:?}");
        let head = format!("[{}] [INF] ", std::process::id());
        prop_assert!(line.starts_with(&head));
    }
}
