//! What clients show in `CONNECT`, by mistake or not, is seen nowhere else: neither in the log at its most talkative
//! nor on any page of monitoring (CVE-2020-26149, CVE-2026-33216).

use std::{fs, process::Command, time::Duration};

use tests::{ports, process::Process, programs};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// For a start, or an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Members of `CONNECT` that are or may hold secrets; a client may also invent one, such as its seed.
const MEMBERS: [&str; 9] = [
    "pass",
    "auth_token",
    "sig",
    "jwt",
    "seed",
    "private_key",
    "creds",
    "proxy_sig",
    "PASS",
];

const PAGES: [&str; 17] = [
    "/",
    "/varz",
    "/connz?auth=1&subs=detail&state=any",
    "/connz?auth=1&state=closed",
    "/routez?subs=detail",
    "/subsz?subs=1",
    "/accountz?acc=$G",
    "/accstatz?unused=1",
    "/healthz",
    "/gatewayz",
    "/leafz",
    "/jsz?config=1",
    "/streaming/serverz",
    "/streaming/storez",
    "/streaming/clientsz?subs=1",
    "/streaming/channelsz?subs=1",
    "/nowhere",
];

/// Everything that comes back until the end, which a client of NATS has to ask for and one of HTTP must not.
async fn says(port: u16, text: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    if !text.starts_with("GET ") {
        stream.shutdown().await.unwrap();
    }
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("an end");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn secrets_in_connect_are_neither_logged_nor_shown_by_monitoring() {
    let dir = tempfile::tempdir().unwrap();
    let (port, monitor) = (ports::free(), ports::free());
    let config = dir.path().join("broker.conf");
    let text = "authorization { user: joe, password: canary-configured }\n";
    fs::write(&config, text).unwrap();
    let log = dir.path().join("broker.log");
    let mut command = Command::new(programs::ours("stanchion-broker").unwrap());
    command
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .args(["-m", &monitor.to_string(), "-DV", "-SDV", "-c"])
        .arg(&config);
    let mut process = Process::start("broker", &mut command, &log).unwrap();
    process
        .writes("Streaming Server is ready", PATIENCE)
        .await
        .unwrap();
    let mut pages = String::new();
    for member in MEMBERS {
        for good in [false, true] {
            let pass = if good {
                "canary-configured"
            } else {
                "canary-wrong"
            };
            // What comes last counts, as in the reference, so that the password stays what it is.
            let connect = format!(
                "CONNECT {{\"verbose\":false,\"{member}\":\"canary-{member}\",\"user\":\"joe\",\
                 \"pass\":\"{pass}\"}}\r\nPING\r\n"
            );
            let said = says(port, &connect).await;
            assert!(!said.contains("canary"), "{said}");
            if member != "PASS" {
                assert_eq!(said.contains("PONG"), good, "{member}: {said}");
            }
            // Not even where it is no JSON.
            let broken = connect.replace("}}\r\n", "\r\n").replacen('{', "", 1);
            assert!(!says(port, &broken).await.contains("canary"));
        }
    }
    for page in PAGES {
        let request = format!("GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = says(monitor, &request).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{page}: {answer}");
        pages.push_str(&answer);
    }
    assert!(pages.contains("\"authorized_user\": \"joe\""), "{pages}");
    process.stop(PATIENCE).await.unwrap();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("authentication error"), "{log}");
    for (place, shown) in [("monitoring", &pages), ("the log", &log)] {
        let canary = shown.lines().find(|line| line.contains("canary"));
        assert_eq!(canary, None, "in {place}");
    }
}
