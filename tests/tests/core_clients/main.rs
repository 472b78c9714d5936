//! Applications on the real client libraries of core NATS: what each of them does with a server, it does with ours.
//!
//! With the path of nats-server in `STANCHION_CORE_SERVER` the same scenarios are played against that.

mod logins;
mod server;

use anyhow::ensure;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    core_client::{CoreClient, LIBRARIES, Library},
    patience,
    wire::Wire,
};

use crate::server::{PATIENCE, Server, cluster};

/// Applications of several libraries at the same server, each with subjects of its own.
struct Applications {
    clients: Vec<CoreClient>,
    _dir: TempDir,
}

impl Applications {
    fn start(scenario: &str, server: &Server, flags: &[String]) -> Self {
        Self::start_on(&LIBRARIES, scenario, server, flags)
    }

    fn start_on(libraries: &[Library], scenario: &str, server: &Server, flags: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let start = |library: &Library| {
            let name = library.to_string();
            CoreClient::start(*library, scenario, &server.url(), flags, &name, dir.path()).unwrap()
        };
        Self {
            clients: libraries.iter().map(start).collect(),
            _dir: dir,
        }
    }

    async fn all_say(&mut self, event: &str) {
        for client in &mut self.clients {
            client.says(event, PATIENCE).await.unwrap();
        }
    }

    /// The summary of each.
    async fn all_finish(&mut self) -> Vec<(Library, Value)> {
        let mut results = Vec::new();
        for client in &mut self.clients {
            let result = client.finishes(PATIENCE).await.unwrap();
            results.push((client.library(), result));
        }
        results
    }

    /// What each says about its failure.
    async fn all_fail(&mut self) -> Vec<(Library, String)> {
        let mut errors = Vec::new();
        for client in &mut self.clients {
            let error = client.fails(PATIENCE).await.unwrap();
            errors.push((client.library(), error));
        }
        errors
    }
}

#[tokio::test]
async fn headers_large_messages_and_requests_work() {
    let server = Server::start("").await;
    let mut applications = Applications::start("messages", &server, &[]);
    for (library, mut result) in applications.all_finish().await {
        let waited = result["waited_ms"].take().as_u64().unwrap();
        // Applications wait for twenty seconds where they are not told.
        assert!(
            waited < 15_000,
            "{library}: nobody was told after {waited} ms"
        );
        let trace = match library {
            // nats-py keeps one value for each name.
            Library::Python => json!(["b: c"]),
            _ => json!(["a", "b: c"]),
        };
        let expected = json!({
            "event": "done", "trace": trace, "empty": true, "body": 0, "large": true, "too_large": true,
            "no_responders": true, "waited_ms": null, "answer": format!("hello {library}"),
        });
        assert_eq!(result, expected, "{library}");
    }
}

#[tokio::test]
async fn a_killed_server_is_left_for_one_that_was_heard_of_later() {
    let [first, second] = cluster("");
    let mut first = Server::start(&first).await;
    let told_later = [Library::Go, Library::Node, Library::Python, Library::Java];
    let mut early = Applications::start_on(&told_later, "survive", &first, &[]);
    early.all_say("connected").await;
    let second = Server::start(&second).await;
    early.all_say("discovered").await;
    first.knows(&second).await;
    // async-nats reads of other servers when it connects, and not later.
    let mut late = Applications::start_on(&[Library::Rust], "survive", &first, &[]);
    late.all_say("connected").await;
    first.kill();
    expect_at(&second, early.all_finish().await);
    expect_at(&second, late.all_finish().await);
}

#[tokio::test]
async fn clients_of_a_lame_duck_are_told_and_go_on_elsewhere() {
    let [first, second] = cluster("lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"2s\"\n");
    let first = Server::start(&first).await;
    let second = Server::start(&second).await;
    first.knows(&second).await;
    let mut applications = Applications::start("survive", &first, &[]);
    applications.all_say("connected").await;
    first.enter_lame_duck_mode();
    applications.all_say("lame_duck").await;
    expect_at(&second, applications.all_finish().await);
}

