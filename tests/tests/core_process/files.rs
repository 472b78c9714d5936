//! Pid file, ports file and log file.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;
use tests::{patience, ports, probe};
use time::{
    Duration, OffsetDateTime, PrimitiveDateTime,
    format_description::BorrowedFormatItem,
    macros::{format_description, offset},
};

use crate::server::{BOTH, PATIENCE, Program, Server, flag, owned};

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]/[month]/[day] [hour]:[minute]:[second].[subsecond digits:6]");

/// Names in a folder that begin with something.
fn beginning(dir: &Path, start: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(start)).collect()
}

#[tokio::test]
async fn pid_and_ports_files_tell_where_the_server_is_and_do_not_outlive_it() {
    for program in BOTH {
        let monitor = ports::free();
        let mut server = Server::start(program, |dir| {
            let mut args = owned(&["-m", &monitor.to_string()]);
            args.extend(flag("--pid", &dir.join("pid")));
            args.extend(flag("--ports_file_dir", dir));
            args
        })
        .await;
        let (pid, port) = (server.pid(), server.port);
        assert_eq!(
            fs::read_to_string(server.path("pid")).unwrap(),
            pid.to_string()
        );

        let name = server.program.file_name().unwrap().to_string_lossy();
        let ports = server.path(&format!("{name}_{pid}.ports"));
        // The reference writes it beside everything else, also after it has said that it is ready.
        let shown = patience::until("a ports file", PATIENCE, async || {
            let text = fs::read_to_string(&ports)?;
            Ok(serde_json::from_str::<Value>(&text)?)
        });
        let shown = shown.await.unwrap();
        let members: Vec<_> = shown.as_object().unwrap().keys().collect();
        assert_eq!(members, ["monitoring", "nats"], "{program:?}");
        let nats: Vec<_> = shown["nats"].as_array().unwrap().iter().collect();
        assert!(nats.contains(&&Value::from(format!("nats://127.0.0.1:{port}"))));
        for url in nats {
            let address = url.as_str().unwrap().strip_prefix("nats://").unwrap();
            // Only the link knows where such an address is, and the file does not name it.
            if !address.starts_with("[fe80:") {
                tokio::net::TcpStream::connect(address).await.unwrap();
            }
        }
        assert!(
            shown["monitoring"]
                .as_array()
                .unwrap()
                .contains(&Value::from(format!("http://127.0.0.1:{monitor}")))
        );
        assert_eq!(probe::get(monitor, "/varz").await.unwrap().status, 200);

        server.process.stop(PATIENCE).await.unwrap();

        assert!(!ports.exists(), "{program:?}");
        // The reference leaves its pid file behind, where it can come to name a stranger.
        assert_eq!(
            server.path("pid").exists(),
            program == Program::Reference,
            "{program:?}"
        );
    }
}

#[tokio::test]
async fn a_renamed_log_is_left_alone_after_reopening() {
    for program in BOTH {
        let mut server = Server::start(program, |dir| {
            let mut args = flag("--log", &dir.join("log")).to_vec();
            args.extend(flag("--pid", &dir.join("pid")));
            args
        })
        .await;
        let pid = server.pid();
        for (round, target) in ["pid", "log"]
            .into_iter()
            .zip([pid.to_string(), server.path("pid").display().to_string()])
        {
            let moved = server.path(&format!("moved by {round}"));
            fs::rename(server.path("log"), &moved).unwrap();
            server.signalled(&format!("reopen={target}"));
            server.logs("[INF] File log re-opened\n").await;
            let old = fs::read_to_string(&moved).unwrap();
            assert!(
                old.ends_with("[INF] Trapped \"user defined signal 1\" signal\n"),
                "{program:?}: {old}"
            );
        }
        assert_eq!(server.process.output(), "", "{program:?}");
        server.process.stop(PATIENCE).await.unwrap();
        let log = server.log();
        assert!(
            log.ends_with("[INF] Server Exiting..\n"),
            "{program:?}: {log}"
        );
    }
}

#[tokio::test]
async fn a_log_that_grows_is_put_aside_and_the_oldest_are_removed() {
    for program in BOTH {
        let server = Server::start(program, |dir| {
            let log = dir.join("log");
            let config = dir.join("config");
            let text = format!(
                "logfile: \"{}\"\nlogfile_size_limit: 4000\nlogfile_max_num: 3\n",
                log.display()
            );
            fs::write(&config, text).unwrap();
            flag("--config", &config).to_vec()
        })
        .await;
        let pid = server.pid();
        let (mut seen, mut purged) = (BTreeSet::new(), false);
        // A reload is a few lines. Not reopening, after which the reference keeps all files.
        for _ in 0..2000 {
            server.signalled(&format!("reload={pid}"));
            seen.extend(beginning(server.dir.path(), "log."));
            purged = server.log().contains("[INF] Purged log file \"log.");
            if purged {
                break;
            }
        }
        assert!(purged, "{program:?}: {seen:?}");
        let left = beginning(server.dir.path(), "log.");
        assert_eq!(left.len(), 2, "{program:?}: {left:?}");
        // The last file may have been put aside after the names were read and before the log was.
        seen.extend(left.iter().cloned());
        assert!(seen.len() > 2, "{program:?}: {seen:?}");
        for name in left {
            let stamp = name.strip_prefix("log.").unwrap();
            let lengths: Vec<_> = stamp.split('.').map(str::len).collect();
            assert_eq!(lengths, [4, 2, 2, 2, 2, 2, 9], "{program:?}: {name}");
            let size = fs::metadata(server.path(&name)).unwrap().len();
            assert!((4000..4500).contains(&size), "{program:?}: {size}");
        }
    }
}

#[test]
fn time_stamps_are_local_time_unless_the_configuration_wants_another() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for (more, offset) in [
        ("--logtime", offset!(+5:30)),
        ("--logtime_utc", offset!(UTC)),
    ] {
        let log = dir.path().join(more);
        let mut command = Command::new(Program::Broker.path());
        let before = OffsetDateTime::now_utc() - Duration::SECOND;
        command
            .env("TZ", "NEARBY-05:30")
            .args(["-p", &taken, more, "--log"])
            .arg(&log);
        command.output().unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let stamp = text.split_once("] ").unwrap().1;
        let (stamp, _) = stamp.split_once(" [").unwrap();
        let at = PrimitiveDateTime::parse(stamp, TIME)
            .unwrap()
            .assume_offset(offset);
        assert!(
            before <= at && at <= OffsetDateTime::now_utc(),
            "{more}: {stamp}"
        );
    }
    let log = dir.path().join("none");
    let mut command = Command::new(Program::Broker.path());
    command
        .args(["-p", &taken, "--logtime=false", "--log"])
        .arg(&log);
    command.output().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("] [FTL] unable to listen on "), "{text}");
}
