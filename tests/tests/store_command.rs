//! `stanchion-broker store init | check | verify` on a real database and on files.

use std::{
    path::Path,
    process::{Command, Output},
};

use broker_store::conformance::postgres_server::PostgresServer;
use tests::{
    programs,
    stan::{Client, Options},
    streaming_server::{CLUSTER_ID, Store, StreamingServer},
};

/// Standard output, with the exit code at the end.
fn store(words: &[&str], flags: &[&str], source: &str) -> String {
    let mut command = Command::new(programs::ours("stanchion-broker").unwrap());
    command.arg("store").args(words);
    command.args(["-cluster_id", CLUSTER_ID]).args(flags);
    command.env("STANCHION_SQL_SOURCE", source);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let texts = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    format!("{}{}{}", texts[0], texts[1], status.code().unwrap())
}

fn sql(words: &[&str], source: &str) -> String {
    store(words, &["-store", "SQL"], source)
}

/// Lines that begin so.
fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| line.starts_with(start))
        .collect()
}

async fn publish(server: &StreamingServer, messages: u64) {
    let url = format!("nats://127.0.0.1:{}", server.port());
    let client = Client::connect(Options::new(&url, CLUSTER_ID, "me"))
        .await
        .unwrap();
    for number in 0..messages {
        client.publish("orders", number.to_string()).await.unwrap();
    }
    client.close().await.unwrap();
}

#[test]
fn a_role_gets_what_a_broker_needs_and_each_look_says_what_is_wrong() {
    let postgres = PostgresServer::shared().unwrap();
    let admin = postgres.create_database().unwrap();
    postgres
        .run(&admin, "CREATE ROLE store_command_role LOGIN")
        .unwrap();
    let role = admin.replace("user=tester", "user=store_command_role");

    let before = sql(&["check"], &role);
    assert_eq!(lines(&before, "FAIL").len(), 1, "{before}");
    assert!(
        before.contains("store init") && before.ends_with('1'),
        "{before}"
    );
    for _ in 0..2 {
        let made = sql(&["init", "store_command_role"], &admin);
        assert!(made.ends_with("may use them\n0"), "{made}");
    }
    let after = sql(&["check"], &role);
    assert!(
        lines(&after, "FAIL").is_empty() && after.ends_with('0'),
        "{after}"
    );

    let nobody = sql(&["init", "nobody_of_that_name"], &admin);
    assert!(
        nobody.contains("\"nobody_of_that_name\" does not exist"),
        "{nobody}"
    );
    let elsewhere = admin.replace("host=127.0.0.1", "host=nowhere.invalid");
    let lost = sql(&["check"], &elsewhere);
    assert!(
        lost.starts_with("FAIL dns") && lost.ends_with('1'),
        "{lost}"
    );
    let stranger = sql(
        &["check"],
        &admin.replace("user=tester", "user=nobody_of_that_name"),
    );
    assert_eq!(lines(&stranger, "FAIL login").len(), 1, "{stranger}");
    postgres
        .run(
            &admin,
            "DROP OWNED BY store_command_role; DROP ROLE store_command_role",
        )
        .unwrap();
}

#[tokio::test]
async fn corrupt_and_missing_messages_of_a_database_are_found_beside_a_broker_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::shared().unwrap();
    let source = postgres.create_database().unwrap();
    let place = Store::sql(dir.path(), &source).unwrap();
    let mut server = StreamingServer::broker(dir.path(), &place).unwrap();
    server.start().await.unwrap();
    publish(&server, 6).await;

    let held = sql(&["check"], &source);
    assert!(
        held.contains("lock      held by broker stn-") && held.ends_with('0'),
        "{held}"
    );
    let whole = sql(&["verify"], &source);
    assert!(
        whole.contains("orders: 6 messages") && whole.ends_with("nothing is wrong\n0"),
        "{whole}"
    );

    let damage =
        "UPDATE Messages SET data = 'x' WHERE seq = 2; DELETE FROM Messages WHERE seq IN (4, 5)";
    postgres.run(&source, damage).unwrap();
    let broken = sql(&["verify"], &source);
    assert!(broken.contains("2 missing, 1 corrupt"), "{broken}");
    assert!(broken.contains("  2 missing behind 3\n"), "{broken}");
    assert_eq!(
        lines(&broken, "  message 2: it has 1 bytes, and its row says 23").len(),
        1,
        "{broken}"
    );
    assert!(broken.ends_with("something is wrong\n1"), "{broken}");
}

#[tokio::test]
async fn files_are_verified_when_no_broker_is_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = StreamingServer::broker(dir.path(), &Store::Files).unwrap();
    server.start().await.unwrap();
    publish(&server, 3).await;
    let verify = |dir: &Path| {
        let dir = dir.join("store").display().to_string();
        store(&["verify"], &["-store", "FILE", "-dir", &dir], "")
    };
    let busy = verify(dir.path());
    assert!(busy.contains("in use") && busy.ends_with('1'), "{busy}");
    server.stop().await.unwrap();
    let whole = verify(dir.path());
    assert!(
        whole.contains("orders: 3 messages") && whole.ends_with("nothing is wrong\n0"),
        "{whole}"
    );
}
