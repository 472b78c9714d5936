//! The broker and nats-server get the same bytes and send the same bytes back.

use std::{path::Path, process::Command, time::Duration};

use tests::{
    ports,
    process::Process,
    programs,
    streaming_server::{Store, StreamingServer},
    wire::Wire,
};

/// For a start, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// The CONNECT of most clients.
const CONNECT: &str = r#"CONNECT {"verbose":false,"pedantic":false,"protocol":1,"headers":true,"no_responders":true,"lang":"test","version":"1"}"#;

/// What is sent, line by line; each gets its line end. Everything that comes back is compared.
const SCRIPTS: [(&str, &[&str]); 20] = [
    ("a ping needs no CONNECT", &[]),
    (
        "a message comes back",
        &[CONNECT, "SUB a 1", "PUB a 2", "hi"],
    ),
    ("an empty message", &[CONNECT, "SUB a 1", "PUB a 0", ""]),
    ("with a reply", &[CONNECT, "SUB a 1", "PUB a r.1 2", "hi"]),
    (
        "verbose",
        &[
            r#"CONNECT {"verbose":true}"#,
            "SUB a 1",
            "PUB a 2",
            "hi",
            "UNSUB 1",
        ],
    ),
    (
        "wildcards",
        &[
            CONNECT,
            "SUB a.* 1",
            "SUB a.> 2",
            "SUB > 3",
            "SUB *.b.c 4",
            "PUB a.b 1",
            "x",
        ],
    ),
    (
        "no wildcard matches too little",
        &[CONNECT, "SUB a.> 1", "SUB a.*.* 2", "PUB a 1", "x"],
    ),
    (
        "a published wildcard is a literal",
        &[CONNECT, "SUB a.b 1", "PUB a.* 1", "x"],
    ),
    (
        "pedantic",
        &[
            r#"CONNECT {"verbose":false,"pedantic":true}"#,
            "PUB a.* 1",
            "x",
        ],
    ),
    (
        "headers",
        &[
            CONNECT,
            "SUB a 1",
            "HPUB a 18 20",
            "NATS/1.0\r\nA: b\r\n\r\nhi",
            "HPUB a r 12 12",
            "NATS/1.0\r\n\r\n",
        ],
    ),
    (
        "nobody answers",
        &[CONNECT, "SUB inbox 1", "PUB nobody inbox 2", "hi"],
    ),
    (
        "nobody answers, and nobody asked to be told",
        &[
            r#"CONNECT {"verbose":false}"#,
            "SUB inbox 1",
            "PUB nobody inbox 2",
            "hi",
        ],
    ),
    (
        "no echo",
        &[
            r#"CONNECT {"verbose":false,"echo":false}"#,
            "SUB a 1",
            "PUB a 2",
            "hi",
        ],
    ),
    (
        "a subscription that ends by itself",
        &[
            CONNECT,
            "SUB a 1",
            "UNSUB 1 2",
            "PUB a 1",
            "x",
            "PUB a 1",
            "y",
            "PUB a 1",
            "z",
        ],
    ),
    (
        "a subscription that is over already",
        &[
            CONNECT,
            "SUB a 1",
            "PUB a 1",
            "x",
            "UNSUB 1 1",
            "PUB a 1",
            "y",
        ],
    ),
    (
        "a sid twice",
        &[
            CONNECT, "SUB a 1", "SUB b 1", "PUB a 1", "x", "PUB b 1", "y",
        ],
    ),
    ("unknown sid", &[CONNECT, "UNSUB 9", "PUB a 1", "x"]),
    (
        "small letters and many blanks",
        &[CONNECT, "sub  a \t 1", "pub a    2", "hi"],
    ),
    (
        "a queue with one member",
        &[CONNECT, "SUB a q 1", "PUB a 2", "hi"],
    ),
    (
        "malformed subject",
        &[CONNECT, "SUB a..b 1", "SUB a 2", "PUB a 1", "x"],
    ),
];