/// The subscription was served before and after, and the connection is now to this server.
fn expect_at(server: &Server, results: Vec<(Library, Value)>) {
    for (library, result) in results {
        assert_eq!(result["ticks"], json!(["before", "after"]), "{library}");
        let at = result["server"].as_str().unwrap();
        let port = format!(":{}", server.port);
        assert!(at.ends_with(&port), "{library}: {at}, not {port}");
    }
}

#[tokio::test]
async fn draining_loses_nothing_that_was_sent() {
    let server = Server::start("").await;
    let mut applications = Applications::start("drain", &server, &[]);
    for (library, result) in applications.all_finish().await {
        let expected = json!({"event": "done", "handled": 200, "answered": 200});
        assert_eq!(result, expected, "{library}");
    }
}

#[tokio::test]
async fn a_forbidden_subject_is_reported_and_costs_no_connection() {
    let server = Server::start(
        "authorization { users: [{ user: app, password: pass, permissions: {\n\
         publish: { deny: \"*.secret\" }, subscribe: { deny: \"*.hidden\" } } }] }",
    )
    .await;
    let login = ["--user=app", "--password=pass"].map(str::to_owned);
    let mut applications = Applications::start("permissions", &server, &login);
    for (library, result) in applications.all_finish().await {
        assert_eq!(result["disconnects"], 0, "{library}: {result}");
        for (place, action, subject) in [(0, "subscription", "hidden"), (1, "publish", "secret")] {
            let complaint = result["complaints"][place].as_str().unwrap();
            // Some libraries have words of their own around the server's.
            let words = complaint.to_lowercase().replace('_', " ");
            for word in [
                "permissions violation",
                action,
                &format!("{library}.{subject}"),
            ] {
                assert!(words.contains(word), "{library}: {complaint}, not {word}");
            }
        }
    }
}

/// Members of all libraries at both servers; a publisher at the first.
#[tokio::test]
async fn a_queue_group_shares_its_work_over_a_route() {
    const ROUNDS: usize = 50;
    const JOBS: usize = 40;
    let [first, second] = cluster("");
    let first = Server::start(&first).await;
    let second = Server::start(&second).await;
    first.knows(&second).await;
    let dir = tempfile::tempdir().unwrap();
    let mut members = Vec::new();
    for (place, server) in [("first", &first), ("second", &second)] {
        for library in LIBRARIES {
            let member =
                CoreClient::start(library, "queue", &server.url(), &[], "shared", dir.path());
            members.push((place, member.unwrap()));
        }
    }
    for (_, member) in &mut members {
        member.says("subscribed", PATIENCE).await.unwrap();
    }

    let mut publisher = Wire::connect(first.port).await.unwrap();
    publisher.send(b"CONNECT {}\r\n").await.unwrap();
    // What is subscribed to last there is known here when everything is.
    let mut there = Wire::connect(second.port).await.unwrap();
    there.send(b"CONNECT {}\r\nSUB ready 1\r\n").await.unwrap();
    let known = patience::until("the members there are known", PATIENCE, async || {
        publisher.send(b"PUB ready 0\r\n\r\n").await?;
        publisher.answers().await?;
        ensure!(there.answers().await?.contains("MSG ready"));
        Ok(())
    });
    known.await.unwrap();
    for _ in 0..ROUNDS {
        let jobs = "PUB shared.jobs 0\r\n\r\n".repeat(JOBS);
        publisher.send(jobs.as_bytes()).await.unwrap();
        publisher.answers().await.unwrap();
    }
    publisher.send(b"PUB shared.stop 0\r\n\r\n").await.unwrap();
    publisher.answers().await.unwrap();

    let mut total = 0;
    for (place, member) in &mut members {
        let result = member.finishes(PATIENCE).await.unwrap();
        let received = result["received"].as_u64().unwrap();
        assert!(
            received > 0,
            "{} at the {place} got nothing",
            member.library()
        );
        total += received;
    }
    assert_eq!(total, u64::try_from(ROUNDS * JOBS).unwrap());
}
