//! The trace log beside the reference's, and no secret in it.

use std::fs;

use tests::{patience, wire::Wire};

use crate::server::{BOTH, PATIENCE, Program, Server, flag, owned};

/// What the trace says of clients, without who they are: addresses and numbers differ.
fn traced(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| line.split_once("[TRC] "));
    let of_clients = lines.filter_map(|(_, text)| text.split_once(" - cid:"));
    let texts = of_clients.filter_map(|(_, text)| text.split_once(" - "));
    // The server's own pings come when they come.
    let said = texts.filter(|(_, text)| !text.ends_with("->> [PING]"));
    said.map(|(_, text)| text.to_owned()).collect()
}

async fn says(client: &mut Wire, text: &str) {
    client.send(text.as_bytes()).await.unwrap();
    client.answers().await.unwrap();
}

/// The trace of a session of one client, as soon as its last words are in it.
async fn trace_of(program: Program, settings: &str, session: &[&str]) -> Vec<String> {
    let mut server = Server::start(program, |dir| {
        let config = dir.join("config");
        fs::write(&config, settings).unwrap();
        flag("--config", &config).to_vec()
    })
    .await;
    let mut client = Wire::connect(server.port).await.unwrap();
    for step in session {
        says(&mut client, step).await;
    }
    says(&mut client, "UNSUB last\r\n").await;
    server.logs("<<- [UNSUB last]").await;
    drop(client);
    let lines = traced(&server.log());
    let end = lines.iter().position(|line| line.ends_with("[UNSUB last]"));
    lines[..end.unwrap()].to_vec()
}

const USER: &str = "authorization: { user: u, password: hunter2 }\n";
const CONNECT: &str = "CONNECT {\"verbose\":true,\"pedantic\":false,\"headers\":true,\"user\":\"u\",\
                       \"pass\" : \"hunter2\",\"auth_token\":\"tok\",\"sig\":\"s\"}\r\n";

#[tokio::test]
async fn what_clients_say_and_hear_is_traced_as_by_the_reference() {
    let session = [
        CONNECT,
        "SUB  foo  1\r\n",
        "PUB foo 5\r\nhello\r\n",
        "HPUB foo r 12 17\r\nNATS/1.0\r\n\r\nworld\r\n",
        "pub foo 0\r\n\r\n",
        "PUB foo 4\r\na\"\n\x01\r\n",
        "SUB a..b 2\r\n",
        "UNSUB 1\r\n",
    ];
    for settings in [
        "trace: true\n",
        "trace_headers: true\n",
        "trace: true\nmax_traced_msg_len: 3\n",
        "trace_verbose: true\n",
    ] {
        let settings = format!("{USER}{settings}");
        let expected = trace_of(Program::Reference, &settings, &session).await;
        assert!(expected.len() > 12, "{expected:#?}");
        let shown = trace_of(Program::Broker, &settings, &session).await;
        assert_eq!(shown, expected, "{settings}");
        assert!(!shown.concat().contains("hunter2"), "{shown:#?}");
    }
}

/// In forms in which the reference shows them.
#[tokio::test]
async fn secrets_stay_out_of_the_trace_however_they_are_written() {
    let mut server = Server::start(Program::Broker, |_| owned(&["-V"])).await;
    for connect in [
        "{\"PASS\":\"hunter2\",\"jwt\":\"hunter2\"}",
        "{\"p\\u0061ss\":\"hunter2\"}",
        "{\"pass\":\"x\\\"hunter2\",\"auth_token\":[\"hunter2\"]}",
        "{\"pass\":\"hunter2",
        "{pass:\"hunter2\"}",
    ] {
        let mut client = Wire::connect(server.port).await.unwrap();
        let text = format!("CONNECT {connect}\r\n");
        client.send(text.as_bytes()).await.unwrap();
        // Some are refused.
        let _ = client.answers().await;
    }
    let seen = patience::until("all of them traced", PATIENCE, async || {
        let log = server.log();
        anyhow::ensure!(log.matches("<<- [CONNECT ").count() == 5, "{log}");
        Ok(())
    });
    seen.await.unwrap();
    assert!(!server.log().contains("hunter2"), "{}", server.log());
    server.process.check_alive().unwrap();
}

#[tokio::test]
async fn a_reload_switches_the_trace_of_living_connections() {
    for program in BOTH {
        let server = Server::start(program, |dir| {
            let config = dir.join("config");
            fs::write(&config, "trace: false\n").unwrap();
            flag("--config", &config).to_vec()
        })
        .await;
        let mut client = Wire::connect(server.port).await.unwrap();
        says(&mut client, "CONNECT {\"verbose\":false}\r\nSUB off 1\r\n").await;
        for (config, number) in [("trace: true\n", 1), ("trace: false\n", 2)] {
            fs::write(server.path("config"), config).unwrap();
            server.signalled(&format!("reload={}", server.pid()));
            let reloads = patience::until("the reload", PATIENCE, async || {
                let log = server.log();
                let done = log.matches("] Reloaded server configuration").count();
                anyhow::ensure!(done == number, "{log}");
                Ok(())
            });
            reloads.await.unwrap();
            says(&mut client, &format!("SUB on.{number} {number}0\r\n")).await;
        }
        assert_eq!(
            traced(&server.log())
                .iter()
                .filter(|line| line.starts_with("<<- [SUB"))
                .collect::<Vec<_>>(),
            ["<<- [SUB on.1 10]"],
            "{program:?}"
        );
    }
}
