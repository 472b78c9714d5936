//! What the log and the system do not show, and what nobody can make the log show.

use std::fs;

use tests::wire::Wire;

use crate::server::{PATIENCE, Program, Server, flag, owned};

#[tokio::test]
async fn secrets_are_neither_logged_nor_shown_by_the_system() {
    const PASSWORD: &str = "hunter-of-the-snark";
    const WRONG: &str = "hunter-of-the-boojum";
    let mut server = Server::start(Program::Broker, |dir| {
        let config = dir.join("config");
        let text = format!("authorization {{ user: carroll, password: \"{PASSWORD}\" }}\n");
        fs::write(&config, text).unwrap();
        let mut args = flag("--config", &config).to_vec();
        args.push("-DV".to_owned());
        args
    })
    .await;
    for (password, welcome) in [(PASSWORD, true), (WRONG, false)] {
        let mut client = Wire::connect(server.port).await.unwrap();
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"user\":\"carroll\",\"pass\":\"{password}\",\"name\":\"snark\"}}\r\nPING\r\n"
        );
        client.send(connect.as_bytes()).await.unwrap();
        // A refusal comes with the end of the connection.
        assert_eq!(client.answers().await.is_ok(), welcome);
    }
    let pid = server.pid();
    let of_process = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (cmdline, environ) = (of_process("cmdline"), of_process("environ"));
    assert!(cmdline.contains("-DV"), "{cmdline}");
    server.process.stop(PATIENCE).await.unwrap();
    let log = server.log();
    for shown in [&log, &cmdline, &environ] {
        for secret in [PASSWORD, WRONG] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_client_cannot_write_lines_into_the_log() {
    let mut server = Server::start(Program::Broker, |_| owned(&["-DV"])).await;
    let forged = "[1] 2026/01/01 00:00:00.000000 [ERR] forged";
    let mut client = Wire::connect(server.port).await.unwrap();
    let connect = format!(
        "CONNECT {{\"verbose\":false,\"name\":\"a\\r\\n{forged}\",\"lang\":\"b\\n{forged}\"}}\r\nPING\r\n"
    );
    client.send(connect.as_bytes()).await.unwrap();
    client.answers().await.unwrap();
    let bad = format!("PUB a\r{forged} 0\r\n\r\nSUB \u{1b}[2J 1\r\nNONSENSE\u{7}\n{forged}\r\n");
    client.send(bad.as_bytes()).await.unwrap();
    client.last_words().await.unwrap();
    let start = format!("[{}] ", server.pid());
    server.process.stop(PATIENCE).await.unwrap();
    for line in server.log().lines() {
        assert!(line.starts_with(&start), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