/// Scripts after which the server closes; sent in one piece, so that it has read everything by then.
const FAULTS: [(&str, &[&str]); 8] = [
    (
        "headers for a client that knows none",
        &[
            r#"CONNECT {"verbose":false}"#,
            "SUB a 1",
            "HPUB a 12 14",
            "NATS/1.0\r\n\r\nhi",
        ],
    ),
    ("unknown operation", &[CONNECT, "WHAT is this"]),
    ("no number", &[CONNECT, "PUB a x", "hi"]),
    ("too large", &[CONNECT, "PUB a 99999999", "hi"]),
    ("CONNECT that is no JSON", &["CONNECT {"]),
    ("a size below zero", &[CONNECT, "PUB a -1"]),
    ("more header than message", &[CONNECT, "HPUB a 20 12"]),
    ("SUB without a sid", &[CONNECT, "SUB a"]),
];

struct Servers {
    broker: StreamingServer,
    reference: Process,
    reference_port: u16,
}

async fn start(dir: &Path) -> Servers {
    let mut broker = StreamingServer::broker(dir, &Store::Files).unwrap();
    broker.start().await.unwrap();
    let reference_port = ports::free();
    let mut command = Command::new(programs::tool("nats-server").unwrap());
    command.args(["-a", "127.0.0.1", "-p", &reference_port.to_string()]);
    let log = dir.join("nats-server.log");
    let mut reference = Process::start("nats-server", &mut command, &log).unwrap();
    reference.writes("Server is ready", START).await.unwrap();
    Servers {
        broker,
        reference,
        reference_port,
    }
}

fn bytes_of(lines: &[&str]) -> Vec<u8> {
    let sent: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
    sent.into_bytes()
}

async fn answers(port: u16, sent: &[u8], piece: usize) -> anyhow::Result<String> {
    let mut wire = Wire::connect(port).await?;
    for piece in sent.chunks(piece.max(1)) {
        wire.send(piece).await?;
    }
    wire.answers().await
}

async fn last_words(port: u16, sent: &[u8]) -> anyhow::Result<String> {
    let mut wire = Wire::connect(port).await?;
    wire.send(sent).await?;
    wire.last_words().await
}

/// What differs, in words; an error of the reference is an error of the script.
fn difference(name: &str, expected: &str, got: &anyhow::Result<String>) -> Option<String> {
    if got.as_ref().is_ok_and(|got| got == expected) {
        return None;
    }
    Some(format!(
        "{name}:\n  nats-server {expected:?}\n  broker      {got:?}"
    ))
}

#[tokio::test]
async fn every_script_gets_the_same_bytes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = start(dir.path()).await;
    let mut differences = Vec::new();
    for (name, lines) in SCRIPTS {
        let sent = bytes_of(lines);
        let expected = answers(servers.reference_port, &sent, sent.len()).await;
        let expected = expected.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        println!("{name}: {expected:?}");
        // Whole, and byte by byte: the pieces that a network makes change nothing.
        for piece in [sent.len(), 1] {
            let got = answers(servers.broker.port(), &sent, piece).await;
            differences.extend(difference(name, &expected, &got));
        }
    }
    servers.reference.check_alive().unwrap();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[tokio::test]
async fn every_fault_ends_with_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let servers = start(dir.path()).await;
    let mut differences = Vec::new();
    for (name, lines) in FAULTS {
        let sent = bytes_of(lines);
        let expected = last_words(servers.reference_port, &sent).await;
        let expected = expected.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        println!("{name}: {expected:?}");
        let got = last_words(servers.broker.port(), &sent).await;
        differences.extend(difference(name, &expected, &got));
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[tokio::test]
async fn info_has_what_clients_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let servers = start(dir.path()).await;
    let broker = Wire::connect(servers.broker.port()).await.unwrap().info;
    let reference = Wire::connect(servers.reference_port).await.unwrap().info;
    for key in ["headers", "max_payload", "proto"] {
        assert_eq!(broker[key], reference[key], "{key}");
    }
    for key in [
        "server_id",
        "server_name",
        "version",
        "host",
        "port",
        "client_id",
    ] {
        let kind = |info: &serde_json::Value| std::mem::discriminant(&info[key]);
        assert_eq!(kind(&broker), kind(&reference), "{key}: {}", broker[key]);
    }
}
